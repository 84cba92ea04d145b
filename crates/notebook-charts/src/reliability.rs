//! Reliability diagrams: does a classifier's confidence match its accuracy?

use crate::axis::{Axis, AxisRequest, Scale};
use crate::chart::{self, Area, Look};
use crate::error::PlotError;
use crate::figure::{DrawError, Figure};
use crate::numbers;
use crate::table::Table;
use plotters::element::{DashedPathElement, PathElement};
use plotters::style::Color;

/// Two panels, as wide as those of loss and accuracy, in pixels.
const SIZE: (u32, u32) = (900, 400);

/// Images whose confidence, the predicted probability of the predicted class, lies in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// The interval's lower end, in [0, 1], excluded.
    pub from: f64,
    /// Its upper end, in [0, 1], included.
    pub to: f64,
    /// The number of images in it.
    pub images: usize,
    /// Their mean confidence, in [0, 1]; NaN if there are none.
    pub confidence: f64,
    /// Their accuracy, in [0, 1]; NaN if there are none.
    pub accuracy: f64,
}

/// The share of images at each confidence and, beside it, the accuracy there, as in C. Guo et al., "On Calibration of
/// Modern Neural Networks", ICML 2017, figure 1. Bars below the dashed diagonal mean overconfidence. `notes` are
/// written below.
///
/// # Errors
/// [`PlotError::Empty`] if no bin has an image.
///
/// ```
/// use notebook_charts::{ReliabilityBin, reliability_diagram};
/// let unsure = ReliabilityBin { from: 0.0, to: 0.5, images: 20, confidence: 0.4, accuracy: 0.35 };
/// let sure = ReliabilityBin { from: 0.5, to: 1.0, images: 80, confidence: 0.9, accuracy: 0.7 };
/// let figure = reliability_diagram("Calibration", &[unsure, sure], &[])?;
/// assert!(figure.text().contains("70.0 %"));
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
pub fn reliability_diagram(title: &str, bins: &[ReliabilityBin], notes: &[String]) -> Result<Figure, PlotError> {
    let images: usize = bins.iter().map(|bin| bin.images).sum();
    if images == 0 {
        return Err(PlotError::Empty { what: format!("no bin of {title:?} has an image") });
    }
    let look = |color, dashed| Look { color, dashed };
    let legend = [
        ("accuracy".to_string(), look(chart::BLUE, false)),
        ("mean confidence".to_string(), look(chart::VERMILLION, false)),
        ("right as often as it claims".to_string(), look(chart::INK, true)),
    ];
    let figure = Figure::draw(title, SIZE, |area| {
        let rest = chart::frame(area, title, &legend, notes)?;
        let (left, right) = rest.split_horizontally(rest.dim_in_pixel().0 / 2);
        draw_shares(&left, bins, images as f64)?;
        draw_accuracies(&right, bins)
    })?;
    let table = bins.iter().fold(
        Table::new(["confidence", "images", "mean confidence", "accuracy"]).caption(title),
        |table, bin| {
            let interval = format!("{} to {}", numbers::percent(bin.from), numbers::percent(bin.to));
            let share = |share: f64| if share.is_nan() { "–".to_string() } else { numbers::percent(share) };
            table.row([interval, numbers::grouped(bin.images as u128), share(bin.confidence), share(bin.accuracy)])
        },
    );
    let lines = notes.iter().fold(table.to_string(), |lines, note| format!("{lines}\n{note}"));
    Ok(figure.with_text(lines))
}

fn axis(label: &str, highest: f64) -> Axis {
    let request = AxisRequest {
        label,
        scale: Scale::Linear,
        percent: true,
        whole: false,
        from_zero: true,
        padding: 0.0,
        ticks: 5,
    };
    Axis::over([0.0, highest], &request)
}

fn draw_shares(area: &Area, bins: &[ReliabilityBin], images: f64) -> Result<(), DrawError> {
    let share = |bin: &ReliabilityBin| bin.images as f64 / images;
    let highest = bins.iter().map(share).fold(0.0, f64::max);
    // A little room above the highest bar.
    let mut chart =
        chart::axes(area, &axis("confidence", 1.0), &axis("share of the images", (1.05 * highest).min(1.0)))?;
    let bars = bins.iter().map(|bin| chart::rectangle((bin.from, 0.0), (bin.to - gap(bin), share(bin)), chart::MUTED));
    chart.draw_series(bars)?;
    Ok(())
}

fn draw_accuracies(area: &Area, bins: &[ReliabilityBin]) -> Result<(), DrawError> {
    let mut chart = chart::axes(area, &axis("confidence", 1.0), &axis("accuracy", 1.0))?;
    let filled = || bins.iter().filter(|bin| bin.images > 0);
    let bars = filled().map(|bin| chart::rectangle((bin.from, 0.0), (bin.to - gap(bin), bin.accuracy), chart::BLUE));
    chart.draw_series(bars)?;
    let diagonal = DashedPathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], 7, 4, chart::INK.stroke_width(1));
    chart.draw_series([diagonal])?;
    let lines = filled().map(|bin| {
        PathElement::new(
            vec![(bin.from, bin.confidence), (bin.to - gap(bin), bin.confidence)],
            chart::VERMILLION.stroke_width(3),
        )
    });
    chart.draw_series(lines)?;
    Ok(())
}

/// The space between bars, as a share of the axis.
fn gap(bin: &ReliabilityBin) -> f64 {
    0.06 * (bin.to - bin.from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{inside, texts};

    #[test]
    fn every_bin_has_its_place_and_empty_ones_have_no_bar() {
        let empty = ReliabilityBin { from: 0.0, to: 0.5, images: 0, confidence: f64::NAN, accuracy: f64::NAN };
        let full = ReliabilityBin { from: 0.5, to: 1.0, images: 4, confidence: 0.9, accuracy: 1.0 };
        let figure = reliability_diagram("a < b", &[empty, full], &["a note & more".into()]).unwrap();
        inside(&figure.svg());
        let texts = texts(&figure.svg());
        assert!(
            ["share of the images", "a note & more", "accuracy"].iter().all(|text| texts.contains(&text.to_string()))
        );
        assert!(figure.text().contains("50.0 % to 100.0 %       4           90.0 %   100.0 %"), "{}", figure.text());
        assert!(matches!(reliability_diagram("t", &[empty], &[]), Err(PlotError::Empty { .. })));
    }
}
