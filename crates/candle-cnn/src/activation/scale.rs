//! A product with a number.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::map;
use crate::autograd::graph::node;
use crate::check::{self, Backend};
use crate::element::{Element, tensor, values};
use crate::trace::{self, LayerCall, Operation};

const NAME: &str = "scale";

/// x · factor, for a tensor of any shape: candle's product, but one that [`backward`](crate::backward) knows, so that a
/// network which scales its output is still differentiated by it alone.
///
/// ```
/// use candle_core::{Device, Var};
/// let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
/// let y = candle_cnn::ops::scale(&x, 0.5)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.5, 1.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is not of a floating-point type, `factor` is not finite, or the device is out of memory or fails.
pub fn scale(x: &Tensor, factor: f64) -> Result<Tensor> {
    check::float(NAME, "the input", x)?;
    check::setting(NAME, "factor", factor, factor.is_finite(), "a finite number")?;
    let y = match check::backend(x) {
        Backend::CpuF32 => on_cpu::<f32>(x, factor)?,
        Backend::CpuF64 => on_cpu::<f64>(x, factor)?,
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::scale(x, factor as f32)?,
        Backend::Candle => (x * factor)?,
    };
    trace::report(y, |y| LayerCall::of("Scale", format!("× {factor}"), Operation::Scale { factor }, x, y))
}

fn on_cpu<T: Element>(x: &Tensor, factor: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let factor = T::from_f64(factor);
    let (y, dims) = (map(&values::<T>(&x)?, |&x| x * factor), x.dims().to_vec());
    node(NAME, &[&x], y, x.dims(), move |grad| {
        let dx: Vec<T> = map(&values::<T>(grad)?, |&dy| dy * factor);
        Ok(vec![Some(tensor(dx, &dims)?)])
    })
}
