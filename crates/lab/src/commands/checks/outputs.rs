//! Checking the outputs of an executed notebook: no errors, no broken or blank pictures, small enough to be committed.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::notebook::{Notebook, RAISES, text};

/// A larger notebook, in bytes, shouldn't be committed.
const LARGEST: u64 = 2_000_000;

/// SVG elements that draw.
const DRAWING: [&str; 9] = ["circle", "ellipse", "image", "line", "path", "polygon", "polyline", "rect", "text"];

/// Everything that is wrong with the outputs of `notebook`, whose file has this many `bytes`.
pub fn problems(notebook: &Notebook, bytes: u64) -> Vec<String> {
    let mut found = Vec::new();
    if bytes > LARGEST {
        found.push(format!("the executed copy has {bytes} bytes, more than {LARGEST}"));
    }
    for (number, (index, _)) in notebook.code_cells().into_iter().enumerate() {
        let expected = notebook.is_tagged(index, RAISES);
        for output in notebook.cells()[index]["outputs"].as_array().into_iter().flatten() {
            if output["output_type"] == "error" && !expected {
                found.push(format!("cell {}: an error output: {}", number + 1, output["evalue"]));
            }
            found.extend(picture_problems(&output["data"]).map(|problem| format!("cell {}: {problem}", number + 1)));
        }
    }
    found
}

/// The number of figures among the outputs.
pub fn count_pictures(notebook: &Notebook) -> usize {
    let outputs = notebook.cells().iter().filter_map(|cell| cell["outputs"].as_array()).flatten();
    let is_picture = |mime: &String| mime.starts_with("image/");
    outputs.filter_map(|output| output["data"].as_object()).filter(|data| data.keys().any(is_picture)).count()
}

fn picture_problems(data: &Value) -> Option<String> {
    for (mime, content) in data.as_object()? {
        let content = text(content);
        let problem = match mime.as_str() {
            "image/svg+xml" => check_svg(&content),
            "image/png" => BASE64_STANDARD
                .decode(content.split_whitespace().collect::<String>())
                .map_err(|error| format!("isn't base64: {error}"))
                .and_then(|bytes| check_png(&bytes)),
            _ => Ok(()),
        };
        if let Err(problem) = problem {
            return Some(format!("{mime} {problem}"));
        }
    }
    None
}

/// Whether an SVG parses and draws in more than one color, that is, more than its background.
fn check_svg(svg: &str) -> Result<(), String> {
    let document = roxmltree::Document::parse(svg).map_err(|error| format!("does not parse: {error}"))?;
    let drawn: Vec<_> =
        document.descendants().filter(|node| node.is_element() && DRAWING.contains(&node.tag_name().name())).collect();
    if drawn.is_empty() {
        return Err("draws nothing".to_string());
    }
    let embeds_pixels = drawn.iter().any(|node| node.tag_name().name() == "image");
    let colors: HashSet<String> = drawn
        .iter()
        // An element without a color is black.
        .map(|node| {
            format!("{:?} {:?} {:?}", node.attribute("fill"), node.attribute("stroke"), node.attribute("style"))
        })
        .collect();
    if colors.len() < 2 && !embeds_pixels { Err("is blank: it has only one color".to_string()) } else { Ok(()) }
}

/// Whether a PNG decodes and has more than one color.
fn check_png(bytes: &[u8]) -> Result<(), String> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| format!("does not decode: {error}"))?;
    let size = reader.output_buffer_size().ok_or("does not fit in memory")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| format!("does not decode: {error}"))?;
    let mut colors = pixels[..info.buffer_size()].chunks_exact(info.color_type.samples());
    let first = colors.next().ok_or("has no pixels")?;
    if colors.any(|color| color != first) { Ok(()) } else { Err("is blank: it has only one color".to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(pixels.len()).unwrap(), 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        bytes
    }

    #[test]
    fn blank_and_broken_pictures_are_found() {
        let svg =
            |inside: &str| format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\">{inside}</svg>");
        let white = "<rect fill=\"#FFFFFF\" width=\"9\" height=\"9\"/>";
        assert_eq!(check_svg(&svg(&format!("{white}<line stroke=\"#000000\"/>"))), Ok(()));
        assert!(check_svg(&svg(white)).unwrap_err().contains("blank"));
        assert!(check_svg(&svg("<title>nothing</title>")).unwrap_err().contains("draws nothing"));
        assert!(check_svg("<svg>").unwrap_err().contains("parse"));
        assert_eq!(check_png(&png(&[0, 0, 9])), Ok(()));
        assert!(check_png(&png(&[7, 7, 7])).unwrap_err().contains("blank"));
        assert!(check_png(&png(&[0, 9])[..30]).unwrap_err().contains("decode"));
    }

    #[test]
    fn problems_name_their_cell() {
        let mut notebook = Notebook::from_cells(["a", "b", "c"]);
        let output =
            |mime: &str, content: &str| serde_json::json!({"output_type": "execute_result", "data": {mime: content}});
        notebook.set_outputs(1, vec![output("image/svg+xml", "<svg>")]);
        notebook.set_outputs(2, vec![output("image/png", "!")]);
        let found = problems(&notebook, LARGEST + 1);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("bytes") && found[1].starts_with("cell 2: image/svg+xml does not parse"));
        assert!(found[2].starts_with("cell 3: image/png isn't base64"), "{found:?}");
        assert_eq!(count_pictures(&notebook), 2);
    }
}
