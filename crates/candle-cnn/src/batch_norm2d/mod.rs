//! Batch normalization of images (Ioffe and Szegedy, 2015), as defined by `torch.nn.functional.batch_norm`.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod layer;
pub(crate) mod running;

use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

use crate::autograd::graph::{Gradients, node, note, set_note};
use crate::check::{self, Backend};
use crate::config::BatchNormConfig;
use crate::conv2d::Conv2dNote;
use crate::element::{Element, filled, tensor, values, vector, vector_or};
use crate::error::Error;
use crate::sums::{dot, sum, sum_of, widened};
use running::{RunningStatistics, update};

const NAME: &str = "batch_norm2d";

/// How a training batch norm's output was computed from a convolution's, its arguments contiguous.
#[derive(Clone)]
pub(crate) struct BatchNormNote {
    pub conv: Conv2dNote,
    pub x: Tensor,
    pub gamma: Option<Tensor>,
    pub beta: Option<Tensor>,
    /// Mean and 1 / √(var + eps) of each channel.
    pub normalizer: Arc<[(f64, f64)]>,
}

/// Normalizes each channel of `x` `[N, C, H, W]`: y = (x − mean) / √(var + eps) · weight + bias, with `weight` and
/// `bias` of `[C]` (1 and 0 where `None`). Differentiable in `x`, `weight` and `bias`.
///
/// With `train`, mean and (biased) variance are the batch's, and `running`, if given, is updated in place with the mean
/// and the unbiased variance. Otherwise they are `running`'s.
///
/// ```
/// use candle_cnn::ops::{BatchNormConfig, batch_norm2d};
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
/// let y = batch_norm2d(&x, None, None, None, BatchNormConfig::default(), true)?;
/// let y = y.flatten_all()?.to_vec1::<f32>()?;
/// assert!((y[0] + 1.).abs() < 1e-5 && (y[1] - 1.).abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, types or devices don't match, if a training batch has one value per channel, or if inference has no
/// running statistics.
pub fn batch_norm2d(
    x: &Tensor,
    running: Option<&RunningStatistics>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    config: BatchNormConfig,
    train: bool,
) -> Result<Tensor> {
    config.check()?;
    let [n, c, h, w] = check::dims4(NAME, "the input", x)?;
    check::float(NAME, "the input", x)?;
    for (name, argument) in [("the weight", weight), ("the bias", bias)] {
        if let Some(argument) = argument {
            check::argument(NAME, name, argument, &[c], x)?;
        }
    }
    if let Some(running) = running {
        check::argument(NAME, "the running mean", &running.mean, &[c], x)?;
        check::argument(NAME, "the running variance", &running.var, &[c], x)?;
    }
    if train && n * h * w == 1 {
        return Err(Error::OneValuePerChannel { found: x.dims().to_vec() }.into());
    }
    if !train && running.is_none() {
        return Err(Error::Setting {
            operation: NAME,
            setting: "running",
            found: "none".into(),
            wanted: "running statistics in inference mode".into(),
        }
        .into());
    }
    match check::backend(x) {
        Backend::CpuF32 => on_cpu::<f32>(x, running, weight, bias, config, train),
        Backend::CpuF64 => on_cpu::<f64>(x, running, weight, bias, config, train),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 if cuda::serves(running) => cuda::batch_norm2d(x, running, weight, bias, config, train),
        _ => composed(x, running, weight, bias, config, train),
    }
}

fn composed(
    x: &Tensor,
    running: Option<&RunningStatistics>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    config: BatchNormConfig,
    train: bool,
) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let shape = (1, c, 1, 1);
    let (dtype, x) = (x.dtype(), widened(x)?);
    let per_channel = |values: &Tensor| widened(values)?.reshape(shape);
    let (mean, var) = match running {
        Some(running) if !train => {
            (per_channel(&running.mean.as_detached_tensor())?, per_channel(&running.var.as_detached_tensor())?)
        }
        _ => {
            let mean = x.mean_keepdim((0, 2, 3))?;
            let var = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
            if let Some(running) = running {
                let count = (n * h * w) as f64;
                let unbiased = (var.reshape(c)? * (count / (count - 1.0)))?;
                let stored = |values: Tensor| values.to_dtype(running.mean.dtype());
                update(running, &stored(mean.reshape(c)?)?, &stored(unbiased)?, config.momentum)?;
            }
            (mean, var)
        }
    };
    let mut y = x.broadcast_sub(&mean)?.broadcast_div(&(var + config.eps)?.sqrt()?)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&per_channel(weight)?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&per_channel(bias)?)?;
    }
    y.to_dtype(dtype)
}

/// Mean and biased variance of each channel.
fn statistics<T: Element>(x: &[T], channels: usize, plane: usize) -> Vec<(f64, f64)> {
    let planes = |c: usize| x.chunks_exact(plane).skip(c).step_by(channels);
    let count = (x.len() / channels) as f64;
    (0..channels)
        .into_par_iter()
        .map(|c| {
            let mean = planes(c).map(|plane| sum(plane)).sum::<f64>() / count;
            let shift = T::from_f64(mean);
            // The rounding error of the mean in T, which the second term corrects.
            let rounding = mean - shift.to_f64();
            let squares = planes(c).map(|plane| sum_of(plane, |x| (x - shift) * (x - shift))).sum::<f64>() / count;
            // `max` would make 0 of NaN.
            (mean, (squares - rounding * rounding).clamp(0.0, f64::INFINITY))
        })
        .collect()
}

fn on_cpu<T: Element>(
    x: &Tensor,
    running: Option<&RunningStatistics>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    config: BatchNormConfig,
    train: bool,
) -> Result<Tensor> {
    let conv = if train { note::<Conv2dNote>(x) } else { None };
    let x = x.contiguous()?;
    let (n, c, h, w) = x.dims4()?;
    let plane = h * w;
    let count = (n * plane) as f64;
    let weight = weight.map(Tensor::contiguous).transpose()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let (gamma, beta) = (vector_or::<T>(weight.as_ref(), c, 1.0)?, vector_or::<T>(bias.as_ref(), c, 0.0)?);

    let x_values = values::<T>(&x)?;
    let input: &[T] = &x_values;
    let statistics: Vec<(f64, f64)> = match running {
        Some(running) if !train => {
            let [mean, var] = [&running.mean, &running.var].map(|vector| vector_or::<T>(Some(vector), c, 0.0));
            mean?.into_iter().zip(var?).collect()
        }
        _ => statistics(input, c, plane),
    };
    if let Some(running) = running.filter(|_| train) {
        let mean = vector::<T>(statistics.iter().map(|s| s.0))?;
        let var = vector::<T>(statistics.iter().map(|s| s.1 * count / (count - 1.0)))?;
        update(running, &mean, &var, config.momentum)?;
    }
    // mean and 1 / √(var + eps) of each channel.
    let normalizer: Arc<[(f64, f64)]> =
        statistics.iter().map(|&(mean, var)| (mean, 1.0 / (var + config.eps).sqrt())).collect();
    let output = filled(input.len(), plane, |i, y| {
        let (mean, inverse) = normalizer[i % c];
        // Centered first: scale · x + shift would lose digits if the mean is large.
        let (mean, scale, shift) = (T::from_f64(mean), T::from_f64(inverse * gamma[i % c]), T::from_f64(beta[i % c]));
        for (y, &x) in y.iter_mut().zip(&input[i * plane..]) {
            *y = (x - mean) * scale + shift;
        }
    });

    let mut inputs = vec![&x];
    inputs.extend(&weight);
    inputs.extend(&bias);
    let tracked: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
    let (saved, of_note) = (x.clone(), normalizer.clone());
    let backward = move |grad: &Tensor| -> Result<Gradients> {
        let (grad, x) = (values::<T>(grad)?, values::<T>(&saved)?);
        let (dy, x): (&[T], &[T]) = (&grad, &x);
        // Σ dy and Σ dy · x̂ of each channel, which are also the gradients of bias and weight.
        let sums: Vec<(f64, f64)> = (0..c)
            .into_par_iter()
            .map(|channel| {
                let (mean, inverse) = normalizer[channel];
                let mean = T::from_f64(mean);
                let planes = dy.chunks_exact(plane).zip(x.chunks_exact(plane)).skip(channel).step_by(c);
                let (mut total, mut product) = (0.0, 0.0);
                for (dy, x) in planes {
                    total += sum(dy);
                    product += dot(dy, x, |x| x - mean);
                }
                (total, product * inverse)
            })
            .collect();
        let mut gradients = vec![None; tracked.len()];
        if tracked[0] {
            let dx = filled(x.len(), plane, |i, dx| {
                let channel = i % c;
                let (mean, inverse) = normalizer[channel];
                let (total, product) = if train { sums[channel] } else { (0.0, 0.0) };
                let scale = T::from_f64(gamma[channel] * inverse);
                let (mean, offset) = (T::from_f64(mean), T::from_f64(total / count));
                let slope = T::from_f64(product * inverse / count);
                for ((dx, &dy), &x) in dx.iter_mut().zip(&dy[i * plane..]).zip(&x[i * plane..]) {
                    *dx = (dy - offset - (x - mean) * slope) * scale;
                }
            });
            gradients[0] = Some(tensor(dx, &[n, c, h, w])?);
        }
        if has_weight && tracked[1] {
            gradients[1] = Some(vector::<T>(sums.iter().map(|s| s.1))?);
        }
        if has_bias && tracked[tracked.len() - 1] {
            let last = tracked.len() - 1;
            gradients[last] = Some(vector::<T>(sums.iter().map(|s| s.0))?);
        }
        Ok(gradients)
    };
    drop(x_values);
    let y = node(NAME, &inputs, output, &[n, c, h, w], backward)?;
    if let Some(conv) = conv {
        set_note(&y, BatchNormNote { conv, x, gamma: weight, beta: bias, normalizer: of_note });
    }
    Ok(y)
}
