//! Averages a network's predictions for an image and its mirror image.

use candle_core::{D, Result, Tensor};
use candle_nn::ModuleT;
use candle_nn::ops::log_softmax;

/// A network that averages another's predictions for an image and its mirror image (test-time augmentation: Krizhevsky,
/// Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 4.1). It is a
/// network like any other, to evaluate and to predict with.
///
/// In evaluation it takes images `[N, C, H, W]` and returns `[N, classes]`: the logarithms of the mean probabilities,
/// from which softmax recovers the probabilities. In training it behaves like the network itself.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// use cifar_lab::model::{Net, TestTimeFlip};
///
/// let net = Net::new(&Default::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let both = TestTimeFlip::new(net);
/// let image = Tensor::rand(0f32, 1., (1, 3, 32, 32), &Device::Cpu)?;
/// let (said, of_mirrored) = (both.forward_t(&image, false)?, both.forward_t(&image.flip(&[3])?, false)?);
/// assert!((said - of_mirrored)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestTimeFlip<N> {
    network: N,
}

impl<N: ModuleT> TestTimeFlip<N> {
    /// Wraps `network`.
    pub fn new(network: N) -> Self {
        Self { network }
    }
}

impl<N: ModuleT> ModuleT for TestTimeFlip<N> {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        if train {
            return self.network.forward_t(images, train);
        }
        let width = images.rank().saturating_sub(1);
        let mirrored = images.flip(&[width])?.contiguous()?;
        let log_of = |images: &Tensor| log_softmax(&self.network.forward_t(images, false)?, D::Minus1);
        let (first, second) = (log_of(images)?, log_of(&mirrored)?);
        // ln((p + q) / 2) from ln p and ln q, relative to the larger, so that two tiny probabilities don't vanish.
        let larger = first.maximum(&second)?;
        // Where both are −∞, the probability is 0 and not NaN.
        let larger = larger.eq(f64::NEG_INFINITY)?.where_cond(&larger.zeros_like()?, &larger)?;
        let sum = ((first - &larger)?.exp()? + (second - &larger)?.exp()?)?;
        larger + (sum.log()? - std::f64::consts::LN_2)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_nn::ops::softmax;

    /// Returns `.0` times the left and the right column of each image, [N, 2].
    struct Columns(f64);

    impl ModuleT for Columns {
        fn forward_t(&self, images: &Tensor, _train: bool) -> Result<Tensor> {
            images.flatten_from(1)? * self.0
        }
    }

    #[test]
    fn probabilities_are_the_mean_of_both() -> Result<()> {
        let images = Tensor::new(&[[[[1f64, 3.]]], [[[-2., 400.]]]], &Device::Cpu)?;
        let said = softmax(&TestTimeFlip::new(Columns(1.0)).forward_t(&images, false)?, D::Minus1)?.to_vec2::<f64>()?;
        // What an image gives to the first class, its mirror image gives to the second.
        for row in said {
            assert!((row[0] - 0.5).abs() < 1e-12 && (row[1] - 0.5).abs() < 1e-12, "{row:?}");
        }
        Ok(())
    }

    #[test]
    fn a_class_that_is_ruled_out_both_times_has_probability_0() -> Result<()> {
        let ruled_out = f32::NEG_INFINITY;
        let images = Tensor::new(&[[[[0f32, ruled_out, ruled_out, 0.]]], [[[0., f32::NAN, 0., 0.]]]], &Device::Cpu)?;
        let said = TestTimeFlip::new(Columns(1.0)).forward_t(&images, false)?;
        let said = softmax(&said, D::Minus1)?.to_vec2::<f32>()?;
        assert_eq!(said[0], [0.5, 0.0, 0.0, 0.5]);
        assert!(said[1].iter().all(|share| share.is_nan()), "{said:?}");
        Ok(())
    }

    #[test]
    fn tiny_probabilities_stay_finite_and_training_is_the_network_s() -> Result<()> {
        let images = Tensor::new(&[[[[0f32, 300.]]]], &Device::Cpu)?;
        let net = TestTimeFlip::new(Columns(1.0));
        let said = net.forward_t(&images, false)?.to_vec2::<f32>()?;
        assert!(said[0].iter().all(|value| value.is_finite()), "{said:?}");
        assert_eq!(net.forward_t(&images, true)?.to_vec2::<f32>()?, [[0.0, 300.0]]);
        Ok(())
    }
}
