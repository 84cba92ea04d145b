//! The number of correct predictions, the prediction being the largest logit.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax;

#[cfg(feature = "cuda")]
use super::cuda;
use crate::check::{self, Backend};
use crate::element::{Element, values};

const NAME: &str = "count_correct";

/// How many rows of `logits` `[N, C]` have their largest value (the first of several equal ones) at their label, for
/// `labels` `[N]` of an integer type (`u32`, `i64` or `u8`). Gives a scalar of type `u32`, outside of any graph;
/// divided by N it is the accuracy. Does not wait for the GPU.
///
/// A row whose softmax is NaN (a logit is NaN or +∞, or all are −∞) is never correct.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0.1f32, 0.9], [0.8, 0.2], [0.5, 0.5]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 1, 0], &Device::Cpu)?;
/// assert_eq!(candle_cnn::ops::count_correct(&logits, &labels)?.to_scalar::<u32>()?, 2);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes or types don't match.
pub fn count_correct(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    check::labels(NAME, logits, labels)?;
    match check::backend(logits) {
        Backend::CpuF32 => on_cpu::<f32>(logits, labels),
        Backend::CpuF64 => on_cpu::<f64>(logits, labels),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::count_correct(logits, labels),
        _ => {
            let labels = labels.to_device(logits.device())?.to_dtype(DType::U32)?;
            let logits = logits.detach();
            let right = logits.argmax(D::Minus1)?.eq(&labels)?;
            // 1, or NaN, which is not even equal to itself.
            let sums = softmax(&logits, D::Minus1)?.sum(D::Minus1)?;
            right.mul(&sums.eq(&sums)?)?.to_dtype(DType::U32)?.sum_all()
        }
    }
}

fn on_cpu<T: Element>(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let logits = logits.contiguous()?;
    let classes = logits.dims2()?.1;
    let labels = labels.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let largest = |row: &[T]| {
        let larger =
            |best: (usize, T), (class, &value): (usize, &T)| if value > best.1 { (class, value) } else { best };
        let (class, value) = row.iter().enumerate().fold((0, T::NEG_INFINITY), larger);
        let numbers = value.to_f64().is_finite() && row.iter().all(|value| !value.to_f64().is_nan());
        numbers.then_some(class as i64)
    };
    let values = values::<T>(&logits)?;
    let correct = values.chunks_exact(classes).zip(&labels).filter(|(row, label)| largest(row) == Some(**label));
    Tensor::new(correct.count() as u32, &Device::Cpu)
}
