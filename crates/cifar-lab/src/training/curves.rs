//! What a training records: a row for every so many steps and one for every epoch.

use serde::{Deserialize, Serialize};

use crate::display::Figure;
use crate::error::Result;
use crate::plot::{self, LossAndAccuracy};

/// The means over the steps since the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Where in the training, in epochs: 1.5 is the middle of the second epoch.
    pub epoch: f64,
    /// Mean training loss (cross entropy, in nats).
    pub loss: f64,
    /// Share of training images classified rightly, in [0, 1], while the network was still changing.
    pub accuracy: f64,
}

/// One epoch's figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean training loss of the epoch (cross entropy, in nats).
    pub train_loss: f64,
    /// Share of training images classified rightly during the epoch, in [0, 1].
    pub train_accuracy: f64,
    /// Mean loss on the test images after the epoch, if they were evaluated.
    pub test_loss: Option<f64>,
    /// Accuracy on the test images after the epoch, in [0, 1], if they were evaluated.
    pub test_accuracy: Option<f64>,
    /// Learning rate at the end of the epoch, if the loop told it.
    pub learning_rate: Option<f64>,
    /// Time the epoch took, evaluation included, pauses left out, in seconds.
    pub seconds: f64,
    /// Training speed, evaluation and pauses left out, in images per second.
    pub images_per_second: f64,
}

/// Everything recorded so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The data set trained on, as its name says; empty where the plan named none.
    pub data: String,
    /// A row for every so many steps.
    pub steps: Vec<StepRecord>,
    /// A row for every epoch.
    pub epochs: Vec<EpochRecord>,
}

impl History {
    /// Loss and accuracy over the epochs, training beside test.
    ///
    /// ```
    /// use cifar_lab::training::{History, StepRecord};
    /// let steps = vec![StepRecord { epoch: 0.5, loss: 2.0, accuracy: 0.3 }];
    /// let figure = History { data: "CIFAR-10".into(), steps, epochs: vec![] }.picture()?;
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Where nothing has been recorded yet.
    pub fn picture(&self) -> Result<Figure> {
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
        Ok(plot::loss_and_accuracy(&curves)?)
    }
}
