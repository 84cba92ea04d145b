//! Grad-CAM's maps as an orange tint of the images.

use candle_core::{DType, Tensor};
use image::{Luma, Rgb, RgbImage, imageops};
use notebook_charts::{Figure, Gallery, PlotError};

use super::pictures::pictures;
use crate::error::Result;
use crate::grad_cam::GradCam;

/// The tint where the map is highest: the charts' vermillion, which readers with any color blindness tell from gray.
const TINT: [f32; 3] = [213.0, 94.0, 0.0];
/// The share of the tint there: the image remains visible below it.
const STRONGEST: f32 = 0.75;
/// The darkest gray: on black, the tint would look brown.
const DARKEST: f32 = 60.0;
/// About the length of an image's longer side, in pixels, as in a gallery.
const SIDE: u32 = 96;
/// The space between an image and its tinted copy, in pixels.
const GAP: u32 = 4;

impl GradCam {
    /// Each of `images` `[N, 3, H, W]` (values from 0 to 1) above a gray copy tinted by its map: orange where the map is
    /// highest, gray where nothing speaks for the class.
    ///
    /// # Errors
    /// If the numbers of images, labels and maps differ, or they can't be drawn.
    pub fn figure(&self, images: &Tensor, labels: &[impl AsRef<str>]) -> Result<Figure> {
        let (count, height, width) = self.maps().dims3()?;
        let pictures = pictures(images)?;
        if pictures.len() != count {
            return Err(PlotError::Length { what: "images", found: pictures.len(), of: "maps", expected: count }.into());
        }
        let values = self.maps().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let maps = values.chunks(height * width);
        let pairs = pictures.iter().zip(maps).map(|(picture, map)| pair(picture, map, (width as u32, height as u32)));
        let title = format!("Grad-CAM at {}", self.layer);
        Ok(Gallery::new(pairs.collect()).title(title).labels(labels).draw()?)
    }
}

/// `picture` above its tinted copy, both enlarged by the same whole factor.
fn pair(picture: &RgbImage, map: &[f32], (width, height): (u32, u32)) -> RgbImage {
    let (w, h) = picture.dimensions();
    let highest = map.iter().copied().fold(0.0, f32::max);
    let tint = image::ImageBuffer::<Luma<f32>, _>::from_fn(width, height, |x, y| {
        let value = map[(y * width + x) as usize];
        Luma([if highest > 0.0 { value / highest } else { 0.0 }])
    });
    // Bilinear, as in the paper.
    let tint = imageops::resize(&tint, w, h, imageops::FilterType::Triangle);
    let gray = imageops::grayscale(picture);
    let tinted = RgbImage::from_fn(w, h, |x, y| {
        let share = STRONGEST * tint.get_pixel(x, y).0[0].clamp(0.0, 1.0);
        let gray = DARKEST + (1.0 - DARKEST / 255.0) * f32::from(gray.get_pixel(x, y).0[0]);
        Rgb(TINT.map(|color| (gray + share * (color - gray)).round() as u8))
    });
    let scale = (SIDE / w.max(h)).max(1);
    let enlarge = |picture: &RgbImage| imageops::resize(picture, scale * w, scale * h, imageops::FilterType::Nearest);
    let mut both = RgbImage::from_pixel(scale * w, 2 * scale * h + GAP, Rgb([255; 3]));
    imageops::replace(&mut both, &enlarge(picture), 0, 0);
    imageops::replace(&mut both, &enlarge(&tinted), 0, i64::from(scale * h + GAP));
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orange_is_where_the_map_is_high() {
        let picture = RgbImage::from_pixel(4, 4, Rgb([200; 3]));
        // High on the left, zero on the right.
        let both = pair(&picture, &[2.0, 0.0, 2.0, 0.0], (2, 2));
        assert_eq!(both.dimensions(), (96, 2 * 96 + GAP));
        assert_eq!(both.get_pixel(95, 50).0, [200; 3]);
        let below = |x: u32| both.get_pixel(x, 96 + GAP + 50).0;
        let blueless = |x: u32| below(x)[0].abs_diff(below(x)[2]);
        assert_eq!((below(95), below(0)), ([213; 3], [213, 124, 53]));
        assert!(blueless(95) < blueless(50) && blueless(50) < blueless(0));
        let untinted = pair(&picture, &[0.0; 4], (2, 2));
        assert_eq!(untinted.get_pixel(0, 96 + GAP).0, [213; 3]);
        let black = pair(&RgbImage::new(4, 4), &[0.0; 4], (2, 2));
        assert_eq!(black.get_pixel(0, 96 + GAP).0, [60; 3]);
    }
}
