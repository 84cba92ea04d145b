//! The channels of a tensor as small pictures on one scale.

use super::svg::{Anchor, Document, Type};
use super::{Gallery, PlotError, text};
use crate::display::{Figure, Table};
use candle_core::{DType, Tensor};
use image::{Rgb, RgbImage};
use std::fmt::Write as _;

/// The colour of zero, and those of the largest values above and below it: blue and orange are told apart with any
/// kind of colour blindness, and both darken away from zero.
const ZERO: [f64; 3] = [255.0, 255.0, 255.0];
const ABOVE: [f64; 3] = [0.0, 63.0, 114.0];
const BELOW: [f64; 3] = [150.0, 58.0, 0.0];
/// What they pass through halfway: Okabe and Ito's blue and vermillion, lightened.
const HALFWAY_ABOVE: [f64; 3] = [86.0, 160.0, 214.0];
const HALFWAY_BELOW: [f64; 3] = [236.0, 140.0, 70.0];
/// About how long a map's longer side becomes, in pixels, of however few values it is: so maps of all layers line up.
const SIDE: usize = 96;
/// Width and height of the key's strip, in pixels.
const STRIP: (u32, u32) = (240, 12);

/// Feature maps, filters, attention maps: each channel of a tensor as a picture, all on one scale around zero. Blue is
/// above zero, orange below, white is zero; so a ReLU is seen to take the orange away. Set up, then
/// [`draw`](FeatureMaps::draw).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use cifar_lab::plot::FeatureMaps;
/// let maps = Tensor::randn(0f32, 1., (1, 8, 16, 16), &Device::Cpu)?;
/// let figure = FeatureMaps::new(&maps).title("conv1").columns(8).draw()?;
/// assert!(figure.text().starts_with("conv1"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct FeatureMaps {
    tensor: Tensor,
    title: String,
    labels: Option<Vec<String>>,
    columns: usize,
}

impl FeatureMaps {
    /// The channels of a tensor `[C, H, W]` or `[1, C, H, W]`, or a single map `[H, W]`.
    pub fn new(tensor: &Tensor) -> Self {
        Self { tensor: tensor.clone(), title: String::new(), labels: None, columns: 8 }
    }

    /// Sets the title.
    pub fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }

    /// Sets a label for each channel; without it, it is the channel's number, from 0.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use cifar_lab::plot::FeatureMaps;
    /// let map = Tensor::new(&[[-1f32, 1.]], &Device::Cpu)?;
    /// assert!(FeatureMaps::new(&map).labels(&["an edge"]).draw()?.svg().contains("an edge"));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn labels(self, labels: &[impl AsRef<str>]) -> Self {
        Self { labels: Some(labels.iter().map(|label| label.as_ref().to_string()).collect()), ..self }
    }

    /// Sets the number of maps in a row; 8 without it.
    pub fn columns(self, columns: usize) -> Self {
        Self { columns, ..self }
    }

    /// Draws the maps, and below them the key of the colours. Values that aren't finite are grey.
    ///
    /// Errors: [`PlotError::Shape`] for another shape than `[C, H, W]`, `[1, C, H, W]` or `[H, W]`,
    /// [`PlotError::Tensor`] where the values can't be read; and those of [`Gallery::draw`].
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use cifar_lab::plot::{FeatureMaps, PlotError};
    /// let batch = Tensor::zeros((2, 3, 4, 4), DType::F32, &Device::Cpu)?;
    /// assert!(matches!(FeatureMaps::new(&batch).draw(), Err(PlotError::Shape { .. })));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn draw(&self) -> Result<Figure, PlotError> {
        let (channels, height, width) = match *self.tensor.dims() {
            [height, width] => (1, height, width),
            [channels, height, width] | [1, channels, height, width] => (channels, height, width),
            _ => {
                let wanted = "[C, H, W], [1, C, H, W] or [H, W]: take one image of a batch with `.i(0)?`";
                return Err(PlotError::Shape { what: "feature maps", wanted, found: self.tensor.dims().to_vec() });
            }
        };
        let values = self.tensor.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let finite = || values.iter().filter(|value| value.is_finite());
        let largest = finite().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let maps: Vec<&[f64]> = values.chunks((height * width).max(1)).collect();
        let enlarge = (SIDE / height.max(width).max(1)).max(1);
        let picture = |map: &&[f64]| {
            RgbImage::from_fn((width * enlarge) as u32, (height * enlarge) as u32, |x, y| {
                color(map[y as usize / enlarge * width + x as usize / enlarge], largest)
            })
        };
        let labels = match &self.labels {
            Some(labels) => labels.clone(),
            None => (0..channels).map(|channel| channel.to_string()).collect(),
        };
        let mut gallery = Gallery::new(maps.iter().map(picture).collect()).columns(self.columns).outlined();
        // A single map that nobody named needs no number.
        if channels > 1 || self.labels.is_some() {
            gallery = gallery.labels(&labels);
        }
        let figure = Figure::grid(&[gallery.title(&self.title).draw()?, key(largest)?], 1)?;
        let title = if self.title.is_empty() { "Feature maps" } else { &self.title };
        let figure = Figure::from_svg(title, &figure.svg())?;
        Ok(figure.with_text(self.table(title, &maps, &labels)))
    }

    /// Least, mean and greatest value of each map.
    fn table(&self, title: &str, maps: &[&[f64]], labels: &[String]) -> String {
        let rows =
            maps.iter().zip(labels).fold(Table::new(["map", "least", "mean", "greatest"]), |table, (map, label)| {
                let mean = map.iter().sum::<f64>() / map.len() as f64;
                let (least, greatest) =
                    (map.iter().copied().fold(f64::NAN, f64::min), map.iter().copied().fold(f64::NAN, f64::max));
                table.row([
                    text::one_line(label),
                    text::measured(least),
                    text::measured(mean),
                    text::measured(greatest),
                ])
            });
        rows.caption(title).to_string()
    }
}

/// The colour of `value` on a scale from −`largest` to `largest`.
fn color(value: f64, largest: f64) -> Rgb<u8> {
    /// No colour of the scale.
    const NOT_FINITE: Rgb<u8> = Rgb([128; 3]);
    if !value.is_finite() {
        return NOT_FINITE;
    }
    let share = if largest > 0.0 { (value / largest).clamp(-1.0, 1.0) } else { 0.0 };
    let (halfway, end) = if share < 0.0 { (HALFWAY_BELOW, BELOW) } else { (HALFWAY_ABOVE, ABOVE) };
    // The two halves of the way to the darkest colour.
    let (from, to, way) =
        if share.abs() < 0.5 { (ZERO, halfway, 2.0 * share.abs()) } else { (halfway, end, 2.0 * share.abs() - 1.0) };
    Rgb(std::array::from_fn(|i| (from[i] + way * (to[i] - from[i])).round() as u8))
}

/// The strip of colours with its least, middle and greatest value.
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
    svg.text(&text::measured(-largest), start, y, look(Anchor::Start));
    svg.text("0", (start + end) / 2.0, y, look(Anchor::Middle));
    svg.text(&text::measured(largest), end, y, look(Anchor::End));
    Figure::from_svg("the key of the colours", &svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg::tests::texts;
    use candle_core::Device;

    #[test]
    fn colours_darken_away_from_zero_on_either_side() {
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
    fn each_channel_is_a_map_with_its_label_and_the_key_names_the_range() -> Result<(), PlotError> {
        let maps = Tensor::arange(-6f32, 6., &Device::Cpu)?.reshape((3, 2, 2))?;
        let figure = FeatureMaps::new(&maps).title("three maps").labels(&["a", "b & c", "d"]).draw()?;
        let texts = texts(&figure.svg());
        for text in ["three maps", "a", "b & c", "d", "−6", "0", "6"] {
            assert!(texts.contains(&text.to_string()), "{text}: {texts:?}");
        }
        assert!(figure.text().contains("a         −6  −4.5        −3"), "{}", figure.text());
        for shape in [vec![12], vec![3, 1, 2, 2], vec![1, 1, 3, 2, 2]] {
            let error = FeatureMaps::new(&maps.reshape(shape)?).draw().unwrap_err();
            assert!(error.to_string().contains(".i(0)?"), "{error}");
        }
        let wrong = FeatureMaps::new(&maps).labels(&["a"]).draw();
        assert!(matches!(wrong, Err(PlotError::Length { found: 1, expected: 3, .. })));
        Ok(())
    }

    #[test]
    fn odd_maps_draw_or_are_refused() -> Result<(), PlotError> {
        let device = &Device::Cpu;
        let odd = Tensor::new(&[[f32::NAN, f32::INFINITY, 1.0]], device)?;
        for tensor in [odd, Tensor::zeros((4, 4), DType::F32, device)?, Tensor::new(&[[3u8]], device)?] {
            roxmltree::Document::parse(&FeatureMaps::new(&tensor).draw()?.svg()).unwrap();
        }
        let none = Tensor::zeros((0, 4, 4), DType::F32, device)?;
        assert!(matches!(FeatureMaps::new(&none).draw(), Err(PlotError::Empty { .. })));
        Ok(())
    }
}
