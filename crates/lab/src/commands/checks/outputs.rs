//! Checking the outputs of an executed notebook: no errors, no broken or blank pictures, small enough to be committed.

use std::collections::HashSet;

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
            found.extend(picture_problem(&output["data"]).map(|problem| format!("cell {}: {problem}", number + 1)));
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

fn picture_problem(data: &Value) -> Option<String> {
    let svg = data.get("image/svg+xml")?;
    check_svg(&text(svg)).err().map(|problem| format!("image/svg+xml {problem}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_broken_pictures_are_found() {
        let svg =
            |inside: &str| format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\">{inside}</svg>");
        let white = "<rect fill=\"#FFFFFF\" width=\"9\" height=\"9\"/>";
        assert_eq!(check_svg(&svg(&format!("{white}<line stroke=\"#000000\"/>"))), Ok(()));
        assert!(check_svg(&svg(white)).unwrap_err().contains("blank"));
        assert!(check_svg(&svg("<title>nothing</title>")).unwrap_err().contains("draws nothing"));
        assert!(check_svg("<svg>").unwrap_err().contains("parse"));
    }

    #[test]
    fn problems_name_their_cell() {
        let mut notebook = Notebook::from_cells(["a", "b"]);
        let output =
            |mime: &str, content: &str| serde_json::json!({"output_type": "execute_result", "data": {mime: content}});
        notebook.set_outputs(1, vec![output("image/svg+xml", "<svg>")]);
        let found = problems(&notebook, LARGEST + 1);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("bytes") && found[1].starts_with("cell 2: image/svg+xml does not parse"));
        assert_eq!(count_pictures(&notebook), 1);
    }
}
