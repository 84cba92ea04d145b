//! The position in a training run, as its checkpoints store it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::run_records::History;

/// What a run needs to resume, besides the weights and the optimizer's state. All random numbers follow from the seed,
/// the epoch and the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Finished epochs.
    pub epoch: usize,
    /// Steps done in the current epoch.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// Images seen in this epoch.
    pub images: usize,
    /// Sums since the last step record.
    pub sums: Sums,
    /// Sums since the start of the epoch.
    pub epoch_sums: Sums,
    /// Time spent in this epoch's steps.
    pub stepping: Duration,
    /// Time since the start of the epoch, excluding pauses.
    pub in_epoch: Duration,
    /// Everything recorded so far.
    pub history: History,
}

/// Sums over steps, to compute means from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    loss: f64,
    correct: f64,
    pub(super) images: f64,
}

impl Sums {
    pub(super) fn add(&mut self, loss: f64, correct: f64, images: usize) {
        self.loss += loss * images as f64;
        self.correct += correct;
        self.images += images as f64;
    }

    /// Mean loss and accuracy; NaN without images.
    pub(super) fn means(&self) -> (f64, f64) {
        (self.loss / self.images, self.correct / self.images)
    }
}
