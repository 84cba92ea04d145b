//! The network of Jordan's `airbench94`, which holds the record for 94 % on CIFAR-10, with its sizes as settings.

use candle_cnn::init::whitening;
use candle_cnn::layers::{
    Activation, BatchNormConfig, BlockPool, Conv2d, Conv2dConfig, ConvBlock, ConvBlockConfig, Gelu, Linear,
    batch_norm2d, conv2d, conv2d_dirac, linear_no_bias,
};
use candle_cnn::ops::{flatten, max_pool2d, scale};
use candle_core::{Result as CandleResult, Tensor, Var};
use candle_nn::{Init, Module, ModuleT, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The whitening convolution's kernel, in pixels.
const WHITENING_KERNEL: usize = 2;
/// Added to the eigenvalues of the patches.
const WHITENING_EPS: f64 = 5e-4;
/// The window of the last max-pool, which leaves one pixel of 32×32 images.
const LAST_POOL: usize = 3;

/// An [`AirbenchNet`]'s sizes; the default is the record's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AirbenchConfig {
    /// Channels of the images: 3 for RGB.
    pub in_channels: usize,
    /// Height and width of the images, in pixels.
    pub image_size: usize,
    /// Output channels of each group of two convolutions.
    pub channels: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
}

impl Default for AirbenchConfig {
    fn default() -> Self {
        Self { in_channels: 3, image_size: 32, channels: vec![64, 256, 256], classes: 10 }
    }
}

impl AirbenchConfig {
    /// Filters of the whitening convolution: one for each value of a patch, and their negatives.
    fn whitening_filters(&self) -> usize {
        2 * self.in_channels * WHITENING_KERNEL * WHITENING_KERNEL
    }

    /// Height and width of what the head takes; 0 if the images are too small.
    fn last_size(&self) -> usize {
        let first = self.image_size.saturating_sub(WHITENING_KERNEL - 1);
        self.channels.iter().fold(first, |size, _| size / 2) / LAST_POOL
    }
}

/// Convolution, 2×2 max-pool, batch norm, GELU; convolution, batch norm, GELU. The max-pool comes before the batch norm,
/// which has a bias and no weight.
fn group(inputs: usize, outputs: usize, vb: &VarBuilder) -> CandleResult<[ConvBlock; 2]> {
    let padding = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    // The running statistics keep 0.6 of their old value.
    let config = BatchNormConfig { eps: 1e-12, momentum: 0.4, weight: false, bias: true };
    let block = |number: usize, inputs: usize, pool: BlockPool| -> CandleResult<ConvBlock> {
        let conv = conv2d_dirac(inputs, outputs, 3, padding, vb.pp(format!("conv{number}")))?;
        let norm = batch_norm2d(outputs, config, vb.pp(format!("norm{number}")))?;
        Ok(ConvBlock::with_config(conv, norm, ConvBlockConfig { activation: Activation::Gelu(Gelu::Erf), pool }))
    };
    Ok([block(1, inputs, BlockPool::BeforeNorm)?, block(2, outputs, BlockPool::None)?])
}

/// The parameters of an [`AirbenchNet`] by how they are trained; the whitening filters, which are not, are left out.
#[derive(Clone, Debug)]
pub struct AirbenchParameters {
    /// The bias of the whitening convolution.
    pub whitening_bias: Var,
    /// The weights of the other convolutions.
    pub filters: Vec<Var>,
    /// The biases of the batch norms.
    pub norm_biases: Vec<Var>,
    /// The weight of the linear layer.
    pub head: Var,
}

/// A convolution with fixed whitening filters, GELU, groups of two convolutions, a 3×3 max-pool and a linear layer without
/// bias, whose output is divided by its number of features: the network with which Jordan trains to 94 % on CIFAR-10 in
/// 2.6 seconds of an A100 ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, and `airbench94_muon`,
/// <https://github.com/KellerJordan/cifar10-airbench>).
///
/// A convolution begins as the identity on its first channels. Call [`whiten`](Self::whiten) with images of the training
/// set before training; weights that are loaded include the filters. A clone shares all parameters.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let config = AirbenchConfig { channels: vec![8, 16, 16], ..AirbenchConfig::default() };
/// let parameters = Parameters::new(0);
/// let net = AirbenchNet::new(&config, parameters.var_builder(&Device::Cpu))?;
/// let images = Tensor::randn(0f32, 1., (20, 3, 32, 32), &Device::Cpu)?;
/// net.whiten(&images)?;
/// assert_eq!(net.forward_t(&images, false)?.dims(), [20, 10]);
/// let groups = net.parameters()?;
/// assert_eq!((groups.filters.len(), groups.norm_biases.len(), groups.head.dims()), (6, 6, [10, 16].as_slice()));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AirbenchNet {
    /// The whitening convolution's weight.
    filters: Tensor,
    /// The same convolution, whose weight is not trained.
    whitening: Conv2d,
    blocks: Vec<ConvBlock>,
    head: Linear,
}

impl AirbenchNet {
    /// Builds the network; its parameters come from `vb`.
    ///
    /// # Errors
    /// [`Error::NetConfig`] for sizes of zero, and for images that pooling would shrink to less than one pixel.
    pub fn new(config: &AirbenchConfig, vb: VarBuilder) -> Result<Self> {
        let impossible = |reason: &str| Error::NetConfig { what: format!("{config:?}"), reason: reason.to_string() };
        if config.channels.iter().chain([&config.in_channels, &config.classes]).any(|&size| size == 0) {
            return Err(impossible("every size must be at least 1"));
        }
        let side = config.last_size();
        if side == 0 {
            return Err(impossible(
                "each group halves the image, the last max-pool thirds it, and nothing would be left",
            ));
        }
        let first = config.whitening_filters();
        let whitening = conv2d(config.in_channels, first, WHITENING_KERNEL, Conv2dConfig::default(), vb.pp("whiten"))?;
        let mut blocks = Vec::with_capacity(2 * config.channels.len());
        let mut features = first;
        for (index, &channels) in config.channels.iter().enumerate() {
            blocks.extend(group(features, channels, &vb.pp(format!("group{}", index + 1)))?);
            features = channels;
        }
        features *= side * side;
        let own = vb.pp("head");
        // Of standard deviation 1; the layer takes what is there.
        let bound = 3f64.sqrt();
        own.get_with_hints((config.classes, features), "weight", Init::Uniform { lo: -bound, up: bound })?;
        let head = linear_no_bias(features, config.classes, own)?;
        Ok(Self { filters: whitening.weight().clone(), whitening: whitening.with_frozen_weight(), blocks, head })
    }

    /// Sets the whitening filters for images like these, `[N, C, H, W]`, normalized as they will be in training; a few
    /// thousand are enough. See [`candle_cnn::init::whitening`].
    ///
    /// # Errors
    /// If the images don't fit, or the parameters are no variables.
    pub fn whiten(&self, images: &Tensor) -> Result<()> {
        let filters = whitening(images, WHITENING_KERNEL, WHITENING_EPS)?;
        Ok(variable(&self.filters)?.set(&filters.to_device(self.filters.device())?)?)
    }

    /// The trained parameters, by how they are trained.
    ///
    /// # Errors
    /// If they are no variables.
    pub fn parameters(&self) -> Result<AirbenchParameters> {
        let vars = |tensors: Vec<&Tensor>| tensors.into_iter().map(variable).collect::<Result<Vec<_>>>();
        let bias = self.whitening.bias().into_iter().collect();
        let mut single = vars([bias, vec![self.head.weight()]].concat())?;
        let (Some(head), Some(whitening_bias)) = (single.pop(), single.pop()) else {
            unreachable!("`new` gives the whitening convolution a bias")
        };
        Ok(AirbenchParameters {
            whitening_bias,
            filters: vars(self.blocks.iter().map(|block| block.conv().weight()).collect())?,
            norm_biases: vars(self.blocks.iter().filter_map(|block| block.bn().bias()).collect())?,
            head,
        })
    }

    /// The output of the whitening convolution, `[N, 24, H − 1, W − 1]` of RGB images.
    ///
    /// # Errors
    /// If the images don't fit.
    pub fn whitened(&self, images: &Tensor) -> CandleResult<Tensor> {
        self.whitening.forward(images)
    }
}

/// A parameter as the variable that it is: of another tensor, [`Var::from_tensor`] would return a copy.
fn variable(parameter: &Tensor) -> Result<Var> {
    if !parameter.is_variable() {
        let reason = "its parameters are no variables; build it with Parameters::var_builder".to_string();
        return Err(Error::NetConfig { what: "AirbenchNet".to_string(), reason });
    }
    Ok(Var::from_tensor(parameter)?)
}

impl ModuleT for AirbenchNet {
    /// `images` [N, C, H, W], normalized, to logits [N, classes].
    fn forward_t(&self, images: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut x = Gelu::Erf.forward(&self.whitened(images)?)?;
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        let x = flatten(&max_pool2d(&x, LAST_POOL, LAST_POOL)?)?;
        scale(&self.head.forward(&x)?, 1.0 / x.dim(1)? as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_cnn::parameters::Parameters;
    use candle_cnn::trace;
    use candle_core::{DType, Device};

    #[test]
    fn parameters_that_are_no_variables_are_refused() {
        let config = AirbenchConfig { channels: vec![8, 16, 16], ..AirbenchConfig::default() };
        let net = AirbenchNet::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu)).unwrap();
        let images = Tensor::randn(0f32, 1., (20, 3, 32, 32), &Device::Cpu).unwrap();
        assert!(matches!(net.whiten(&images), Err(Error::NetConfig { .. })));
        assert!(matches!(net.parameters(), Err(Error::NetConfig { .. })));
    }

    #[test]
    fn a_trace_has_every_parameter() {
        let config = AirbenchConfig { channels: vec![8, 16, 16], ..AirbenchConfig::default() };
        let parameters = Parameters::new(0);
        let net = AirbenchNet::new(&config, parameters.var_builder(&Device::Cpu)).unwrap();
        let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
        let (_, calls) = trace::record(|| net.forward_t(&images, false));
        assert_eq!(calls.iter().map(|call| call.parameters).sum::<usize>(), parameters.count());
        let named = |name: &str| calls.iter().any(|call| call.name == name);
        assert!(named("whiten") && named("group3.conv2") && named("head"));
    }
}
