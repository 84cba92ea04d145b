//! Tensors as pictures.

use super::PlotError;
use candle_core::{DType, Tensor};
use image::{Rgb, RgbImage};

/// The pictures in a tensor `[N, 3, H, W]` (red, green, blue) or `[N, 1, H, W]` (grey) of values from 0 to 1; what lies
/// outside becomes 0 or 1.
pub(crate) fn pictures(images: &Tensor) -> Result<Vec<RgbImage>, PlotError> {
    let [_, channels @ (1 | 3), height, width] = *images.dims() else {
        let found = images.dims().to_vec();
        return Err(PlotError::Shape { what: "pictures", wanted: "[N, 3, H, W] or [N, 1, H, W]", found });
    };
    let values = images.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let plane = height * width;
    let byte = |value: f32| (255.0 * value.clamp(0.0, 1.0)).round() as u8;
    let picture = |values: &[f32]| {
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let at = y as usize * width + x as usize;
            // Of a grey picture all three are the first channel.
            Rgb([0, 1, 2].map(|channel| byte(values[channel.min(channels - 1) * plane + at])))
        })
    };
    Ok(values.chunks(channels * plane.max(1)).map(picture).collect())
}
