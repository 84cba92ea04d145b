use candle_core::{Result, Tensor};
use candle_nn::Module;

use super::relu;

/// [`ops::relu`](crate::ops::relu) as a layer.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
/// let y = candle_cnn::layers::Relu.forward(&Tensor::new(&[-1f32, 1.], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0., 1.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu;

impl Module for Relu {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        relu(x)
    }
}
