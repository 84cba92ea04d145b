//! Convolution, batch norm, activation and, where wanted, 2×2 max-pool as one layer.

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

#[cfg(feature = "cuda")]
mod cuda;
mod norm_last;
mod normalizer;
mod pool_last;
mod separate;

use crate::batch_norm2d::layer::BatchNorm2d;
use crate::chain::{self, Inputs, NAME, pooled};
use crate::check::{self, Backend};
use crate::config::{Activation, BlockPool, ConvBlockConfig};
use crate::conv2d::geometry::Geometry;
use crate::conv2d::layer::Conv2d;
use crate::error::Error;
use crate::simd::in_pool_alone;
use crate::trace;
use separate::separate;

/// max_pool2d(relu(bn(conv(x))), 2, 2) as one layer: the same values and gradients without writing intermediate
/// results, which takes half of the separate operations' time. `x` is `[N, C, H, W]`, the output `[N, O, OH / 2, OW /
/// 2]`, rounded down. [`with_config`](Self::with_config) gives it another activation, and the max-pool another place or none.
///
/// In training the gradient of the convolution's bias is exactly 0, because the batch's mean cancels any bias; the
/// separate operations leave rounding errors there.
///
/// The separate operations run if there is no fused code (another type or device, groups, on the CPU a padding beyond
/// the kernel's reach or a last max-pool without ReLU, on a GPU any other [`ConvBlockConfig`]), and while [`trace`] records, so that
/// each is recorded.
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
#[derive(Clone, Debug)]
pub struct ConvBlock {
    conv: Conv2d,
    bn: BatchNorm2d,
    config: ConvBlockConfig,
}

impl ConvBlock {
    /// A block of two layers, which keep their parameters and can still be used separately.
    pub fn new(conv: Conv2d, bn: BatchNorm2d) -> Self {
        Self::with_config(conv, bn, ConvBlockConfig::default())
    }

    /// The same with another activation, or the max-pool elsewhere.
    pub fn with_config(conv: Conv2d, bn: BatchNorm2d, config: ConvBlockConfig) -> Self {
        Self { conv, bn, config }
    }

    /// The convolution.
    pub fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// The batch norm.
    pub fn bn(&self) -> &BatchNorm2d {
        &self.bn
    }

    fn inputs(&self, x: &Tensor) -> Result<Inputs> {
        let contiguous = |t: Option<&Tensor>| t.map(Tensor::contiguous).transpose();
        Ok(Inputs {
            x: x.contiguous()?,
            weight: self.conv.weight().contiguous()?,
            bias: contiguous(self.conv.bias())?,
            gamma: contiguous(self.bn.weight())?,
            beta: contiguous(self.bn.bias())?,
            config: self.conv.config(),
        })
    }
}

impl ModuleT for ConvBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let Self { conv, bn, config } = self;
        let geometry = Geometry::new(x, conv.weight(), conv.bias(), conv.config())?;
        let sizes = geometry.sizes();
        let backend = check::backend(x);
        let served = match backend {
            Backend::CpuF32 => {
                let pooled_without_relu = config.pool == BlockPool::Last && config.activation != Activation::Relu;
                chain::serves(&geometry) && !pooled_without_relu
            }
            #[cfg(feature = "cuda")]
            Backend::CudaF32 => {
                let usual = *config == ConvBlockConfig::default();
                usual && cuda::serves(&geometry) && crate::batch_norm2d::cuda::serves(Some(bn.running()))
            }
            _ => false,
        };
        if !served || trace::is_recording() {
            return separate(conv, bn, *config, x, train);
        }
        let arguments = [
            ("the batch norm's weight", bn.weight()),
            ("the batch norm's bias", bn.bias()),
            ("the running mean", Some(bn.running().mean.as_tensor())),
            ("the running variance", Some(bn.running().var.as_tensor())),
        ];
        for (name, argument) in arguments {
            if let Some(argument) = argument {
                check::argument(NAME, name, argument, &[sizes.o], x)?;
            }
        }
        let (rows, columns) = if config.pool == BlockPool::BeforeNorm { pooled(&sizes) } else { (sizes.oh, sizes.ow) };
        if train && sizes.n * rows * columns == 1 {
            return Err(Error::OneValuePerChannel { found: vec![sizes.n, sizes.o, rows, columns] }.into());
        }
        let inputs = self.inputs(x)?;
        #[cfg(feature = "cuda")]
        if matches!(backend, Backend::CudaF32) {
            return if train { cuda::train(inputs, bn, geometry) } else { cuda::infer(inputs, bn, geometry) };
        }
        in_pool_alone(|| match (config.pool, train) {
            (BlockPool::Last, true) => pool_last::train(inputs, bn, sizes),
            (BlockPool::Last, false) => pool_last::infer(inputs, bn, sizes),
            (_, true) => norm_last::train(inputs, bn, sizes, *config),
            (_, false) => norm_last::infer(inputs, bn, sizes, *config),
        })
    }
}
