//! Training progress, in one line.

use notebook_charts::numbers::duration;
use std::fmt::{Display, Formatter};
use std::time::Duration;

/// The state of a training run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is computing.
    Running,
    /// It is waiting between two steps, for an evaluation or because it was paused.
    Paused,
    /// Its loop has ended by itself.
    Finished,
    /// It was stopped before its last epoch ended.
    Stopped,
    /// It failed; the message says why.
    Failed(String),
}

/// How far a training run has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The run's state.
    pub status: Status,
    /// The current epoch, counted from 1.
    pub epoch: usize,
    /// The planned number of epochs.
    pub epochs: usize,
    /// How many of them were finished before the run was resumed.
    pub first_epoch: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// Mean training loss over the last recorded steps; NaN before the first.
    pub loss: f64,
    /// Training accuracy over the last recorded steps, in [0, 1]; NaN before the first.
    pub accuracy: f64,
    /// Accuracy on the test images after the last epoch that evaluated them.
    pub test_accuracy: Option<f64>,
    /// Training speed in this epoch, in images per second; 0 before the first step.
    pub images_per_second: f64,
    /// Time since the start, excluding pauses.
    pub elapsed: Duration,
    /// Why the last record or checkpoint could not be written, or why nothing protects this run from being resumed elsewhere
    /// while it is running; `None` if all is well.
    pub warning: Option<String>,
    /// The estimated time left, once known.
    pub left: Option<Duration>,
}

impl Display for Progress {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let digits = self.steps.to_string().len();
        let place = format!("epoch {:>2}/{}", self.epoch, self.epochs);
        match &self.status {
            Status::Finished => {
                let (epochs, time) = (self.epochs_done(), duration(self.elapsed));
                return match self.first_epoch {
                    0 => write!(f, "finished: {epochs} in {time}"),
                    first if first >= self.done() => write!(f, "finished: {epochs}, all of them before"),
                    first => write!(f, "finished: {epochs}, the last {} in {time}", self.done().saturating_sub(first)),
                };
            }
            Status::Stopped => {
                let elapsed = duration(self.elapsed);
                return write!(f, "stopped after {elapsed}, at {place}, step {}/{}", self.step, self.steps);
            }
            Status::Failed(message) => return write!(f, "failed at {place}: {message}"),
            Status::Running | Status::Paused => write!(f, "{place}")?,
        }
        if self.step < self.steps {
            write!(f, "  step {:>digits$}/{}", self.step, self.steps)?;
        }
        if self.loss.is_finite() {
            write!(f, "  loss {:.3}  accuracy {:>4.1} %", self.loss, 100.0 * self.accuracy)?;
        }
        if let Some(accuracy) = self.test_accuracy.filter(|_| self.step == self.steps) {
            write!(f, "  test {:>4.1} %", 100.0 * accuracy)?;
        }
        if self.images_per_second > 0.0 {
            write!(f, "  {:.0} images/s", self.images_per_second)?;
        }
        match self.left {
            _ if self.status == Status::Paused => write!(f, "  paused"),
            Some(left) if !left.is_zero() => write!(f, "  {} left", duration(left)),
            _ => Ok(()),
        }
    }
}

impl Progress {
    /// Epochs that have ended.
    fn done(&self) -> usize {
        self.epoch - usize::from(self.step < self.steps)
    }

    /// `20 epochs`, or `5 of 20 epochs` if a loop of one's own has ended early.
    pub(super) fn epochs_done(&self) -> String {
        let epochs = epochs_text(self.epochs);
        if self.done() < self.epochs { format!("{} of {epochs}", self.done()) } else { epochs }
    }
}

/// `1 epoch`, `20 epochs`.
pub(super) fn epochs_text(epochs: usize) -> String {
    format!("{epochs} {}", if epochs == 1 { "epoch" } else { "epochs" })
}
