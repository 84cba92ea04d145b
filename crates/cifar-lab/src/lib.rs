//! What the CIFAR-10 notebooks import: data, network, training, evaluation and plots, on candle.
//!
//! A notebook's first cell is
//!
//! ```text
//! :dep cifar-lab = { path = "../crates/cifar-lab" }
//! use cifar_lab::prelude::*;
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`prelude`] | everything a notebook names, in one import |
//! | [`device`] | the device to compute on |
//! | [`dataset`] | CIFAR-10 from a folder, the cache or the net; the generated stand-in; your own pictures |
//! | [`transform`] | normalisation, random flip, random crop |
//! | [`loader`] | shuffled batches, prepared while the network computes |
//! | [`model`] | the original's network; dry run, summary and drawing of any network |
//! | [`training`] | a loop on a thread of its own: watched, paused, stopped, waited for |
//! | [`evaluate`](mod@evaluate) | accuracy, accuracy per class, confusion matrix |
//! | [`calibration`] | whether the network is as often right as it says |
//! | [`grad_cam`](mod@grad_cam) | where the network looked |
//! | [`plot`] | galleries, curves, matrices, graphs as pictures |
//! | [`picture`] | pictures from files, in the size that a network takes |
//! | [`predict`] | what a network says of your own pictures |
//! | [`display`] | how values show themselves in a notebook |
//! | [`checkpoint`] | weights on disk, PyTorch's `.pth` and safetensors, with a card that says what they are |
//! | [`run_folder`](mod@run_folder) | where results go |
//! | [`run_records`] | what trainings left there: all runs as a table and as a picture |
//! | [`program`] | what a notebook calls that was exported as a program |
//! | [`exercise`] | what the checker cells of the notebooks' exercises call |
//! | [`download_link`](mod@download_link) | a link by which JupyterLab hands out a result |
//! | [`error`] | what can go wrong |
//!
//! candle and plotters are re-exported, and notebooks take them from here only. evcxr links every cell on its own; this
//! crate is a dylib, so that all cells share one candle with one counter of tensor ids. A second candle beside it would
//! hand out the same ids again, and gradients would be mixed without a word.

pub use candle_cnn;
pub use candle_core;
pub use candle_nn;
pub use image;
pub use plotters;

mod atomic_file;
pub mod calibration;
pub mod checkpoint;
pub mod dataset;
pub mod device;
pub mod display;
pub mod download_link;
pub mod error;
pub mod evaluate;
pub mod exercise;
pub mod grad_cam;
pub mod loader;
pub mod model;
mod paths;
pub mod picture;
pub mod plot;
pub mod predict;
pub mod prelude;
pub mod program;
pub mod run_folder;
pub mod run_records;
#[cfg(doctest)]
mod solutions;
pub mod training;
pub mod transform;
