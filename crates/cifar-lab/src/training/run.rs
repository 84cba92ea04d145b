//! The training as seen by its loop.

use candle_cnn::ops::count_correct;
use candle_cnn::parameters::Parameters;
use candle_core::{DType, Tensor};
use serde_json::Value;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::progress::{Progress, Status, epochs_text};
use crate::device::finish_work;
use crate::error::{Error, Result};
use crate::evaluate::Evaluation;
use crate::run_records::{EpochRecord, History, RecordWriter, StepRecord, TrainingFile};

/// A file of this name in a training's folder stops it: the one way to stop while a cell waits for it.
const STOP_FILE: &str = "stop";

/// How often the folder is looked at for a stop file.
const STOP_FILE_INTERVAL: Duration = Duration::from_secs(1);

/// How many rows an epoch gets in [`History::steps`], enough for a smooth curve.
const RECORDS_PER_EPOCH: usize = 50;

/// The first steps are left out of the time estimate: they allocate memory and start threads, and are slower.
const WARM_UP_STEPS: usize = 10;

/// The least time that an estimate is based on, so that one busy moment does not dominate it.
const ESTIMATE_FROM: Duration = Duration::from_secs(3);

/// Steps whose losses are read together on a GPU, where each read waits for all work queued before it.
const READ_EVERY_ON_A_GPU: usize = 50;

/// The plan of a training: its name, its length, where its records go. [`Trainer`](super::Trainer) makes it.
#[derive(Debug)]
pub(super) struct Plan {
    pub name: String,
    pub epochs: usize,
    pub first_epoch: usize,
    pub steps: usize,
    pub data: String,
    pub settings: Value,
    pub folder: Option<PathBuf>,
    pub weights: Option<Parameters>,
}

impl Plan {
    /// A training called `name` of `epochs` epochs with `steps` steps each.
    pub fn new(name: &str, epochs: usize, steps: usize) -> Self {
        Self {
            name: name.to_string(),
            epochs,
            first_epoch: 0,
            steps,
            data: String::new(),
            settings: Value::Null,
            folder: None,
            weights: None,
        }
    }

    /// Checks the plan and begins its record, if it has a folder.
    pub fn start(&self) -> Result<Option<RecordWriter>> {
        if self.epochs <= self.first_epoch {
            let reason = match self.first_epoch {
                0 => "a training needs at least 1".to_string(),
                done => format!("{} already done, so resuming needs more", epochs_are(done)),
            };
            return Err(Error::Setting { name: "epochs", value: self.epochs.to_string(), reason });
        }
        if self.steps == 0 {
            return Err(Error::Setting {
                name: "steps",
                value: "0".into(),
                reason: "the loader has no batches: fewer images than one batch, and drop_last?".into(),
            });
        }
        let Some(folder) = &self.folder else { return Ok(None) };
        // A stop file left from before would end this training at its first step.
        let _ = std::fs::remove_file(folder.join(STOP_FILE));
        let file = TrainingFile {
            name: self.name.clone(),
            epochs: self.epochs,
            steps_per_epoch: self.steps,
            data: self.data.clone(),
            settings: self.settings.clone(),
            ..TrainingFile::default()
        };
        RecordWriter::begin(folder, file, self.first_epoch > 0).map(Some)
    }
}

/// `1 epoch is`, `3 epochs are`.
fn epochs_are(epochs: usize) -> String {
    format!("{} {}", epochs_text(epochs), if epochs == 1 { "is" } else { "are" })
}

/// What the thread and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    state: Mutex<State>,
    /// Signaled whenever the state changes.
    changed: Condvar,
    /// Until the training has ended.
    record: Mutex<Option<RecordWriter>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) stop: bool,
    /// How many hold the training between two steps.
    pub(super) pauses: usize,
    pub(super) epoch: usize,
    pub(super) step: usize,
    pub(super) history: History,
    /// The epoch and the step that failed, counted from 1.
    pub(super) failed_at: Option<(usize, usize)>,
    started: Instant,
    /// Time spent paused.
    paused: Duration,
    /// End of the time that counts, once the thread has ended.
    ended: Option<Instant>,
    epoch_started: Instant,
    /// `paused` when the epoch started.
    paused_before_epoch: Duration,
    /// Steps' time in this epoch, without evaluation and pauses.
    stepping: Duration,
    /// `stepping` after the first epoch's first steps.
    warm_up: Duration,
    images: usize,
    sums: Sums,
    epoch_sums: Sums,
}

/// Sums over steps, for means.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    loss: f64,
    correct: f64,
    images: f64,
}

impl Sums {
    fn add(&mut self, loss: f64, correct: f64, images: usize) {
        self.loss += loss * images as f64;
        self.correct += correct;
        self.images += images as f64;
    }

    fn means(&self) -> (f64, f64) {
        (self.loss / self.images, self.correct / self.images)
    }
}

impl Shared {
    pub(super) fn new(plan: Plan, record: Option<RecordWriter>) -> Self {
        let now = Instant::now();
        let state = State {
            status: Status::Running,
            stop: false,
            pauses: 0,
            epoch: plan.first_epoch,
            step: 0,
            history: History { data: plan.data.clone(), ..History::default() },
            failed_at: None,
            started: now,
            paused: Duration::ZERO,
            ended: None,
            epoch_started: now,
            paused_before_epoch: Duration::ZERO,
            stepping: Duration::ZERO,
            warm_up: Duration::ZERO,
            images: 0,
            sums: Sums::default(),
            epoch_sums: Sums::default(),
        };
        Self { plan, state: Mutex::new(state), changed: Condvar::new(), record: Mutex::new(record) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is left consistent between statements; a panic elsewhere must not take the handle along.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// Waits until something changes, or for `at_most`.
    pub(super) fn wait<'a>(&'a self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, at_most) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    fn record(&self) -> MutexGuard<'_, Option<RecordWriter>> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes how it ended; `failed_at` is the epoch and the step that failed, where that isn't the one at work.
    pub(super) fn end(&self, status: Status, failed_at: Option<(usize, usize)>) {
        if let Some(record) = self.record().take() {
            // A full disk at this point does not make a finished training fail.
            let _ = match &status {
                Status::Finished => record.end("finished", ""),
                Status::Stopped => record.end("stopped", ""),
                Status::Failed(message) => record.end("failed", message),
                Status::Running | Status::Paused => Ok(()),
            };
        }
        let mut state = self.lock();
        if matches!(status, Status::Failed(_)) {
            state.failed_at = failed_at.or_else(|| Some(self.at_work(&state)));
        }
        state.status = status;
        state.ended = Some(Instant::now());
        drop(state);
        self.changed();
    }

    /// The epoch and the step at work, counted from 1. What comes after an epoch's last step, such as the evaluation,
    /// belongs to that step.
    fn at_work(&self, state: &State) -> (usize, usize) {
        let plan = &self.plan;
        match state.epoch < plan.epochs {
            true if state.step < plan.steps => (state.epoch + 1, state.step + 1),
            true => (state.epoch + 1, state.step),
            false => (plan.epochs, plan.steps),
        }
    }

    pub(super) fn progress(&self, state: &State) -> Progress {
        let plan = &self.plan;
        let now = state.ended.unwrap_or_else(Instant::now);
        let elapsed = now.duration_since(state.started).saturating_sub(state.paused);
        let done = state.epoch.min(plan.epochs);
        // Between two epochs the finished one is shown, not the next one's step 0; but where that one failed, it is.
        let failed_in = state.failed_at.map_or(done, |(epoch, _)| epoch);
        let between = state.step == 0 && done > plan.first_epoch && failed_in <= done;
        let (epoch, step) = if between { (done, plan.steps) } else { (done + 1, state.step) };
        let last = match (between, state.history.epochs.last()) {
            (true, Some(row)) => (row.train_loss, row.train_accuracy, row.images_per_second),
            _ => {
                let (loss, accuracy) = match state.sums.images > 0.0 || state.history.steps.is_empty() {
                    true => state.sums.means(),
                    false => state.history.steps.last().map_or((f64::NAN, f64::NAN), |row| (row.loss, row.accuracy)),
                };
                let seconds = state.stepping.as_secs_f64();
                (loss, accuracy, if seconds > 0.0 { state.images as f64 / seconds } else { 0.0 })
            }
        };
        Progress {
            status: state.status.clone(),
            epoch: epoch.min(plan.epochs),
            epochs: plan.epochs,
            first_epoch: plan.first_epoch,
            step,
            steps: plan.steps,
            loss: last.0,
            accuracy: last.1,
            test_accuracy: state.history.epochs.last().and_then(|row| row.test_accuracy),
            images_per_second: last.2,
            elapsed,
            left: self.left(state),
        }
    }

    /// What is left, from whole epochs where there is one (they include the evaluation), else from the steps.
    fn left(&self, state: &State) -> Option<Duration> {
        let epochs_left = self.plan.epochs.saturating_sub(state.epoch) as f64;
        let of_this_epoch = state.step as f64 / self.plan.steps as f64;
        let rows = &state.history.epochs;
        let seconds_per_epoch = if rows.is_empty() {
            let steps = state.step.checked_sub(WARM_UP_STEPS).filter(|steps| *steps > 0)?;
            let stepping = state.stepping.saturating_sub(state.warm_up);
            // A short epoch is over before that time; half of it tells as much.
            if stepping < ESTIMATE_FROM && 2 * state.step < self.plan.steps {
                return None;
            }
            stepping.as_secs_f64() / steps as f64 * self.plan.steps as f64
        } else {
            rows.iter().map(|row| row.seconds).sum::<f64>() / rows.len() as f64
        };
        Duration::try_from_secs_f64(seconds_per_epoch * (epochs_left - of_this_epoch).max(0.0)).ok()
    }
}

/// A training as seen by its loop, which gets the epochs from it, reports each step and epoch to it, and is stopped or
/// paused through it between two steps.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 10).train, &Device::Cpu);
/// let batches = loader.clone();
/// let training = Trainer::with_loop(&loader, move |run| {
///     for epoch in run.epochs() {
///         for batch in batches.epoch(epoch) {
///             let Batch { images, labels, .. } = batch?;
///             // Forward, loss, backward and step would stand here.
///             let logits = images.flatten_from(1)?.narrow(1, 0, 10)?;
///             run.step(&cross_entropy(&logits, &labels)?, &logits, &labels)?;
///         }
///         run.log_learning_rate(1e-3);
///         run.end_epoch(None)?;
///     }
///     Ok(())
/// });
/// let training = training.name("a loop of my own").epochs(3).first_epoch(1).start()?;
/// training.wait()?;
/// let epochs: Vec<usize> = training.history().epochs.iter().map(|row| row.epoch).collect();
/// assert_eq!(epochs, [2, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Run {
    pub(super) shared: Arc<Shared>,
    last_step: Instant,
    last_look: Instant,
    pending: Vec<(Tensor, Tensor, usize)>,
    learning_rate: Option<f64>,
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self { shared, last_step: now, last_look: now, pending: Vec::new(), learning_rate: None }
    }

    /// The epochs to run, counted from 0.
    pub fn epochs(&self) -> Range<usize> {
        self.shared.plan.first_epoch..self.shared.plan.epochs
    }

    /// Reports a step: its mean `loss` (a scalar), its `logits` `[N, classes]` and the `labels` `[N]`. Waits here while
    /// the training is paused.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the training was asked to stop (`?` then ends the loop),
    /// [`Error::LossNotFinite`] where the loss is NaN or infinite.
    pub fn step(&mut self, loss: &Tensor, logits: &Tensor, labels: &Tensor) -> Result<()> {
        self.counted_step(loss, count_correct(logits, labels)?, labels.elem_count())
    }

    /// As [`step`](Self::step), where the right answers of `images` images are counted already (a scalar of type
    /// `u32`).
    pub(super) fn counted_step(&mut self, loss: &Tensor, correct: Tensor, images: usize) -> Result<()> {
        // Detached, so that the step's graph is freed now and not when the figures are read.
        self.pending.push((loss.detach(), correct, images));
        let read_every = if loss.device().is_cpu() { 1 } else { READ_EVERY_ON_A_GPU };
        let step = self.shared.lock().step + 1;
        let epoch_ends = step >= self.shared.plan.steps;
        if self.pending.len() >= read_every || epoch_ends {
            // A step that fails isn't done: it is counted below.
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
        self.gate()
    }

    /// Reports the end of an epoch, with the evaluation on the test images if there was one.
    ///
    /// # Errors
    /// As [`Run::step`]; and [`Error::File`] where the record cannot be written.
    pub fn end_epoch(&mut self, evaluation: Option<&Evaluation>) -> Result<()> {
        self.end_epoch_with(evaluation, || Ok(()))
    }

    /// The same, with what is to be saved of the epoch after its row is written: a kill in between costs neither.
    pub(super) fn end_epoch_with(
        &mut self,
        evaluation: Option<&Evaluation>,
        save: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // A loop may end an epoch early.
        let last_step = self.shared.lock().step;
        self.read_pending(last_step)?;
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
            learning_rate: self.learning_rate,
            seconds: now.duration_since(state.epoch_started).saturating_sub(paused).as_secs_f64(),
            images_per_second: state.images as f64 / state.stepping.as_secs_f64(),
        };
        drop(state);
        let recorded = self.record_epoch(&row).and_then(|()| save());
        let mut state = self.shared.lock();
        state.history.epochs.push(row);
        // Where it can't be recorded, it is this epoch that failed.
        recorded?;
        state.epoch += 1;
        state.step = 0;
        state.images = 0;
        state.stepping = Duration::ZERO;
        state.sums = Sums::default();
        state.epoch_sums = Sums::default();
        state.epoch_started = now;
        state.paused_before_epoch = state.paused;
        drop(state);
        self.shared.changed();
        self.gate()
    }

    /// Writes the epoch's row and the weights after it, where that was asked for.
    fn record_epoch(&self, row: &EpochRecord) -> Result<()> {
        if let Some(record) = self.shared.record().as_mut() {
            record.add_row(row)?;
        }
        if let Some((folder, parameters)) = self.shared.plan.folder.as_ref().zip(self.shared.plan.weights.as_ref()) {
            let after = format!("epoch {} of {}", row.epoch, self.shared.plan.epochs);
            let notes =
                [("training", self.shared.plan.name.as_str()), ("after", &after), ("data", &self.shared.plan.data)];
            crate::checkpoint::save_tensors(parameters.state_dict()?, &folder.join("last.safetensors"), &notes)?;
        }
        Ok(())
    }

    /// Notes the learning rate for the epoch's record.
    pub fn log_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = Some(learning_rate);
    }

    /// Adds the figures of the steps up to number `last` of this epoch, counted from 1, that weren't read yet.
    fn read_pending(&mut self, last: usize) -> Result<()> {
        let first = last + 1 - self.pending.len();
        for (step, (loss, correct, images)) in (first..).zip(self.pending.drain(..)) {
            // Read without the lock: on a GPU that waits.
            let loss = loss.to_dtype(DType::F32)?.to_scalar::<f32>()?;
            let correct = f64::from(correct.to_scalar::<u32>()?);
            let mut state = self.shared.lock();
            if !loss.is_finite() {
                return Err(Error::LossNotFinite { loss, epoch: state.epoch + 1, step });
            }
            state.sums.add(f64::from(loss), correct, images);
            state.epoch_sums.add(f64::from(loss), correct, images);
        }
        Ok(())
    }

    /// Where a training can be held or stopped: between two steps, when the parameters belong together.
    fn gate(&mut self) -> Result<()> {
        let arrived = Instant::now();
        let mut state = self.shared.lock();
        if arrived.duration_since(self.last_look) >= STOP_FILE_INTERVAL {
            self.last_look = arrived;
            let folder = self.shared.plan.folder.as_ref();
            state.stop |= folder.is_some_and(|folder| std::fs::remove_file(folder.join(STOP_FILE)).is_ok());
        }
        if state.pauses > 0 && !state.stop {
            // Others read the parameters meanwhile.
            finish_work();
            state.status = Status::Paused;
            self.shared.changed();
            while state.pauses > 0 && !state.stop {
                state = self.shared.wait(state, Duration::from_secs(1));
            }
            state.status = Status::Running;
            state.paused += arrived.elapsed();
        }
        let stop = state.stop;
        drop(state);
        self.shared.changed();
        self.last_step = Instant::now();
        if stop { Err(Error::Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn losses_that_are_read_together_name_the_step_that_failed() -> Result<()> {
        let shared = Arc::new(Shared::new(Plan { first_epoch: 1, ..Plan::new("on a GPU", 3, 9) }, None));
        let mut run = Run::new(shared.clone());
        // As on a GPU: steps 3 to 5 wait to be read, and the second of them failed.
        for loss in [0.5, f32::NAN, 0.5] {
            run.pending.push((Tensor::new(loss, &Device::Cpu)?, Tensor::new(1u32, &Device::Cpu)?, 1));
        }
        let error = run.read_pending(5).unwrap_err();
        assert!(matches!(error, Error::LossNotFinite { epoch: 2, step: 4, .. }), "{error}");
        assert_eq!(shared.lock().epoch_sums.images, 1.0, "the step before it counts");
        // An epoch that ends before the plan says so reads what is left.
        shared.lock().step = 2;
        run.pending.push((Tensor::new(1.5f32, &Device::Cpu)?, Tensor::new(1u32, &Device::Cpu)?, 1));
        run.end_epoch(None)?;
        assert_eq!(shared.lock().history.epochs[0].train_loss, 1.0);
        Ok(())
    }
}
