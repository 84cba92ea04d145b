//! Tensors as images.

use candle_core::{DType, Tensor};
use image::{Rgb, RgbImage};
use notebook_charts::Gallery;

use crate::error::{Error, Result};

/// What can be made from a tensor. In the prelude, so that `Gallery::from_tensor(&images)?` works in notebooks.
pub trait FromTensor: Sized {
    /// From a tensor of images `[N, 3, H, W]` (red, green, blue) or `[N, 1, H, W]` (gray), with values from 0 to 1;
    /// values outside become 0 or 1. [Undo](crate::transform::Normalize::invert) a batch's normalization first.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape, [`Error::Candle`] if the values can't be read.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use cifar_lab::plot::{FromTensor, Gallery};
    /// let images = Tensor::rand(0f32, 1., (4, 3, 32, 32), &Device::Cpu)?;
    /// let figure = Gallery::from_tensor(&images)?.title("noise").columns(4).draw()?;
    /// assert_eq!(figure.title(), "noise");
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    fn from_tensor(images: &Tensor) -> Result<Self>;
}

impl FromTensor for Gallery {
    fn from_tensor(images: &Tensor) -> Result<Self> {
        Ok(Self::new(pictures(images)?))
    }
}

/// The images in a tensor; see [`FromTensor::from_tensor`].
pub(crate) fn pictures(images: &Tensor) -> Result<Vec<RgbImage>> {
    let [_, channels @ (1 | 3), height, width] = *images.dims() else {
        let found = images.dims().to_vec();
        return Err(Error::Shape { what: "images", wanted: "[N, 3, H, W] or [N, 1, H, W]", found });
    };
    let values = images.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let plane = height * width;
    let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0)).round() as u8;
    let picture = |values: &[f32]| {
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            // A gray image's three channels are its only one.
            Rgb([0, 1, 2].map(|channel| byte(values[channel.min(channels - 1) * plane + at])))
        })
    };
    Ok(values.chunks(channels * plane.max(1)).map(picture).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use notebook_charts::PlotError;

    #[test]
    fn images_are_taken_from_their_place_in_the_tensor() -> Result<()> {
        let values: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32 / 24.0).collect();
        let images = Tensor::from_vec(values, (2, 3, 2, 2), &Device::Cpu)?;
        // Image 1, row 1, column 0 is element 12 + 4 c + 2 of channel c.
        let wanted = [14, 18, 22].map(|i| (255.0 * i as f32 / 24.0).round() as u8);
        assert_eq!(pictures(&images)?[1].get_pixel(0, 1).0, wanted);
        let gray = pictures(&Tensor::new(&[[[[-0.5f32, 2.0]]]], &Device::Cpu)?)?;
        assert_eq!((gray[0].get_pixel(0, 0).0, gray[0].get_pixel(1, 0).0), ([0; 3], [255; 3]));
        let error = Gallery::from_tensor(&images.reshape((3, 2, 2, 2))?).unwrap_err();
        assert!(error.to_string().contains("[3, 2, 2, 2]"), "{error}");
        let none = Tensor::zeros((0, 3, 2, 2), DType::F32, &Device::Cpu)?;
        assert!(matches!(Gallery::from_tensor(&none)?.draw(), Err(PlotError::Empty { .. })));
        Ok(())
    }
}
