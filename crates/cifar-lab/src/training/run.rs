//! A training run as seen by its loop.

use candle_cnn::ops::count_correct;
use candle_cnn::parameters::Updating;
use candle_cnn::random::set_step;
use candle_core::{DType, Tensor};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keeper::{Checkpointed, Keep, Keeper};
use super::place::Sums;
use super::plan::{BEST_WEIGHTS, STOP_FILE};
use super::shared::{Shared, WARM_UP_STEPS};
use crate::checkpoint::{Checkpoint, CheckpointFolder, ResumableOptimizer, save_tensors};
use crate::device::finish_work;
use crate::error::{Error, Result};
use crate::evaluate::Evaluation;
use crate::loader::{DataLoader, Epoch};
use crate::run_records::{EpochRecord, StepRecord};

/// How often to look for a stop file.
const STOP_FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Rows per epoch in [`History::steps`]: enough for a smooth curve.
const RECORDS_PER_EPOCH: usize = 50;

/// The time between checkpoints, which is the most work a kill can cost.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(120);

/// Indices into [`State::warnings`](super::shared::State); the last one is the missing lock's.
const RECORD: usize = 0;
const CHECKPOINT: usize = 1;
const BEST: usize = 2;

/// How many steps' losses are read together on a GPU, where each read waits for all work queued before it.
const READ_EVERY_ON_A_GPU: usize = 50;

/// A training run as seen by its loop, which gets epochs and batches from it and reports each step and epoch to it.
/// Between two steps, it can pause or stop the loop.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 10).train, &Device::Cpu);
/// let parameters = Parameters::new(0);
/// let head = linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("head"))?;
/// let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// let batches = loader.clone();
/// let training = Trainer::with_loop(&loader, move |run| {
///     let mut sgd = run.resume(sgd)?;
///     for epoch in run.epochs() {
///         for batch in run.batches(&batches, epoch) {
///             let Batch { images, labels, .. } = batch?;
///             let logits = head.forward(&flatten(&images)?)?;
///             let loss = cross_entropy(&logits, &labels)?;
///             sgd.step(&backward(&loss)?)?;
///             run.step(&loss, &logits, &labels)?;
///         }
///         run.end_epoch(None)?;
///     }
///     Ok(())
/// });
/// let training = training.name("a loop of my own").epochs(3).start()?;
/// training.wait()?;
/// assert_eq!(training.history().epochs.len(), 3);
/// assert_eq!(training.history().epochs[2].learning_rate, Some(1e-3));
/// # Ok::<(), Error>(())
/// ```
pub struct Run {
    pub(super) shared: Arc<Shared>,
    last_step: Instant,
    last_look: Instant,
    last_checkpoint: Instant,
    pending: Vec<(Tensor, Tensor, usize)>,
    keeper: Option<Box<dyn Keep>>,
    /// The checkpoint to resume from, until [`resume`](Self::resume) takes it.
    checkpoint: Option<Checkpoint>,
    /// Keeps other threads from reading the parameters in the middle of a step.
    updating: Updating,
    /// The last epoch that the loop took its [`batches`](Self::batches) of, which skip those that are already done.
    batches_of: Option<usize>,
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>, checkpoint: Option<Checkpoint>) -> Self {
        let now = Instant::now();
        // Whoever evaluates a network waits for every training, since a network doesn't say which one updates it.
        let updating = shared.plan.parameters.clone().unwrap_or_default().update();
        let run = Self {
            shared,
            last_step: now,
            last_look: now,
            last_checkpoint: now,
            pending: Vec::new(),
            keeper: None,
            checkpoint,
            updating,
            batches_of: None,
        };
        run.tell_step();
        run
    }

    /// Call this before the loop, and use the optimizer it returns. If the run [resumes](super::Trainer::resumable),
    /// this restores parameters, buffers and the optimizer's state from the last checkpoint. Every checkpoint from then
    /// on includes the optimizer's state, and the records its learning rate.
    ///
    /// # Errors
    /// [`Error::Setting`] if the checkpoint was made with another optimizer or other optimizer settings.
    pub fn resume<O: ResumableOptimizer + 'static>(&mut self, mut optimizer: O) -> Result<Checkpointed<O>> {
        if self.keeper.is_some() {
            return Err(Error::Setting {
                name: "run.resume",
                value: "called twice".into(),
                reason: "a checkpoint holds one optimizer; give it the parameters as groups (SGD::with_groups)".into(),
            });
        }
        let plan = &self.shared.plan;
        let target = plan.folder.as_deref().zip(plan.parameters.as_ref());
        let begins = self.checkpoint.is_none() && target.is_some();
        if let Some((checkpoint, parameters)) = self.checkpoint.take().zip(plan.parameters.as_ref()) {
            checkpoint.restore(parameters, &mut optimizer).map_err(|error| {
                let reason = match error {
                    Error::Setting { reason, .. } => reason,
                    other => other.to_string(),
                };
                let reason = format!("{reason}; add .fresh() to the trainer to start over");
                Error::Setting { name: "optimizer", value: optimizer.settings(), reason }
            })?;
        }
        let optimizer = Checkpointed::new(optimizer);
        self.keeper = Some(Box::new(Keeper {
            optimizer: optimizer.share(),
            data: plan.data.clone(),
            target: target.map(|(folder, parameters)| (parameters.clone(), CheckpointFolder::of(folder))),
        }));
        if begins {
            // So that a failure in the first epoch costs no more than its steps, and not the initial weights.
            self.save_checkpoint()?;
        }
        Ok(optimizer)
    }

    /// The epochs to run, counted from 0, without those finished before the run was resumed.
    pub fn epochs(&self) -> Range<usize> {
        let plan = &self.shared.plan;
        plan.from.epoch..if plan.finished { plan.from.epoch } else { plan.epochs }
    }

    /// The epoch's batches, as from [`DataLoader::epoch`], without those done before the run was resumed.
    pub fn batches(&mut self, loader: &DataLoader, epoch: usize) -> Epoch {
        self.batches_of = Some(epoch);
        let from = &self.shared.plan.from;
        loader.epoch_from(epoch, if epoch == from.epoch { from.step } else { 0 })
    }

    /// The number of steps done, over all epochs, for a learning rate that changes from step to step: a counter of the
    /// loop's own would start again when the run is resumed.
    pub fn steps_done(&self) -> usize {
        let state = self.shared.lock();
        state.epoch * self.shared.plan.steps + state.step
    }

    /// Reports a step: its mean `loss` (a scalar), its `logits` `[N, classes]` and the `labels` `[N]`. Blocks while
    /// training is paused.
    ///
    /// # Errors
    /// [`Error::Stopped`] if training was asked to stop (`?` then ends the loop), [`Error::LossNotFinite`] if the loss
    /// is NaN or infinite, [`Error::Setting`] if the loop of a [resumable](super::Trainer::resumable) run doesn't call
    /// [`resume`](Self::resume) and, for each epoch, [`batches`](Self::batches).
    pub fn step(&mut self, loss: &Tensor, logits: &Tensor, labels: &Tensor) -> Result<()> {
        self.counted_step(loss, count_correct(logits, labels)?, labels.elem_count())
    }

    /// Like [`step`](Self::step), with the number of `correct` predictions among `images` images (a scalar of type
    /// `u32`) already counted.
    pub(super) fn counted_step(&mut self, loss: &Tensor, correct: Tensor, images: usize) -> Result<()> {
        self.check_loop()?;
        // Detached, so that the step's graph is freed now rather than when the values are read.
        self.pending.push((loss.detach(), correct, images));
        let read_every = if loss.device().is_cpu() { 1 } else { READ_EVERY_ON_A_GPU };
        let step = self.shared.lock().step + 1;
        let epoch_ends = step >= self.shared.plan.steps;
        if self.pending.len() >= read_every || epoch_ends {
            // A step that fails doesn't count as done, so counting comes after this.
            self.read_pending(step)?;
        }
        let now = Instant::now();
        let mut state = self.shared.lock();
        state.stepping += now.duration_since(self.last_step);
        state.step = step;
        if state.step == WARM_UP_STEPS {
            state.warm_up = state.stepping;
        }
        state.images += images;
        let record_every = self.shared.plan.steps.div_ceil(RECORDS_PER_EPOCH);
        if state.sums.images > 0.0 && (state.step.is_multiple_of(record_every) || epoch_ends) {
            let (loss, accuracy) = state.sums.means();
            let epoch = state.epoch as f64 + state.step as f64 / self.shared.plan.steps as f64;
            state.history.steps.push(StepRecord { epoch, loss, accuracy });
            state.sums = Sums::default();
        }
        drop(state);
        self.gate(false)
    }

    /// Rejects a loop that would not resume where it stopped, or whose checkpoints would lack the optimizer's state.
    fn check_loop(&self) -> Result<()> {
        let plan = &self.shared.plan;
        if plan.parameters.is_none() {
            return Ok(());
        }
        if self.keeper.is_none() {
            let reason = "begins with `let mut optimizer = run.resume(optimizer)?;`";
            return Err(refused_loop("without run.resume", reason));
        }
        let (epoch, step) = {
            let state = self.shared.lock();
            (state.epoch, state.step)
        };
        if self.batches_of != Some(epoch) {
            let reason = "takes the batches of each of `run.epochs()` from `run.batches(&loader, epoch)`, which skips \
                          those already done";
            return Err(refused_loop("without run.batches", reason));
        }
        if step >= plan.steps {
            let found = format!("of more than {} steps an epoch", plan.steps);
            return Err(refused_loop(&found, "needs the loader that the training was started with"));
        }
        Ok(())
    }

    /// Reports the end of an epoch, with the evaluation on the test images if there was one.
    ///
    /// # Errors
    /// As [`Run::step`], but with the last epoch there is nothing left to stop.
    pub fn end_epoch(&mut self, evaluation: Option<&Evaluation>) -> Result<()> {
        let (done, planned) = (self.shared.lock().step, self.shared.plan.steps);
        if self.shared.plan.parameters.is_some() && done != planned {
            let found = format!("of {done} of {planned} steps in an epoch");
            let reason =
                "takes all batches of an epoch; for a shorter one, give the loader fewer images (`data.first(n)`)";
            return Err(refused_loop(&found, reason));
        }
        // Another loop may end an epoch early.
        self.read_pending(done)?;
        let now = Instant::now();
        let state = self.shared.lock();
        let (train_loss, train_accuracy) = state.epoch_sums.means();
        let paused = state.paused.saturating_sub(state.paused_before_epoch);
        let row = EpochRecord {
            epoch: state.epoch + 1,
            train_loss,
            train_accuracy,
            test_loss: evaluation.map(Evaluation::loss),
            test_accuracy: evaluation.map(Evaluation::accuracy),
            learning_rate: self.learning_rate(),
            seconds: (now.duration_since(state.epoch_started).saturating_sub(paused) + state.epoch_time_before)
                .as_secs_f64(),
            images_per_second: state.images as f64 / state.stepping.as_secs_f64(),
        };
        let best = state.history.epochs.iter().filter_map(|row| row.test_accuracy).fold(f64::NEG_INFINITY, f64::max);
        drop(state);
        // Before the checkpoint, so that a kill in between loses neither.
        let written = match self.shared.record().as_mut() {
            Some(record) => record.add_row(&row),
            None => Ok(()),
        };
        if row.test_accuracy.is_some_and(|accuracy| accuracy > best) {
            self.warn(BEST, self.save_best(&row));
        }
        self.warn(RECORD, written);
        let mut state = self.shared.lock();
        state.history.epochs.push(row);
        state.epoch += 1;
        state.step = 0;
        state.images = 0;
        state.stepping = Duration::ZERO;
        state.sums = Sums::default();
        state.epoch_sums = Sums::default();
        state.epoch_started = now;
        state.epoch_time_before = Duration::ZERO;
        state.paused_before_epoch = state.paused;
        drop(state);
        self.shared.changed();
        self.gate(true)
    }

    /// Writes the weights after the best epoch so far.
    fn save_best(&self, row: &EpochRecord) -> Result<()> {
        let plan = &self.shared.plan;
        let Some((folder, parameters)) = plan.folder.as_ref().zip(plan.parameters.as_ref()) else { return Ok(()) };
        let after = format!("epoch {} of {}", row.epoch, plan.epochs);
        let notes = [("training", plan.name.as_str()), ("after", &after), ("data", &plan.data)];
        save_tensors(parameters.state_dict()?, &folder.join(BEST_WEIGHTS), &notes)
    }

    /// Training continues if something can't be written; [`Training::wait`](super::Training::wait) prints a warning.
    fn warn(&self, what: usize, written: Result<()>) {
        self.shared.lock().warnings[what] = written.err().map(|error| error.to_string());
    }

    /// Writes a checkpoint of the current state.
    fn save_checkpoint(&mut self) -> Result<()> {
        self.last_checkpoint = Instant::now();
        let step = self.shared.lock().step;
        // Its sums must include all steps so far, and a non-finite loss must not be saved.
        self.read_pending(step)?;
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let place = self.shared.place();
        self.warn(CHECKPOINT, keeper.save(&place));
        Ok(())
    }

    fn learning_rate(&self) -> Option<f64> {
        self.keeper.as_ref().map(|keeper| keeper.learning_rate())
    }

    /// Tells layers that draw random numbers which step comes next.
    fn tell_step(&self) {
        set_step(Some(self.steps_done() as u64));
    }

    /// Adds the results not read yet, of the steps up to `last` of this epoch, counted from 1.
    fn read_pending(&mut self, last: usize) -> Result<()> {
        let first = last + 1 - self.pending.len();
        let learning_rate = self.learning_rate();
        for (step, (loss, correct, images)) in (first..).zip(self.pending.drain(..)) {
            // Read without holding the lock, because on a GPU this waits.
            let loss = loss.to_dtype(DType::F32)?.to_scalar::<f32>()?;
            let correct = f64::from(correct.to_scalar::<u32>()?);
            let mut state = self.shared.lock();
            if !loss.is_finite() {
                return Err(Error::LossNotFinite { loss, epoch: state.epoch + 1, step, learning_rate });
            }
            state.sums.add(f64::from(loss), correct, images);
            state.epoch_sums.add(f64::from(loss), correct, images);
        }
        Ok(())
    }

    /// Pauses or stops training if asked to: between two steps, where the parameters are consistent.
    fn gate(&mut self, epoch_ended: bool) -> Result<()> {
        self.tell_step();
        let arrived = Instant::now();
        let mut asked = false;
        if arrived.duration_since(self.last_look) >= STOP_FILE_INTERVAL {
            self.last_look = arrived;
            let folder = self.shared.plan.folder.as_ref();
            asked = folder.is_some_and(|folder| std::fs::remove_file(folder.join(STOP_FILE)).is_ok());
        }
        let mut state = self.shared.lock();
        state.stop |= asked;
        let (stop, held) = (state.stop, state.pauses > 0);
        drop(state);
        if stop || epoch_ended || arrived.duration_since(self.last_checkpoint) >= CHECKPOINT_INTERVAL {
            self.save_checkpoint()?;
        }
        if !stop && (held || self.updating.is_awaited()) {
            // Other threads read the parameters meanwhile.
            finish_work();
            self.updating.pause(|| self.shared.hold(arrived));
        }
        self.shared.changed();
        self.last_step = Instant::now();
        if !stop && self.shared.lock().stop {
            // Asked to stop while it was paused.
            self.save_checkpoint()?;
        }
        let state = self.shared.lock();
        // With the last epoch done, nothing is left to stop.
        let done = epoch_ended && state.epoch >= self.shared.plan.epochs;
        if (stop || state.stop) && !done { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Why a loop can't be that of a resumable run.
fn refused_loop(found: &str, reason: &str) -> Error {
    Error::Setting { name: "loop", value: found.to_string(), reason: format!("a resumable training run {reason}") }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::super::plan::Plan;
    use super::*;
    use candle_core::Device;

    #[test]
    fn losses_that_are_read_together_name_the_step_that_failed() -> Result<()> {
        let from = Place { epoch: 1, ..Place::default() };
        let shared = Arc::new(Shared::new(Plan { from, ..Plan::new("on a GPU", 3, 9) }, None));
        let mut run = Run::new(shared.clone(), None);
        // As on a GPU: steps 3 to 5 wait to be read, and the second of them failed.
        for loss in [0.5, f32::NAN, 0.5] {
            run.pending.push((Tensor::new(loss, &Device::Cpu)?, Tensor::new(1u32, &Device::Cpu)?, 1));
        }
        let error = run.read_pending(5).unwrap_err();
        assert!(matches!(error, Error::LossNotFinite { epoch: 2, step: 4, .. }), "{error}");
        assert_eq!(shared.lock().epoch_sums.images, 1.0, "the step before it counts");
        // Ending an epoch earlier than planned reads the rest.
        shared.lock().step = 2;
        run.pending.push((Tensor::new(1.5f32, &Device::Cpu)?, Tensor::new(1u32, &Device::Cpu)?, 1));
        run.end_epoch(None)?;
        assert_eq!(shared.lock().history.epochs[0].train_loss, 1.0);
        Ok(())
    }
}
