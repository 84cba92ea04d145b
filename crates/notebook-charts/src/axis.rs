//! The axes of a chart: range, ticks at round numbers, labels; linear or logarithmic.

use crate::numbers;
use crate::text;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// How values are laid out along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; zero and negative values can't be shown.
    Log,
}

/// Values this large are not drawn: the width of their range could overflow.
const LARGEST: f64 = 1e300;

impl Scale {
    /// The position of `value`: itself, or its decimal logarithm; None if it can't be drawn.
    pub(crate) fn place(self, value: f64) -> Option<f64> {
        match self {
            Scale::Linear => (value.abs() < LARGEST).then_some(value),
            Scale::Log => (value > 0.0 && value < LARGEST).then(|| value.log10()),
        }
    }
}

/// A tick: its position on the axis and its label.
pub(crate) type Tick = (f64, String);

/// An axis ready to be drawn. Range and ticks are positions: logarithms on a logarithmic axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub label: String,
    pub start: f64,
    pub end: f64,
    pub ticks: Vec<Tick>,
    pub grid: bool,
}

/// What an axis should show.
pub(crate) struct AxisRequest<'a> {
    pub label: &'a str,
    pub scale: Scale,
    /// Values are shares from 0 to 1, and tick labels are percentages.
    pub percent: bool,
    /// Ticks at whole numbers only, for epochs.
    pub whole: bool,
    /// Start at zero if the values lie close enough to it that their ratio matters.
    pub from_zero: bool,
    /// Free space at both ends, as a share of the range.
    pub padding: f64,
    /// The largest number of ticks.
    pub ticks: usize,
}

impl Axis {
    /// An axis that shows all `places`.
    pub(crate) fn over(places: impl IntoIterator<Item = f64>, request: &AxisRequest) -> Self {
        let (low, high) = places
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        // A single value gets a range around it, and so does a range too narrow for f64 to divide.
        let smallest = 1e-9 * low.abs().max(high.abs());
        let (mut start, mut end) = if high - low > smallest {
            let padding = request.padding * (high - low);
            (low - padding, high + padding)
        } else {
            let around = match request.scale {
                Scale::Log => 0.5,
                Scale::Linear if request.whole => 0.5_f64.max(smallest * 1e3),
                Scale::Linear if low == 0.0 => 0.5,
                Scale::Linear => 0.1 * low.abs(),
            };
            (low - around, high + around)
        };
        if request.from_zero && request.scale == Scale::Linear {
            // Beyond a third, the empty part of the axis would take up too much of it.
            if low >= 0.0 && low <= 0.35 * high {
                start = 0.0;
            } else if high <= 0.0 && high >= 0.35 * low {
                end = 0.0;
            }
        }
        if request.percent {
            // No share lies outside 0 to 1, but a curve at the edge needs room for its line.
            start = start.max(if low >= 0.0 { 0.0 } else { start });
            end = end.min(if high <= 1.0 { 1.0 + request.padding * 0.5 } else { end });
        }
        let ticks = match request.scale {
            Scale::Linear => linear_ticks(start, end, request),
            Scale::Log => log_ticks(start, end, request),
        };
        Self { label: text::one_line(request.label), start, end, ticks, grid: true }
    }

    /// An axis of categories without a label, each one unit long, the first at the end of the axis (the top of a vertical
    /// one).
    pub(crate) fn categories(names: &[String]) -> Self {
        let count = names.len();
        let ticks = names.iter().enumerate().map(|(index, name)| ((count - index) as f64 - 0.5, name.clone()));
        Self { label: String::new(), start: 0.0, end: count as f64, ticks: ticks.collect(), grid: false }
    }
}

/// Tells plotters how positions map to pixels and where the ticks are; its own `with_key_points` can't label
/// floating-point axes.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (low, high): (i32, i32)) -> i32 {
        low + ((place - self.start) / (self.end - self.start) * f64::from(high - low)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No minor grid lines.
        if hint.weight().allow_light_points() { vec![] } else { self.ticks.iter().map(|(place, _)| *place).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == place).map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that divides `span` into at most `most` steps.
fn round_step(span: f64, most: usize) -> f64 {
    let least = span / most.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

fn linear_ticks(start: f64, end: f64, request: &AxisRequest) -> Vec<Tick> {
    let unit = if request.percent { 100.0 } else { 1.0 };
    let mut step = round_step((end - start) * unit, request.ticks);
    if request.whole {
        step = step.max(1.0);
    }
    let first = (start * unit / step - 1e-9).ceil();
    let last = (end * unit / step + 1e-9).floor();
    // Rounding of the bounds must not add a tick.
    let count = (last - first).clamp(-1.0, request.ticks as f64) as i64;
    (0..=count)
        .map(|index| {
            let value = (first + index as f64) * step;
            let label = numbers::tick(value, step);
            (value / unit, if request.percent { format!("{label} %") } else { label })
        })
        .collect()
}

fn log_ticks(start: f64, end: f64, request: &AxisRequest) -> Vec<Tick> {
    let label = |value: f64| {
        let shown = if request.percent { 100.0 * value } else { value };
        let power = 10f64.powf((shown * (1.0 + 1e-9)).log10().floor());
        // 0.15 needs one digit more than 0.1 and 0.2.
        let whole = (shown / power - (shown / power).round()).abs() < 1e-6;
        let text = numbers::tick(shown, if whole { power } else { power / 10.0 });
        if request.percent { format!("{text} %") } else { text }
    };
    let decades = end.floor() - start.ceil();
    let every = ((decades + 1.0) / request.ticks.max(1) as f64).ceil().max(1.0) as usize;
    let places = |factors: &[f64]| -> Vec<f64> {
        let powers = (start.floor() as i32..=end.ceil() as i32).step_by(every);
        let all = powers.flat_map(|power| factors.iter().map(move |factor| f64::from(power) + factor.log10()));
        all.filter(|place| (start..=end).contains(place)).collect()
    };
    // Few decades need ticks between them too, as long as there is room.
    const FACTORS: [&[f64]; 4] = [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let finest = match decades {
        d if d < 1.0 => 0,
        d if d < 3.0 => 1,
        _ => 3,
    };
    let mut fine = FACTORS[finest..].iter().map(|factors| places(factors));
    let readable = fine.find(|places| 2 * places.len() <= 3 * request.ticks);
    match readable.unwrap_or_else(|| places(&[1.0])) {
        few if few.len() < 2 && end - start < 1.0 => {
            let ticks = linear_ticks(10f64.powf(start), 10f64.powf(end), request);
            ticks.into_iter().map(|(value, label)| (value.log10(), label)).collect()
        }
        places => places.into_iter().map(|place| (place, label(10f64.powf(place)))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: AxisRequest = AxisRequest {
        label: "",
        scale: Scale::Linear,
        percent: false,
        whole: false,
        from_zero: false,
        padding: 0.05,
        ticks: 6,
    };

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers() {
        let axis = Axis::over([1.0, 20.0], &AxisRequest { whole: true, ..PLAIN });
        assert_eq!(labels(&axis), ["5", "10", "15", "20"]);
        let one_epoch = Axis::over([1.0], &AxisRequest { whole: true, ..PLAIN });
        assert_eq!(labels(&one_epoch), ["1"]);
        let two_epochs = Axis::over([1.0, 2.0], &AxisRequest { whole: true, ..PLAIN });
        assert_eq!(labels(&two_epochs), ["1", "2"]);
        let loss = Axis::over([0.3, 2.3], &AxisRequest { from_zero: true, ..PLAIN });
        assert_eq!(labels(&loss), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        let accuracy = Axis::over([0.6, 0.77], &AxisRequest { percent: true, ..PLAIN });
        assert_eq!(labels(&accuracy), ["60 %", "65 %", "70 %", "75 %"]);
        let rates = Axis::over([-5.0, -1.0], &AxisRequest { scale: Scale::Log, ..PLAIN });
        assert_eq!(labels(&rates), ["0.00001", "0.0001", "0.001", "0.01", "0.1"]);
        let narrow = Axis::over([-1.0, -0.5], &AxisRequest { scale: Scale::Log, ..PLAIN });
        assert_eq!(labels(&narrow), ["0.1", "0.15", "0.2", "0.3"]);
        let losses = [2.1f64, 2.9].map(f64::log10);
        let narrower = Axis::over(losses, &AxisRequest { scale: Scale::Log, ..PLAIN });
        assert_eq!(labels(&narrower), ["2.2", "2.4", "2.6", "2.8"]);
        let crowded = Axis::over([0.0015f64, 0.06].map(f64::log10), &AxisRequest { scale: Scale::Log, ..PLAIN });
        assert_eq!(labels(&crowded), ["0.002", "0.005", "0.01", "0.02", "0.05"]);
    }

    proptest! {
        #[test]
        fn every_range_gets_few_ticks_inside_it(a in -1e299..1e299f64, power in -320.0..0.0f64, whole: bool, zero: bool) {
            let b = a + a * 10f64.powf(power);
            let axis = Axis::over([a, b], &AxisRequest { whole, from_zero: zero, ..PLAIN });
            prop_assert!(axis.start < axis.end);
            prop_assert!(axis.ticks.len() <= PLAIN.ticks + 1);
            let slack = 1e-6 * (axis.end - axis.start);
            for (place, _) in &axis.ticks {
                prop_assert!(axis.start - slack <= *place && *place <= axis.end + slack);
            }
        }

        #[test]
        fn so_does_every_logarithmic_range(low in -300.0..299.0f64, decades in 0.0..600.0f64) {
            let high = (low + decades).min(299.0);
            let axis = Axis::over([low, high], &AxisRequest { scale: Scale::Log, ..PLAIN });
            prop_assert!((2..=10).contains(&axis.ticks.len()), "{} ticks", axis.ticks.len());
        }
    }
}
