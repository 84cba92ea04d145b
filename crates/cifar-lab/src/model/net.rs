//! The original's network, with its sizes as settings.

use candle_cnn::layers::{BatchNormConfig, Conv2d, Conv2dConfig, ConvBlock, Linear, batch_norm2d, conv2d, linear};
use candle_cnn::ops::{flatten, max_pool2d, relu};
use candle_core::{Device, Result as CandleResult, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A [`Net`]'s sizes; the default is the original's: channels 3→32→64→128→256 on 32×32 images, then 512, 128 and 10
/// features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetConfig {
    /// Channels of the images: 3 for RGB.
    pub in_channels: usize,
    /// Height and width of the images, in pixels.
    pub image_size: usize,
    /// Output channels of each block (convolution, batch norm, ReLU, 2×2 max-pool, which halves the image).
    pub channels: Vec<usize>,
    /// Output features of each hidden linear layer.
    pub dense: Vec<usize>,
    /// Number of classes: output features of the last linear layer.
    pub classes: usize,
    /// Whether the blocks have batch norm.
    pub batch_norm: bool,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            image_size: 32,
            channels: vec![32, 64, 128, 256],
            dense: vec![512, 128],
            classes: 10,
            batch_norm: true,
        }
    }
}

impl NetConfig {
    /// The number of trained values of a [`Net`] of these sizes, without building it. Invalid sizes also give a number.
    pub fn parameter_count(&self) -> u128 {
        let mut count = 0u128;
        let mut features = self.in_channels as u128;
        for &channels in &self.channels {
            let channels = channels as u128;
            // Weights of 3×3 and a bias; batch norm's scale and shift.
            let norm = if self.batch_norm { 2 } else { 0 };
            count = count.saturating_add(channels.saturating_mul(features.saturating_mul(9).saturating_add(1 + norm)));
            features = channels;
        }
        let side = self.image_size.checked_shr(self.channels.len() as u32).unwrap_or(0) as u128;
        features = features.saturating_mul(side.saturating_mul(side));
        for &outputs in self.dense.iter().chain([&self.classes]) {
            count = count.saturating_add((outputs as u128).saturating_mul(features.saturating_add(1)));
            features = outputs as u128;
        }
        count
    }
}

/// One block; ReLU and max-pool have no parameters.
#[derive(Clone, Debug)]
enum Block {
    /// Convolution, batch norm, ReLU and max-pool, which train as one operation.
    Normalized(ConvBlock),
    /// The same without batch norm.
    Plain(Conv2d),
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> CandleResult<Tensor> {
        match self {
            Self::Normalized(block) => block.forward_t(x, train),
            Self::Plain(conv) => max_pool2d(&relu(&conv.forward_t(x, train)?)?, 2, 2),
        }
    }
}

/// The original's network: blocks of convolution, batch norm, ReLU and max-pool, then linear layers with ReLU in
/// between.
///
/// Parameters are named as in the original's state dict: `conv1.weight`, `bn1.running_mean`, `fc3.bias`, … A clone
/// shares them.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// use cifar_lab::model::{Net, NetConfig};
///
/// let parameters = Parameters::new(0);
/// let net = Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.forward_t(&images, false)?.dims(), [2, 10]);
/// assert_eq!(parameters.count(), 981_130);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Net {
    config: NetConfig,
    blocks: Vec<Block>,
    dense: Vec<Linear>,
}

impl Net {
    /// Builds the network; its parameters come from `vb`.
    ///
    /// # Errors
    /// [`Error::NetConfig`] for sizes of zero, and for images that pooling would shrink to less than one pixel.
    pub fn new(config: &NetConfig, vb: VarBuilder) -> Result<Self> {
        let impossible = |what: String, reason: &str| Error::NetConfig { what, reason: reason.to_string() };
        let sizes = config.channels.iter().chain(&config.dense);
        if sizes.chain([&config.in_channels, &config.classes]).any(|&size| size == 0) {
            return Err(impossible(format!("{config:?}"), "every size must be at least 1"));
        }
        let halvings = u32::try_from(config.channels.len()).unwrap_or(u32::MAX);
        let size = config.image_size.checked_shr(halvings).unwrap_or(0);
        if size == 0 {
            return Err(impossible(
                format!("{halvings} blocks on {0}×{0} images", config.image_size),
                "each block halves the image, which would leave less than one pixel",
            ));
        }
        let padding = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let mut blocks = Vec::with_capacity(config.channels.len());
        let mut features = config.in_channels;
        for (index, &channels) in config.channels.iter().enumerate() {
            let conv = conv2d(features, channels, 3, padding, vb.pp(format!("conv{}", index + 1)))?;
            blocks.push(if config.batch_norm {
                let vb = vb.pp(format!("bn{}", index + 1));
                Block::Normalized(ConvBlock::new(conv, batch_norm2d(channels, BatchNormConfig::default(), vb)?))
            } else {
                Block::Plain(conv)
            });
            features = channels;
        }
        features *= size * size;
        let mut dense = Vec::with_capacity(config.dense.len() + 1);
        for (index, &outputs) in config.dense.iter().chain([&config.classes]).enumerate() {
            dense.push(linear(features, outputs, vb.pp(format!("fc{}", index + 1)))?);
            features = outputs;
        }
        Ok(Self { config: config.clone(), blocks, dense })
    }
}

impl Net {
    /// The sizes it was built with.
    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// The device of its parameters.
    pub(crate) fn device(&self) -> &Device {
        self.dense.first().map_or(&Device::Cpu, |layer| layer.weight().device())
    }
}

impl ModuleT for Net {
    /// `images` [N, C, H, W], normalized, to logits [N, classes].
    fn forward_t(&self, images: &Tensor, train: bool) -> CandleResult<Tensor> {
        let mut x = images.clone();
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        x = flatten(&x)?;
        for (index, layer) in self.dense.iter().enumerate() {
            x = layer.forward_t(&x, train)?;
            if index + 1 < self.dense.len() {
                x = relu(&x)?;
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_cnn::parameters::Parameters;

    #[test]
    fn names_are_the_originals_state_dict() -> Result<()> {
        let parameters = Parameters::new(0);
        Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
        let mut found: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).collect();
        let mut wanted = Vec::new();
        for layer in 1..=4 {
            for name in ["weight", "bias"] {
                wanted.extend([format!("conv{layer}.{name}"), format!("bn{layer}.{name}")]);
            }
            for name in ["running_mean", "running_var", "num_batches_tracked"] {
                wanted.push(format!("bn{layer}.{name}"));
            }
        }
        for layer in 1..=3 {
            wanted.extend(["weight", "bias"].map(|name| format!("fc{layer}.{name}")));
        }
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        Ok(())
    }

    #[test]
    fn parameters_are_counted_without_building() -> Result<()> {
        for config in [
            NetConfig { channels: vec![4, 8], dense: vec![8], ..NetConfig::default() },
            NetConfig { channels: vec![], dense: vec![], in_channels: 1, ..NetConfig::default() },
            NetConfig { batch_norm: false, image_size: 40, classes: 3, ..NetConfig::default() },
        ] {
            let parameters = Parameters::new(0);
            Net::new(&config, parameters.var_builder(&Device::Cpu))?;
            assert_eq!(config.parameter_count(), parameters.count() as u128, "{config:?}");
        }
        let endless = NetConfig { channels: vec![usize::MAX; 3], dense: vec![usize::MAX; 9], ..NetConfig::default() };
        assert!(endless.parameter_count() > 1 << 100);
        Ok(())
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let build = |config: NetConfig| Net::new(&config, Parameters::new(0).var_builder(&Device::Cpu));
        for config in [
            NetConfig { channels: vec![8; 6], ..NetConfig::default() },
            NetConfig { channels: vec![0], ..NetConfig::default() },
            NetConfig { classes: 0, ..NetConfig::default() },
            NetConfig { image_size: 0, ..NetConfig::default() },
        ] {
            assert!(matches!(build(config), Err(Error::NetConfig { .. })));
        }
    }
}
