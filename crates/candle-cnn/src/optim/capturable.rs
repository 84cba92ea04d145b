//! Optimizers whose step a CUDA graph can repeat.

#[cfg(feature = "cuda")]
use candle_core::backprop::GradStore;
#[cfg(feature = "cuda")]
use candle_core::{CudaDevice, Result, Tensor};
use candle_nn::Optimizer;

#[cfg(feature = "cuda")]
use super::cuda::{self, RecordedStep};

/// An optimizer whose step a [`StepGraph`](crate::step_graph::StepGraph) can repeat with other learning rates: this
/// crate's [`SGD`](super::SGD) and [`AdamW`](super::AdamW).
///
/// Its methods are hidden and no other crate can implement it: an optimizer that passes its learning rate to the GPU by
/// value would keep using the captured one.
pub trait Capturable: Optimizer + sealed::Sealed {
    /// What is filled by [`Self::record`].
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    fn begin_record(&self, device: &CudaDevice) -> Result<RecordedStep>;

    /// Puts a step on the stream that is being captured. Changes nothing on the host.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    fn record(&self, grads: &GradStore, step: &mut RecordedStep) -> Result<()>;

    /// Whether the tensors that `step` changes are still this optimizer's.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    fn is_recorded(&self, step: &RecordedStep) -> bool;

    /// What one replay of `step` changes on the host, and the settings that it needs, to the device.
    #[cfg(feature = "cuda")]
    #[doc(hidden)]
    fn renew(&mut self, step: &mut RecordedStep) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// Rejects a parameter that the step's kernel does not support, or whose state (`has_state`) would be created during
/// capture.
#[cfg(feature = "cuda")]
pub(super) fn check(optimizer: &'static str, parameter: &Tensor, gradient: &Tensor, has_state: bool) -> Result<()> {
    let reason = if !cuda::serves(parameter, gradient) {
        "is not f32 and contiguous on the GPU"
    } else if !has_state {
        "had no gradient in the steps before"
    } else {
        return Ok(());
    };
    candle_core::bail!("{optimizer}: a parameter of shape {:?} {reason}", parameter.dims())
}
