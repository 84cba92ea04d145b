//! Batch normalization on a GPU.

use candle_core::{DType, Result, Tensor};

use super::running::RunningStatistics;
use crate::autograd::graph::{Gradients, node_of};
use crate::capturing;
use crate::config::BatchNormConfig;
use crate::cuda::launch::{Channels, Normalizer, Running};
use crate::cuda::{Gpu, Memory, address, address_or_null};

/// Mean and 1 / √(var + eps) of each channel.
pub(crate) struct Statistics {
    pub(crate) mean: Tensor,
    pub(crate) inverse: Memory,
}

impl Statistics {
    pub(crate) fn normalizer(&self, gamma: Option<&Tensor>, beta: Option<&Tensor>) -> Result<Normalizer> {
        Ok(Normalizer {
            mean: address::<f32>(&self.mean)?,
            inverse: self.inverse.at(),
            gamma: address_or_null(gamma)?,
            beta: address_or_null(beta)?,
        })
    }

    /// The statistics of the batch `x`; updates the running ones. `bias` is added to `x`'s mean for them.
    pub(crate) fn of_batch(
        gpu: &Gpu,
        x: &Tensor,
        channels: Channels,
        running: Option<&RunningStatistics>,
        bias: Option<&Tensor>,
        config: BatchNormConfig,
    ) -> Result<Self> {
        let x = address::<f32>(x)?;
        let (sums, mean) = (gpu.empty::<f64>(channels.sums())?, gpu.empty::<f32>(channels.c)?);
        gpu.run(channels.moments(x, sums.at()))?;
        let inverse = gpu.empty::<f32>(channels.c)?;
        let normalizer = Normalizer { mean: mean.at(), inverse: inverse.at(), gamma: 0, beta: 0 };
        let mut moved = Running::default();
        if let Some(running) = running {
            moved.mean = address::<f32>(&running.mean)?;
            moved.var = address::<f32>(&running.var)?;
            moved.bias = address_or_null(bias)?;
            if let Some(batches) = &running.num_batches_tracked {
                if batches.device().same_device(running.mean.device()) && batches.dtype() == DType::I64 {
                    moved.batches = address::<i64>(batches)?;
                } else {
                    capturing::refuse("batch norm's counter is on another device")?;
                    batches.set(&(batches.as_detached_tensor() + batches.ones_like()?)?)?;
                }
            }
        }
        gpu.run(channels.statistics(x, sums.at(), &normalizer, moved, (config.eps, config.momentum)))?;
        Ok(Self { mean: mean.into_tensor(&[channels.c]), inverse })
    }

    /// The running statistics.
    pub(crate) fn of_running(gpu: &Gpu, channels: Channels, running: &RunningStatistics, eps: f64) -> Result<Self> {
        let inverse = gpu.empty::<f32>(channels.c)?;
        gpu.run(channels.inverse(address::<f32>(&running.var)?, inverse.at(), eps))?;
        // A copy, because training may change the mean before a backward pass reads it.
        Ok(Self { mean: running.mean.as_detached_tensor().copy()?, inverse })
    }
}

/// Whether the running statistics can be updated in place.
pub(crate) fn serves(running: Option<&RunningStatistics>) -> bool {
    running.is_none_or(|running| {
        let batches = running.num_batches_tracked.as_ref().is_none_or(|batches| batches.is_contiguous());
        running.mean.is_contiguous() && running.var.is_contiguous() && batches
    })
}

pub(crate) fn batch_norm2d(
    x: &Tensor,
    running: Option<&RunningStatistics>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    config: BatchNormConfig,
    train: bool,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (n, c, h, w) = x.dims4()?;
    let (gpu, channels) = (Gpu::of(&x)?, Channels::new(n, c, h * w));
    let weight = weight.map(Tensor::contiguous).transpose()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let statistics = match running {
        Some(running) if !train => Statistics::of_running(&gpu, channels, running, config.eps)?,
        _ => Statistics::of_batch(&gpu, &x, channels, running, None, config)?,
    };
    let y = gpu.empty::<f32>(x.elem_count())?;
    let normalizer = statistics.normalizer(weight.as_ref(), bias.as_ref())?;
    gpu.run(channels.normalize(address::<f32>(&x)?, &normalizer, y.at()))?;

    let mut inputs = vec![&x];
    inputs.extend(&weight);
    inputs.extend(&bias);
    let tracked: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (saved, gamma, has_bias) = (x.clone(), weight.clone(), bias.is_some());
    node_of("batch_norm2d", &inputs, y.into_storage(), &[n, c, h, w], move |grad| -> Result<Gradients> {
        let (dy, x) = (address::<f32>(grad)?, address::<f32>(&saved)?);
        let normalizer = statistics.normalizer(gamma.as_ref(), None)?;
        let [dgamma, dbeta] = [gpu.empty::<f32>(c)?, gpu.empty::<f32>(c)?];
        let sums = gpu.empty::<f64>(channels.sums())?;
        gpu.run(channels.gradient_sums(dy, x, normalizer.mean, sums.at()))?;
        gpu.run(channels.gradients(sums.at(), normalizer.inverse, dgamma.at(), dbeta.at()))?;
        let mut gradients = Vec::with_capacity(tracked.len());
        gradients.push(if tracked[0] {
            let dx = gpu.empty::<f32>(saved.elem_count())?;
            let vectors = (dgamma.at(), dbeta.at());
            gpu.run(channels.backward((dy, x, dx.at()), &normalizer, vectors, train))?;
            Some(dx.into_tensor(&[n, c, h, w]))
        } else {
            None
        });
        if gamma.is_some() {
            gradients.push(tracked[1].then(|| dgamma.into_tensor(&[c])));
        }
        if has_bias {
            gradients.push(tracked[tracked.len() - 1].then(|| dbeta.into_tensor(&[c])));
        }
        Ok(gradients)
    })
}
