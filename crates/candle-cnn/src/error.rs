//! What can go wrong, each with the offending value and what was expected.

use candle_core::DType;

/// Why ids collide, and what to do.
const LINKED_TWICE: &str = "candle is linked twice in this process. In a notebook, put the `use` line of the crate that \
                            re-exports candle into the first cell, take out `:dep candle-core`, and restart the kernel";

/// An error of this crate. Operations return [`candle_core::Result`]; this enum is wrapped inside it, and
/// `error.downcast_ref`-style handling is possible through [`std::error::Error::source`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let error = candle_cnn::ops::max_pool2d(&x, 2, 2).unwrap_err().to_string();
/// assert!(error.contains("max_pool2d: the input has shape [2, 3], expected [N, C, H, W]"));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of the wrong shape.
    #[error("{operation}: {argument} has shape {found:?}, expected {wanted}")]
    Shape {
        /// The operation that was called.
        operation: &'static str,
        /// Which of its arguments is meant.
        argument: &'static str,
        /// The shape found.
        found: Vec<usize>,
        /// The shape expected, in words.
        wanted: String,
    },
    /// A tensor of the wrong element type.
    #[error("{operation}: {argument} has type {found:?}, expected {wanted}")]
    DType {
        /// The operation that was called.
        operation: &'static str,
        /// Which of its arguments is meant.
        argument: &'static str,
        /// The type found.
        found: DType,
        /// The type expected, in words.
        wanted: String,
    },
    /// Tensors on different devices.
    #[error("{operation}: {argument} is on {found}, but the input is on {wanted}; move one with to_device")]
    Device {
        /// The operation that was called.
        operation: &'static str,
        /// Which of its arguments is meant.
        argument: &'static str,
        /// The device found.
        found: String,
        /// The device of the input.
        wanted: String,
    },
    /// A setting outside its range.
    #[error("{operation}: {setting} is {found}, expected {wanted}")]
    Setting {
        /// The operation or object that was configured.
        operation: &'static str,
        /// The setting's name.
        setting: &'static str,
        /// The value found.
        found: String,
        /// The values that are allowed.
        wanted: String,
    },
    /// A class label out of range.
    #[error("{operation}: sample {sample} has label {label}, expected 0 to {last}")]
    Label {
        /// The operation that was called.
        operation: &'static str,
        /// The sample's place in the batch.
        sample: usize,
        /// The label found.
        label: i64,
        /// The highest label there is.
        last: usize,
    },
    /// Batch statistics of a single value have no variance.
    #[error(
        "batch_norm2d: the input has shape {found:?}, one value per channel; training needs more than one, so that a \
         variance exists (use a larger batch, or inference mode)"
    )]
    OneValuePerChannel {
        /// The input's shape.
        found: Vec<usize>,
    },
    /// Two parameters that candle cannot tell apart.
    #[error(
        "parameters {first} and {second} share one tensor id, so their gradients would be mixed. Either one parameter \
         was given twice, or {LINKED_TWICE}"
    )]
    SharedTensorId {
        /// The first one's place in the list of parameters.
        first: usize,
        /// The second one's place.
        second: usize,
    },
    /// A tensor with another tensor's id, because another copy of candle made it.
    #[error(
        "{operation}: a tensor of shape {found:?} has the id {id} of another one, of shape {other:?}, so their gradients \
         would be mixed: {LINKED_TWICE}"
    )]
    OneIdTwoTensors {
        /// The operation that was called.
        operation: &'static str,
        /// The id.
        id: u64,
        /// The tensor's shape.
        found: Vec<usize>,
        /// The other tensor's shape.
        other: Vec<usize>,
    },
    /// A tensor made by another copy of candle: this one has not issued its id yet.
    #[error(
        "{operation}: a tensor of shape {found:?} has the id {id}, which candle has not given out yet, so its gradient \
         would be mixed with another tensor's: {LINKED_TWICE}"
    )]
    IdNotGivenOut {
        /// The operation or optimizer.
        operation: &'static str,
        /// The id.
        id: u64,
        /// The tensor's shape.
        found: Vec<usize>,
    },
    /// An element type or device that needs candle's own operations, which failed.
    #[error("{operation}: candle can't compute this in {found:?}: {reason}; use f32")]
    Unsupported {
        /// The operation that was called.
        operation: &'static str,
        /// The type found.
        found: DType,
        /// What candle said.
        reason: String,
    },
    /// A GPU without enough memory.
    #[error("the GPU has no memory for {bytes} more bytes; use a smaller batch or network")]
    OutOfMemory {
        /// The bytes requested.
        bytes: usize,
    },
    /// CUDA kernels that this machine can't run.
    #[error("this crate's CUDA kernels can't be loaded: {advice} ({reason})")]
    Kernels {
        /// What the driver said.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// An image index out of range.
    #[error("gather_images: sample {sample} of the batch is image {index}, expected 0 to {}", stored - 1)]
    NoPicture {
        /// The sample's place in the batch.
        sample: usize,
        /// The index found.
        index: i64,
        /// The number of stored images.
        stored: usize,
    },
    /// A training step that can't be captured in a CUDA graph.
    #[error("can't capture the training step in a CUDA graph: {reason}; run it without one")]
    Capture {
        /// The reason.
        reason: String,
    },
    /// An optimizer's saved state that does not belong to its parameters.
    #[error("the optimizer's state does not match its parameters: {reason}")]
    State {
        /// What differs.
        reason: String,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        candle_core::Error::wrap(error)
    }
}
