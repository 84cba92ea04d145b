//! Histograms: how values are distributed.

use crate::axis::{Axis, AxisRequest, Scale};
use crate::chart::{self, Area, Chart, Look};
use crate::error::PlotError;
use crate::figure::{DrawError, Figure};
use crate::numbers;
use crate::table::Table;
use crate::text;
use plotters::element::PathElement;

const SIZE: (u32, u32) = (720, 420);

/// A histogram, of weights or confidences for example. Set it up, then call [`draw`](Histogram::draw).
///
/// ```
/// use notebook_charts::Histogram;
/// let weights: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 0.19).collect();
/// let figure = Histogram::new(weights).title("conv1.weight").x_label("weight").bins(20).draw()?;
/// assert!(figure.text().contains("1,000 values"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct Histogram {
    title: String,
    x_label: String,
    series: Vec<(String, Vec<f64>)>,
    bins: Option<usize>,
    size: Option<(u32, u32)>,
}

impl Histogram {
    /// A histogram of values.
    pub fn new<V: Into<f64>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::overlaid([("", values)])
    }

    /// Outlines of the histograms of several named sets of values, with common bins.
    pub fn overlaid<N: Into<String>, V: Into<f64>, I: IntoIterator<Item = V>>(
        series: impl IntoIterator<Item = (N, I)>,
    ) -> Self {
        let numbers = |(name, values): (N, I)| (name.into(), values.into_iter().map(Into::into).collect());
        Self {
            title: "Histogram".to_string(),
            x_label: "value".to_string(),
            series: series.into_iter().map(numbers).collect(),
            bins: None,
            size: None,
        }
    }

    /// Sets the title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Labels the value axis, with its unit.
    pub fn x_label(mut self, label: impl Into<String>) -> Self {
        self.x_label = label.into();
        self
    }

    /// Sets the number of bins, 1 to 500. By default the bin width follows Freedman and Diaconis (1981), twice the
    /// interquartile range over the cube root of the number of values, for 5 to 80 bins.
    pub fn bins(mut self, bins: usize) -> Self {
        self.bins = Some(bins);
        self
    }

    /// Sets width and height in pixels, 160 to 8,192; 720×420 by default, and 440×320 suits two charts side by side.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = Some((width, height));
        self
    }

    /// Draws the histogram, with mean and standard deviation below it. Values that aren't finite are left out and counted
    /// there.
    ///
    /// # Errors
    /// [`PlotError::Empty`] without a finite value, [`PlotError::Setting`] for bins or a size out of range.
    pub fn draw(&self) -> Result<Figure, PlotError> {
        if let Some(bins) = self.bins
            && !(1..=500).contains(&bins)
        {
            return Err(PlotError::Setting { name: "bins", value: bins.to_string(), wanted: "between 1 and 500" });
        }
        let size = chart::size(self.size.unwrap_or(SIZE))?;
        let mut all: Vec<f64> = self.series.iter().flat_map(|(_, values)| finite(values)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (all.first(), all.last()) else {
            let given: usize = self.series.iter().map(|(_, values)| values.len()).sum();
            return Err(PlotError::Empty { what: format!("none of the {given} values of {:?} is finite", self.title) });
        };
        // Values that are all alike, or nearly, still need a width.
        let (low, high) = if high - low > 1e-9 * low.abs().max(high.abs()) {
            (low, high)
        } else {
            let around = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
            (low - around, high + around)
        };
        let bins = self.bins.unwrap_or_else(|| usual_bins(&all, high - low));
        let edge = |bin: usize| low + (high - low) / bins as f64 * bin as f64;
        let counts: Vec<Vec<u64>> = self.series.iter().map(|(_, values)| count(values, low, high, bins)).collect();
        let notes: Vec<String> = self.series.iter().map(|(name, values)| note(name, values)).collect();

        let request = |label, from_zero, whole, padding| AxisRequest {
            label,
            scale: Scale::Linear,
            percent: false,
            whole,
            from_zero,
            padding,
            // A label with its space takes about 80 pixels.
            ticks: (size.0 / 80).clamp(2, 8) as usize,
        };
        let x = Axis::over([low, high], &request(&self.x_label, false, false, 0.02));
        let highest = counts.iter().flatten().copied().max().unwrap_or(0) as f64;
        let y = Axis::over([0.0, highest], &request("values in the bin", true, true, 0.05));
        let looks = (0..self.series.len()).map(Look::nth);
        let names = self.series.iter().map(|(name, _)| text::one_line(name)).zip(looks);
        let legend: Vec<(String, Look)> = names.filter(|(name, _)| !name.is_empty()).collect();
        let figure = Figure::draw(&self.title, size, |area| {
            let rest = chart::frame(area, &self.title, &legend, &notes)?;
            let mut chart = chart::axes(&rest, &x, &y)?;
            match counts.as_slice() {
                [counts] => bars(area, &chart, counts, edge)?,
                several => {
                    for (index, counts) in several.iter().enumerate() {
                        let path = PathElement::new(outline(counts, edge), Look::nth(index).stroke());
                        chart.draw_series([path])?;
                    }
                }
            }
            Ok(())
        })?;
        let header = ["from", "to"].map(String::from).into_iter();
        let columns =
            self.series.iter().map(|(name, _)| if name.is_empty() { "values".to_string() } else { name.clone() });
        let mut table = Table::new(header.chain(columns)).caption(self.title.as_str());
        for bin in (0..bins).filter(|bin| counts.iter().any(|counts| counts[*bin] > 0)) {
            let edges = [edge(bin), edge(bin + 1)].map(numbers::measured).into_iter();
            table = table.row(edges.chain(counts.iter().map(|counts| numbers::grouped(u128::from(counts[bin])))));
        }
        Ok(figure.with_text(format!("{table}\n{}", notes.join("\n"))))
    }
}

/// The values that an axis can show.
fn finite(values: &[f64]) -> impl Iterator<Item = f64> {
    values.iter().filter_map(|value| Scale::Linear.place(*value))
}

/// How many values fall into each of `bins` bins of equal width from `low` to `high`.
fn count(values: &[f64], low: f64, high: f64, bins: usize) -> Vec<u64> {
    let mut counts = vec![0; bins];
    for value in finite(values) {
        let bin = (((value - low) / (high - low)) * bins as f64) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    counts
}

/// Number, mean and standard deviation (divided by n) of values, in a line.
fn note(name: &str, values: &[f64]) -> String {
    let count = finite(values).count() as f64;
    let mean = finite(values).map(|value| value / count).sum::<f64>();
    let deviation = finite(values).map(|value| (value - mean) * ((value - mean) / count)).sum::<f64>().sqrt();
    // Rounding can turn a mean of zero into a tiny number.
    let mean = if mean.abs() < 1e-6 * deviation { 0.0 } else { mean };
    let name = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let left_out = values.len() - count as usize;
    if count == 0.0 && left_out > 0 {
        return format!("{name}no finite value");
    }
    let mut note = format!(
        "{name}{} values, mean {}, standard deviation {}",
        numbers::grouped(count as u128),
        numbers::measured(mean),
        numbers::measured(deviation)
    );
    if left_out > 0 {
        let verb = if left_out == 1 { "isn't" } else { "aren't" };
        note += &format!("; {} that {verb} finite left out", numbers::grouped(left_out as u128));
    }
    note
}

/// One set of values: a filled bar for each bin that holds any.
fn bars(area: &Area, chart: &Chart, counts: &[u64], edge: impl Fn(usize) -> f64) -> Result<(), DrawError> {
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (left, top) = chart.backend_coord(&(edge(bin), *count as f64));
        let (right, bottom) = chart.backend_coord(&(edge(bin + 1), 0.0));
        // A pixel between bars that are wide enough, and at least one pixel of height, so that low bars are seen.
        let right = if right - left > 3 { right - 1 } else { right.max(left + 1) };
        area.draw(&chart::rectangle((left, top.min(bottom - 1)), (right, bottom), chart::BLUE))?;
    }
    Ok(())
}

/// The line along the tops of one set's bins.
fn outline(counts: &[u64], edge: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
    let tops = counts.iter().enumerate().flat_map(|(bin, &count)| {
        let height = count as f64;
        [(edge(bin), height), (edge(bin + 1), height)]
    });
    std::iter::once((edge(0), 0.0)).chain(tops).chain([(edge(counts.len()), 0.0)]).collect()
}

/// The number of bins after Freedman and Diaconis, "On the histogram as a density estimator", 1981.
fn usual_bins(sorted: &[f64], range: f64) -> usize {
    let quartile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    let width = 2.0 * (quartile(0.75) - quartile(0.25)) / (sorted.len() as f64).cbrt();
    // If half of the values are equal the rule gives no width; then Sturges' rule is used.
    let bins = if width > 0.0 { range / width } else { (sorted.len() as f64).log2() + 1.0 };
    bins.ceil().clamp(5.0, 80.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{inside, texts};

    #[test]
    fn every_value_is_counted_once() {
        let figure = Histogram::new((0..100).map(f64::from)).bins(4).draw().unwrap();
        assert_eq!(figure.text().matches(" 25").count(), 4, "{}", figure.text());
        inside(&figure.svg());
    }

    #[test]
    fn odd_values_draw_or_are_refused() {
        for values in [
            vec![0.0],
            vec![3.0; 9],
            vec![-1e299, 1e299],
            vec![1e16, 1e16 + 2.0],
            vec![1e-310, 2e-310],
            vec![f64::INFINITY, 1.0],
        ] {
            inside(&Histogram::new(values).draw().unwrap().svg());
        }
        assert!(matches!(Histogram::new([f32::NAN]).draw(), Err(PlotError::Empty { .. })));
        for bins in [0, 501] {
            assert!(matches!(Histogram::new([1.0]).bins(bins).draw(), Err(PlotError::Setting { name: "bins", .. })));
        }
    }

    #[test]
    fn several_sets_share_their_bins() {
        let figure =
            Histogram::overlaid([("a", vec![0.0, 1.0, 1.0]), ("b", vec![3.0, 4.0, f64::NAN])]).bins(2).draw().unwrap();
        let text = figure.text();
        assert!(
            text.contains("from  to  a  b") && text.contains("   0   2  3  0") && text.contains("   2   4  0  2"),
            "{text}"
        );
        assert!(text.contains("b: 2 values, mean 3.5, standard deviation 0.5; 1 that isn't"), "{text}");
        assert!(texts(&figure.svg()).contains(&"b".to_string()));
        inside(&figure.svg());
        let small = Histogram::new([1.0, 2.0]).size(9, 300).draw();
        assert!(matches!(small, Err(PlotError::Setting { name: "size", .. })));
    }

    #[test]
    fn the_title_is_escaped() {
        let svg = Histogram::new([1.0, 2.0]).title("p < 0.05 & \"more\"").draw().unwrap().svg();
        assert!(texts(&svg).contains(&"p < 0.05 & \"more\"".to_string()));
    }
}
