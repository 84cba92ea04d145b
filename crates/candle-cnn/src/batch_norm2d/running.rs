//! Running mean and variance.

use candle_core::{DType, Result, Tensor, Var};

/// A batch norm's statistics of its inputs so far; clones share the variables.
#[derive(Debug, Clone)]
pub struct RunningStatistics {
    /// Running mean of each channel, `[C]`.
    pub mean: Var,
    /// Running unbiased variance of each channel, `[C]`.
    pub var: Var,
    /// Number of training batches seen, an `i64` scalar.
    pub num_batches_tracked: Option<Var>,
}

impl RunningStatistics {
    /// Mean 0 and variance 1, like PyTorch.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn new(channels: usize, dtype: DType, device: &candle_core::Device) -> Result<Self> {
        Ok(Self {
            mean: Var::zeros(channels, dtype, device)?,
            var: Var::ones(channels, dtype, device)?,
            num_batches_tracked: Some(Var::zeros((), DType::I64, device)?),
        })
    }
}

/// Moves the running statistics toward a batch's mean and unbiased variance, both `[C]`.
pub(crate) fn update(running: &RunningStatistics, mean: &Tensor, var: &Tensor, momentum: f64) -> Result<()> {
    for (old, new) in [(&running.mean, mean), (&running.var, var)] {
        let old_tensor = old.as_detached_tensor();
        old.set(&((old_tensor * (1.0 - momentum))? + (new.detach() * momentum)?)?)?;
    }
    if let Some(count) = &running.num_batches_tracked {
        count.set(&(count.as_detached_tensor() + count.ones_like()?)?)?;
    }
    Ok(())
}
