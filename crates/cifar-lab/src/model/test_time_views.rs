//! Averages a network's logits over six views of an image.

use candle_cnn::ops::reflected;
use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

/// A network that averages another's logits over an image, the image moved by a pixel up and left, and the image moved by
/// a pixel down and right, with the weights ½, ¼ and ¼, each also mirrored (Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
/// Single GPU", 2024, section 3.5). It costs six forward passes.
///
/// In evaluation it takes images `[N, C, H, W]` and returns `[N, classes]`. In training it behaves like the network itself.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// use cifar_lab::model::TestTimeViews;
///
/// // A network whose "logits" are the image's pixels.
/// let views = TestTimeViews::new(candle_nn::func_t(|x, _| x.flatten_from(1)));
/// let image = Tensor::new(&[[[[0f32, 4., 0.], [0., 0., 0.], [0., 0., 0.]]]], &Device::Cpu)?;
/// let mean = views.forward_t(&image, false)?.to_vec2::<f32>()?;
/// assert_eq!(mean[0], [0., 2., 0., 1., 0., 1., 0., 0., 0.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TestTimeViews<N> {
    network: N,
}

impl<N: ModuleT> TestTimeViews<N> {
    /// Wraps `network`.
    pub fn new(network: N) -> Self {
        Self { network }
    }

    /// The mean of the logits of the images and of their mirror images.
    fn of_both_sides(&self, images: &Tensor) -> Result<Tensor> {
        let mirrored = images.flip(&[3])?.contiguous()?;
        (self.network.forward_t(images, false)? + self.network.forward_t(&mirrored, false)?)? / 2.0
    }
}

/// The images read `by` pixels further down and right, their reflection around them.
fn moved(images: &Tensor, by: isize) -> Result<Tensor> {
    let mut images = images.clone();
    for side in [2, 3] {
        let size = images.dim(side)?;
        let places: Vec<u32> = (0..size).map(|at| reflected(at as isize + by, size) as u32).collect();
        images = images.index_select(&Tensor::new(places, images.device())?, side)?;
    }
    Ok(images)
}

impl<N: ModuleT> ModuleT for TestTimeViews<N> {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        if train {
            return self.network.forward_t(images, train);
        }
        images.dims4()?;
        let moved = (self.of_both_sides(&moved(images, -1)?)? + self.of_both_sides(&moved(images, 1)?)?)?;
        (self.of_both_sides(images)? / 2.0)? + (moved / 4.0)?
    }
}
