//! How trainings show themselves: progress, curves of one or several trainings, the range test.

use notebook_charts::{
    Curves, Figure, LossAndAccuracy, PlotError, Scale, Series, Table, View, loss_and_accuracy, numbers,
};

use super::plot::{points, titled};
use super::show::Show;
use crate::error::Result;
use crate::training::{EpochRecord, History, Progress, RangeTest, Training};

/// A range test's figure ends before the first loss that is more than this many times the initial one.
const SHOWN_UP_TO: f64 = 2.0;

impl History {
    /// Loss and accuracy by epoch, for training and test.
    ///
    /// # Errors
    /// If nothing has been recorded yet.
    pub fn figure(&self) -> Result<Figure> {
        // During the first epoch there is no row for an epoch; the steps show that something happens.
        let (train_loss, train_accuracy) = if self.epochs.is_empty() {
            (
                self.steps.iter().map(|row| (row.epoch, row.loss)).collect(),
                self.steps.iter().map(|row| (row.epoch, row.accuracy)).collect(),
            )
        } else {
            (points(&self.epochs, |row| Some(row.train_loss)), points(&self.epochs, |row| Some(row.train_accuracy)))
        };
        let test_loss = points(&self.epochs, |row| row.test_loss);
        let test_accuracy = points(&self.epochs, |row| row.test_accuracy);
        let data = self.data.clone();
        let curves = LossAndAccuracy { data, train_loss, test_loss, train_accuracy, test_accuracy };
        Ok(loss_and_accuracy(&curves)?)
    }
}

impl Training {
    /// Loss and accuracy so far.
    ///
    /// # Errors
    /// If nothing has been recorded yet.
    pub fn figure(&self) -> Result<Figure> {
        self.history().figure()
    }
}

impl RangeTest {
    /// The loss by learning rate, on a logarithmic axis, up to the first batch whose loss is more than twice the initial
    /// one; larger losses would hide everything else.
    ///
    /// # Errors
    /// If there was no batch.
    pub fn figure(&self) -> Result<Figure> {
        let first = self.batches.first().map_or(f64::NAN, |(_, loss)| *loss);
        // If the first loss is NaN, so are the others, and the curves show it.
        let fits = |(_, loss): &&(f64, f64)| first.is_nan() || *loss <= SHOWN_UP_TO * first;
        let shown = self.batches.iter().take_while(fits).count();
        let curves = Curves::new(titled("Learning-rate range test", &self.data))
            .x_label("learning rate")
            .x_scale(Scale::Log)
            .y_label("training loss (nats)")
            .series(Series::new("each batch", self.batches.iter().copied().take(shown)))
            .series(Series::new("smoothed", self.smoothed().into_iter().take(shown)));
        Ok(curves.draw()?)
    }
}

impl Show for Progress {
    fn view(&self) -> View {
        View::line(self.to_string())
    }
}

impl Show for History {
    /// A row for each epoch.
    fn view(&self) -> View {
        let header =
            ["epoch", "training loss", "training accuracy", "test loss", "test accuracy", "learning rate", "time"];
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_string());
        let table = self.epochs.iter().fold(Table::new(header), |table, row| {
            table.row([
                row.epoch.to_string(),
                format!("{:.3}", row.train_loss),
                numbers::percent(row.train_accuracy),
                or_none(row.test_loss.map(|loss| format!("{loss:.3}"))),
                or_none(row.test_accuracy.map(numbers::percent)),
                or_none(row.learning_rate.map(numbers::measured)),
                format!("{:.1} s", row.seconds),
            ])
        });
        table.caption(if self.epochs.is_empty() { "no epoch has ended yet" } else { &self.data }).into()
    }
}

impl Show for Training {
    /// Its progress, and a row for each epoch so far.
    fn view(&self) -> View {
        let (progress, history) = (self.progress(), self.history());
        if history.epochs.is_empty() { progress.view() } else { progress.view().above(history.view()) }
    }
}

/// The size of each of the four charts, in pixels: two fit beside each other in a notebook.
const SIZE: (u32, u32) = (440, 300);

/// Picks a chart's value from an epoch's row.
type Pick = fn(&EpochRecord) -> Option<f64>;

/// The curves of several trainings in one figure: loss above and accuracy below, training on the left and test on the
/// right. Charts beside each other share a scale, so that the gap between training and test is visible.
///
/// ```
/// use cifar_lab::{notebook::overlay, training::{EpochRecord, History}};
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
/// If no epoch has been recorded yet.
pub fn overlay<S: AsRef<str>>(runs: &[(S, History)]) -> Result<Figure> {
    let data = runs.iter().map(|(_, history)| history.data.as_str()).find(|data| !data.is_empty()).unwrap_or_default();
    let panels: [(&str, &str, Pick); 4] = [
        ("Training loss", "loss (nats)", |row| Some(row.train_loss)),
        ("Test loss", "loss (nats)", |row| row.test_loss),
        ("Training accuracy", "accuracy", |row| Some(row.train_accuracy)),
        ("Test accuracy", "accuracy", |row| row.test_accuracy),
    ];
    let mut figures = Vec::new();
    for pair in panels.chunks(2) {
        let values =
            || pair.iter().flat_map(|(_, _, pick)| runs.iter().flat_map(move |(_, run)| points(&run.epochs, pick)));
        for (title, label, pick) in pair {
            let mut curves = Curves::new(titled(title, data)).x_label("epoch").y_label(*label).size(SIZE.0, SIZE.1);
            curves = values().fold(curves, |curves, (_, value)| curves.y_reaches(value));
            if *label == "accuracy" {
                curves = curves.y_percent();
            }
            for (name, history) in runs {
                curves = curves.series(Series::new(name.as_ref(), points(&history.epochs, pick)));
            }
            match curves.draw() {
                Ok(figure) => figures.push(figure),
                // There are no test results yet; the other charts suffice.
                Err(PlotError::Empty { .. }) if !figures.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Figure::grid(&figures, 2)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notebook::show::assert_shows;

    #[test]
    fn a_history_shows_its_figures() {
        let row = EpochRecord {
            epoch: 1,
            train_loss: 1.5,
            train_accuracy: 0.25,
            test_loss: None,
            test_accuracy: Some(0.5),
            learning_rate: None,
            seconds: 2.0,
            images_per_second: 20.0,
        };
        assert_shows(&History { epochs: vec![row], ..History::default() }.view(), &["25.0 %", "–"]);
        assert_shows(&History::default().view(), &["no epoch", "test loss"]);
    }
}
