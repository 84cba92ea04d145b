//! How values are distributed.

use super::axis::{Axis, AxisRequest, Scale};
use super::chart;
use super::{PlotError, text};
use crate::display::{Figure, Table};

const SIZE: (u32, u32) = (720, 420);

/// A histogram of weights, activations or confidences. Set up, then [`draw`](Histogram::draw).
///
/// ```
/// use cifar_lab::plot::Histogram;
/// let weights: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 0.19).collect();
/// let figure = Histogram::new(weights).title("conv1.weight").x_label("weight").bins(20).draw()?;
/// assert!(figure.text().contains("1,000 values"));
/// # Ok::<(), cifar_lab::plot::PlotError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is drawn before `draw`"]
pub struct Histogram {
    title: String,
    x_label: String,
    values: Vec<f64>,
    bins: Option<usize>,
}

impl Histogram {
    /// A histogram of values: a tensor's, after `to_vec1::<f32>()?`.
    ///
    /// ```
    /// # use cifar_lab::plot::Histogram;
    /// assert!(Histogram::new([0.5_f32, 0.25]).draw().is_ok());
    /// assert!(Histogram::new(Vec::<f32>::new()).draw().is_err());
    /// ```
    pub fn new<V: Into<f64>>(values: impl IntoIterator<Item = V>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self { title: "Histogram".to_string(), x_label: "value".to_string(), values, bins: None }
    }

    /// Sets the title.
    ///
    /// ```
    /// # use cifar_lab::plot::Histogram;
    /// assert_eq!(Histogram::new([1.0]).title("conv1.weight").draw()?.title(), "conv1.weight");
    /// # Ok::<(), cifar_lab::plot::PlotError>(())
    /// ```
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Names the axis of the values, with its unit.
    ///
    /// ```
    /// # use cifar_lab::plot::Histogram;
    /// assert!(Histogram::new([1.0]).x_label("confidence").draw()?.svg().contains("confidence"));
    /// # Ok::<(), cifar_lab::plot::PlotError>(())
    /// ```
    pub fn x_label(mut self, label: impl Into<String>) -> Self {
        self.x_label = label.into();
        self
    }

    /// Sets the number of bins, 1 to 500. Without it, their width follows Freedman and Diaconis (1981):
    /// twice the interquartile range over the cube root of the number of values, between 5 and 80 bins.
    ///
    /// ```
    /// # use cifar_lab::plot::Histogram;
    /// assert!(Histogram::new([1.0, 2.0]).bins(0).draw().is_err());
    /// ```
    pub fn bins(mut self, bins: usize) -> Self {
        self.bins = Some(bins);
        self
    }

    /// Draws the histogram, 720×420 pixels, with mean and standard deviation below it. Values that aren't finite are
    /// left out and counted there.
    ///
    /// Errors: [`PlotError::Empty`] without a finite value, [`PlotError::Setting`] for bins outside 1 to 500.
    ///
    /// ```
    /// # use cifar_lab::plot::Histogram;
    /// let figure = Histogram::new([1.0, 3.0, f64::NAN]).bins(2).draw()?;
    /// assert!(figure.text().contains("mean 2, standard deviation 1; 1 that isn't finite left out"));
    /// # Ok::<(), cifar_lab::plot::PlotError>(())
    /// ```
    pub fn draw(&self) -> Result<Figure, PlotError> {
        if let Some(bins) = self.bins
            && !(1..=500).contains(&bins)
        {
            return Err(PlotError::Setting { name: "bins", value: bins.to_string(), wanted: "between 1 and 500" });
        }
        let mut values: Vec<f64> = self.values.iter().filter_map(|value| Scale::Linear.place(*value)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (values.first(), values.last()) else {
            let what = format!("none of the {} values of {:?} is finite", self.values.len(), self.title);
            return Err(PlotError::Empty { what });
        };
        // Values all alike, or all but, still need a width.
        let (low, high) = if high - low > 1e-9 * low.abs().max(high.abs()) {
            (low, high)
        } else {
            let around = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
            (low - around, high + around)
        };
        let bins = self.bins.unwrap_or_else(|| usual_bins(&values, high - low));
        let width = (high - low) / bins as f64;
        let mut counts = vec![0_u64; bins];
        for value in &values {
            let bin = (((value - low) / (high - low)) * bins as f64) as usize;
            counts[bin.min(bins - 1)] += 1;
        }

        let count = values.len() as f64;
        let mean = values.iter().map(|value| value / count).sum::<f64>();
        let deviation = values.iter().map(|value| (value - mean) * ((value - mean) / count)).sum::<f64>().sqrt();
        let mut note = format!(
            "{} values, mean {}, standard deviation {}",
            text::grouped(values.len() as u128),
            text::measured(mean),
            text::measured(deviation)
        );
        let left_out = self.values.len() - values.len();
        if left_out > 0 {
            let verb = if left_out == 1 { "isn't" } else { "aren't" };
            note += &format!("; {} that {verb} finite left out", text::grouped(left_out as u128));
        }

        let request = |label, from_zero, whole, padding| AxisRequest {
            label,
            scale: Scale::Linear,
            percent: false,
            whole,
            from_zero,
            padding,
            ticks: 8,
        };
        let x = Axis::over([low, high], &request(&self.x_label, false, false, 0.02));
        let highest = counts.iter().copied().max().unwrap_or(0) as f64;
        let y = Axis::over([0.0, highest], &request("values in the bin", true, true, 0.05));
        let notes = [note.clone()];
        let figure = Figure::draw(&self.title, SIZE, |area| {
            let rest = chart::frame(area, &self.title, &[], &notes)?;
            let chart = chart::axes(&rest, &x, &y)?;
            for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (left, right) = (low + index as f64 * width, low + (index + 1) as f64 * width);
                let (left, top) = chart.backend_coord(&(left, *count as f64));
                let (right, bottom) = chart.backend_coord(&(right, 0.0));
                // A pixel between bars, where they are wide enough to spare it; a low bar is still seen.
                let right = if right - left > 3 { right - 1 } else { right.max(left + 1) };
                area.draw(&chart::rectangle((left, top.min(bottom - 1)), (right, bottom), chart::BLUE))?;
            }
            Ok(())
        })?;
        let mut table = Table::new(["from", "to", "values"]).caption(self.title.as_str());
        for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |index: usize| text::measured(low + index as f64 * width);
            table = table.row([edge(index), edge(index + 1), text::grouped(u128::from(*count))]);
        }
        Ok(figure.with_text(format!("{table}\n{note}")))
    }
}

/// The number of bins after Freedman and Diaconis, "On the histogram as a density estimator", 1981.
fn usual_bins(sorted: &[f64], range: f64) -> usize {
    let quartile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    let width = 2.0 * (quartile(0.75) - quartile(0.25)) / (sorted.len() as f64).cbrt();
    // Where half of the values are alike the rule gives no width; Sturges' rule needs none.
    let bins = if width > 0.0 { range / width } else { (sorted.len() as f64).log2() + 1.0 };
    bins.ceil().clamp(5.0, 80.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg::tests::{inside, texts};

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
        assert!(matches!(Histogram::new([1.0]).bins(501).draw(), Err(PlotError::Setting { .. })));
    }

    #[test]
    fn the_title_is_escaped() {
        let svg = Histogram::new([1.0, 2.0]).title("p < 0.05 & \"more\"").draw().unwrap().svg();
        assert!(texts(&svg).contains(&"p < 0.05 & \"more\"".to_string()));
    }
}
