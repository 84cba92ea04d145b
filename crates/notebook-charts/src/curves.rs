//! Line charts: losses, accuracies, learning rates.

use crate::axis::{Axis, AxisRequest, Scale};
use crate::chart::{self, Area, Look};
use crate::error::PlotError;
use crate::figure::{DrawError, Figure};
use crate::numbers;
use crate::table::Table;
use crate::text;
use plotters::element::{DashedPathElement, PathElement};

/// The size of a chart, in pixels: a notebook's column shows it unscaled.
const SIZE: (u32, u32) = (720, 420);
/// The size of loss and accuracy side by side, in pixels.
const PANELS_SIZE: (u32, u32) = (900, 380);
/// With more points than this, dots would run into each other.
const DOTS: usize = 60;
/// Longer lines are thinned out: a chart has fewer columns of pixels than this.
const MOST_POINTS: usize = 1500;

/// A named line through points (x, y), in the order given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The points; one that isn't finite is left out and breaks the line.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A line with a name.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

/// A line chart. Set it up, then call [`draw`](Curves::draw).
///
/// ```
/// use notebook_charts::{Curves, Scale, Series};
/// let figure = Curves::new("learning-rate range test")
///     .x_label("learning rate")
///     .x_scale(Scale::Log)
///     .y_label("loss (nats)")
///     .series(Series::new("training", [(1e-4, 2.3), (1e-3, 1.9), (1e-2, 1.5), (0.0, 4.0)]))
///     .y_reaches(5.0)
///     .size(440, 320)
///     .draw()?;
/// assert_eq!(figure.size(), (440, 320));
/// assert!(figure.text().contains("training: 1 point left out"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is drawn before `draw`"]
pub struct Curves {
    title: String,
    x_label: String,
    y_label: String,
    x_scale: Scale,
    y_scale: Scale,
    y_percent: bool,
    size: Option<(u32, u32)>,
    /// Values that the vertical axis includes besides those of the series.
    y_reaches: Vec<f64>,
    series: Vec<Series>,
}

impl Curves {
    /// A chart with no lines yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Labels the horizontal axis, with its unit.
    pub fn x_label(mut self, label: impl Into<String>) -> Self {
        self.x_label = label.into();
        self
    }

    /// Labels the vertical axis, with its unit.
    pub fn y_label(mut self, label: impl Into<String>) -> Self {
        self.y_label = label.into();
        self
    }

    /// Sets the scale of the horizontal axis. Points at x ≤ 0 are left out of a logarithmic one, and counted below.
    pub fn x_scale(mut self, scale: Scale) -> Self {
        self.x_scale = scale;
        self
    }

    /// Sets the scale of the vertical axis. Points at y ≤ 0 are left out of a logarithmic one, and counted below.
    pub fn y_scale(mut self, scale: Scale) -> Self {
        self.y_scale = scale;
        self
    }

    /// Labels the vertical axis in percent, for shares from 0 to 1.
    pub fn y_percent(mut self) -> Self {
        self.y_percent = true;
        self
    }

    /// Adds a line. One without points still takes a color and an entry in the legend, so that a series looks the same
    /// in every figure.
    pub fn series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// Makes the vertical axis include `value`, so that charts side by side can have the same scale.
    pub fn y_reaches(mut self, value: f64) -> Self {
        self.y_reaches.push(value);
        self
    }

    /// Sets width and height in pixels, 160 to 8,192; 720×420 by default, and 440×320 suits two charts side by side.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// Draws the chart. Values that can't be shown (NaN, ∞, beyond ±10³⁰⁰, zero or less on a logarithmic axis) are left
    /// out and counted below.
    ///
    /// # Errors
    /// [`PlotError::Empty`] if no point is left, [`PlotError::Setting`] for a size out of range.
    pub fn draw(&self) -> Result<Figure, PlotError> {
        let lines = self.lines();
        if lines.iter().all(|line| line.runs.is_empty()) {
            return Err(self.empty(&lines));
        }
        let (legend, notes) = (legend(&lines), notes(&lines));
        let figure = Figure::draw(&self.title, chart::size(self.size.unwrap_or(SIZE))?, |area| {
            let rest = chart::frame(area, &self.title, &legend, &notes)?;
            self.draw_on(&rest, &lines)
        })?;
        Ok(figure.with_text(with_notes(self.table(&self.title).to_string(), &notes)))
    }

    fn lines(&self) -> Vec<Line> {
        self.series.iter().enumerate().map(|(index, series)| Line::new(index, series, self)).collect()
    }

    fn empty(&self, lines: &[Line]) -> PlotError {
        let given: usize = self.series.iter().map(|series| series.points.len()).sum();
        let what = match given {
            0 => format!("no series of {:?} has any points yet", self.title),
            _ => format!("no point of {:?} is left; {}", self.title, notes(lines).join("; ")),
        };
        PlotError::Empty { what }
    }

    fn draw_on(&self, area: &Area, lines: &[Line]) -> Result<(), DrawError> {
        let places = || lines.iter().flat_map(|line| line.runs.iter().flatten());
        let whole = self.x_scale == Scale::Linear && places().all(|(x, _)| x.fract() == 0.0);
        let dots = lines.iter().any(|line| line.dots);
        let (width, height) = area.dim_in_pixel();
        let x = Axis::over(
            places().map(|(x, _)| *x),
            &AxisRequest {
                label: &self.x_label,
                scale: self.x_scale,
                percent: false,
                whole,
                from_zero: false,
                // Otherwise dots at the ends would lie on the axis.
                padding: if dots { 0.03 } else { 0.0 },
                // A label with its space takes about 70 pixels.
                ticks: (width / 70).max(2) as usize,
            },
        );
        let y = Axis::over(
            places().map(|(_, y)| *y).chain(self.y_reaches.iter().filter_map(|value| self.y_scale.place(*value))),
            &AxisRequest {
                label: &self.y_label,
                scale: self.y_scale,
                percent: self.y_percent,
                whole: false,
                from_zero: true,
                padding: 0.05,
                ticks: (height / 45).max(2) as usize,
            },
        );
        let mut chart = chart::axes(area, &x, &y)?;
        for line in lines {
            for run in &line.runs {
                if line.look.dashed {
                    let path = DashedPathElement::new(thinned(run), 7, 4, line.look.stroke());
                    chart.draw_series([path])?;
                } else {
                    chart.draw_series([PathElement::new(thinned(run), line.look.stroke())])?;
                }
                // A lone point is drawn larger, so that it is seen.
                let radius = if run.len() == 1 { 4 } else { 3 };
                if line.dots || run.len() == 1 {
                    chart.draw_series(run.iter().map(|at| chart::point(*at, radius, line.look.color)))?;
                }
            }
        }
        Ok(())
    }

    fn table(&self, caption: &str) -> Table {
        let value = |y: f64| if self.y_percent { numbers::percent(y) } else { numbers::measured(y) };
        let x = if self.x_label.is_empty() { "x" } else { &self.x_label };
        let header =
            ["series".to_string(), "points".into(), format!("last {x}"), "last".into(), "least".into(), "most".into()];
        let mut table = Table::new(header).caption(caption);
        for series in &self.series {
            let finite = || series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let (least, most) = finite()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (_, y)| (least.min(*y), most.max(*y)));
            let mut row = vec![series.name.clone(), series.points.len().to_string()];
            if let Some((x, y)) = finite().next_back() {
                row.extend([numbers::measured(*x), value(*y), value(least), value(most)]);
            }
            table = table.row(row);
        }
        table
    }
}

/// A series as it is drawn: positions on the axes, in runs without a gap.
struct Line {
    name: String,
    look: Look,
    runs: Vec<Vec<(f64, f64)>>,
    left_out: Vec<(f64, f64)>,
    dots: bool,
}

impl Line {
    fn new(index: usize, series: &Series, curves: &Curves) -> Self {
        let mut runs = vec![vec![]];
        let mut left_out = vec![];
        for &(x, y) in &series.points {
            match (curves.x_scale.place(x), curves.y_scale.place(y)) {
                (Some(x), Some(y)) => {
                    if let Some(run) = runs.last_mut() {
                        run.push((x, y));
                    }
                }
                _ => {
                    left_out.push((x, y));
                    runs.push(vec![]);
                }
            }
        }
        runs.retain(|run| !run.is_empty());
        let name = text::one_line(&series.name);
        Self { name, look: Look::nth(index), runs, left_out, dots: series.points.len() <= DOTS }
    }
}

/// Thins out a run that has several points in one column of pixels: the lowest and the highest of each group stay, so
/// that no spike is lost.
fn thinned(run: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if run.len() <= MOST_POINTS {
        return run.to_vec();
    }
    let group = run.len().div_ceil(MOST_POINTS / 2);
    let mut kept = Vec::with_capacity(MOST_POINTS + 2);
    kept.extend(run.first());
    for group in run.chunks(group) {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (group.iter().min_by(by_height), group.iter().max_by(by_height)) else {
            continue;
        };
        kept.extend(if low.0 <= high.0 { [*low, *high] } else { [*high, *low] });
    }
    kept.extend(run.last());
    kept
}

/// The named series; a chart of one unnamed series needs no legend.
fn legend(lines: &[Line]) -> Vec<(String, Look)> {
    lines.iter().filter(|line| !line.name.is_empty()).map(|line| (line.name.clone(), line.look)).collect()
}

/// How many points each series lost, and the first of them.
fn notes(lines: &[Line]) -> Vec<String> {
    let note = |line: &Line| {
        let (x, y) = line.left_out.first()?;
        let (count, noun) = (line.left_out.len(), if line.left_out.len() == 1 { "point" } else { "points" });
        let first = format!("{} at {}", numbers::measured(*y), numbers::measured(*x));
        Some(format!("{}: {count} {noun} left out (can't be drawn), the first {first}", line.name))
    };
    lines.iter().filter_map(note).collect()
}

fn with_notes(text: String, notes: &[String]) -> String {
    notes.iter().fold(text, |text, note| format!("{text}\n{note}"))
}

/// What [`loss_and_accuracy`] draws: points (epoch, value), empty where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossAndAccuracy {
    /// What the network was trained on, for the title.
    pub data: String,
    /// Mean cross-entropy over training images, in nats.
    pub train_loss: Vec<(f64, f64)>,
    /// Mean cross-entropy over test images, in nats.
    pub test_loss: Vec<(f64, f64)>,
    /// Accuracy on training images, from 0 to 1.
    pub train_accuracy: Vec<(f64, f64)>,
    /// Accuracy on test images, from 0 to 1.
    pub test_accuracy: Vec<(f64, f64)>,
}

/// Loss and accuracy by epoch, side by side: training in blue, test in vermillion.
///
/// Points may lie between epochs, as for a loss every hundred batches. A panel without points is left out.
///
/// # Errors
/// [`PlotError::Empty`] if there is no point at all.
///
/// ```
/// use notebook_charts::{LossAndAccuracy, loss_and_accuracy};
/// let figure = loss_and_accuracy(&LossAndAccuracy {
///     data: "CIFAR-10".into(),
///     train_loss: vec![(1.0, 1.43), (2.0, 1.06)],
///     test_loss: vec![(1.0, 1.19), (2.0, 0.97)],
///     train_accuracy: vec![(1.0, 0.49), (2.0, 0.63)],
///     test_accuracy: vec![(1.0, 0.58), (2.0, 0.66)],
/// })?;
/// assert!(figure.text().contains("66.0 %"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
pub fn loss_and_accuracy(curves: &LossAndAccuracy) -> Result<Figure, PlotError> {
    let of = if curves.data.is_empty() { String::new() } else { format!(": {}", curves.data) };
    let panel = |train: &[(f64, f64)], test: &[(f64, f64)], label: &str| {
        Curves::new(format!("Loss and accuracy by epoch{of}"))
            .x_label("epoch")
            .y_label(label)
            .series(Series::new("training", train.iter().copied()))
            .series(Series::new("test", test.iter().copied()))
    };
    let loss = panel(&curves.train_loss, &curves.test_loss, "loss: cross entropy (nats)");
    let accuracy = panel(&curves.train_accuracy, &curves.test_accuracy, "accuracy").y_percent();
    let panels = [(&loss, loss.lines(), "loss"), (&accuracy, accuracy.lines(), "accuracy")];
    let drawn: Vec<_> = panels.iter().filter(|(_, lines, _)| lines.iter().any(|line| !line.runs.is_empty())).collect();
    if drawn.is_empty() {
        return Err(loss.empty(&panels.iter().flat_map(|(panel, ..)| panel.lines()).collect::<Vec<_>>()));
    }
    let mut left_out = vec![];
    let mut tables = vec![];
    for (panel, lines, name) in &panels {
        left_out.extend(notes(lines).into_iter().map(|note| format!("{name}, {note}")));
        tables.push(panel.table(name).to_string());
    }
    let figure = Figure::draw(&loss.title, PANELS_SIZE, |area| {
        let rest = chart::frame(area, &loss.title, &legend(&panels[0].1), &left_out)?;
        for (part, (panel, lines, _)) in rest.split_evenly((1, drawn.len())).iter().zip(&drawn) {
            panel.draw_on(part, lines)?;
        }
        Ok(())
    })?;
    Ok(figure.with_text(with_notes(tables.join("\n\n"), &left_out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{count, inside, texts};
    use proptest::prelude::*;

    fn chart(series: impl IntoIterator<Item = Series>) -> Curves {
        series.into_iter().fold(Curves::new("t"), Curves::series)
    }

    #[test]
    fn each_series_is_a_line_with_a_dot_for_each_point_and_a_name() {
        let points = [(1.0, 2.0), (2.0, 1.5), (3.0, 1.4)];
        let figure = chart([Series::new("a<b>&c", points), Series::new("größer", points)]).draw().unwrap();
        let svg = figure.svg();
        assert_eq!(count(&svg, "circle"), 6);
        let texts = texts(&svg);
        assert!(texts.contains(&"a<b>&c".to_string()) && texts.contains(&"größer".to_string()), "{texts:?}");
        inside(&svg);
    }

    #[test]
    fn axes_are_labeled_and_reach_what_they_are_told_to() {
        let curves = || chart([Series::new("a", [(1.0, 0.5), (2.0, 0.7)]), Series::new("none yet", [])]);
        let texts = |curves: Curves| texts(&curves.draw().unwrap().svg());
        let labeled = texts(curves().x_label("epoch").y_label("accuracy").y_percent());
        for text in ["epoch", "accuracy", "70 %", "none yet"] {
            assert!(labeled.contains(&text.to_string()), "{text}: {labeled:?}");
        }
        let three = "3.0".to_string();
        assert!(!texts(curves()).contains(&three) && texts(curves().y_reaches(3.1)).contains(&three));
        assert!(matches!(curves().size(9, 300).draw(), Err(PlotError::Setting { name: "size", .. })));
    }

    #[test]
    fn one_point_is_seen() {
        for scale in [Scale::Linear, Scale::Log] {
            let figure = chart([Series::new("a", [(1.0, 2.0)])]).x_scale(scale).y_scale(scale).draw().unwrap();
            assert_eq!(count(&figure.svg(), "circle"), 1);
            inside(&figure.svg());
        }
    }

    #[test]
    fn what_is_not_finite_breaks_the_line_and_is_named() {
        let points = [(1.0, 2.0), (2.0, 1.0), (3.0, f64::NAN), (4.0, f64::INFINITY), (5.0, 1.0), (6.0, 0.5)];
        let figure = chart([Series::new("run", points)]).draw().unwrap();
        let svg = figure.svg();
        assert_eq!(count(&svg, "circle"), 4);
        let blue = format!("#{:02X}{:02X}{:02X}", chart::BLUE.0, chart::BLUE.1, chart::BLUE.2);
        let lines = roxmltree::Document::parse(&svg).unwrap();
        let lines = lines
            .descendants()
            .filter(|node| node.tag_name().name() == "polyline" && node.attribute("stroke") == Some(blue.as_str()));
        // Two runs and the line in the legend.
        assert_eq!(lines.count(), 3);
        let note = "run: 2 points left out (can't be drawn), the first NaN at 3";
        assert!(texts(&svg).iter().any(|text| text == note), "{:?}", texts(&svg));
        assert!(figure.text().contains(note));
    }

    #[test]
    fn nothing_to_draw_is_an_error_that_says_why() {
        let error = chart([Series::new("a", []), Series::new("b", [])]).draw().unwrap_err();
        assert!(error.to_string().contains("no series"), "{error}");
        let error = chart([Series::new("a", [(1.0, -1.0)])]).y_scale(Scale::Log).draw().unwrap_err();
        assert!(error.to_string().contains("a: 1 point left out"), "{error}");
        assert!(matches!(loss_and_accuracy(&LossAndAccuracy::default()), Err(PlotError::Empty { .. })));
    }

    #[test]
    fn a_panel_without_points_is_left_out() {
        let losses = LossAndAccuracy { train_loss: vec![(1.0, 2.0)], ..Default::default() };
        let svg = loss_and_accuracy(&losses).unwrap().svg();
        assert!(!texts(&svg).iter().any(|text| text == "accuracy"));
        inside(&svg);
    }

    #[test]
    fn a_long_run_is_thinned_and_keeps_its_spikes() {
        let mut run: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        run[54_321].1 = 9.0;
        run[12_345].1 = -9.0;
        let kept = thinned(&run);
        assert!(kept.len() <= MOST_POINTS + 2);
        assert!(kept.contains(&(54_321.0, 9.0)) && kept.contains(&(12_345.0, -9.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
        assert!(chart([Series::new("a", run)]).draw().unwrap().svg().len() < 60_000);
    }

    #[test]
    fn many_series_stay_apart() {
        let figure = chart((0..14).map(|i| Series::new(format!("run {i}"), [(0.0, 1.0), (1.0, f64::from(i))])));
        let looks: Vec<Look> = (0..14).map(Look::nth).collect();
        for (index, look) in looks.iter().enumerate() {
            assert!(!looks[..index].contains(look));
        }
        inside(&figure.draw().unwrap().svg());
    }

    #[test]
    fn any_texts_leave_a_chart_on_its_card() {
        let long = "a long name <&> \u{0}\u{1b} größer ".repeat(30);
        let point = || [(1.0, f64::NAN), (2.0, 1.0), (3.0, 2.0)];
        let curves =
            (0..200).fold(Curves::new(&long), |curves, i| curves.series(Series::new(format!("{i} {long}"), point())));
        let svg = curves.x_label(&long).y_label(&long).draw().unwrap().svg();
        inside(&svg);
        assert!(texts(&svg).iter().any(|text| text == "… and 195 more"));
        assert_eq!(count(&svg, "circle"), 400);
    }

    proptest! {
        #[test]
        fn any_points_draw_or_are_refused(
            points in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20), log_x: bool, log_y: bool, percent: bool
        ) {
            let scale = |log| if log { Scale::Log } else { Scale::Linear };
            let mut curves = chart([Series::new("a", points)]).x_scale(scale(log_x)).y_scale(scale(log_y));
            curves.y_percent = percent;
            match curves.draw() {
                Ok(figure) => inside(&figure.svg()),
                Err(error) => prop_assert!(matches!(error, PlotError::Empty { .. }), "{}", error),
            }
        }
    }
}
