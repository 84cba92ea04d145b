//! Pictures from files, converted to a network's size and colors, in these steps:
//!
//! 1. Read a JPEG or PNG of at most 512 MiB of pixels, and rotate it according to its Exif data.
//! 2. Center-crop it to the target aspect ratio, so that nothing is distorted.
//! 3. Make transparent areas white, 16-bit channels 8-bit, and gray RGB.
//! 4. Resize it with the Catmull-Rom cubic filter, widened for downscaling, so that each pixel is a mean over its area
//!    and fine patterns don't alias into coarse ones. It is sharper than a linear filter and rings less than Lanczos.
//!    Pillow and torchvision call it bicubic with antialiasing.

mod jpeg;

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

pub use crate::error::PictureError;

/// The most bytes that a file's pixels may take in memory: a photograph of 170 megapixels.
const MOST_BYTES: u64 = 512 << 20;

/// The reason given for a truncated file.
const CUT: &str = "the file is truncated, so the end of the picture is missing";

/// Picture extensions that the `image` crate doesn't know, and unusual ones for JPEG.
const OTHER_ENDINGS: [&str; 8] = ["heic", "heif", "j2k", "jp2", "jpe", "jif", "jxl", "svg"];

/// Whether a file has the extension of any picture format. Such a file that is neither JPEG nor PNG is refused, not
/// skipped.
pub(crate) fn has_ending(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok()
        || path.extension().is_some_and(|ending| OTHER_ENDINGS.iter().any(|other| ending.eq_ignore_ascii_case(other)))
}

/// Reads the JPEG or PNG at `path`, detected from its first bytes, and rotates it upright.
///
/// # Errors
/// A [`PictureError`] that names the file.
pub(crate) fn open(path: &Path) -> Result<DynamicImage, PictureError> {
    let mut reader = reader(path)?;
    let path = || path.to_path_buf();
    let failed = |source| PictureError::File { path: path(), source };
    let other = |found: String| PictureError::Format { path: path(), found };
    let damaged = |reason: String| PictureError::Damaged { path: path(), reason };
    let too_large =
        |width, height, bytes| PictureError::TooLarge { path: path(), width, height, bytes, most: MOST_BYTES };
    let (mut picture, orientation) = match reader.format() {
        Some(ImageFormat::Jpeg) => {
            let mut file = Vec::new();
            reader.into_inner().read_to_end(&mut file).map_err(failed)?;
            jpeg::decode(&file, MOST_BYTES).map_err(|refusal| match refusal {
                jpeg::Refusal::Cut => damaged(CUT.into()),
                jpeg::Refusal::Damaged(reason) => damaged(reason),
                jpeg::Refusal::Kind(kind) => other(kind.into()),
                jpeg::Refusal::TooLarge { width, height, bytes } => too_large(width, height, bytes),
            })?
        }
        Some(ImageFormat::Png) => {
            let wrong = |error: ImageError| match error {
                ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => damaged(CUT.into()),
                ImageError::IoError(source) => failed(source),
                ImageError::Unsupported(error) => other(error.to_string()),
                error => damaged(error.to_string()),
            };
            let mut limits = Limits::default();
            limits.max_alloc = Some(MOST_BYTES);
            reader.limits(limits);
            let mut decoder = reader.into_decoder().map_err(wrong)?;
            let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
            if bytes > MOST_BYTES {
                return Err(too_large(width, height, bytes));
            }
            // Unreadable Exif data says nothing about the orientation.
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            (DynamicImage::from_decoder(decoder).map_err(wrong)?, orientation)
        }
        Some(format) => return Err(other(format!("{format:?}"))),
        None => return Err(other("of an unknown format".into())),
    };
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Opens the file at `path` and detects its format from its first bytes.
fn reader(path: &Path) -> Result<ImageReader<BufReader<File>>, PictureError> {
    let failed = |source: std::io::Error| PictureError::File { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        // A shell would have expanded it.
        ErrorKind::NotFound if path.starts_with("~") => {
            let advice = "~ is not expanded here: write the path of your home folder in full";
            failed(std::io::Error::new(error.kind(), advice))
        }
        _ => failed(error),
    })?;
    if !metadata.is_file() {
        // Opening a pipe could wait forever.
        let found = if metadata.is_dir() { "a folder" } else { "a pipe or a device" };
        return Err(PictureError::Format { path: path.to_path_buf(), found: found.into() });
    }
    if metadata.len() == 0 {
        return Err(PictureError::Damaged { path: path.to_path_buf(), reason: "the file is empty".into() });
    }
    let file = File::open(path).map_err(failed)?;
    ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(failed)
}

/// The largest center crop of a picture with the aspect ratio `width` : `height`, as opaque RGB.
pub(crate) fn middle(picture: &DynamicImage, width: u32, height: u32) -> Result<RgbImage, PictureError> {
    let (w, h) = (picture.width(), picture.height());
    if w == 0 || h == 0 {
        return Err(PictureError::Empty { width: w, height: h });
    }
    // In 64 bits, the product of two sides can't overflow.
    let scaled = |side: u32, by: u32, to: u32| (u64::from(side) * u64::from(by) / u64::from(to)).max(1);
    let cut_width = scaled(h, width, height).min(w.into()) as u32;
    let cut_height = scaled(w, height, width).min(h.into()) as u32;
    let cut = picture.crop_imm((w - cut_width) / 2, (h - cut_height) / 2, cut_width, cut_height);
    Ok(if cut.color().has_alpha() { on_white(&cut) } else { cut.into_rgb8() })
}

/// Resizes to `width` × `height` pixels.
pub(crate) fn resize(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    if picture.dimensions() == (width, height) {
        return picture.clone();
    }
    imageops::resize(picture, width, height, FilterType::CatmullRom)
}

/// Puts the picture on a white background, as most programs do.
fn on_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        // Adding half the divisor rounds to nearest.
        let over = |color: u32| ((color * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([over(red), over(green), over(blue)])
    })
}

/// The pixels as bytes [C, H, W], as in a data set; for one channel, the luma.
pub(crate) fn planes(picture: &RgbImage, channels: usize) -> Vec<u8> {
    if channels == 1 {
        return imageops::grayscale(picture).into_raw();
    }
    (0..channels).flat_map(|channel| picture.pixels().map(move |pixel| pixel.0[channel])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, Rgb, Rgba};

    #[test]
    fn the_middle_keeps_proportions() {
        // Each column's color is its number.
        let wide = RgbImage::from_fn(9, 4, |x, _| Rgb([x as u8; 3]));
        let cut = middle(&wide.into(), 32, 32).unwrap();
        assert_eq!(cut.dimensions(), (4, 4));
        assert_eq!(cut.get_pixel(0, 0).0, [2; 3]);
        let high = DynamicImage::from(RgbImage::new(3, 1000));
        assert_eq!(middle(&high, 32, 32).unwrap().dimensions(), (3, 3));
        assert_eq!(middle(&high, 64, 32).unwrap().dimensions(), (3, 1));
        let line = DynamicImage::from(RgbImage::new(1, 70_000));
        assert_eq!(middle(&line, 32, 32).unwrap().dimensions(), (1, 1));
        assert!(matches!(middle(&RgbImage::new(0, 5).into(), 32, 32), Err(PictureError::Empty { .. })));
    }

    #[test]
    fn transparent_is_white_and_16_bits_are_8() {
        let half = image::RgbaImage::from_fn(2, 1, |x, _| Rgba(if x == 0 { [255, 0, 0, 128] } else { [9, 9, 9, 0] }));
        assert_eq!(middle(&half.clone().into(), 2, 1).unwrap().into_raw(), [255, 127, 127, 255, 255, 255]);
        let gray: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(1, 1, vec![0x8081]).unwrap();
        assert_eq!(middle(&gray.into(), 1, 1).unwrap().into_raw(), [128; 3]);
        // Transparent pixels' colors don't leak when pixels are mixed.
        let small = resize(&middle(&half.into(), 2, 1).unwrap(), 1, 1);
        assert!(small.get_pixel(0, 0).0[0] == 255, "{small:?}");
    }

    #[test]
    fn fine_patterns_become_their_mean() {
        // A checkerboard of single pixels, shrunk 16 times: without a widened filter it would be black or white.
        let board = RgbImage::from_fn(512, 512, |x, y| Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]));
        let small = resize(&board, 32, 32);
        assert!(small.pixels().all(|pixel| pixel.0.iter().all(|&value| (126..=129).contains(&value))), "{small:?}");
    }

    #[test]
    fn planes_are_channels_row_by_row() {
        let picture = RgbImage::from_fn(2, 1, |x, _| Rgb([x as u8, 10 + x as u8, 20 + x as u8]));
        assert_eq!(planes(&picture, 3), [0, 1, 10, 11, 20, 21]);
        assert_eq!(planes(&RgbImage::from_pixel(2, 1, Rgb([7; 3])), 1), [7, 7]);
    }

    #[test]
    fn a_home_folder_written_as_in_a_shell_is_explained() {
        let error = open(Path::new("~/dog.jpg")).unwrap_err().to_string();
        assert!(error.contains("~/dog.jpg") && error.contains("home folder in full"), "{error}");
    }
}
