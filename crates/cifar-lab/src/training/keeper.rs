//! What a training run needs to write checkpoints: its parameters, optimizer and folder.

use candle_cnn::parameters::Parameters;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::Optimizer;
use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use super::place::Place;
use crate::checkpoint::{CheckpointFolder, ResumableOptimizer};
use crate::error::{Error, Result};

/// The checkpoint note that holds the [`Place`] as JSON.
pub(super) const PLACE: &str = "place";

/// An optimizer whose state is saved in checkpoints, from [`Run::resume`](super::Run::resume). Use it like the
/// optimizer that it wraps.
#[derive(Debug)]
pub struct Checkpointed<O>(Rc<RefCell<O>>);

impl<O> Checkpointed<O> {
    pub(super) fn new(optimizer: O) -> Self {
        Self(Rc::new(RefCell::new(optimizer)))
    }

    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// The optimizer itself. Otherwise only [`Run`](super::Run) borrows it, within its own methods.
    pub(super) fn inner(&self) -> RefMut<'_, O> {
        self.0.borrow_mut()
    }
}

impl<O: ResumableOptimizer> Checkpointed<O> {
    /// Sets each group's learning rate.
    ///
    /// # Errors
    /// If there is not one for each group, or one is negative or not finite.
    pub fn set_learning_rates(&mut self, rates: &[f64]) -> candle_core::Result<()> {
        self.inner().set_learning_rates(rates)
    }
}

impl<O: Optimizer> Optimizer for Checkpointed<O> {
    type Config = O::Config;

    fn new(vars: Vec<Var>, config: O::Config) -> candle_core::Result<Self> {
        Ok(Self::new(O::new(vars, config)?))
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        self.inner().step(gradients)
    }

    fn learning_rate(&self) -> f64 {
        self.inner().learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.inner().set_learning_rate(learning_rate);
    }

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        self.inner().backward_step(loss)
    }
}

/// What a [`Run`](super::Run) needs from an optimizer of any type.
pub(super) trait Keep {
    fn learning_rate(&self) -> f64;
    /// Writes a checkpoint if the run is resumable.
    fn save(&self, place: &Place) -> Result<()>;
}

pub(super) struct Keeper<O> {
    pub optimizer: Checkpointed<O>,
    pub data: String,
    pub target: Option<(Parameters, CheckpointFolder)>,
}

/// Not generic: a cell would compile it for its optimizer.
fn text(place: &Place) -> Result<String> {
    let text = serde_json::to_string(place).map_err(std::io::Error::from);
    text.map_err(|source| Error::File { action: "writing", path: "a checkpoint".into(), source })
}

impl<O: ResumableOptimizer> Keep for Keeper<O> {
    fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    fn save(&self, place: &Place) -> Result<()> {
        let Some((parameters, folder)) = &self.target else { return Ok(()) };
        let text = text(place)?;
        let notes = [(PLACE, text.as_str()), ("data", self.data.as_str())];
        let steps = place.epoch * place.steps + place.step;
        folder.save(steps, parameters, &*self.optimizer.inner(), place.epoch, &notes)
    }
}
