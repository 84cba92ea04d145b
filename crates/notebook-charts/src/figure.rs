//! Figures: [`Figure`].

use crate::atomic_file::write_atomically;
use crate::error::PlotError;
use crate::text;
use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::prelude::{IntoDrawingArea, SVGBackend, WHITE};
use std::borrow::Borrow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The longest side of a drawing, in pixels: more than can be shown, and sums of a few don't overflow.
const LARGEST_DRAWING: f64 = 100_000.0;
/// The longest side of a chart or of pixels: some browsers refuse or scale down larger ones.
pub(crate) const LONGEST_SIDE: u32 = 8192;
/// The space between the figures of a grid, in pixels.
const GRID_GAP: u32 = 12;

/// A picture for a notebook: an SVG drawing with a title and a plain-text twin.
///
/// It displays itself as the last expression of a cell. It owns its contents and is cheap to clone, so it can be kept,
/// shown again in a later cell and saved.
///
/// ```
/// use notebook_charts::{Bars, Figure, plotters::prelude::*};
///
/// let bars = Bars::new("accuracy", &["cat", "dog"], &[0.6, 0.7]).draw()?;
/// let parabola = Figure::draw("a parabola", (300, 200), |area| {
///     let mut chart = ChartBuilder::on(area).margin(10).build_cartesian_2d(-1.0..1.0, 0.0..1.0)?;
///     chart.draw_series(LineSeries::new((-10..=10).map(|i| (i as f64 / 10.0, (i * i) as f64 / 100.0)), &BLUE))?;
///     Ok(())
/// })?;
/// let both = Figure::side_by_side(&[bars, parabola])?;
/// assert_eq!(both.title(), "accuracy; a parabola");
/// let folder = tempfile::tempdir()?;
/// both.save(folder.path().join("figures/both.svg"))?;
/// assert!(both.save("both.png").unwrap_err().to_string().contains("name the file ….svg"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a figure is shown as the last expression of a cell, or saved with `save`"]
pub struct Figure {
    title: Arc<str>,
    text: Arc<str>,
    size: (u32, u32),
    svg: Arc<str>,
}

/// The error of [`Figure::draw`]'s closure: any error becomes one through `?`.
pub type DrawError = Box<dyn std::error::Error + Send + Sync>;

impl Figure {
    /// A figure drawn with plotters on a white card of `size` (width, height) in pixels.
    ///
    /// # Errors
    /// [`PlotError::Draw`] with the error that `draw` returned.
    pub fn draw(
        title: &str,
        size: (u32, u32),
        draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), DrawError>,
    ) -> Result<Self, PlotError> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            area.fill(&WHITE).map_err(|error| PlotError::Draw(error.into()))?;
            draw(&area).map_err(PlotError::Draw)?;
            area.present().map_err(|error| PlotError::Draw(error.into()))?;
        }
        Self::from_svg(title, &svg)
    }

    /// A figure from an SVG document with a `width` and a `height` in pixels.
    ///
    /// # Errors
    /// [`PlotError::Svg`] if there is no `<svg …>`, or it has no size.
    pub fn from_svg(title: &str, svg: &str) -> Result<Self, PlotError> {
        let start = svg.find("<svg").ok_or(PlotError::Svg { reason: "there is no <svg> in it" })?;
        // A declaration such as <?xml …?> isn't allowed inside a cell's output or another drawing.
        let svg = &svg[start..];
        let end = svg.find('>').ok_or(PlotError::Svg { reason: "its <svg> tag has no end" })?;
        let (tag, rest) = svg.split_at(end);
        let length = |name: &str| {
            let value = tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0;
            let pixels: f64 = value.trim_end_matches("px").parse().ok()?;
            (1.0..=LARGEST_DRAWING).contains(&pixels).then_some(pixels.ceil() as u32)
        };
        let missing = PlotError::Svg {
            reason: "its <svg> tag needs width=\"…\" and height=\"…\" in pixels, from 1 to 100,000",
        };
        let (Some(width), Some(height)) = (length("width"), length("height")) else { return Err(missing) };
        let title = text::one_line(title);
        // Screen readers read the title, which must be the first child.
        let labeled = match rest.strip_prefix('>') {
            Some(inside) if !tag.ends_with('/') && !inside.trim_start().starts_with("<title>") => {
                format!("{tag}><title>{}</title>{inside}", text::escape(&title))
            }
            _ => svg.to_string(),
        };
        Ok(Self {
            text: title.as_str().into(),
            title: title.into(),
            size: (width, height),
            svg: labeled.trim_end().into(),
        })
    }

    /// Figures in one row: [`Figure::grid`] with as many columns as there are figures.
    ///
    /// # Errors
    /// [`PlotError::Empty`] for no figure.
    pub fn side_by_side(figures: &[impl Borrow<Figure>]) -> Result<Self, PlotError> {
        Self::grid(figures, figures.len().max(1))
    }

    /// Figures, or references to figures, in rows of `columns`, as one drawing that a cell can show.
    ///
    /// # Errors
    /// [`PlotError::Empty`] for no figure, [`PlotError::Setting`] for 0 columns, [`PlotError::Svg`] if a side of the
    /// grid would be longer than 100,000 pixels.
    pub fn grid(figures: &[impl Borrow<Figure>], columns: usize) -> Result<Self, PlotError> {
        let title = figures.iter().map(|figure| figure.borrow().title()).collect::<Vec<_>>().join("; ");
        Self::titled_grid(&title, figures, columns)
    }

    /// As [`Figure::grid`], with a title of its own.
    pub(crate) fn titled_grid(title: &str, figures: &[impl Borrow<Figure>], columns: usize) -> Result<Self, PlotError> {
        let figures: Vec<&Figure> = figures.iter().map(Borrow::borrow).collect();
        if figures.is_empty() {
            return Err(PlotError::Empty { what: "a grid needs at least one figure".to_string() });
        }
        if columns == 0 {
            return Err(PlotError::Setting { name: "columns", value: "0".to_string(), wanted: "at least 1" });
        }
        let columns = columns.min(figures.len());
        let column_width = |column: usize| figures.iter().skip(column).step_by(columns).map(|f| f.size.0).max();
        let widths: Vec<u32> = (0..columns).filter_map(column_width).collect();
        let mut inside = String::new();
        let mut y = 0;
        let mut width = 0;
        for row in figures.chunks(columns) {
            let mut x = 0;
            for (figure, column) in row.iter().zip(&widths) {
                inside.push_str(&figure.nested(x, y));
                inside.push('\n');
                width = width.max(x.saturating_add(*column));
                x = x.saturating_add(column + GRID_GAP);
            }
            y = u32::saturating_add(y, row.iter().map(|figure| figure.size.1).max().unwrap_or(0) + GRID_GAP);
        }
        let height = y - GRID_GAP;
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n{inside}</svg>"
        );
        let texts = figures.iter().map(|figure| figure.text()).collect::<Vec<_>>().join("\n\n");
        Ok(Self::from_svg(title, &svg)?.with_text(texts))
    }

    /// The same figure with another plain-text twin, for terminals and readers who see no pictures.
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into().into();
        self
    }

    /// The title in one line, which is also the picture's alternative text.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The plain-text twin, with the numbers of the picture.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        self.svg.to_string()
    }

    /// The SVG document at a position inside another one.
    fn nested(&self, x: u32, y: u32) -> String {
        self.svg.replacen("<svg", &format!("<svg x=\"{x}\" y=\"{y}\""), 1)
    }

    /// Saves the figure to `path`, as `.svg`. Missing folders are created. The file is written under another name and then
    /// renamed, so that it appears whole or not at all.
    ///
    /// # Errors
    /// [`PlotError::Format`] for another extension, [`PlotError::Save`] if writing fails.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        let path = path.as_ref();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        if ending != "svg" {
            return Err(PlotError::Format { path: path.into() });
        }
        write_atomically(path, self.svg.as_bytes()).map_err(|source| PlotError::Save { path: path.into(), source })
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        write!(f, "Figure({:?}, {width}×{height})", self.title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn square(title: &str, side: u32) -> Figure {
        Figure::draw(title, (side, side), |_| Ok(())).unwrap()
    }

    #[test]
    fn a_grid_is_one_well_formed_drawing() {
        let grid = Figure::grid(&[square("a & b", 40), square("b", 20), square("<c>", 30)], 2).unwrap();
        assert_eq!(grid.size(), (40 + GRID_GAP + 20, 40 + GRID_GAP + 30));
        let svg = grid.svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let nested: Vec<_> =
            document.root_element().children().filter(|node| node.tag_name().name() == "svg").collect();
        assert_eq!(nested.len(), 3);
        assert_eq!((nested[1].attribute("x"), nested[1].attribute("y")), (Some("52"), Some("0")));
        assert_eq!((nested[2].attribute("x"), nested[2].attribute("y")), (Some("0"), Some("52")));
        assert_eq!(grid.text(), "a & b\n\nb\n\n<c>");
    }

    #[test]
    fn an_svg_document_needs_a_size_and_gets_a_title() {
        let svg = r#"<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9px" height="8.2"><g/></svg>"#;
        let figure = Figure::from_svg("a & b", svg).unwrap().with_text("nothing");
        assert_eq!((figure.size(), figure.text()), ((9, 9), "nothing"));
        assert!(figure.svg().starts_with("<svg") && figure.svg().contains("<title>a &amp; b</title><g/>"));
        for svg in ["", "<svg", "<svg></svg>", "<svg width=\"9\" height=\"0\"/>", "<svg width=\"1e9\" height=\"9\"/>"] {
            assert!(matches!(Figure::from_svg("t", svg), Err(PlotError::Svg { .. })), "{svg}");
        }
        assert!(matches!(Figure::grid(&[figure], 0), Err(PlotError::Setting { .. })));
        assert!(matches!(Figure::side_by_side(&[] as &[Figure]), Err(PlotError::Empty { .. })));
    }

    #[test]
    fn saving_makes_the_folder_and_names_the_path_when_it_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/figure.SVG");
        square("saved", 20).save(&path).unwrap();
        square("saved again", 20).save(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("saved again"));
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o600, 0o600);
        }
        let below_a_file = path.join("figure.svg");
        let error = square("x", 20).save(&below_a_file).unwrap_err();
        assert!(error.to_string().contains("figure.SVG/figure.svg"), "{error}");
        let error = square("x", 20).save("figure.png").unwrap_err();
        assert!(matches!(error, PlotError::Format { .. }), "{error}");
    }

    #[test]
    fn a_drawing_s_own_error_comes_through() {
        let error = Figure::draw("x", (10, 10), |_| Err("no ink".into())).unwrap_err();
        assert_eq!(error.to_string(), "drawing failed: no ink");
    }
}
