//! How trainings show themselves: progress, curves of one or several trainings, the range test.

use std::time::{Duration, Instant};

use notebook_charts::{
    Curves, Figure, LiveView, LossAndAccuracy, PlotError, Scale, Series, Table, View, loss_and_accuracy, numbers, text,
};

use super::plot::{points, titled};
use super::show::Show;
use crate::error::{Error, Result};
use crate::training::{Audience, EpochRecord, History, Progress, RangeTest, Status, StepRecord, Training};

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
    /// Shows progress until training ends: in the kernel of `cargo lab` a bar and curves that are redrawn in place, elsewhere a line
    /// for each epoch.
    ///
    /// # Errors
    /// [`Error::Training`] if training failed. Being stopped is not an error. [`Error::Interrupted`] if the notebook's
    /// stop button was pressed; training goes on.
    pub fn wait(&self) -> Result<()> {
        self.show_progress(None)
    }

    /// Like [`Self::wait`], but returns after at most `seconds`, while training continues.
    ///
    /// # Errors
    /// As [`Self::wait`]; [`Error::Setting`] if `seconds` is invalid.
    pub fn watch(&self, seconds: f64) -> Result<()> {
        let at_most = Duration::try_from_secs_f64(seconds).map_err(|error| Error::Setting {
            name: "seconds",
            value: seconds.to_string(),
            reason: error.to_string(),
        })?;
        // A time that no clock reaches is no limit.
        self.show_progress(Instant::now().checked_add(at_most))
    }

    fn show_progress(&self, until: Option<Instant>) -> Result<()> {
        match LiveView::open() {
            Some(view) => {
                self.follow(until, &mut LiveProgress { training: self, view, lines: Vec::new(), curves: None })
            }
            None => self.follow(until, &mut Lines),
        }
    }

    /// Loss and accuracy so far.
    ///
    /// # Errors
    /// If nothing has been recorded yet.
    pub fn figure(&self) -> Result<Figure> {
        self.history().figure()
    }
}

/// Prints lines.
struct Lines;

impl Audience for Lines {
    fn line(&mut self, line: &str) {
        println!("{line}");
    }
}

/// Redraws a bar and curves in place. The plain-text twin is the lines.
struct LiveProgress<'a> {
    training: &'a Training,
    view: LiveView,
    lines: Vec<String>,
    /// The curves, and of how many records.
    curves: Option<(usize, View)>,
}

impl Audience for LiveProgress<'_> {
    fn line(&mut self, line: &str) {
        self.lines.push(line.to_string());
    }

    fn look(&mut self, progress: &Progress) {
        let history = self.training.history();
        let ended = !matches!(progress.status, Status::Running | Status::Paused);
        let below = match ended {
            true if history.epochs.is_empty() => None,
            true => Some(history.view()),
            false => self.curves(&history),
        };
        let bar = progress_bar(progress);
        let view = if let Some(below) = below { bar.above(below) } else { bar };
        let warning = progress.warning.iter().map(|warning| View::line(format!("warning: {warning}")));
        let view = warning.fold(view, View::above);
        self.view.show(&View::html(view.content(), self.lines.join("\n")));
    }

    fn interval(&self, progress: &Progress) -> Option<Duration> {
        // The notebook server keeps everything while no browser is there, so a long training is redrawn more rarely.
        Some((progress.elapsed / 300).clamp(Duration::from_millis(500), Duration::from_secs(10)))
    }
}

impl LiveProgress<'_> {
    /// Curves of the steps so far, with the epochs' test results; `None` before the first.
    fn curves(&mut self, history: &History) -> Option<View> {
        let records = history.steps.len() + history.epochs.len();
        if self.curves.as_ref().is_none_or(|(of, _)| *of != records) {
            let figure = live_figure(history).ok()?;
            // HTML can hold the SVG; the picture alone would lose the bar.
            self.curves = Some((records, View::html(figure.view().content(), "")));
        }
        self.curves.as_ref().map(|(_, view)| view.clone())
    }
}

/// How many points of the steps a live figure has.
const LIVE_POINTS: usize = 60;

/// Loss and accuracy while training: the steps in groups, the test results by epoch.
fn live_figure(history: &History) -> Result<Figure> {
    let size = history.steps.len().div_ceil(LIVE_POINTS).max(1);
    let means = |pick: fn(&StepRecord) -> f64| {
        let mean = |group: &[StepRecord]| group.iter().map(pick).sum::<f64>() / group.len() as f64;
        history.steps.chunks(size).map(|group| (group[group.len() - 1].epoch, mean(group))).collect()
    };
    let curves = LossAndAccuracy {
        data: history.data.clone(),
        train_loss: means(|row| row.loss),
        test_loss: points(&history.epochs, |row| row.test_loss),
        train_accuracy: means(|row| row.accuracy),
        test_accuracy: points(&history.epochs, |row| row.test_accuracy),
    };
    Ok(loss_and_accuracy(&curves)?)
}

/// How much is done, as a bar with the line below it.
fn progress_bar(progress: &Progress) -> View {
    let of_epoch = progress.step as f64 / progress.steps.max(1) as f64;
    let epochs = progress.epoch.saturating_sub(1) as f64 + of_epoch;
    let done = if progress.status == Status::Finished { 1.0 } else { epochs / progress.epochs.max(1) as f64 };
    let line = progress.to_string();
    // Digits of one width, and its own spaces, so that the line doesn't jitter.
    let html = format!(
        "<progress value=\"{done:.4}\" max=\"1\" style=\"width:100%;max-width:900px;accent-color:#0072B2\"></progress>\n\
         <div style=\"padding:2px 10px;font-variant-numeric:tabular-nums;white-space:pre-wrap\">{}</div>",
        text::escape(&line)
    );
    View::html(html, line)
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
    let mut named = runs.iter().map(|(_, history)| history.data.as_str()).filter(|data| !data.is_empty());
    let data = named.next().unwrap_or_default();
    // Of trainings on different data, the legend says which is whose.
    let mixed = named.any(|other| other != data);
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
            let mut curves = Curves::new(titled(title, if mixed { "" } else { data }))
                .x_label("epoch")
                .y_label(*label)
                .size(SIZE.0, SIZE.1);
            curves = values().fold(curves, |curves, (_, value)| curves.y_reaches(value));
            if *label == "accuracy" {
                curves = curves.y_percent();
            }
            for (name, history) in runs {
                let name = if mixed { titled(name.as_ref(), &history.data) } else { name.as_ref().to_string() };
                curves = curves.series(Series::new(name, points(&history.epochs, pick)));
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
        let of = |data: &str| History { epochs: vec![row], data: data.to_string(), ..History::default() };
        let same = overlay(&[("a", of("CIFAR-10")), ("b", of("CIFAR-10"))]).unwrap().svg();
        assert!(same.contains("Test accuracy: CIFAR-10") && !same.contains("a: "), "{same}");
        let mixed = overlay(&[("a", of("CIFAR-10")), ("b", of("stand-in"))]).unwrap().svg();
        assert!(mixed.contains("a: CIFAR-10") && mixed.contains("b: stand-in"), "{mixed}");
        assert!(!mixed.contains("accuracy: CIFAR-10"), "{mixed}");
    }
}
