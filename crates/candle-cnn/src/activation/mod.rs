//! ReLU, GELU, and a product with a number.

use candle_core::{Result, Tensor};

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod gelu;
pub(crate) mod layer;
pub(crate) mod scale;

use crate::autograd::graph::{node, note, set_note};
use crate::batch_norm2d::BatchNormNote;
use crate::check::{self, Backend};
use crate::element::{Element, filled, tensor, values};
use crate::trace::{self, LayerCall, Operation};

/// Elements that one thread takes at a time: 64 KiB of `f32`, which stays in its cache.
const CHUNK: usize = 1 << 14;

/// How a ReLU's output was computed from a batch norm's.
#[derive(Clone)]
pub(crate) struct ReluNote(pub BatchNormNote);

/// max(x, 0), element by element, for a tensor of any shape. The gradient at 0 is 0 and NaN stays NaN, as in PyTorch
/// (candle's own `relu` has the gradient 1 at 0).
///
/// ```
/// use candle_core::{Device, Var};
/// let x = Var::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = candle_cnn::ops::relu(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 0., 2.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?, [0., 0., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If the device is out of memory or fails.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let y = match check::backend(x) {
        Backend::CpuF32 => relu_on_cpu::<f32>(x)?,
        Backend::CpuF64 => relu_on_cpu::<f64>(x)?,
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::relu(x)?,
        Backend::Candle => {
            let zeros = x.zeros_like()?;
            x.le(&zeros)?.where_cond(&zeros, x)?
        }
    };
    trace::report(y, |y| LayerCall::of("ReLU", String::new(), Operation::Relu, x, y))
}

fn relu_on_cpu<T: Element>(x: &Tensor) -> Result<Tensor> {
    let batch_norm = note::<BatchNormNote>(x);
    let x = x.contiguous()?;
    // Written so that NaN, for which every comparison is false, passes through.
    let y: Vec<T> = map(&values::<T>(&x)?, |&x| if x <= T::zero() { T::zero() } else { x });
    let input = x.clone();
    let y = node("relu", &[&x], y, x.dims(), move |grad| {
        let (x, grad_values) = (values::<T>(&input)?, values::<T>(grad)?);
        let (x, dy): (&[T], &[T]) = (&x, &grad_values);
        let dx = filled(x.len(), CHUNK, |i, dx| {
            for ((dx, &x), &dy) in dx.iter_mut().zip(&x[i * CHUNK..]).zip(&dy[i * CHUNK..]) {
                *dx = if x <= T::zero() { T::zero() } else { dy };
            }
        });
        Ok(vec![Some(tensor(dx, input.dims())?)])
    })?;
    if let Some(batch_norm) = batch_norm {
        set_note(&y, ReluNote(batch_norm));
    }
    Ok(y)
}

fn map<T: Element>(x: &[T], f: impl Fn(&T) -> T + Sync) -> Vec<T> {
    filled(x.len(), CHUNK, |i, y| {
        for (y, x) in y.iter_mut().zip(&x[i * CHUNK..]) {
            *y = f(x);
        }
    })
}
