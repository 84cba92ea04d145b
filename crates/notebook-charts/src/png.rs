//! Pixels as PNG.

use crate::error::PlotError;
use base64::{Engine, prelude::BASE64_STANDARD};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

/// An RGB picture of at least one pixel as PNG.
pub(crate) fn encode(pixels: &RgbImage) -> Result<Vec<u8>, PlotError> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive);
    encoder.write_image(pixels.as_raw(), pixels.width(), pixels.height(), ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// A PNG as the address of an SVG `<image>`.
pub(crate) fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The pixels of the first `<image>` in a document, and the element.
    pub(crate) fn embedded<'a>(document: &'a roxmltree::Document) -> (RgbImage, roxmltree::Node<'a, 'a>) {
        let image = document.descendants().find(|node| node.tag_name().name() == "image").unwrap();
        let data = image.attribute("href").unwrap().strip_prefix("data:image/png;base64,").unwrap();
        (image::load_from_memory(&BASE64_STANDARD.decode(data).unwrap()).unwrap().to_rgb8(), image)
    }
}
