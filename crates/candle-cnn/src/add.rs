//! The sum of two tensors.

use candle_core::{Result, Tensor};

use crate::autograd::graph::node;
use crate::check::{self, Backend};
use crate::element::{Element, values};
use crate::sums::added;
use crate::trace::{self, LayerCall, Operation};

const NAME: &str = "add";

/// x + y, for two tensors of one shape, such as the branches of a residual block (He et al., 2016): candle's sum, but on the
/// CPU one that [`backward`](crate::backward) knows, so that a network with it is still differentiated by it alone.
///
/// ```
/// use candle_core::{Device, Var};
/// let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
/// let y = candle_cnn::ops::add(&x, &candle_cnn::ops::relu(&x)?)?;
/// assert_eq!(y.to_vec1::<f32>()?, [2., 4.]);
/// assert_eq!(y.sum_all()?.backward()?.get(&x).unwrap().to_vec1::<f32>()?, [2., 2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, types or devices don't match, or the device is out of memory or fails.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check::float(NAME, "the first input", x)?;
    check::argument(NAME, "the second input", y, x.dims(), x)?;
    let sum = match check::backend(x) {
        Backend::CpuF32 => on_cpu::<f32>(x, y)?,
        Backend::CpuF64 => on_cpu::<f64>(x, y)?,
        _ => (x + y)?,
    };
    trace::report(sum, |sum| LayerCall {
        inputs: vec![x.clone(), y.clone()],
        ..LayerCall::of("Add", String::new(), Operation::Add, x, sum)
    })
}

fn on_cpu<T: Element>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    let sum = added(&values::<T>(&x)?, &values::<T>(&y)?);
    let tracked = [x.track_op(), y.track_op()];
    node(NAME, &[&x, &y], sum, x.dims(), move |grad| {
        Ok(tracked.iter().map(|&tracked| tracked.then(|| grad.clone())).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::relu;
    use crate::autograd::graph::{backward, is_own};
    use crate::cross_entropy::cross_entropy;
    use candle_core::{Device, Var};

    /// Around its nonlinear branch a residual block passes the gradient on; with more values than a thread takes at a time.
    #[test]
    fn a_residual_block_is_this_crates() -> Result<()> {
        let values: Vec<f32> = (0..40_000).map(|i| (i as f32).sin()).collect();
        let x = Var::from_tensor(&Tensor::from_vec(values, (10_000, 4), &Device::Cpu)?)?;
        let labels = Tensor::zeros(10_000, candle_core::DType::U32, &Device::Cpu)?;
        let y = add(&relu(&x)?, &x)?;
        assert_eq!(y.to_vec2::<f32>()?, (x.relu()? + x.as_tensor())?.to_vec2::<f32>()?);
        let loss = cross_entropy(&y, &labels)?;
        assert!(is_own(&loss));
        let [found, wanted] = [backward(&loss)?, loss.backward()?].map(|store| store.get(&x).cloned());
        let (found, wanted) = (found.expect("a gradient"), wanted.expect("a gradient"));
        assert_eq!(found.to_vec2::<f32>()?, wanted.to_vec2::<f32>()?);
        Ok(())
    }
}
