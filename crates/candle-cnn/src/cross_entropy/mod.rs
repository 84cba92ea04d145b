//! Softmax and negative log likelihood in one operation.

use candle_core::{DType, Device, Result, Tensor};

pub(crate) mod count_correct;
#[cfg(feature = "cuda")]
mod cuda;

use crate::autograd::graph::node;
use crate::check::{self, Backend};
use crate::config::{CrossEntropyConfig, Reduction};
use crate::element::{Element, tensor, values};
use crate::error::Error;
use crate::sums::widened;

const NAME: &str = "cross_entropy";

/// Mean over the batch of `−log softmax(logits)[label]`, for `logits` `[N, C]` and `labels` `[N]` of an integer type
/// (`u32`, `i64` or `u8`), each from 0 to C − 1. Gives a scalar, as `torch.nn.functional.cross_entropy`;
/// differentiable in `logits`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0., 0., 0.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[2u32], &Device::Cpu)?;
/// let loss = candle_cnn::ops::cross_entropy(&logits, &labels)?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes or types don't match, or a label is out of range. On a GPU, in `f32`, an invalid label makes loss and gradient
/// NaN instead, because an error would have to wait for the GPU.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    cross_entropy_with_label_smoothing(logits, labels, 0.0)
}

/// Like [`cross_entropy`], with label smoothing (Szegedy et al., 2015): the target spreads `smoothing` (0 to 1) evenly
/// over all classes and gives the rest to the label.
///
/// # Errors
/// As for [`cross_entropy`], and if `smoothing` is out of range.
pub fn cross_entropy_with_label_smoothing(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    cross_entropy_with(logits, labels, CrossEntropyConfig { label_smoothing: smoothing, ..Default::default() })
}

/// Like [`cross_entropy`], with label smoothing and as the batch's mean or sum.
///
/// ```
/// use candle_cnn::ops::{CrossEntropyConfig, Reduction, cross_entropy_with};
/// use candle_core::{DType, Device, Tensor};
/// let (logits, labels) = (Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?, Tensor::new(&[2u32, 0], &Device::Cpu)?);
/// let config = CrossEntropyConfig { label_smoothing: 0.2, reduction: Reduction::Sum };
/// let loss = cross_entropy_with(&logits, &labels, config)?.to_scalar::<f32>()?;
/// assert!((loss - 2. * 4f32.ln()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// As for [`cross_entropy_with_label_smoothing`].
pub fn cross_entropy_with(logits: &Tensor, labels: &Tensor, config: CrossEntropyConfig) -> Result<Tensor> {
    check::labels(NAME, logits, labels)?;
    let CrossEntropyConfig { label_smoothing: smoothing, reduction } = config;
    check::share(NAME, "smoothing", smoothing)?;
    // What each row's loss counts for.
    let share = match reduction {
        Reduction::Mean => 1.0 / labels.elem_count() as f64,
        Reduction::Sum => 1.0,
    };
    match check::backend(logits) {
        Backend::CpuF32 => on_cpu::<f32>(logits, labels, smoothing, share),
        Backend::CpuF64 => on_cpu::<f64>(logits, labels, smoothing, share),
        #[cfg(feature = "cuda")]
        // A block for each row.
        Backend::CudaF32 if labels.elem_count() <= i32::MAX as usize => {
            cuda::cross_entropy(logits, labels, smoothing, share)
        }
        _ => {
            // Reading them from a GPU would make every step wait for it.
            if logits.device().is_cpu() {
                checked_labels(labels, logits.dims()[1])?;
            }
            let (dtype, logits) = (logits.dtype(), &widened(logits)?);
            let log_softmax = candle_nn::ops::log_softmax(logits, 1)?;
            let labels = labels.to_device(logits.device())?.to_dtype(DType::U32)?;
            let reduced = |rows: Tensor| match reduction {
                Reduction::Mean => rows.mean_all(),
                Reduction::Sum => rows.sum_all(),
            };
            let picked = reduced(log_softmax.gather(&labels.unsqueeze(1)?.contiguous()?, 1)?.squeeze(1)?)?;
            let loss = (picked * (smoothing - 1.0))?;
            let loss = if smoothing == 0.0 { loss } else { (loss - (reduced(log_softmax.mean(1)?)? * smoothing)?)? };
            loss.to_dtype(dtype)
        }
    }
}

/// The labels, each from 0 to `classes` − 1.
fn checked_labels(labels: &Tensor, classes: usize) -> Result<Vec<i64>> {
    let labels = labels.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    match labels.iter().position(|&label| label < 0 || label >= classes as i64) {
        Some(sample) => Err(Error::Label { operation: NAME, sample, label: labels[sample], last: classes - 1 }.into()),
        None => Ok(labels),
    }
}

fn on_cpu<T: Element>(logits: &Tensor, labels: &Tensor, smoothing: f64, share: f64) -> Result<Tensor> {
    let logits = logits.contiguous()?;
    let (n, c) = logits.dims2()?;
    let labels = checked_labels(labels, c)?;
    let even = smoothing / c as f64;
    // Gradient of the loss: (softmax − target) · share. It is as small as the logits, so it is kept rather than they.
    let mut gradient = Vec::with_capacity(n * c);
    let mut loss = 0.0;
    {
        let values = values::<T>(&logits)?;
        for (row, &label) in values.chunks_exact(c).zip(&labels) {
            let row: Vec<f64> = row.iter().map(|value| value.to_f64()).collect();
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = top + row.iter().map(|value| (value - top).exp()).sum::<f64>().ln();
            loss += (1.0 - smoothing) * (log_sum - row[label as usize]);
            if smoothing > 0.0 {
                loss += even * row.iter().map(|value| log_sum - value).sum::<f64>();
            }
            gradient.extend(row.iter().enumerate().map(|(class, value)| {
                let target = even + if class as i64 == label { 1.0 - smoothing } else { 0.0 };
                T::from_f64(((value - log_sum).exp() - target) * share)
            }));
        }
    }
    let gradient = tensor(gradient, &[n, c])?;
    node("cross_entropy", &[&logits], vec![T::from_f64(loss * share)], &[], move |grad| {
        let scale = values::<T>(grad)?.first().map_or(0.0, |scale| scale.to_f64());
        Ok(vec![Some((&gradient * scale)?)])
    })
}
