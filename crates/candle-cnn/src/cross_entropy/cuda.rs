//! Cross-entropy on a GPU, and the number of correct predictions.

use candle_core::{DType, Result, Tensor};

use crate::autograd::graph::node_of;
use crate::cuda::launch::{self, Address, Labels};
use crate::cuda::{Gpu, address};

/// The address of labels whose type has been checked.
fn labels_at(labels: &Tensor) -> Result<(Address, Labels)> {
    Ok(match labels.dtype() {
        DType::U8 => (address::<u8>(labels)?, Labels::U8),
        DType::U32 => (address::<u32>(labels)?, Labels::U32),
        _ => (address::<i64>(labels)?, Labels::I64),
    })
}

/// The labels' types have been checked, their values not: see the kernel.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64, share: f64) -> Result<Tensor> {
    let (logits, labels) = (logits.contiguous()?, labels.to_device(logits.device())?.contiguous()?);
    let (n, c) = logits.dims2()?;
    let gpu = Gpu::of(&logits)?;
    let [gradient, loss] = [gpu.empty::<f32>(n * c)?, gpu.empty::<f32>(1)?];
    let losses = gpu.empty::<f64>(n)?;
    let (logits_at, labels_at) = (address::<f32>(&logits)?, labels_at(&labels)?);
    gpu.run(launch::cross_entropy_rows(logits_at, labels_at, gradient.at(), losses.at(), [n, c], (smoothing, share)))?;
    gpu.run(launch::cross_entropy_total(losses.at(), loss.at(), n, share))?;
    node_of("cross_entropy", &[&logits], loss.into_storage(), &[], move |grad| {
        let scaled = gpu.empty::<f32>(n * c)?;
        gpu.run(launch::scale_by(gradient.at(), address::<f32>(grad)?, scaled.at(), n * c))?;
        Ok(vec![Some(scaled.into_tensor(&[n, c]))])
    })
}

/// A scalar of type `u32`.
pub(crate) fn count_correct(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (logits, labels) = (logits.contiguous()?, labels.to_device(logits.device())?.contiguous()?);
    let (gpu, (n, c)) = (Gpu::of(&logits)?, logits.dims2()?);
    let correct = gpu.empty::<u32>(1)?;
    gpu.run(launch::count_correct(address::<f32>(&logits)?, labels_at(&labels)?, correct.at(), [n, c]))?;
    Ok(correct.into_tensor(&[]))
}
