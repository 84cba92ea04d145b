//! Sets up a training: what is trained, for how long, and where its records go.

use candle_cnn::parameters::Parameters;
use candle_cnn::precision::{Precision, precision};
use candle_cnn::schedule::Schedule;
use candle_cnn::step_graph::{StepGraph, StepResult, plain_step};
use candle_core::Tensor;
use candle_nn::{ModuleT, Optimizer};
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;

use super::handle::Training;
use super::plan::Plan;
use super::resumption::choose;
use super::run::Run;
use crate::checkpoint::ResumableOptimizer;
use crate::device::describe;
use crate::error::Result;
use crate::evaluate::evaluate;
use crate::loader::DataLoader;
use crate::transform::Augment;

/// Sets up a training: of any network with any optimizer ([`Trainer::new`]), or by a loop of your own
/// ([`Trainer::with_loop`]). One epoch by default.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let data = Cifar10::stand_in(0, 64, 32);
/// let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
/// let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
/// let parameters = Parameters::new(0);
/// let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
/// let sgd = SGD::new(parameters.trainable(), SgdConfig { momentum: 0.9, ..SgdConfig::default() })?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let training = Trainer::new(net, sgd, &train)
///     .name("small network")
///     .epochs(2)
///     .test(&test)
///     .loss(|logits, labels| cross_entropy_with_label_smoothing(logits, labels, 0.1))
///     .schedule(Schedule::one_cycle(0.1, 2 * train.len())?)
///     .settings(json!({ "momentum": 0.9 }))
///     .folder(folder)
///     .resumable(&parameters)
///     .start()?;
/// training.wait()?;
/// assert_eq!(training.history().epochs.len(), 2);
/// assert!(training.history().epochs[1].test_accuracy.is_some());
/// assert_eq!(RunRecord::read(folder)?.number("batch_size"), Some(32.0));
/// # Ok::<(), Error>(())
/// ```
pub struct Trainer<L> {
    plan: Plan,
    loader: DataLoader,
    training_loop: L,
}

/// What every training has.
impl<L> Trainer<L> {
    fn with(loader: &DataLoader, training_loop: L) -> Self {
        let data = loader.dataset().name().to_string();
        let plan = Plan { data, ..Plan::new("training", 1, loader.len()) };
        Self { plan, loader: loader.clone(), training_loop }
    }

    /// The training's name in records, curves and error messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// The number of epochs.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.plan.epochs = epochs;
        self
    }

    /// Adds settings to the record, a JSON object, for information only. Recorded automatically: images, batch
    /// size, random changes, seed, device, and the optimizer's first learning rate where the loop is not your own.
    pub fn settings(mut self, settings: Value) -> Self {
        self.plan.settings = settings;
        self
    }

    /// Writes records into `folder`: `training.json` with the settings and how it ended, `epochs.jsonl` with a row for
    /// each epoch; [`RunRecords`](crate::run_records::RunRecords) reads them. A file called `stop` put there ends the
    /// training after the step it is in.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.plan.folder = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Makes the training resumable: whatever ends it before its last epoch (an interrupt, a panic, a restarted kernel, a
    /// power cut), the same code goes on from its last checkpoint, with the results of an undisturbed training to the bit.
    /// `parameters` are the network's.
    ///
    /// Checkpoints are written after each epoch, every two minutes, and when it is stopped; the last three are kept, and
    /// the weights after the best epoch (`best.safetensors`). They are in [`folder`](Self::folder); where none is given,
    /// in a new folder of `runs/` called after the training. `start` looks there for the last training of this
    /// name and says what it found: one that is finished, or that has other settings, is left as it is, and a new one
    /// begins. One that is still running in this notebook is taken over. Changes in a loop, a loss or a schedule of your
    /// own can't be seen: note them in [`settings`](Self::settings), or begin anew with [`fresh`](Self::fresh).
    pub fn resumable(mut self, parameters: &Parameters) -> Self {
        self.plan.parameters = Some(parameters.clone());
        self
    }

    /// Begins anew, whatever there is to go on from.
    pub fn fresh(mut self) -> Self {
        self.plan.fresh = true;
        self
    }

    /// Chooses where it begins, says so, and starts it.
    fn start_with(
        mut self,
        optimizer: Option<(f64, String)>,
        body: impl FnOnce(L, DataLoader, &mut Run) -> Result<()> + Send + 'static,
    ) -> Result<Training>
    where
        L: Send + 'static,
    {
        self.note_settings(optimizer.as_ref().map(|(learning_rate, _)| *learning_rate));
        let Self { mut plan, loader, training_loop } = self;
        if plan.parameters.is_some() {
            plan.check()?;
            let settings = optimizer.as_ref().map(|(_, settings)| settings.as_str());
            choose(&mut plan, settings)?.iter().for_each(|words| println!("{words}"));
        }
        Training::start(plan, move |run| body(training_loop, loader, run))
    }

    /// What is known of the training, and over it what was noted.
    fn note_settings(&mut self, learning_rate: Option<f64>) {
        let config = self.loader.config();
        let mut settings = json!({
            "images": self.loader.dataset().len(),
            "batch_size": config.batch_size,
            "augmentation": augmentation(&config.augment),
            "seed": config.seed,
            "device": describe(self.loader.device()),
        });
        if let Some(learning_rate) = learning_rate {
            settings["learning_rate"] = json!(learning_rate);
        }
        if precision() != Precision::F32 {
            settings["precision"] = json!(precision().to_string());
        }
        match (&mut settings, std::mem::take(&mut self.plan.settings)) {
            (Value::Object(known), Value::Object(noted)) => known.extend(noted),
            (_, Value::Null) => {}
            (_, other) => settings["noted"] = other,
        }
        self.plan.settings = settings;
    }
}

/// Random changes as a record has them: `flip, crop 4`, or `none`.
fn augmentation(changes: &[Augment]) -> String {
    let words = changes.iter().map(|change| match change {
        Augment::Flip(flip) if flip.p == 0.5 => "flip".to_string(),
        Augment::Flip(flip) => format!("flip {}", flip.p),
        Augment::Crop(crop) => format!("crop {}", crop.padding),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".to_string() } else { words.join(", ") }
}

/// A custom loop.
pub struct OwnLoop<F>(F);

impl<F: FnOnce(&mut Run) -> Result<()> + Send + 'static> Trainer<OwnLoop<F>> {
    /// Trains with `body`, a loop over `loader`'s batches that reports each step and epoch to the [`Run`].
    pub fn with_loop(loader: &DataLoader, body: F) -> Self {
        Self::with(loader, OwnLoop(body))
    }

    /// Starts the loop on its own thread and returns at once.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::error::Error::Setting) for no epochs, a loader without batches, or a folder that
    /// another training writes into; [`Error::File`](crate::error::Error::File) where the folder cannot be written.
    pub fn start(self) -> Result<Training> {
        self.start_with(None, |body, _, run| body.0(run))
    }
}

/// Computes the loss from logits `[N, classes]` and labels `[N]`.
type Loss = dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync;

/// Computes loss and logits from a batch's images and labels.
type Forward<'a> = Box<dyn Fn(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)> + 'a>;

/// One step on a batch's images and labels.
type Step<'a, O> = Box<dyn FnMut(&mut O, &Tensor, &Tensor) -> candle_core::Result<StepResult> + 'a>;

/// The learning rate of each step: a [`Schedule`], or a closure that takes the number of steps done before it.
pub trait LearningRateSchedule: Send + 'static {
    /// The rate of step `step`, counted from 0 over all epochs.
    fn learning_rate(&self, step: usize) -> f64;

    /// Rejects invalid settings.
    ///
    /// # Errors
    /// Names the setting.
    fn check(&self) -> candle_core::Result<()> {
        Ok(())
    }
}

impl LearningRateSchedule for Schedule {
    fn learning_rate(&self, step: usize) -> f64 {
        Schedule::learning_rate(self, step)
    }

    fn check(&self) -> candle_core::Result<()> {
        Schedule::check(self)
    }
}

impl<F: Fn(usize) -> f64 + Send + 'static> LearningRateSchedule for F {
    fn learning_rate(&self, step: usize) -> f64 {
        self(step)
    }
}

/// The built-in loop: for each batch forward, loss, backward, step; after each epoch an optional evaluation.
pub struct StandardLoop<N, O> {
    network: N,
    optimizer: O,
    test: Option<DataLoader>,
    loss: Box<Loss>,
    schedule: Option<Box<dyn LearningRateSchedule>>,
    step: for<'a> fn(Forward<'a>) -> Step<'a, O>,
}

impl<N: ModuleT + Send + 'static, O: ResumableOptimizer + Send + 'static> Trainer<StandardLoop<N, O>> {
    /// Trains `network` with `optimizer` on `loader`'s batches, with cross entropy and the optimizer's own learning
    /// rate unless said otherwise.
    pub fn new(network: N, optimizer: O, loader: &DataLoader) -> Self {
        let loss = Box::new(candle_cnn::ops::cross_entropy);
        Self::with(loader, StandardLoop { network, optimizer, test: None, loss, schedule: None, step: captured })
    }

    /// Evaluates on these images after each epoch.
    pub fn test(mut self, loader: &DataLoader) -> Self {
        self.training_loop.test = Some(loader.clone());
        self
    }

    /// A loss other than cross-entropy: a scalar from logits `[N, classes]` and labels `[N]`.
    pub fn loss(
        mut self,
        loss: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        self.training_loop.loss = Box::new(loss);
        self
    }

    /// The learning rate of each step: a [`Schedule`], or a closure such as `|step| if step < 500 { 0.1 } else { 0.01
    /// }`.
    pub fn schedule(mut self, schedule: impl LearningRateSchedule) -> Self {
        self.training_loop.schedule = Some(Box::new(schedule));
        self
    }

    /// Whether each step is launched as one CUDA graph on a GPU (see [`StepGraph`]); it is, unless said otherwise. A
    /// network that can't be captured, one with dropout for example, trains without. On the CPU nothing changes.
    ///
    /// Use `false` for a network that makes decisions on the host at each step: the graph repeats those of the captured
    /// step.
    pub fn step_graph(mut self, on: bool) -> Self {
        self.training_loop.step = if on { captured } else { plain };
        self
    }

    /// Starts the training on its own thread and returns at once.
    ///
    /// # Errors
    /// Those of [`with_loop`](Trainer::with_loop)'s `start`, and candle's for a schedule that gives no rate.
    pub fn start(self) -> Result<Training> {
        let standard = &self.training_loop;
        if let Some(schedule) = &standard.schedule {
            schedule.check()?;
        }
        let optimizer = (standard.optimizer.learning_rate(), standard.optimizer.settings());
        self.start_with(Some(optimizer), |standard, loader, run| standard.train(&loader, run))
    }
}

impl<N: ModuleT, O: ResumableOptimizer + 'static> StandardLoop<N, O> {
    fn train(self, loader: &DataLoader, run: &mut Run) -> Result<()> {
        let Self { network, optimizer, test, loss, schedule, step } = self;
        let mut optimizer = run.resume(optimizer)?;
        let mut step = step(Box::new(|images, labels| {
            let logits = network.forward_t(images, true)?;
            Ok((loss(&logits, labels)?, logits))
        }));
        for epoch in run.epochs() {
            for (batch, number) in run.batches(loader, epoch).zip(run.step_numbers(epoch)) {
                let batch = batch?;
                if let Some(schedule) = &schedule {
                    optimizer.set_learning_rate(schedule.learning_rate(number));
                }
                let StepResult { loss, correct } = step(&mut optimizer.inner(), &batch.images, &batch.labels)?;
                run.counted_step(&loss, correct, batch.indices.len())?;
            }
            run.end_epoch(test.as_ref().map(|loader| evaluate(&network, loader)).transpose()?.as_ref())?;
        }
        Ok(())
    }
}

/// The step as a loop does it.
fn plain<'a, O: Optimizer>(forward: Forward<'a>) -> Step<'a, O> {
    Box::new(move |optimizer, images, labels| plain_step(&forward, optimizer, images, labels))
}

/// The same, on a GPU as a CUDA graph where the network allows it.
fn captured<'a, O: ResumableOptimizer>(forward: Forward<'a>) -> Step<'a, O> {
    let forward = Rc::new(forward);
    let shared = forward.clone();
    let mut graph = Some(StepGraph::new(move |images, labels| shared(images, labels)));
    Box::new(move |optimizer, images, labels| {
        if let Some(step) = &mut graph {
            match optimizer.step_by_graph(step, images, labels) {
                Ok(Some(result)) => return Ok(result),
                // For example dropout, which draws on the host. The step has not been done yet.
                Ok(None) => graph = None,
                Err(_) if step.is_refused() => graph = None,
                Err(error) => return Err(error),
            }
        }
        plain_step(&*forward, optimizer, images, labels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use crate::error::Error;
    use crate::model::{Net, NetConfig};
    use crate::training::Status;
    use crate::transform::{RandomCrop, RandomHorizontalFlip};
    use candle_cnn::optim::{SGD, SgdConfig};
    use candle_core::Device;
    use candle_nn::Optimizer;

    /// Trains for two epochs; returns losses and the last bias.
    fn train(by_graph: bool) -> Result<(Vec<f64>, Vec<f32>)> {
        let data = Cifar10::stand_in(3, 50, 10);
        let parameters = Parameters::new(3);
        let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
        let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        let settings = SgdConfig { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, ..SgdConfig::default() };
        let loader = DataLoader::new(&data.train, &Device::Cpu)
            .batch_size(16)
            .shuffle(3)
            .augment(RandomHorizontalFlip { p: 0.5 })
            .augment(RandomCrop { padding: 2 });
        let trainer = Trainer::new(net, SGD::new(parameters.trainable(), settings)?, &loader).epochs(2);
        let training = trainer.step_graph(by_graph).start()?;
        training.wait()?;
        assert_eq!(training.progress().status, Status::Finished);
        let losses = training.history().epochs.iter().map(|row| row.train_loss).collect();
        Ok((losses, parameters.state_dict()?["fc2.bias"].to_vec1()?))
    }

    #[test]
    fn a_record_names_random_changes() {
        let changes = [RandomHorizontalFlip { p: 0.5 }.into(), RandomCrop { padding: 4 }.into()];
        assert_eq!(augmentation(&changes), "flip, crop 4");
        assert_eq!((augmentation(&changes[..0]), augmentation(&changes[1..])), ("none".into(), "crop 4".into()));
    }

    #[test]
    fn the_same_seed_gives_the_same_bits() -> Result<()> {
        assert_eq!(train(false)?, train(false)?);
        // On the CPU a step by a graph is the plain one.
        assert_eq!(train(true)?, train(false)?);
        Ok(())
    }

    #[test]
    fn the_learning_rate_is_a_schedule_s_or_a_closure_s() -> Result<()> {
        type Network = Trainer<StandardLoop<Net, SGD>>;
        let rates = |schedule: &dyn Fn(Network) -> Network| {
            let loader = DataLoader::new(&Cifar10::stand_in(0, 8, 0).train, &Device::Cpu);
            let parameters = Parameters::new(0);
            let config = NetConfig { channels: vec![4], dense: vec![], ..NetConfig::default() };
            let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
            let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
            let training = schedule(Trainer::new(net, sgd, &loader).epochs(3)).start()?;
            training.wait()?;
            Ok(training.history().epochs.iter().filter_map(|row| row.learning_rate).collect::<Vec<f64>>())
        };
        let halved = |every| Schedule::Step { initial: 0.5, every, gamma: 0.5 };
        let by_schedule = rates(&|trainer| trainer.schedule(halved(1)))?;
        let by_closure = rates(&|trainer| trainer.schedule(|step| 0.5 / (1 << step) as f64))?;
        assert_eq!((by_schedule, by_closure), (vec![0.5, 0.25, 0.125], vec![0.5, 0.25, 0.125]));
        let refused: Error = rates(&|trainer| trainer.schedule(halved(0))).unwrap_err();
        assert!(refused.to_string().contains("every"), "{refused}");
        Ok(())
    }

    #[test]
    fn a_training_that_diverges_says_where_and_with_which_learning_rate() -> Result<()> {
        let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 0).train, &Device::Cpu).batch_size(16);
        let parameters = Parameters::new(0);
        let head = candle_cnn::layers::linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu).pp("head"))?;
        let network = candle_cnn::layers::Sequential::new().add(candle_cnn::layers::Flatten).add(head);
        let sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 1e37, ..SgdConfig::default() })?;
        let error = Trainer::new(network, sgd, &loader).start()?.wait().unwrap_err().to_string();
        assert!(error.contains("epoch 1, step 2, with learning rate 10000000"), "{error}");
        Ok(())
    }
}
