//! Where a training stands, as its checkpoints keep it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::run_records::History;

/// What a training needs to go on besides weights and the optimizer's state. Everything random follows from the seed, the
/// epoch and the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Finished epochs.
    pub epoch: usize,
    /// Steps done in the epoch after them.
    pub step: usize,
    /// Steps that an epoch has.
    pub steps: usize,
    /// The optimizer's learning rate.
    pub learning_rate: f64,
    /// Images of this epoch's steps.
    pub images: usize,
    /// Means since the last row of steps.
    pub sums: Sums,
    /// Means since the epoch's beginning.
    pub epoch_sums: Sums,
    /// Time of this epoch's steps.
    pub stepping: Duration,
    /// Time since the epoch's beginning, without pauses.
    pub in_epoch: Duration,
    /// What was recorded.
    pub history: History,
}

/// Sums over steps, for means.
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

    /// Loss and accuracy; NaN without an image.
    pub(super) fn means(&self) -> (f64, f64) {
        (self.loss / self.images, self.correct / self.images)
    }
}
