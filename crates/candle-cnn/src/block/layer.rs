use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT};

use super::conv_batch_norm_relu_max_pool;
use super::inputs::{Convolution, Normalization};
use crate::activation::relu;
use crate::batch_norm2d::layer::BatchNorm2d;
use crate::conv2d::layer::Conv2d;
use crate::pool2d::max_pool2d;
use crate::trace;

/// Convolution, batch norm, ReLU and 2×2 max-pool as one layer: what the four give, at about half of the time; see
/// [`ops::conv_batch_norm_relu_max_pool`](crate::ops::conv_batch_norm_relu_max_pool). While [`trace`] records, the four run one by one.
#[derive(Clone, Debug)]
pub struct ConvBlock {
    conv: Conv2d,
    bn: BatchNorm2d,
}

impl ConvBlock {
    /// A block of two layers that may also be used by themselves; the parameters are theirs.
    ///
    /// ```
    /// use candle_cnn::{layers::*, parameters::Parameters};
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::ModuleT;
    /// let parameters = Parameters::new(0);
    /// let vb = parameters.var_builder(&Device::Cpu);
    /// let conv1 = conv2d(3, 32, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("conv1"))?;
    /// let bn1 = batch_norm2d(32, BatchNormConfig::default(), vb.pp("bn1"))?;
    /// let block = ConvBlock::new(conv1, bn1);
    /// let x = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
    /// assert_eq!(block.forward_t(&x, true)?.dims(), [2, 32, 16, 16]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(conv: Conv2d, bn: BatchNorm2d) -> Self {
        Self { conv, bn }
    }

    /// The convolution.
    pub fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// The batch norm.
    pub fn bn(&self) -> &BatchNorm2d {
        &self.bn
    }
}

impl ModuleT for ConvBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        conv_bn_relu_max_pool(&self.conv, &self.bn, x, train)
    }
}

/// Convolution, batch norm, ReLU and 2×2 max-pool of `x` `[N, C, H, W]` in one go; what a [`ConvBlock`] runs, and a
/// [`Sequential`](crate::layers::Sequential) where it finds the four one after another.
///
/// ```
/// use candle_cnn::{layers::*, ops, parameters::Parameters};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, ModuleT};
/// let vb = Parameters::new(0).var_builder(&Device::Cpu);
/// let conv = conv2d(3, 8, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("conv1"))?;
/// let bn = batch_norm2d(8, BatchNormConfig::default(), vb.pp("bn1"))?;
/// let x = Tensor::ones((2, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// let together = conv_bn_relu_max_pool(&conv, &bn, &x, false)?;
/// let apart = ops::max_pool2d(&ops::relu(&bn.forward_t(&conv.forward(&x)?, false)?)?, 2, 2)?;
/// let difference = (together - apart)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(difference < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// Where shapes or types do not fit; the error names the operation.
pub fn conv_bn_relu_max_pool(conv: &Conv2d, bn: &BatchNorm2d, x: &Tensor, train: bool) -> Result<Tensor> {
    if trace::is_recording() {
        let y = bn.forward_t(&conv.forward(x)?, train)?;
        return max_pool2d(&relu(&y)?, 2, 2);
    }
    let convolution = Convolution { weight: conv.weight(), bias: conv.bias(), config: conv.config() };
    let normalization =
        Normalization { running: bn.running(), weight: bn.weight(), bias: bn.bias(), config: bn.config() };
    conv_batch_norm_relu_max_pool(x, convolution, normalization, train)
}
