//! What a value gives to the notebook: [`Show`], [`View`].

use super::protocol::show;
use super::{Figure, Table};
use crate::plot::text;
use std::fmt::Write as _;

/// A value that shows itself as a cell's last expression, once this trait is in scope (it is in the prelude). So also
/// types of other crates can: tensors, a network's parameters.
///
/// ```
/// use cifar_lab::display::{Show, Table, View};
///
/// struct Temperature(f64);
///
/// impl Show for Temperature {
///     fn view(&self) -> View {
///         Table::new(["temperature"]).row([format!("{} °C", self.0)]).into()
///     }
/// }
/// assert!(Temperature(21.0).view().text().ends_with("21 °C"));
/// ```
pub trait Show {
    /// What is shown, with its plain-text twin.
    fn view(&self) -> View;

    /// Shows the value; evcxr calls it on a cell's last expression.
    ///
    /// ```
    /// use cifar_lab::display::{Show, Table};
    /// Table::new(["a"]).row(["1"]).evcxr_display();
    /// ```
    fn evcxr_display(&self) {
        let View { mime_type, content, text } = self.view();
        show(&[(mime_type, &content), ("text/plain", &text)]);
    }
}

/// What a notebook shows of a value: HTML or a picture, and the plain-text twin for places that show neither.
///
/// ```
/// use cifar_lab::display::{Table, View};
/// let view = View::from(Table::new(["layer"]).row(["conv1"]));
/// assert_eq!(view.mime_type(), "text/html");
/// assert_eq!(view.text(), "layer\n─────\nconv1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a view is shown as the last expression of a cell"]
pub struct View {
    mime_type: &'static str,
    content: String,
    text: String,
}

impl View {
    pub(super) fn new(mime_type: &'static str, content: impl Into<String>, text: impl Into<String>) -> Self {
        Self { mime_type, content: content.into(), text: text.into() }
    }

    /// A line of text.
    ///
    /// ```
    /// use cifar_lab::display::View;
    /// assert!(View::line("loss < 1").content().contains("loss &lt; 1"));
    /// ```
    pub fn line(line: impl Into<String>) -> Self {
        let line = text::one_line(&line.into());
        Self::new("text/html", format!("<div style=\"padding:2px 10px\">{}</div>", text::escape(&line)), line)
    }

    /// HTML as it stands, with a plain-text twin; what comes from elsewhere must have been escaped.
    ///
    /// ```
    /// use cifar_lab::display::View;
    /// assert_eq!(View::html("<b>done</b>", "done").text(), "done");
    /// ```
    pub fn html(html: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new("text/html", html, text)
    }

    /// A line of text above tables.
    ///
    /// ```
    /// use cifar_lab::display::{Table, View};
    /// let view = View::tables("two tables", &[Table::new(["a"]), Table::new(["b"])]);
    /// assert_eq!(view.text(), "two tables\n\na\n─\n\nb\n─");
    /// ```
    pub fn tables(line: impl Into<String>, tables: &[Table]) -> Self {
        let Self { mime_type, mut content, mut text } = Self::line(line);
        for table in tables {
            let _ = write!(content, "\n{}", table.html());
            let _ = write!(text, "\n\n{table}");
        }
        Self { mime_type, content, text }
    }

    /// Two views in HTML, one above the other.
    pub(super) fn above(self, below: Self) -> Self {
        Self::new(
            "text/html",
            format!("{}\n{}", self.content, below.content),
            format!("{}\n\n{}", self.text, below.text),
        )
    }

    /// What kind of content it is: `text/html`, `image/svg+xml` or `image/png`.
    pub fn mime_type(&self) -> &'static str {
        self.mime_type
    }

    /// The HTML, the SVG, or the PNG in base64.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The plain-text twin.
    pub fn text(&self) -> &str {
        &self.text
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

/// A reference shows what it refers to.
impl<T: Show + ?Sized> Show for &T {
    fn view(&self) -> View {
        (**self).view()
    }
}

impl Show for View {
    fn view(&self) -> View {
        self.clone()
    }
}
