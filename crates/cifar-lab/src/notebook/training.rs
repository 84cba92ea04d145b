//! The curves of several trainings in one figure.

use super::curves::{EpochRecord, History};
use crate::display::Figure;
use crate::error::Result;
use crate::plot::{Curves, PlotError, Series};

/// The size of one of the four charts, in pixels: two of them are as wide as a notebook's column.
const SIZE: (u32, u32) = (440, 300);

/// Takes a chart's value out of an epoch's row.
type Pick = fn(&EpochRecord) -> Option<f64>;

/// The curves of several trainings laid over each other: loss above and accuracy below, training on the left and test on
/// the right. Charts beside each other have one scale, so that the distance between training and test can be seen.
///
/// ```
/// use cifar_lab::training::{EpochRecord, History, overlay};
/// let row = |epoch, test_accuracy| EpochRecord {
///     epoch, train_loss: 1.0, train_accuracy: 0.6, test_loss: Some(1.1), test_accuracy: Some(test_accuracy),
///     learning_rate: None, seconds: 1.0, images_per_second: 100.0,
/// };
/// let plain = History { epochs: vec![row(1, 0.5), row(2, 0.55)], ..Default::default() };
/// let flipped = History { epochs: vec![row(1, 0.48), row(2, 0.58)], ..Default::default() };
/// let figure = overlay(&[("plain", plain), ("with flips", flipped)])?;
/// assert!(figure.text().contains("58.0 %"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// Where no epoch has been recorded yet.
pub fn overlay<S: AsRef<str>>(runs: &[(S, History)]) -> Result<Figure> {
    let data = runs.iter().map(|(_, history)| history.data.as_str()).find(|data| !data.is_empty());
    let of = data.map_or(String::new(), |data| format!(": {data}"));
    let panels: [(&str, &str, Pick); 4] = [
        ("Training loss", "loss (nats)", |row| Some(row.train_loss)),
        ("Test loss", "loss (nats)", |row| row.test_loss),
        ("Training accuracy", "accuracy", |row| Some(row.train_accuracy)),
        ("Test accuracy", "accuracy", |row| row.test_accuracy),
    ];
    let points = |history: &History, pick: Pick| -> Vec<(f64, f64)> {
        history.epochs.iter().filter_map(|row| Some((row.epoch as f64, pick(row)?))).collect()
    };
    let mut figures = Vec::new();
    for pair in panels.chunks(2) {
        let values = || pair.iter().flat_map(|(_, _, pick)| runs.iter().flat_map(|(_, run)| points(run, *pick)));
        for (title, label, pick) in pair {
            let mut curves = Curves::new(format!("{title}{of}")).x_label("epoch").y_label(*label).size(SIZE.0, SIZE.1);
            curves = values().fold(curves, |curves, (_, value)| curves.y_reaches(value));
            if *label == "accuracy" {
                curves = curves.y_percent();
            }
            for (name, history) in runs {
                curves = curves.series(Series::new(name.as_ref(), points(history, *pick)));
            }
            match curves.draw() {
                Ok(figure) => figures.push(figure),
                // Nothing was tested yet: the other charts say enough.
                Err(PlotError::Empty { .. }) if !figures.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Figure::grid(&figures, 2)?)
}
