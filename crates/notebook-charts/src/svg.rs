//! A small SVG writer, for figures without axes.

use crate::text;
use std::fmt::Write;

/// An SVG document being built. Positions and sizes are in pixels; text is escaped.
pub(crate) struct Document {
    width: u32,
    height: u32,
    body: String,
}

/// Which part of a text its position is.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(crate) struct Type {
    pub size: f64,
    pub color: &'static str,
    pub bold: bool,
    pub anchor: Anchor,
}

impl Document {
    /// A white card.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { width, height, body: format!("<rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n") }
    }

    /// Adds text whose baseline starts, is centered or ends at (x, y).
    pub(crate) fn text(&mut self, content: &str, x: f64, y: f64, look: Type) {
        let anchor = match look.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
        let (size, color) = (look.size, look.color);
        let content = text::escape(&text::one_line(content));
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{color}\"{anchor}{weight}>{content}</text>"
        );
    }

    /// Adds a gradient from left to right, used as `fill="url(#id)"`; `stops` are its `<stop …/>` elements.
    pub(crate) fn gradient(&mut self, id: &str, stops: &str) {
        let _ = writeln!(self.body, "<defs><linearGradient id=\"{id}\">{stops}</linearGradient></defs>");
    }

    /// Adds an element without content; `attributes` are not escaped.
    pub(crate) fn element(&mut self, name: &str, attributes: std::fmt::Arguments) {
        let _ = writeln!(self.body, "<{name} {attributes}/>");
    }

    pub(crate) fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\">\n{body}</svg>"
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::text;

    /// The number of elements called `name`.
    pub(crate) fn count(svg: &str, name: &str) -> usize {
        let document = roxmltree::Document::parse(svg).unwrap();
        document.descendants().filter(|node| node.tag_name().name() == name).count()
    }

    /// The document's texts, in order.
    pub(crate) fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let texts = document.descendants().filter(|node| node.tag_name().name() == "text");
        texts.map(|node| node.text().unwrap_or_default().trim().to_string()).collect()
    }

    /// Panics if the document isn't well-formed or something lies outside its card.
    pub(crate) fn inside(svg: &str) {
        let document = roxmltree::Document::parse(svg).unwrap();
        let number =
            |node: roxmltree::Node, name: &str| node.attribute(name).map(|value| value.parse::<f64>().unwrap());
        let root = document.root_element();
        let (width, height) = (number(root, "width").unwrap(), number(root, "height").unwrap());
        let check = |x: f64, y: f64, what: &str| {
            assert!(x >= -0.5 && x <= width + 0.5 && y >= -0.5 && y <= height + 0.5, "({x}, {y}) of {what}");
        };
        for node in root.descendants() {
            let (x, y) = (number(node, "x").unwrap_or(0.0), number(node, "y").unwrap_or(0.0));
            match node.tag_name().name() {
                "rect" | "image" => {
                    check(x, y, "a rectangle");
                    check(x + number(node, "width").unwrap(), y + number(node, "height").unwrap(), "a rectangle");
                }
                "circle" => check(number(node, "cx").unwrap(), number(node, "cy").unwrap(), "a circle"),
                "text" => {
                    let content = node.text().unwrap_or_default().trim();
                    let long = text::width(content, number(node, "font-size").unwrap());
                    let (before, after) = match node.attribute("text-anchor") {
                        Some("middle") => (long / 2.0, long / 2.0),
                        Some("end") => (long, 0.0),
                        _ => (0.0, long),
                    };
                    if node.attribute("transform").is_some_and(|turn| turn.starts_with("rotate(270")) {
                        check(x, y + before, content);
                        check(x, y - after, content);
                    } else {
                        check(x - before, y, content);
                        check(x + after, y, content);
                    }
                }
                "polyline" | "polygon" => {
                    for point in node.attribute("points").unwrap().split_whitespace() {
                        let (x, y) = point.split_once(',').unwrap();
                        check(x.parse().unwrap(), y.parse().unwrap(), "a line");
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn what_lies_outside_is_noticed() {
        let wide = "<svg width=\"10\" height=\"10\"><text x=\"1\" y=\"5\" font-size=\"10\">too long</text></svg>";
        assert!(std::panic::catch_unwind(|| inside(wide)).is_err());
    }
}
