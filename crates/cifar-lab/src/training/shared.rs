//! What the training thread shares with its handles.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::place::{Place, Sums};
use super::plan::Plan;
use super::progress::{Progress, Status};
use crate::run_records::{History, RecordWriter};

/// The time estimate leaves out the first steps, which are slower: they allocate memory and start threads.
pub(super) const WARM_UP_STEPS: usize = 10;

/// The minimum time to base an estimate on, so that one busy moment does not dominate it.
const ESTIMATE_FROM: Duration = Duration::from_secs(3);

/// What the thread and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    state: Mutex<State>,
    /// Signaled whenever the state changes.
    changed: Condvar,
    /// `None` without a folder, or once training has ended.
    record: Mutex<Option<RecordWriter>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    pub(super) stop: bool,
    /// How many guards hold training between two steps.
    pub(super) pauses: usize,
    pub(super) epoch: usize,
    pub(super) step: usize,
    pub(super) history: History,
    /// The epoch and the step that failed, counted from 1.
    pub(super) failed_at: Option<(usize, usize)>,
    /// Why the last record and the last checkpoint could not be written, or the record not locked.
    pub(super) warnings: [Option<String>; 4],
    pub(super) started: Instant,
    /// Time spent paused.
    pub(super) paused: Duration,
    /// When training ended; time stops counting here.
    pub(super) ended: Option<Instant>,
    pub(super) epoch_started: Instant,
    /// Time spent in this epoch before the run was resumed.
    pub(super) epoch_time_before: Duration,
    /// The value of `paused` when the epoch started.
    pub(super) paused_before_epoch: Duration,
    /// Time spent in this epoch's steps, excluding evaluation and pauses.
    pub(super) stepping: Duration,
    /// The value of `stepping` after the first steps.
    pub(super) warm_up: Duration,
    pub(super) images: usize,
    pub(super) sums: Sums,
    pub(super) epoch_sums: Sums,
}

impl Shared {
    pub(super) fn new(plan: Plan, record: Option<RecordWriter>) -> Self {
        let now = Instant::now();
        let from = plan.from.clone();
        let state = State {
            status: Status::Running,
            stop: false,
            pauses: 0,
            epoch: from.epoch,
            step: from.step,
            history: History { data: plan.data.clone(), ..from.history },
            failed_at: None,
            warnings: [None, None, None, record.as_ref().and_then(RecordWriter::warning)],
            started: now,
            paused: Duration::ZERO,
            ended: None,
            epoch_started: now,
            epoch_time_before: from.in_epoch,
            paused_before_epoch: Duration::ZERO,
            stepping: from.stepping,
            warm_up: Duration::ZERO,
            images: from.images,
            sums: from.sums,
            epoch_sums: from.epoch_sums,
        };
        Self { plan, state: Mutex::new(state), changed: Condvar::new(), record: Mutex::new(record) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement, so a panic on one thread need not take down the others.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// Waits until the state changes, or for `at_most`.
    pub(super) fn wait<'a>(&'a self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, at_most) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// Whether its thread still runs.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.lock().status, Status::Running | Status::Paused)
    }

    /// Blocks while training is paused.
    pub(super) fn hold(&self, arrived: Instant) {
        let mut state = self.lock();
        if state.pauses > 0 && !state.stop {
            state.status = Status::Paused;
            self.changed();
            while state.pauses > 0 && !state.stop {
                state = self.wait(state, Duration::from_secs(1));
            }
            state.status = Status::Running;
            state.paused += arrived.elapsed();
        }
    }

    /// The current position, for a checkpoint.
    pub(super) fn place(&self) -> Place {
        let state = self.lock();
        let paused = state.paused.saturating_sub(state.paused_before_epoch);
        Place {
            epoch: state.epoch,
            step: state.step,
            steps: self.plan.steps,
            images: state.images,
            sums: state.sums,
            epoch_sums: state.epoch_sums,
            stepping: state.stepping,
            in_epoch: state.epoch_started.elapsed().saturating_sub(paused) + state.epoch_time_before,
            history: state.history.clone(),
        }
    }

    /// Stops training after the current step and waits until it has stopped; `false` if it hasn't by `deadline`.
    pub(super) fn stop(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        state.stop = true;
        self.changed();
        while matches!(state.status, Status::Running | Status::Paused) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left.min(Duration::from_secs(1)));
        }
        true
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Option<RecordWriter>> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Records how training ended; `failed_at` is the epoch and step that failed, if not the current ones.
    pub(super) fn end(&self, status: Status, failed_at: Option<(usize, usize)>) {
        if let Some(record) = self.record().take() {
            // A full disk at this point must not make a finished run fail.
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

    /// The current epoch and step, counted from 1. What comes after an epoch's last step, such as the evaluation,
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
        // Between two epochs, show the finished one rather than step 0 of the next, unless the next one failed.
        let failed_in = state.failed_at.map_or(done, |(epoch, _)| epoch);
        let between = state.step == 0 && !state.history.epochs.is_empty() && failed_in <= done;
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
            first_epoch: plan.from.epoch,
            warning: state.warnings.iter().flatten().next().cloned(),
            step,
            steps: plan.steps,
            loss: last.0,
            accuracy: last.1,
            // After an epoch's last step its own is still being measured; the one before would pass for it.
            test_accuracy: (between || step < plan.steps)
                .then(|| state.history.epochs.last().and_then(|row| row.test_accuracy))
                .flatten(),
            images_per_second: last.2,
            elapsed,
            left: self.left(state),
        }
    }

    /// The estimated time left, from whole epochs if there are any (they include evaluation), else from the steps.
    fn left(&self, state: &State) -> Option<Duration> {
        let epochs_left = self.plan.epochs.saturating_sub(state.epoch) as f64;
        let of_this_epoch = state.step as f64 / self.plan.steps as f64;
        let rows = &state.history.epochs;
        let seconds_per_epoch = if rows.is_empty() {
            let steps = state.step.checked_sub(WARM_UP_STEPS).filter(|steps| *steps > 0)?;
            let stepping = state.stepping.saturating_sub(state.warm_up);
            // A short epoch ends before that much time has passed; half of it is enough.
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
