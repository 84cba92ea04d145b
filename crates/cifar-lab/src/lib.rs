//! What the CIFAR-10 notebooks import: data, networks, training, evaluation and plots, on candle.
//!
//! A notebook's first cell is
//!
//! ```text
//! :dep cifar-lab = { path = "../crates/cifar-lab" }
//! use cifar_lab::prelude::*;
//! ```
//!
//! ARCHITECTURE.md in the repository's root lists the modules in the order of their dependencies.
//!
//! | module | what it holds |
//! |---|---|
//! | [`prelude`] | everything a notebook names, in one import |
//! | [`notebook`] | how values show themselves |
//! | [`plot`], [`display`] | charts and galleries; tables, figures and how a cell shows them |
//! | [`program`] | the runtime of notebooks exported as programs |
//! | [`exercise`] | checks for the notebooks' exercises |
//! | [`download_link`](mod@download_link) | a link to download a file from JupyterLab |
//! | [`training`] | a loop on its own thread, to watch, pause, stop or wait for |
//! | [`predict`] | predictions for your own pictures |
//! | [`checkpoint`] | weights and checkpoints on disk, with a model card; ONNX export |
//! | [`run_records`] | the records that trainings write |
//! | [`run_folder`](mod@run_folder) | where results go |
//! | [`grad_cam`](mod@grad_cam) | where the network looked |
//! | [`calibration`] | whether the network's confidence is justified |
//! | [`evaluate`](mod@evaluate) | accuracy, accuracy per class, confusion matrix |
//! | [`model`] | the original's network and the record's; the recorded forward pass of any network |
//! | [`loader`] | shuffled batches, prepared in the background |
//! | [`transform`] | normalization, flips, crops and translations |
//! | [`dataset`] | CIFAR-10 from a folder, the cache or the Web; the generated stand-in; your own pictures |
//! | [`picture`] | pictures from files |
//! | [`device`] | the device to compute on |
//! | [`error`] | what can go wrong |
//!
//! Notebooks take candle, plotters and notebook-charts only from here. evcxr links every cell separately, and this
//! crate is a dylib, so that all cells share one candle with one counter of tensor ids. A second candle would assign
//! the same ids again, and gradients would silently be mixed up.

pub use candle_cnn;
pub use candle_core;
pub use candle_nn;
pub use image;
pub use notebook_charts::{self, plotters};

#[path = "../../notebook-charts/src/atomic_file.rs"]
mod atomic_file;
pub mod calibration;
pub mod checkpoint;
mod checksum;
pub mod dataset;
pub mod device;
pub mod error;
pub mod evaluate;
pub mod grad_cam;
mod interrupt;
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
