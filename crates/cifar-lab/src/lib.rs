//! What the CIFAR-10 notebooks import: data, network, training, evaluation and plots, on candle.
//!
//! A notebook's first cell is
//!
//! ```text
//! :dep cifar-lab = { path = "../crates/cifar-lab" }
//! use cifar_lab::prelude::*;
//! ```
//!
//! The modules stand in storeys, from the top down; each imports only from those below it.
//!
//! | storey | module | what it holds |
//! |---|---|---|
//! | notebook | [`prelude`] | everything a notebook names, in one import |
//! | | [`notebook`] | how the crate's values show themselves, and what draws them |
//! | | [`program`] | what a notebook calls that was exported as a program |
//! | | [`exercise`] | what the checker cells of the notebooks' exercises call |
//! | | [`download_link`](mod@download_link) | a link by which JupyterLab hands out a result |
//! | training | [`training`] | a loop on a thread of its own: watched, paused, stopped, waited for |
//! | | [`predict`] | what a network says of your own pictures |
//! | keeping | [`checkpoint`] | weights on disk, PyTorch's `.pth` and safetensors, with a card that says what they are |
//! | | [`run_records`] | what trainings leave in their folders |
//! | | [`run_folder`](mod@run_folder) | where results go |
//! | networks | [`grad_cam`](mod@grad_cam) | where the network looked |
//! | | [`calibration`] | whether the network is as often right as it says |
//! | | [`evaluate`](mod@evaluate) | accuracy, accuracy per class, confusion matrix |
//! | | [`model`] | the original's network; a dry run of any network |
//! | data | [`loader`] | shuffled batches, prepared while the network computes |
//! | | [`transform`] | normalization, random flip, random crop |
//! | | [`dataset`] | CIFAR-10 from a folder, the cache or the net; the generated stand-in; your own pictures |
//! | | [`picture`] | pictures from files, in the size that a network takes |
//! | device | [`device`] | the device to compute on |
//! | ground | [`error`] | what can go wrong |
//!
//! [`plot`] draws (galleries, curves, matrices, graphs), and [`display`] shows values in a notebook.
//!
//! candle, notebook-charts and plotters are re-exported, and notebooks take them from here only. evcxr links every cell on its own; this
//! crate is a dylib, so that all cells share one candle with one counter of tensor ids. A second candle beside it would
//! hand out the same ids again, and gradients would be mixed without a word.

pub use candle_cnn;
pub use candle_core;
pub use candle_nn;
pub use image;
pub use notebook_charts::{self, plotters};

mod atomic_file;
pub mod calibration;
pub mod checkpoint;
pub mod dataset;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod grad_cam;
pub mod loader;
pub mod model;
pub mod notebook;
mod paths;
pub mod picture;
pub mod predict;
pub mod run_folder;
pub mod run_records;
pub mod training;
pub mod transform;

pub use notebook::{display, download_link, exercise, plot, prelude, program};
