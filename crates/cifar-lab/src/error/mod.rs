//! What can go wrong: [`Error`] for the whole crate, and the errors of data, devices and pictures.

mod candle;
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
mod cuda;
mod dataset;
mod device;
mod picture;

use std::any::Any;
use std::path::PathBuf;

use crate::paths::show_path;

use candle::message;
pub(crate) use candle::without_backtrace;
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
pub(crate) use cuda::explain;
pub use dataset::DatasetError;
pub use device::{DeviceError, Version};
pub use picture::PictureError;

/// `std::result::Result` with this crate's [`Error`]. It still takes a second type argument, so that a glob import of
/// the prelude doesn't break code that names `Result<T, E>`.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in this crate. Its `Debug` prints only the message, because that is what a notebook shows for a
/// failed `?`.
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
    /// A tensor whose shape can't be drawn.
    #[error("{what} need a tensor {wanted}; this one is {found:?}")]
    Shape {
        /// What was to be drawn.
        what: &'static str,
        /// The shapes that can be drawn.
        wanted: &'static str,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// The requested device can't be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A network's settings contradict each other.
    #[error("a network can't have {what}: {reason}")]
    NetConfig {
        /// The setting with its value.
        what: String,
        /// Why it is impossible.
        reason: String,
    },
    /// A layer doesn't accept the previous layer's output.
    #[error("the network failed on images of shape {input:?} after {after}: {source}")]
    ForwardTrace {
        /// The images' shape `[N, C, H, W]`.
        input: Vec<usize>,
        /// The last layer that ran, and its output's shape.
        after: String,
        /// The error of the layer after it.
        source: Box<Error>,
    },
    /// The notebook's stop button was pressed while a cell waited.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// A training failed on its thread.
    #[error("training {name:?} failed at epoch {epoch}, step {step}: {message}")]
    Training {
        /// The training's name.
        name: String,
        /// The epoch it was in, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
        step: usize,
        /// The error's message.
        message: String,
    },
    /// Not a failure: someone asked the training to stop, and its loop ends through `?`.
    #[error("the training was asked to stop")]
    Stopped,
    /// The loss is NaN or infinite.
    #[error(
        "the loss became {loss} at epoch {epoch}, step {step}{}; a tenth of the learning rate usually helps, or gradients \
         clipped with clip_gradients_by_norm",
        .learning_rate.map(|rate| format!(", with learning rate {rate}")).unwrap_or_default()
    )]
    LossNotFinite {
        /// The loss found (NaN or infinite).
        loss: f32,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
        step: usize,
        /// The optimizer's learning rate, where it is known.
        learning_rate: Option<f64>,
    },
    /// A network's output is NaN or infinite, so it says nothing.
    #[error("{what} is {value}: the weights or the images contain NaN or ∞, usually because training diverged")]
    NotFinite {
        /// What was computed.
        what: String,
        /// The value found (NaN or infinite).
        value: f32,
    },
    /// A setting of a training, a loader or an evaluation has an impossible value.
    #[error("{name} = {value} is not possible: {reason}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The offending value.
        value: String,
        /// Why, and which values are possible.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{action} {}: {source}", show_path(path))]
    File {
        /// The attempted action (`reading`, `writing`).
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A weights file has another format, or is damaged.
    #[error("can't read weights from {}: {reason}", show_path(path))]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A network that ONNX can't describe.
    #[error("can't export this network to ONNX: {reason}")]
    Onnx {
        /// What stands in the way.
        reason: String,
    },
    /// A picture can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Weights without a usable model card.
    #[error("model card {}: {reason}", show_path(path))]
    ModelCard {
        /// Where it is, or should be.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

/// The message of a caught panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
