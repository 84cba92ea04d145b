//! What can go wrong: the crate's [`Error`], and those of data, devices and pictures.

mod candle;
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
mod cuda;
mod dataset;
mod device;
mod picture;

use std::path::PathBuf;

use crate::paths::show_path;

use candle::message;
pub(crate) use candle::without_backtrace;
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
pub(crate) use cuda::explain;
pub use dataset::DatasetError;
pub(crate) use dataset::megabytes;
pub use device::{DeviceError, Version};
pub use picture::PictureError;

/// `std::result::Result` with this crate's [`Error`]; a second type argument may still be given, so a glob import of
/// the prelude breaks no code that names `Result<T, E>`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in this crate. Its `Debug` prints the message alone, because that is what a notebook shows for a
/// failed `?`.
///
/// ```
/// let error = cifar_lab::device::choose_device("cuda:x").unwrap_err();
/// assert_eq!(format!("{error:?}"), error.to_string());
/// ```
#[derive(thiserror::Error)]
pub enum Error {
    /// A tensor operation of candle failed.
    #[error("{}", message(.0))]
    Candle(#[from] candle_core::Error),
    /// Reading, downloading or indexing a data set failed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A picture could not be drawn or saved.
    #[error(transparent)]
    Plot(#[from] notebook_charts::PlotError),
    /// A tensor of another shape than what can be drawn.
    #[error("{what} come as a tensor {wanted}; this one is {found:?}")]
    Shape {
        /// What was to be drawn.
        what: &'static str,
        /// The shapes that can be drawn.
        wanted: &'static str,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// The device that was asked for cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A network's settings contradict each other.
    #[error("a network cannot have {what}: {reason}")]
    NetConfig {
        /// The setting with its value.
        what: String,
        /// Why it cannot be.
        reason: String,
    },
    /// A layer does not accept what the one before it gave.
    #[error("the network failed on images of shape {input:?} after {after}: {source}")]
    ForwardTrace {
        /// The images' shape `[N, C, H, W]`.
        input: Vec<usize>,
        /// The last layer that ran and what it gave.
        after: String,
        /// What the layer after it said.
        source: Box<Error>,
    },
    /// A training ended with an error on its thread.
    #[error("the training {name:?} failed at epoch {epoch}, step {step}: {message}")]
    Training {
        /// The training's name.
        name: String,
        /// The epoch it was in, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
        step: usize,
        /// What failed.
        message: String,
    },
    /// Not an error but a stop that somebody asked for; it ends a training's loop through `?`.
    #[error("the training was asked to stop")]
    Stopped,
    /// The loss is no longer a number.
    #[error("the loss became {loss} at epoch {epoch}, step {step}; a smaller learning rate usually cures that")]
    LossNotFinite {
        /// The loss found (NaN or infinite).
        loss: f32,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
        step: usize,
    },
    /// What a network computed is no number, so that nothing can be told from it.
    #[error("{what} is {value}: the network's weights or its images hold NaN or ∞, as after a training that diverged")]
    NotFinite {
        /// What was computed.
        what: String,
        /// The value found (NaN or infinite).
        value: f32,
    },
    /// A setting of a training, a loader or an evaluation has a value that cannot be.
    #[error("{name} = {value} cannot be: {reason}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The offending value.
        value: String,
        /// Why it cannot be, and what can.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{action} {}: {source}", show_path(path))]
    File {
        /// What was being done (`reading`, `writing`).
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of weights is of another format, or damaged.
    #[error("{} holds no weights that can be read: {reason}", show_path(path))]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network that ONNX cannot describe.
    #[error("this network cannot be written as ONNX: {reason}")]
    Onnx {
        /// What in it is in the way.
        reason: String,
    },
    /// A picture cannot be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Weights without a model card, or with one that cannot be used.
    #[error("the model card {}: {reason}", show_path(path))]
    ModelCard {
        /// Where it is, or should be.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
