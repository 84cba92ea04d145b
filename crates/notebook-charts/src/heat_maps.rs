//! Signed values as small pictures on a common scale.

use crate::error::PlotError;
use crate::figure::Figure;
use crate::gallery::Gallery;
use crate::numbers;
use crate::svg::{Anchor, Document, Type};
use crate::table::Table;
use crate::text;
use image::{Rgb, RgbImage};
use std::fmt::Write as _;

/// The colors of zero and of the largest values above and below it. Blue and orange can be told apart with any kind of
/// color blindness, and both darken away from zero.
const ZERO: [f64; 3] = [255.0, 255.0, 255.0];
const ABOVE: [f64; 3] = [0.0, 63.0, 114.0];
const BELOW: [f64; 3] = [150.0, 58.0, 0.0];
/// The colors halfway: Okabe and Ito's blue and vermillion, lightened.
const HALFWAY_ABOVE: [f64; 3] = [86.0, 160.0, 214.0];
const HALFWAY_BELOW: [f64; 3] = [236.0, 140.0, 70.0];
/// The approximate length of a map's longer side, in pixels, whatever its number of values, so that layers line up.
const SIDE: usize = 96;
/// Width and height of the key's strip, in pixels.
const STRIP: (u32, u32) = (240, 12);

/// Grids of signed values on a common scale, such as feature maps, filters or attention maps: blue is above zero, orange
/// below, white is zero. Set it up, then call [`draw`](HeatMaps::draw).
///
/// ```
/// use notebook_charts::HeatMaps;
/// // Two maps of 2×3 values.
/// let maps = HeatMaps::new((2, 3), vec![0., 1., 2., 3., 4., 5., -1., -2., -3., 0., 0., 0.]);
/// let figure = maps.title("conv1").labels(&["an edge", "its opposite"]).columns(2).draw()?;
/// assert!(figure.text().starts_with("conv1"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct HeatMaps {
    size: (usize, usize),
    values: Vec<f64>,
    title: String,
    labels: Option<Vec<String>>,
    columns: usize,
}

impl HeatMaps {
    /// Maps of `size` (height, width), their values row by row, one map after the other.
    pub fn new(size: (usize, usize), values: Vec<f64>) -> Self {
        Self { size, values, title: String::new(), labels: None, columns: 8 }
    }

    /// Sets the title.
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Sets a label for each map; without labels, each shows its number, from 0.
    pub fn labels(self, labels: &[impl AsRef<str>]) -> Self {
        Self { labels: Some(labels.iter().map(|label| label.as_ref().to_string()).collect()), ..self }
    }

    /// Sets the number of maps in a row; 8 by default.
    pub fn columns(self, columns: usize) -> Self {
        Self { columns, ..self }
    }

    /// Draws the maps, and below them the color key. Values that aren't finite are gray.
    ///
    /// # Errors
    /// [`PlotError::Setting`] if the values don't fill whole maps, and those of [`Gallery::draw`].
    pub fn draw(&self) -> Result<Figure, PlotError> {
        let (height, width) = self.size;
        let area = height * width;
        if !self.values.len().is_multiple_of(area.max(1)) {
            let value = self.values.len().to_string();
            return Err(PlotError::Setting {
                name: "the number of values",
                value,
                wanted: "a multiple of height × width",
            });
        }
        let finite = || self.values.iter().filter(|value| value.is_finite());
        let largest = finite().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let maps: Vec<&[f64]> = self.values.chunks(area.max(1)).collect();
        let enlarge = (SIDE / height.max(width).max(1)).max(1);
        let picture = |map: &&[f64]| {
            RgbImage::from_fn((width * enlarge) as u32, (height * enlarge) as u32, |x, y| {
                color(map[y as usize / enlarge * width + x as usize / enlarge], largest)
            })
        };
        let labels = match &self.labels {
            Some(labels) => labels.clone(),
            None => (0..maps.len()).map(|map| map.to_string()).collect(),
        };
        let mut gallery = Gallery::new(maps.iter().map(picture).collect()).columns(self.columns).outlined();
        // A single map without a name needs no number.
        if maps.len() > 1 || self.labels.is_some() {
            gallery = gallery.labels(&labels);
        }
        let title = if self.title.is_empty() { "Feature maps" } else { &self.title };
        let figure = Figure::titled_grid(title, &[gallery.title(&self.title).draw()?, key(largest)?], 1)?;
        Ok(figure.with_text(self.table(title, &maps, &labels)))
    }

    /// The smallest, mean and largest value of each map.
    fn table(&self, title: &str, maps: &[&[f64]], labels: &[String]) -> String {
        let rows =
            maps.iter().zip(labels).fold(Table::new(["map", "least", "mean", "greatest"]), |table, (map, label)| {
                let mean = map.iter().sum::<f64>() / map.len() as f64;
                let (least, greatest) =
                    (map.iter().copied().fold(f64::NAN, f64::min), map.iter().copied().fold(f64::NAN, f64::max));
                table.row([
                    text::one_line(label),
                    numbers::measured(least),
                    numbers::measured(mean),
                    numbers::measured(greatest),
                ])
            });
        rows.caption(title).to_string()
    }
}

/// The color of `value` on a scale from −`largest` to `largest`.
fn color(value: f64, largest: f64) -> Rgb<u8> {
    /// A color that isn't on the scale.
    const NOT_FINITE: Rgb<u8> = Rgb([128; 3]);
    if !value.is_finite() {
        return NOT_FINITE;
    }
    let share = if largest > 0.0 { (value / largest).clamp(-1.0, 1.0) } else { 0.0 };
    let (halfway, end) = if share < 0.0 { (HALFWAY_BELOW, BELOW) } else { (HALFWAY_ABOVE, ABOVE) };
    // From white to halfway, then to the darkest color.
    let (from, to, way) =
        if share.abs() < 0.5 { (ZERO, halfway, 2.0 * share.abs()) } else { (halfway, end, 2.0 * share.abs() - 1.0) };
    Rgb(std::array::from_fn(|i| (from[i] + way * (to[i] - from[i])).round() as u8))
}

/// The color scale with its ends and middle labeled.
fn key(largest: f64) -> Result<Figure, PlotError> {
    let (width, height) = STRIP;
    let (left, top) = (14, 2);
    let mut svg = Document::new(width + 2 * 80, height + 24);
    let mut stops = String::new();
    for step in 0..=8 {
        let share = f64::from(step) / 8.0;
        let Rgb([r, g, b]) = color(2.0 * share - 1.0, 1.0);
        let _ = write!(stops, "<stop offset=\"{share}\" stop-color=\"#{r:02X}{g:02X}{b:02X}\"/>");
    }
    svg.gradient("values-around-zero", &stops);
    svg.element(
        "rect",
        format_args!(
            "x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"url(#values-around-zero)\" stroke=\"#999999\""
        ),
    );
    let look = |anchor| Type { size: 11.0, color: "#555555", bold: false, anchor };
    let y = f64::from(top + height) + 13.0;
    let (start, end) = (f64::from(left), f64::from(left + width));
    svg.text(&numbers::measured(-largest), start, y, look(Anchor::Start));
    svg.text("0", (start + end) / 2.0, y, look(Anchor::Middle));
    svg.text(&numbers::measured(largest), end, y, look(Anchor::End));
    Figure::from_svg("color key", &svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::texts;

    #[test]
    fn colors_darken_away_from_zero_on_either_side() {
        let brightness = |value: f64| color(value, 2.0).0.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        assert_eq!(color(0.0, 2.0).0, [255; 3]);
        for step in 0..20 {
            let (near, far) = (f64::from(step) / 10.0, f64::from(step + 1) / 10.0);
            assert!(brightness(near) > brightness(far) && brightness(-near) > brightness(-far), "{near}");
            // Blue on the one side, orange on the other.
            assert!(color(far, 2.0).0[2] > color(far, 2.0).0[0] && color(-far, 2.0).0[2] < color(-far, 2.0).0[0]);
        }
        assert_eq!(color(f64::NAN, 1.0).0, [128; 3]);
        assert_eq!(color(0.0, 0.0).0, [255; 3]);
    }

    #[test]
    fn each_map_has_its_label_and_the_key_names_the_range() {
        let maps = || HeatMaps::new((2, 2), (-6..6).map(f64::from).collect());
        let figure = maps().title("three maps").labels(&["a", "b & c", "d"]).draw().unwrap();
        // Not "three maps; color key": what a screen reader reads first.
        assert_eq!(figure.svg().find("<title>three maps</title>"), figure.svg().find("<title>"));
        let texts = texts(&figure.svg());
        for text in ["three maps", "a", "b & c", "d", "−6", "0", "6"] {
            assert!(texts.contains(&text.to_string()), "{text}: {texts:?}");
        }
        assert!(figure.text().contains("a         −6  −4.5        −3"), "{}", figure.text());
        let wrong = maps().labels(&["a"]).draw();
        assert!(matches!(wrong, Err(PlotError::Length { found: 1, expected: 3, .. })));
        let wrong = HeatMaps::new((2, 5), vec![0.0; 12]).draw();
        assert!(matches!(wrong, Err(PlotError::Setting { name: "the number of values", .. })));
    }

    #[test]
    fn odd_maps_draw_or_are_refused() {
        for (size, values) in
            [((1, 3), vec![f64::NAN, f64::INFINITY, 1.0]), ((4, 4), vec![0.0; 16]), ((1, 1), vec![3.0])]
        {
            roxmltree::Document::parse(&HeatMaps::new(size, values).draw().unwrap().svg()).unwrap();
        }
        for size in [(4, 4), (0, 4), (0, 0)] {
            assert!(matches!(HeatMaps::new(size, vec![]).draw(), Err(PlotError::Empty { .. })));
        }
    }
}
