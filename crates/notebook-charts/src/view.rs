//! What a cell displays: [`View`], and how figures and tables become one.

use crate::figure::Figure;
use crate::protocol;
use crate::table::Table;
use crate::text;
use std::fmt::Write as _;

/// What a notebook shows of a value: HTML or a picture, and a plain-text twin.
///
/// ```
/// use notebook_charts::{Table, View};
/// let view = View::line("loss < 1").above(Table::new(["layer"]).row(["conv1"]).view());
/// assert_eq!(view.mime_type(), "text/html");
/// assert!(view.content().contains("loss &lt; 1"));
/// assert_eq!(view.text(), "loss < 1\n\nlayer\n─────\nconv1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a view is shown as the last expression of a cell"]
pub struct View {
    mime_type: &'static str,
    content: String,
    text: String,
}

impl View {
    /// A line of text.
    pub fn line(line: impl Into<String>) -> Self {
        let line = text::one_line(&line.into());
        Self::html(format!("<div style=\"padding:2px 10px\">{}</div>", text::escape(&line)), line)
    }

    /// HTML with a plain-text twin. Nothing is escaped: see [`text::escape`].
    pub fn html(html: impl Into<String>, text: impl Into<String>) -> Self {
        Self { mime_type: "text/html", content: html.into(), text: text.into() }
    }

    /// A line of text with tables below it.
    pub fn tables(line: impl Into<String>, tables: &[Table]) -> Self {
        let Self { mime_type, mut content, mut text } = Self::line(line);
        for table in tables {
            let _ = write!(content, "\n{}", table.html());
            let _ = write!(text, "\n\n{table}");
        }
        Self { mime_type, content, text }
    }

    /// This view above another one; both must be HTML.
    pub fn above(self, below: Self) -> Self {
        Self::html(format!("{}\n{}", self.content, below.content), format!("{}\n\n{}", self.text, below.text))
    }

    /// The type of the content: `text/html` or `image/svg+xml`.
    pub fn mime_type(&self) -> &'static str {
        self.mime_type
    }

    /// The HTML or the SVG.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The plain-text twin.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl View {
    /// Displays the view; evcxr calls this on a cell's last expression.
    pub fn evcxr_display(&self) {
        protocol::show(&[(self.mime_type, &self.content), ("text/plain", &self.text)]);
    }
}

impl Table {
    /// The table as HTML and as text in aligned columns.
    pub fn view(&self) -> View {
        View::html(self.html(), self.to_string())
    }

    /// Displays the table; evcxr calls this on a cell's last expression.
    pub fn evcxr_display(&self) {
        self.view().evcxr_display();
    }
}

impl Figure {
    /// The picture with its plain-text twin.
    pub fn view(&self) -> View {
        View { mime_type: "image/svg+xml", content: self.svg(), text: self.text().to_string() }
    }

    /// Displays the figure; evcxr calls this on a cell's last expression.
    pub fn evcxr_display(&self) {
        self.view().evcxr_display();
    }
}

impl From<Table> for View {
    fn from(table: Table) -> Self {
        table.view()
    }
}

impl From<Figure> for View {
    fn from(figure: Figure) -> Self {
        figure.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_below_a_line() {
        let view = View::tables("two <tables>\n", &[Table::new(["a"]), Table::new(["b"])]);
        assert_eq!(view.text(), "two <tables> \n\na\n─\n\nb\n─");
        assert_eq!(view.content().matches("</table>").count(), 2);
        assert_eq!(View::html("<b>done</b>", "done").content(), "<b>done</b>");
    }
}
