//! How trainings show themselves: curves, of one or of several in one figure, and the range test's.

use notebook_charts::{Curves, Figure, LossAndAccuracy, PlotError, Scale, Series, loss_and_accuracy};

use crate::error::Result;
use crate::training::{EpochRecord, History, RangeTest, Training};

/// A range test's picture ends before the first loss of more than so many times the first one.
const SHOWN_UP_TO: f64 = 2.0;

impl History {
    /// Loss and accuracy over the epochs, training beside test.
    ///
    /// ```
    /// use cifar_lab::training::{History, StepRecord};
    /// let steps = vec![StepRecord { epoch: 0.5, loss: 2.0, accuracy: 0.3 }];
    /// let figure = History { data: "CIFAR-10".into(), steps, epochs: vec![] }.figure()?;
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where nothing has been recorded yet.
    pub fn figure(&self) -> Result<Figure> {
        let epoch = |pick: fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
            self.epochs.iter().filter_map(|row| Some((row.epoch as f64, pick(row)?))).collect()
        };
        // Within the first epoch there is no row for an epoch yet; the steps show that something happens.
        let (train_loss, train_accuracy) = if self.epochs.is_empty() {
            (
                self.steps.iter().map(|row| (row.epoch, row.loss)).collect(),
                self.steps.iter().map(|row| (row.epoch, row.accuracy)).collect(),
            )
        } else {
            (epoch(|row| Some(row.train_loss)), epoch(|row| Some(row.train_accuracy)))
        };
        let test_loss = epoch(|row| row.test_loss);
        let test_accuracy = epoch(|row| row.test_accuracy);
        let data = self.data.clone();
        let curves = LossAndAccuracy { data, train_loss, test_loss, train_accuracy, test_accuracy };
        Ok(loss_and_accuracy(&curves)?)
    }
}

impl Training {
    /// The curves of loss and accuracy so far.
    ///
    /// # Errors
    /// Where nothing has been recorded yet.
    pub fn figure(&self) -> Result<Figure> {
        self.history().figure()
    }
}

impl RangeTest {
    /// The loss over the learning rate, on a logarithmic axis, up to the first batch whose loss is more than twice the
    /// first: what comes then is so large that nothing else would be seen.
    ///
    /// ```
    /// use cifar_lab::training::RangeTest;
    /// let test = RangeTest { batches: vec![(0.1, 2.0), (0.2, 1.0)], ..Default::default() };
    /// assert!(test.figure()?.text().contains("smoothed"));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where no batch was done.
    pub fn figure(&self) -> Result<Figure> {
        let of = if self.data.is_empty() { String::new() } else { format!(": {}", self.data) };
        let first = self.batches.first().map_or(f64::NAN, |(_, loss)| *loss);
        // Where the first is no number, none is: the curves say so.
        let fits = |(_, loss): &&(f64, f64)| first.is_nan() || *loss <= SHOWN_UP_TO * first;
        let shown = self.batches.iter().take_while(fits).count();
        let curves = Curves::new(format!("Learning-rate range test{of}"))
            .x_label("learning rate")
            .x_scale(Scale::Log)
            .y_label("training loss (nats)")
            .series(Series::new("each batch", self.batches.iter().copied().take(shown)))
            .series(Series::new("smoothed", self.smoothed().into_iter().take(shown)));
        Ok(curves.draw()?)
    }
}

/// The size of one of the four charts, in pixels: two of them are as wide as a notebook's column.
const SIZE: (u32, u32) = (440, 300);

/// Takes a chart's value out of an epoch's row.
type Pick = fn(&EpochRecord) -> Option<f64>;

/// The curves of several trainings laid over each other: loss above and accuracy below, training on the left and test on
/// the right. Charts beside each other have one scale, so that the distance between training and test can be seen.
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
