//! One value for each class, as horizontal bars.

use crate::axis::{Axis, AxisRequest, Scale};
use crate::chart;
use crate::error::PlotError;
use crate::figure::Figure;
use crate::numbers;
use crate::table::Table;
use crate::text;
use plotters::prelude::PathElement;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

const WIDTH: u32 = 720;
/// The height of a bar and the space below it, in pixels.
const BAR: u32 = 26;
/// More than this is unreadable.
const MOST_BARS: usize = 500;
/// The longest name shown in full, in pixels.
const LONGEST_NAME: f64 = 220.0;

/// Horizontal bars with their values, such as the accuracy of each class. Set it up, then call [`draw`](Bars::draw).
///
/// ```
/// use notebook_charts::Bars;
/// let figure = Bars::new("Accuracy by class", &["plane", "car", "cat"], &[0.80, 0.88, 0.57])
///     .value_label("share of the class's test images")
///     .percent()
///     .reference(0.75, "all classes")
///     .width(440)
///     .draw()?;
/// assert_eq!(figure.size().0, 440);
/// assert!(figure.svg().contains("57.0 %"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct Bars {
    title: String,
    names: Vec<String>,
    values: Vec<f64>,
    value_label: String,
    percent: bool,
    reference: Option<(f64, String)>,
    width: u32,
}

impl Bars {
    /// One bar for each name.
    pub fn new(title: impl Into<String>, names: &[impl AsRef<str>], values: &[f64]) -> Self {
        Self {
            title: title.into(),
            names: names.iter().map(|name| text::one_line(name.as_ref())).collect(),
            values: values.to_vec(),
            value_label: String::new(),
            percent: false,
            reference: None,
            width: WIDTH,
        }
    }

    /// Labels the value axis, with its unit.
    pub fn value_label(mut self, label: impl Into<String>) -> Self {
        self.value_label = label.into();
        self
    }

    /// Shows values, which are shares from 0 to 1, as percentages.
    pub fn percent(mut self) -> Self {
        self.percent = true;
        self
    }

    /// Draws a line across all bars at `value`, such as a mean or a baseline, with `name` in the legend.
    pub fn reference(mut self, value: f64, name: impl Into<String>) -> Self {
        self.reference = Some((value, name.into()));
        self
    }

    /// Sets the width in pixels, 160 to 8,192; 720 by default, and 440 suits two charts side by side. The height depends
    /// on the number of bars.
    pub fn width(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    /// Draws the bars in the order given, from the top. A value that isn't finite is written but gets no bar.
    ///
    /// # Errors
    /// [`PlotError::Length`] if names and values differ in number, [`PlotError::Empty`] if there are none,
    /// [`PlotError::Setting`] for more than 500 or for a width out of range.
    pub fn draw(&self) -> Result<Figure, PlotError> {
        let (names, values) = (self.names.len(), self.values.len());
        PlotError::check_length("values", values, "names", names)?;
        if names == 0 {
            return Err(PlotError::Empty {
                what: format!("{:?} has no bars: give a name and a value each", self.title),
            });
        }
        PlotError::check_number("the number of bars", names, MOST_BARS, "at most 500")?;
        // Names take less than half of a narrow card.
        let longest_name = LONGEST_NAME.min(0.4 * f64::from(self.width));
        // The reference's value, if there is one, comes last.
        let all: Vec<f64> = self.values.iter().copied().chain(self.reference.iter().map(|(value, _)| *value)).collect();
        let shown: Vec<String> = if self.percent {
            all.iter().map(|value| numbers::percent(*value)).collect()
        } else {
            numbers::measured_alike(&all)
        };
        let legend: Vec<_> = self
            .reference
            .iter()
            .map(|(_, name)| {
                (
                    format!("{}: {}", text::one_line(name), shown[names]),
                    chart::Look { color: chart::VERMILLION, dashed: false },
                )
            })
            .collect();
        let short: Vec<String> =
            self.names.iter().map(|name| text::shorten(name, chart::LABEL_SIZE, longest_name)).collect();
        let y = Axis::categories(&short);
        let values = self.values.iter().map(|value| Scale::Linear.place(*value).unwrap_or(0.0));
        let reference = self.reference.as_ref().and_then(|(value, _)| Scale::Linear.place(*value));
        // A tick label is about as wide as the widest value, and needs some space around it.
        let tick_room = 1.25 * text::widest(shown.iter().map(String::as_str), chart::LABEL_SIZE).max(30.0);
        let ticks = ((f64::from(self.width) - longest_name) / tick_room).clamp(2.0, 7.0) as usize;
        let request = AxisRequest {
            label: &self.value_label,
            scale: Scale::Linear,
            percent: self.percent,
            whole: false,
            from_zero: true,
            padding: 0.0,
            ticks,
        };
        let mut x = Axis::over(values.clone().chain(reference).chain([0.0]), &request);
        // Room for the values beside the bars, on the left for negative ones.
        let label_room = text::widest(shown[..names].iter().map(String::as_str), chart::SMALL_SIZE);
        let share = ((label_room + 12.0) / (f64::from(self.width) - longest_name)).min(0.4);
        let room = (x.end - x.start) * share / (1.0 - share);
        x.end += if values.clone().any(|value| value >= 0.0) { room } else { 0.0 };
        x.start -= if values.clone().any(|value| value < 0.0) { room } else { 0.0 };

        // The rest is for title, axis and edges.
        chart::size((self.width, WIDTH))?;
        let height = BAR * names as u32 + 110 + if legend.is_empty() { 0 } else { 20 };
        let figure = Figure::draw(&self.title, (self.width, height), |area| {
            let rest = chart::frame(area, &self.title, &legend, &[])?;
            let mut chart = chart::axes(&rest, &x, &y)?;
            for (index, value) in values.clone().enumerate() {
                let top = (names - index) as f64 - 0.12;
                chart.draw_series([chart::rectangle(
                    (value.min(0.0), top),
                    (value.max(0.0), top - 0.76),
                    chart::BLUE,
                )])?;
            }
            chart.draw_series([PathElement::new(vec![(0.0, y.start), (0.0, y.end)], chart::MUTED.stroke_width(1))])?;
            if let Some(reference) = reference {
                let line = vec![(reference, y.start), (reference, y.end)];
                chart.draw_series([PathElement::new(line, chart::VERMILLION.stroke_width(2))])?;
            }
            for (index, (given, value)) in shown.iter().zip(values.clone()).enumerate() {
                let (px, py) = chart.backend_coord(&(value, (names - index) as f64 - 0.5));
                let (at, anchor) = if value < 0.0 { ((px - 5, py), HPos::Right) } else { ((px + 5, py), HPos::Left) };
                // The reference line would strike the value through.
                let covered = reference.is_some_and(|reference| {
                    let line = chart.backend_coord(&(reference, 0.0)).0;
                    let end = if value < 0.0 { at.0 - label_room as i32 } else { at.0 + label_room as i32 };
                    (at.0.min(end) - 3..=at.0.max(end) + 3).contains(&line)
                });
                if covered {
                    let width = text::width(given, chart::SMALL_SIZE) as i32 + 3;
                    let (left, right) = if value < 0.0 { (at.0 - width, at.0 + 2) } else { (at.0 - 2, at.0 + width) };
                    area.draw(&chart::rectangle((left, py - 8), (right, py + 8), plotters::style::WHITE))?;
                }
                chart::write(area, given, at, chart::font(chart::SMALL_SIZE, chart::INK), anchor, VPos::Center)?;
            }
            Ok(())
        })?;
        let label = if self.value_label.is_empty() { "value" } else { &self.value_label };
        let rows = self.names.iter().zip(&shown).map(|(name, value)| [name, value].map(String::clone));
        let table = rows.fold(Table::new(["", label]).caption(self.title.as_str()), Table::row);
        let table =
            self.reference.iter().fold(table, |table, (_, name)| table.footer([name.clone(), shown[names].clone()]));
        Ok(figure.with_text(table.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{count, inside, texts};

    #[test]
    fn each_class_has_a_bar_its_name_and_its_value() {
        let names: Vec<String> = (0..100).map(|i| format!("class <{i}> & more")).collect();
        let values: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let svg = Bars::new("many", &names, &values).percent().reference(0.5, "mean").draw().unwrap().svg();
        let texts = texts(&svg);
        assert!(names.iter().all(|name| texts.contains(name)));
        assert!((0..100).all(|i| texts.contains(&format!("{i}.0 %"))));
        // The card, a bar each, and white behind values on the line at 50 %.
        assert!(count(&svg, "rect") > 100);
        inside(&svg);
    }

    #[test]
    fn negative_tiny_and_missing_values_stay_on_the_card() {
        for values in
            [[1.2, -0.3], [-5.0, -0.1], [0.0, 0.0], [f64::NAN, f64::INFINITY], [1e-300, 1e299], [-1e299, 1e299]]
        {
            let figure = Bars::new("gain", &["flip", "crop"], &values).value_label("points").draw().unwrap();
            inside(&figure.svg());
        }
        let figure = Bars::new("a", &["x"], &[f64::NAN]).draw().unwrap();
        assert!(texts(&figure.svg()).contains(&"NaN".to_string()));
    }
}
