//! The notebook's handle to a training run.

use candle_cnn::memory;
use candle_nn::ModuleT;
use notebook_charts::numbers::duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::progress::{Progress, Status, epochs_text};
use super::resumption::register;
use super::run::Run;
use super::shared::Shared;
use crate::device::finish_work;
use crate::error::{Error, Result, panic_message};
use crate::evaluate::{Evaluation, evaluate};
use crate::interrupt;
use crate::loader::DataLoader;
use crate::run_records::History;

/// How often [`Training::follow`] tells a line during an epoch.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// How often it looks whether it is to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The shortest time between two redrawn pictures of a training.
const LEAST_REDRAW_INTERVAL: Duration = Duration::from_millis(300);

/// What a training's thread runs.
pub(super) type Body = Box<dyn FnOnce(&mut Run) -> Result<()> + Send>;

/// Who follows a training.
pub(crate) trait Audience {
    /// A line to keep: of an epoch that has ended, every 15 seconds during one, of the end, and warnings.
    fn line(&mut self, line: &str);

    /// The progress after these lines, unless one was shown just before, and [`interval`](Self::interval) after the last one;
    /// always at the end.
    fn look(&mut self, _progress: &Progress) {}

    /// How soon to look again; `None` if not before the next line.
    fn interval(&self, _progress: &Progress) -> Option<Duration> {
        None
    }
}

/// A training run on its own thread, in progress or ended; [`Trainer`](super::Trainer) starts it. A clone is another
/// handle to the same run; dropping all handles does not stop it.
///
/// ```
/// use cifar_lab::{prelude::*, training::Status};
///
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 8, 10).train, &Device::Cpu);
/// let parameters = Parameters::new(0);
/// let config = NetConfig { channels: vec![2], dense: vec![], ..NetConfig::default() };
/// let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
/// let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// let training = Trainer::new(net.clone(), sgd, &loader).epochs(1_000_000).start()?;
/// training.watch(0.1)?; // Prints progress for 0.1 s; training continues.
/// {
///     let paused = training.pause();
///     assert_eq!(paused.progress().status, Status::Paused);
/// } // Training resumes here.
/// println!("{}", training.evaluate(&net, &loader)?);
/// assert_eq!(training.stop().status, Status::Stopped);
/// training.wait()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Training {
    shared: Arc<Shared>,
}

impl Training {
    /// Runs `body`, the training loop, on its own thread and returns immediately.
    pub(super) fn start(plan: Plan, body: impl FnOnce(&mut Run) -> Result<()> + Send + 'static) -> Result<Self> {
        Self::start_any(plan, Box::new(body))
    }

    /// Not generic: a cell would compile it for its network.
    fn start_any(mut plan: Plan, body: Body) -> Result<Self> {
        // A cell that trains one after another, and whose `wait` was interrupted, must not start the next.
        if interrupt::is_requested() {
            return Err(Error::Interrupted(format!("training {:?} was not started", plan.name)));
        }
        let record = plan.start()?;
        let checkpoint = plan.checkpoint.take();
        let shared = Arc::new(Shared::new(plan, record));
        register(&shared);
        let training = Self { shared: shared.clone() };
        // The body uses what this thread has created, such as the network's parameters.
        finish_work();
        let on_thread = move || {
            let mut run = Run::new(shared.clone(), checkpoint);
            // Otherwise a panic on this thread would leave every handle waiting forever.
            let ended = catch_unwind(AssertUnwindSafe(|| body(&mut run)));
            // On a GPU, losses are read some steps late, so the error's own step is the right one.
            let failed_at = match &ended {
                Ok(Err(Error::LossNotFinite { epoch, step, .. })) => Some((*epoch, *step)),
                _ => None,
            };
            let status = match ended {
                Ok(Ok(())) => Status::Finished,
                Ok(Err(Error::Stopped)) => Status::Stopped,
                Ok(Err(error)) => Status::Failed(error.to_string()),
                Err(panic) => Status::Failed(format!("panicked: {}", panic_message(&*panic))),
            };
            // From here on, other threads may read the parameters.
            finish_work();
            drop(run);
            memory::return_freed();
            shared.end(status, failed_at);
        };
        let thread = std::thread::Builder::new().name("training".into());
        thread.spawn(on_thread).map_err(|source| Error::Setting {
            name: "thread",
            value: "training".into(),
            reason: format!("the system can't start another thread: {source}"),
        })?;
        Ok(training)
    }

    /// The current progress; as a cell's last expression, it shows one line.
    pub fn progress(&self) -> Progress {
        self.shared.progress(&self.shared.lock())
    }

    /// Everything recorded so far.
    pub fn history(&self) -> History {
        self.shared.lock().history.clone()
    }

    /// Stops training after the current step and waits until it has stopped; the network keeps what it has learned.
    /// Does nothing if training has already ended. If the cell is interrupted meanwhile, it stops later.
    pub fn stop(&self) -> Progress {
        while !self.shared.stop(Instant::now() + LOOK_INTERVAL) && !interrupt::is_requested() {}
        self.progress()
    }

    /// The folder with the run's records and checkpoints.
    ///
    /// # Errors
    /// [`Error::Setting`] if it has none.
    pub fn folder(&self) -> Result<PathBuf> {
        self.shared.plan.folder.clone().ok_or_else(|| Error::Setting {
            name: "folder",
            value: "none".into(),
            reason: "this training run keeps no records; add .folder(…) or .resumable(…) before starting it".into(),
        })
    }

    /// Tells `audience` how training goes on until it ends, or until `until`.
    pub(crate) fn follow(&self, until: Option<Instant>, audience: &mut dyn Audience) -> Result<()> {
        let mut state = self.shared.lock();
        let mut epochs_told = state.history.epochs.len();
        let mut last_line = Instant::now();
        let mut last_look: Option<Instant> = None;
        let mut estimated = epochs_told > 0;
        let mut warning = None;
        loop {
            let progress = self.shared.progress(&state);
            let ended = !matches!(progress.status, Status::Running | Status::Paused);
            let epoch_ended = state.history.epochs.len() > epochs_told;
            epochs_told = state.history.epochs.len();
            let over = until.is_some_and(|until| Instant::now() >= until);
            let failed_at = state.failed_at;
            // Printing may block on the notebook's pipe, and training must not wait for that.
            drop(state);
            // After the last epoch there is nothing left to estimate.
            if !estimated && let Some(left) = progress.left.filter(|left| !left.is_zero()) {
                estimated = true;
                audience.line(&format!(
                    "about {} for {} on this machine",
                    duration(left),
                    epochs_text(progress.epochs.saturating_sub(progress.first_epoch))
                ));
            }
            // The last epoch's line comes before the final one, even if both are due at once.
            if epoch_ended && ended {
                audience.line(&Progress { status: Status::Running, left: None, ..progress.clone() }.to_string());
            }
            if progress.warning != warning {
                warning = progress.warning.clone();
                warning.iter().for_each(|warning| audience.line(&format!("warning: {warning}")));
            }
            if ended || epoch_ended || over || last_line.elapsed() >= LINE_INTERVAL {
                audience.line(&progress.to_string());
                last_line = Instant::now();
            }
            // Epochs may be shorter than a look.
            if ended || over || last_look.is_none_or(|last| last.elapsed() >= LEAST_REDRAW_INTERVAL) {
                audience.look(&progress);
                last_look = Some(Instant::now());
            }
            if let Status::Failed(message) = progress.status {
                let (epoch, step) = failed_at.unwrap_or((progress.epoch, progress.step));
                let name = self.shared.plan.name.clone();
                return Err(Error::Training { name, epoch, step, message });
            }
            if ended || over {
                return Ok(());
            }
            if interrupt::is_requested() {
                return Err(self.interrupted());
            }
            let next = until.map_or(LINE_INTERVAL, |until| until.saturating_duration_since(Instant::now()));
            let next = next.min(LINE_INTERVAL.saturating_sub(last_line.elapsed()));
            let deadline = Instant::now() + audience.interval(&progress).map_or(next, |interval| next.min(interval));
            state = self.shared.lock();
            // The state changes at every step; only the end of an epoch or of training, or the deadline, matters here.
            while Instant::now() < deadline
                && matches!(state.status, Status::Running | Status::Paused)
                && state.history.epochs.len() == epochs_told
                && (estimated || self.shared.progress(&state).left.is_none())
            {
                if interrupt::is_requested() {
                    return Err(self.interrupted());
                }
                let rest = deadline.saturating_duration_since(Instant::now());
                state = self.shared.wait(state, rest.min(LOOK_INTERVAL));
            }
        }
    }

    fn interrupted(&self) -> Error {
        let name = &self.shared.plan.name;
        Error::Interrupted(format!("training {name:?} goes on; `wait` follows it again, and `stop` ends it"))
    }

    /// Pauses training between two steps until the guard is dropped. Meanwhile, the network's parameters are consistent
    /// and can be read. Training that has ended is not paused, nor is one whose loop has not come to its next step when the
    /// cell is interrupted; the guard's progress says so.
    pub fn pause(&self) -> Paused {
        let mut state = self.shared.lock();
        state.pauses += 1;
        self.shared.changed();
        while state.status == Status::Running && !interrupt::is_requested() {
            state = self.shared.wait(state, LOOK_INTERVAL);
        }
        let progress = self.shared.progress(&state);
        Paused { shared: self.shared.clone(), progress }
    }

    /// Evaluates `network` on `loader`'s images, pausing training if it is running. A printed line says at which step
    /// the numbers were taken.
    ///
    /// # Errors
    /// As [`evaluate`], and [`Error::Interrupted`] if the cell is interrupted before training pauses.
    pub fn evaluate(&self, network: &impl ModuleT, loader: &DataLoader) -> Result<Evaluation> {
        let paused = self.pause();
        let progress = paused.progress();
        match progress.status {
            Status::Paused => println!(
                "evaluated in the middle of a training: epoch {}/{}, after step {}/{}",
                progress.epoch, progress.epochs, progress.step, progress.steps
            ),
            Status::Finished => println!("evaluated after training for {}", progress.epochs_done()),
            Status::Running => {
                return Err(Error::Interrupted("the training goes on, and nothing was evaluated".into()));
            }
            _ => println!("evaluated after training ended early: {progress}"),
        }
        evaluate(network, loader)
    }
}

/// Holds training paused between two steps; it resumes when this guard is dropped.
#[derive(Debug)]
pub struct Paused {
    shared: Arc<Shared>,
    progress: Progress,
}

impl Paused {
    /// Where training was paused.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // On a GPU, what was read of the parameters must have been read before they change.
        finish_work();
        self.shared.lock().pauses -= 1;
        self.shared.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::super::resumption::choose;
    use super::*;
    use crate::dataset::Cifar10;
    use crate::run_records::{RecordLock, RunRecord, RunState};
    use candle_cnn::optim::{SGD, SgdConfig};
    use candle_cnn::parameters::Parameters;
    use candle_core::{Device, Tensor};
    use candle_nn::Optimizer;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn report(run: &mut Run, loss: f32) -> Result<()> {
        let logits = Tensor::new(&[[0.1f32, 0.9], [0.8, 0.2]], &Device::Cpu)?;
        let labels = Tensor::new(&[1u32, 1], &Device::Cpu)?;
        run.step(&Tensor::new(loss, &Device::Cpu)?, &logits, &labels)
    }

    fn endless(steps: usize) -> Result<Training> {
        Training::start(Plan::new("endless", 1_000, steps), move |run| {
            for _ in run.epochs() {
                for _ in 0..steps {
                    std::thread::sleep(Duration::from_millis(1));
                    report(run, 0.5)?;
                }
                run.end_epoch(None)?;
            }
            Ok(())
        })
    }

    #[test]
    fn figures_are_means_over_the_epoch() -> Result<()> {
        let training = Training::start(Plan::new("means", 1, 4), |run| {
            for loss in [1.0, 2.0, 3.0, 4.0] {
                report(run, loss)?;
            }
            run.end_epoch(None)
        })?;
        training.wait()?;
        let row = training.history().epochs[0];
        assert_eq!((row.epoch, row.train_loss, row.train_accuracy), (1, 2.5, 0.5));
        assert!(row.images_per_second > 0.0);
        Ok(())
    }

    #[test]
    fn a_training_is_stopped_from_outside() -> Result<()> {
        let training = endless(10)?;
        training.watch(0.05)?;
        assert!(training.watch(f64::MAX).is_err() && training.watch(-1.0).is_err());
        assert_eq!(training.stop().status, Status::Stopped);
        let steps = training.progress().step;
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(training.progress().step, steps);
        // Longer than a clock can tell.
        training.watch(1e19)
    }

    #[test]
    fn a_stop_file_stops_it() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|source| Error::File {
            action: "writing",
            path: "a temporary folder".into(),
            source,
        })?;
        let plan = Plan { folder: Some(folder.path().into()), ..Plan::new("stop file", 1_000_000, 10) };
        let training = Training::start(plan, |run| {
            loop {
                std::thread::sleep(Duration::from_millis(5));
                report(run, 0.5)?;
            }
        })?;
        std::fs::write(folder.path().join("stop"), "").unwrap();
        training.wait()?;
        assert_eq!(training.progress().status, Status::Stopped);
        Ok(())
    }

    #[test]
    fn a_paused_training_makes_no_step_and_goes_on_after() -> Result<()> {
        let steps = Arc::new(AtomicUsize::new(0));
        let counter = steps.clone();
        let training = Training::start(Plan::new("pause", 1, 100_000), move |run| {
            loop {
                counter.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                report(run, 0.5)?;
            }
        })?;
        {
            let paused = training.pause();
            assert_eq!(paused.progress().status, Status::Paused);
            let held = steps.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!(steps.load(Ordering::SeqCst), held);
        }
        let held = steps.load(Ordering::SeqCst);
        let waited = Instant::now();
        while steps.load(Ordering::SeqCst) == held {
            assert!(waited.elapsed() < Duration::from_secs(10), "the training did not go on");
            std::thread::sleep(Duration::from_millis(1));
        }
        training.stop();
        Ok(())
    }

    #[test]
    fn a_stop_after_the_last_step_finds_it_finished() -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let training = Training::start(Plan::new("last", 1, 1), move |run| {
            report(run, 0.5)?;
            sender.send(()).expect("a receiver");
            // As an evaluation takes, long enough to be asked to stop.
            std::thread::sleep(Duration::from_millis(50));
            run.end_epoch(None)
        })?;
        receiver.recv().expect("a sender");
        assert_eq!(training.stop().status, Status::Finished);
        Ok(())
    }

    #[test]
    fn failures_and_panics_reach_the_one_who_waits() -> Result<()> {
        let failing = Training::start(Plan::new("nan", 1, 9), |run| report(run, f32::NAN))?;
        let message = failing.wait().unwrap_err().to_string();
        assert!(message.contains("NaN") && message.contains("learning rate"), "{message}");
        let panicking = Training::start(Plan::new("panic", 1, 9), |_| panic!("out of {}", "cheese"))?;
        let message = panicking.wait().unwrap_err().to_string();
        assert!(message.contains("panicked: out of cheese"), "{message}");
        Ok(())
    }

    /// The place of a run that resumes after `epoch` epochs.
    fn after(epoch: usize) -> Place {
        Place { epoch, ..Place::default() }
    }

    /// The epoch and step at which `body` fails, as `wait` reports them.
    fn failed_at(plan: Plan, body: impl FnOnce(&mut Run) -> Result<()> + Send + 'static) -> Result<(usize, usize)> {
        match Training::start(plan, body)?.wait() {
            Err(Error::Training { epoch, step, .. }) => Ok((epoch, step)),
            other => panic!("{other:?}"),
        }
    }

    /// An error such as a loss function, a loader or an evaluation may return.
    fn broken() -> Result<()> {
        Err(Error::Candle(candle_core::Error::Msg("the loss is broken".into())))
    }

    #[test]
    fn a_failure_names_its_epoch_and_step_counted_from_1() -> Result<()> {
        // Step `number`, counted from 0 over all epochs, fails: before it is reported, or through its loss.
        let failing = |number: usize, first_epoch: usize, in_loss: bool| {
            failed_at(Plan { from: after(first_epoch), ..Plan::new("failing", 5, 3) }, move |run| {
                let mut steps = 0..;
                for _ in run.epochs() {
                    for _ in 0..3 {
                        match steps.next() == Some(number) {
                            true if in_loss => report(run, f32::NAN)?,
                            true => broken()?,
                            false => report(run, 0.5)?,
                        }
                    }
                    run.end_epoch(None)?;
                }
                Ok(())
            })
        };
        for in_loss in [false, true] {
            assert_eq!(failing(0, 0, in_loss)?, (1, 1), "the first step");
            assert_eq!(failing(1, 0, in_loss)?, (1, 2), "the second");
            assert_eq!(failing(2, 0, in_loss)?, (1, 3), "the last of an epoch");
            assert_eq!(failing(3, 0, in_loss)?, (2, 1), "the first of the second epoch");
            assert_eq!(failing(14, 0, in_loss)?, (5, 3), "the last of all");
            assert_eq!(failing(0, 2, in_loss)?, (3, 1), "the first after resuming");
            assert_eq!(failing(3, 2, in_loss)?, (4, 1), "the first of the second epoch after resuming");
        }
        Ok(())
    }

    #[test]
    fn what_fails_after_an_epoch_s_last_step_belongs_to_it() -> Result<()> {
        let evaluation = |run: &mut Run| {
            report(run, 0.5)?;
            report(run, 0.5)?;
            broken()
        };
        assert_eq!(failed_at(Plan::new("evaluation", 3, 2), evaluation)?, (1, 2));
        let after_all = |run: &mut Run| {
            report(run, 0.5)?;
            run.end_epoch(None)?;
            broken()
        };
        assert_eq!(failed_at(Plan::new("after all", 1, 1), after_all)?, (1, 1));
        Ok(())
    }

    #[test]
    fn progress_of_a_failed_training_is_of_the_epoch_that_failed() -> Result<()> {
        let training = Training::start(Plan::new("failing", 3, 1), |run| {
            report(run, 0.5)?;
            run.end_epoch(None)?;
            broken()
        })?;
        training.wait().unwrap_err();
        let progress = training.progress();
        assert_eq!((progress.epoch, progress.step), (2, 0));
        assert_eq!(progress.to_string(), "failed at epoch  2/3: the loss is broken");
        Ok(())
    }

    #[test]
    fn a_resumed_training_counts_its_own_epochs() -> Result<()> {
        let training = Training::start(Plan { from: after(3), ..Plan::new("resumed", 5, 1) }, |run| {
            for _ in run.epochs() {
                report(run, 0.5)?;
                run.end_epoch(None)?;
            }
            Ok(())
        })?;
        training.wait()?;
        assert_eq!(training.progress().to_string(), "finished: 5 epochs, the last 2 in 0 s");
        let rows: Vec<usize> = training.history().epochs.iter().map(|row| row.epoch).collect();
        assert_eq!(rows, [4, 5]);
        Ok(())
    }

    #[test]
    fn an_epoch_without_a_step_leaves_a_record_that_reads() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { folder: Some(folder.path().into()), ..Plan::new("none", 2, 1) };
        let training = Training::start(plan, |run| {
            run.end_epoch(None)?;
            report(run, 0.5)?;
            run.end_epoch(None)
        })?;
        training.wait()?;
        let rows = RunRecord::read(folder.path())?.rows;
        assert!(rows[0].train_loss.is_nan(), "{rows:?}");
        assert_eq!((rows.len(), rows[1].train_loss), (2, 0.5));
        Ok(())
    }

    #[test]
    fn without_locks_a_training_goes_on_with_a_warning() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let lock = RecordLock::take_without_locks(folder.path())?;
        let plan = Plan { folder: Some(folder.path().into()), lock, ..Plan::new("unlocked", 1, 1) };
        let training = Training::start(plan, |run| {
            report(run, 0.5)?;
            run.end_epoch(None)
        })?;
        training.wait()?;
        let warning = training.progress().warning.expect("a warning");
        assert!(warning.contains("epochs.jsonl") && warning.contains("don't start it twice"), "{warning}");
        assert_eq!(RunRecord::read(folder.path())?.rows.len(), 1);
        Ok(())
    }

    #[test]
    fn without_locks_a_run_of_this_process_is_still_taken_over() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let loader = DataLoader::new(&Cifar10::stand_in(0, 8, 0).train, &Device::Cpu).batch_size(4);
        let plan = || Plan {
            folder: Some(folder.path().into()),
            parameters: Some(Parameters::new(0)),
            identity: serde_json::json!({ "seed": 0 }),
            ..Plan::new("unlocked", 1_000_000, loader.len())
        };
        let batches = loader.clone();
        let unlocked = Plan { lock: RecordLock::take_without_locks(folder.path())?, ..plan() };
        let first = Training::start(unlocked, move |run| {
            run.resume(SGD::new(Vec::new(), SgdConfig::default())?)?;
            for epoch in run.epochs() {
                for _ in run.batches(&batches, epoch) {
                    report(run, 0.5)?;
                }
                run.end_epoch(None)?;
            }
            Ok(())
        })?;
        first.watch(0.05)?;
        assert_eq!(RunRecord::read(folder.path())?.state, RunState::Died, "so it looks");
        let messages = choose(&mut plan())?;
        assert_eq!(first.progress().status, Status::Stopped);
        assert!(messages.iter().any(|words| words.starts_with("resuming ")), "{messages:?}");
        Ok(())
    }

    #[test]
    fn plans_that_cannot_be_are_errors() {
        let refused = |epochs, steps| Training::start(Plan::new("none", epochs, steps), |_| Ok(())).unwrap_err();
        assert_eq!(refused(0, 5).to_string(), "epochs = 0 is not possible: a training needs at least 1");
        assert!(refused(5, 0).to_string().starts_with("steps = 0 is not possible"));
    }
}
