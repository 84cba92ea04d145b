//! Tensors as images and as heat maps.

use candle_core::{DType, Tensor};
use image::{Rgb, RgbImage};
use notebook_charts::{Gallery, HeatMaps};

use crate::error::{Error, Result};

/// A figure that can be set up from a tensor. In the prelude, so that `Gallery::from_tensor(&images)?` and
/// `HeatMaps::from_tensor(&maps)?` work in notebooks.
pub trait FromTensor: Sized {
    /// From `tensor`, which holds
    ///
    /// - for a [`Gallery`], images `[N, 3, H, W]` (red, green, blue) or `[N, 1, H, W]` (gray), with values from 0 to 1;
    ///   values outside become 0 or 1. [Undo](crate::transform::Normalize::invert) a batch's normalization first.
    /// - for [`HeatMaps`], any values: the channels `[C, H, W]` or `[1, C, H, W]` of feature maps, filters or attention
    ///   maps, or a single map `[H, W]`. All are on one scale around zero: blue is above, orange below, white is zero,
    ///   so a ReLU visibly removes the orange.
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
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use cifar_lab::plot::{FromTensor, HeatMaps};
    /// let maps = Tensor::randn(0f32, 1., (1, 8, 16, 16), &Device::Cpu)?;
    /// let figure = HeatMaps::from_tensor(&maps)?.title("conv1").columns(8).draw()?;
    /// assert!(figure.text().starts_with("conv1"));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    fn from_tensor(tensor: &Tensor) -> Result<Self>;
}

impl FromTensor for Gallery {
    fn from_tensor(images: &Tensor) -> Result<Self> {
        Ok(Self::new(pictures(images)?))
    }
}

impl FromTensor for HeatMaps {
    fn from_tensor(maps: &Tensor) -> Result<Self> {
        let (height, width) = match *maps.dims() {
            [height, width] | [_, height, width] | [1, _, height, width] => (height, width),
            _ => {
                let wanted = "[C, H, W], [1, C, H, W] or [H, W]: take one image of a batch with `.i(0)?`";
                return Err(Error::Shape { what: "feature maps", wanted, found: maps.dims().to_vec() });
            }
        };
        let values = maps.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        Ok(Self::new((height, width), values))
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

    #[test]
    fn each_channel_is_a_map() -> Result<()> {
        let maps = Tensor::arange(-6f32, 6., &Device::Cpu)?.reshape((3, 2, 2))?;
        for maps in [maps.clone(), maps.unsqueeze(0)?, maps.to_dtype(DType::F64)?] {
            let figure = HeatMaps::from_tensor(&maps)?.title("three maps").labels(&["a", "b & c", "d"]).draw()?;
            assert!(figure.text().contains("a         −6  −4.5        −3"), "{}", figure.text());
        }
        for shape in [vec![12], vec![3, 1, 2, 2], vec![1, 1, 3, 2, 2]] {
            let error = HeatMaps::from_tensor(&maps.reshape(shape)?).unwrap_err();
            assert!(error.to_string().contains(".i(0)?"), "{error}");
        }
        let wrong = HeatMaps::from_tensor(&maps)?.labels(&["a"]).draw();
        assert!(matches!(wrong, Err(PlotError::Length { found: 1, expected: 3, .. })));
        assert!(HeatMaps::from_tensor(&Tensor::new(&[[3u8]], &Device::Cpu)?)?.draw().is_ok());
        let none = Tensor::zeros((0, 4, 4), DType::F32, &Device::Cpu)?;
        assert!(matches!(HeatMaps::from_tensor(&none)?.draw(), Err(PlotError::Empty { .. })));
        Ok(())
    }
}
