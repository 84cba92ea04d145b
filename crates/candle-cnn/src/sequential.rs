use candle_core::{Result, Tensor};
use candle_nn::ModuleT;
use std::fmt;
use std::sync::Arc;

/// Layers applied one after another: any [`Module`](candle_nn::Module) or [`ModuleT`], including candle_nn's. Clones
/// share the layers. Convolution, batch norm, ReLU and 2×2 max-pool run fastest as one
/// [`ConvBlock`](crate::layers::ConvBlock).
///
/// ```
/// use candle_cnn::{layers::*, parameters::Parameters};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
///
/// let parameters = Parameters::new(0);
/// let vb = parameters.var_builder(&Device::Cpu);
/// let net = Sequential::new()
///     .add(conv2d(1, 8, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("conv1"))?)
///     .add(batch_norm2d(8, BatchNormConfig::default(), vb.pp("bn1"))?)
///     .add(Relu)
///     .add(MaxPool2d::new(2, 2))
///     .add(Flatten)
///     .add(linear(8 * 4 * 4, 10, vb.pp("fc"))?);
/// let x = Tensor::zeros((2, 1, 8, 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.forward_t(&x, false)?.dims(), [2, 10]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Sequential {
    layers: Vec<Arc<dyn ModuleT + Send + Sync>>,
}

impl Sequential {
    /// No layers yet; returns its input.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a layer.
    #[allow(clippy::should_implement_trait)] // The name that candle_nn's Sequential has.
    pub fn add(mut self, layer: impl ModuleT + Send + Sync + 'static) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer yet.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential({} layers)", self.layers.len())
    }
}

impl ModuleT for Sequential {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward_t(&x, train))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::layer::Relu;
    use crate::autograd::graph::{backward, is_own};
    use crate::batch_norm2d::layer::batch_norm2d;
    use crate::block::ConvBlock;
    use crate::config::{BatchNormConfig, Conv2dConfig};
    use crate::conv2d::layer::conv2d;
    use crate::cross_entropy::cross_entropy;
    use crate::dropout::Dropout;
    use crate::flatten::Flatten;
    use crate::linear::layer::linear;
    use crate::parameters::Parameters;
    use crate::pool2d::max_pool2d;
    use candle_core::Device;

    /// The same bits as candle's, without candle, in blocks and layer by layer.
    #[test]
    fn a_whole_network_is_this_crates() -> Result<()> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(&Device::Cpu);
        let conv = |name: &str| conv2d(2, 2, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp(name));
        let bn = |name: &str| batch_norm2d(2, BatchNormConfig::default(), vb.pp(name));
        let net = Sequential::new()
            .add(ConvBlock::new(conv("conv1")?, bn("bn1")?))
            .add(conv("conv2")?)
            .add(bn("bn2")?)
            .add(Relu)
            .add(|x: &Tensor| max_pool2d(x, 2, 2))
            .add(Flatten)
            .add(linear(8, 6, vb.pp("fc1"))?)
            .add(Relu)
            .add(Dropout::new(0.5, 0)?)
            .add(linear(6, 3, vb.pp("fc2"))?);
        let images: Vec<f32> = (0..2 * 2 * 8 * 8).map(|i| (i as f32).sin()).collect();
        let images = Tensor::from_vec(images, (2, 2, 8, 8), &Device::Cpu)?;
        let logits = net.forward_t(&images, true)?;
        let loss = cross_entropy(&logits, &Tensor::new(&[2u32, 0], &Device::Cpu)?)?;
        assert!(is_own(&loss));
        let (found, wanted) = (backward(&loss)?, loss.backward()?);
        let trainable = parameters.trainable();
        assert_eq!(trainable.len(), 12);
        for var in trainable {
            let [found, wanted] = [&found, &wanted].map(|store| store.get(&var).expect("a gradient").flatten_all());
            assert_eq!(found?.to_vec1::<f32>()?, wanted?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
