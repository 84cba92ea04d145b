//! Sets up training: what is trained, for how long, and where the records go.

use candle_cnn::parameters::Parameters;
use candle_cnn::precision::{Precision, precision};
use candle_cnn::schedule::Schedule;
use candle_cnn::step_graph::{StepGraph, StepResult, plain_step};
use candle_core::Tensor;
use candle_nn::{ModuleT, Optimizer};
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;

use super::handle::{Body, Training};
use super::plan::Plan;
use super::resumption::choose;
use super::run::Run;
use crate::checkpoint::ResumableOptimizer;
use crate::device::{describe, kind};
use crate::error::Result;
use crate::evaluate::evaluate;
use crate::loader::DataLoader;
use crate::transform::Augment;

/// Sets up training of any network with any optimizer ([`Trainer::new`]), or with your own loop
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

/// What every training run has.
impl<L> Trainer<L> {
    fn with(loader: &DataLoader, training_loop: L) -> Self {
        let data = loader.dataset().name().to_string();
        let plan = Plan { data, ..Plan::new("training", 1, loader.len()) };
        Self { plan, loader: loader.clone(), training_loop }
    }

    /// The run's name in records, curves and error messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// The number of epochs.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.plan.epochs = epochs;
        self
    }

    /// Adds settings, a JSON object, to the record; a run with other ones is not resumed. Recorded automatically: number of images,
    /// batch size, augmentation, seed, device, and with the built-in loop the optimizer's initial learning rate.
    pub fn settings(mut self, settings: Value) -> Self {
        self.plan.settings = settings;
        self
    }

    /// Writes records into `folder`: `training.json` with the settings and how it ended, `epochs.jsonl` with a row for
    /// each epoch; [`RunRecords`](crate::run_records::RunRecords) reads them. Creating a file called `stop` there ends
    /// training after the current step.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.plan.folder = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Makes the run resumable: whatever ends it before its last epoch (an interrupt, a panic, a kernel restart, a
    /// power cut), running the same code again resumes it from the last checkpoint, with results bit-identical to those
    /// of an uninterrupted run. `parameters` are the network's.
    ///
    /// Checkpoints are written after each epoch, every two minutes, and when training is stopped; the last three are
    /// kept, as are the weights after the best epoch (`best.safetensors`). They go to [`folder`](Self::folder), or if
    /// none is given, to a new folder in `runs/` named after the run. `start` looks there for the last run with this
    /// name that can be resumed, and prints what it finds: a run that has finished or has other settings is left alone, and a
    /// new one is started; a run still in progress in this notebook is taken over, unless it trains another network. In a
    /// `folder`, a run that has finished isn't repeated: its weights and history are loaded. Changes to a loop, a loss or a
    /// schedule of your own, to the loader that tests, or to a network that keep its parameters' names and shapes, can't be
    /// detected: record them in [`settings`](Self::settings), or start over with [`fresh`](Self::fresh).
    pub fn resumable(mut self, parameters: &Parameters) -> Self {
        self.plan.parameters = Some(parameters.clone());
        self
    }

    /// Starts over even if there is a run to resume.
    pub fn fresh(mut self) -> Self {
        self.plan.fresh = true;
        self
    }
}

/// Chooses where to start, prints that, and starts training. `identity` is what must be the same to resume, besides what
/// every run has.
fn start(
    mut plan: Plan,
    loader: &DataLoader,
    learning_rate: Option<f64>,
    identity: Value,
    body: Body,
) -> Result<Training> {
    loader.check()?;
    note_settings(&mut plan, loader, learning_rate);
    if let Some(parameters) = &plan.parameters {
        plan.check()?;
        plan.identity = json!({
            "the order": if loader.config().shuffle { "shuffled" } else { "as stored" },
            "the normalization": loader.config().normalize.as_ref().map(|normalize| format!("{normalize:?}")),
            "the images' checksum": loader.dataset().checksum(),
            "the parameters' seed": parameters.seed(),
            "the device": kind(loader.device()),
            "batch_size": loader.config().batch_size,
            "augmentation": augmentation(&loader.config().augment),
            "seed": loader.config().seed,
        });
        if let (Value::Object(known), Value::Object(more)) = (&mut plan.identity, identity) {
            known.extend(more);
        }
        choose(&mut plan)?.iter().for_each(|words| println!("{words}"));
    }
    Training::start(plan, body)
}

/// Fills in the settings that are known; those set by the user take precedence.
fn note_settings(plan: &mut Plan, loader: &DataLoader, learning_rate: Option<f64>) {
    let config = loader.config();
    let mut settings = json!({
        "images": loader.dataset().len(),
        "batch_size": config.batch_size,
        "augmentation": augmentation(&config.augment),
        "seed": config.seed,
        "device": describe(loader.device()),
    });
    if let Some(learning_rate) = learning_rate {
        settings["learning_rate"] = json!(learning_rate);
    }
    if precision() != Precision::F32 {
        settings["precision"] = json!(precision().to_string());
    }
    match (&mut settings, std::mem::take(&mut plan.settings)) {
        (Value::Object(known), Value::Object(noted)) => known.extend(noted),
        (_, Value::Null) => {}
        (_, other) => settings["noted"] = other,
    }
    plan.settings = settings;
}

/// What a standard loop must have in common with the one that it resumes.
fn identity(optimizer: String, schedule: Option<String>) -> Value {
    json!({ "the optimizer": optimizer, "the schedule": schedule })
}

/// The augmentation as text for the record: `flip, crop 4`, or `none`.
fn augmentation(changes: &[Augment]) -> String {
    let words = changes.iter().map(|change| match change {
        Augment::Flip(flip) if flip.p == 0.5 => "flip".to_string(),
        Augment::Flip(flip) => format!("flip {}", flip.p),
        Augment::Crop(crop) => format!("crop {}", crop.padding),
        Augment::AlternatingFlip(_) => "alternating flip".to_string(),
        Augment::Translation(translation) => format!("translation {}", translation.pixels),
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

    /// Starts the loop on its own thread and returns immediately.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::error::Error::Setting) for zero epochs, a loader without batches, or a folder that
    /// another run is writing to; [`Error::File`](crate::error::Error::File) if the folder can't be written to.
    pub fn start(self) -> Result<Training> {
        start(self.plan, &self.loader, None, json!({}), Box::new(self.training_loop.0))
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
    /// The learning rate of step `step`, counted from 0 over all epochs.
    fn learning_rate(&self, step: usize) -> f64;

    /// In words, so that a run with another schedule is not resumed.
    fn describe(&self) -> String {
        "a schedule of one's own".into()
    }

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

    fn describe(&self) -> String {
        format!("{self:?}")
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
    /// Trains `network` with `optimizer` on `loader`'s batches, by default with cross entropy and the optimizer's own
    /// learning rate.
    pub fn new(network: N, optimizer: O, loader: &DataLoader) -> Self {
        let loss = Box::new(candle_cnn::ops::cross_entropy);
        Self::with(loader, StandardLoop { network, optimizer, test: None, loss, schedule: None, step: captured })
    }

    /// Evaluates on these images after each epoch.
    pub fn test(mut self, loader: &DataLoader) -> Self {
        self.training_loop.test = Some(loader.clone());
        self
    }

    /// A loss other than cross entropy: a scalar from logits `[N, classes]` and labels `[N]`.
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

    /// Whether to launch each step as one CUDA graph on a GPU (see [`StepGraph`]); the default is `true`. A network
    /// that can't be captured, such as one with dropout, trains without a graph. No effect on the CPU.
    ///
    /// Use `false` for a network that makes decisions on the host at each step: the graph would repeat those of the
    /// captured step.
    pub fn step_graph(mut self, on: bool) -> Self {
        self.training_loop.step = if on { captured } else { plain };
        self
    }

    /// Starts training on its own thread and returns immediately.
    ///
    /// # Errors
    /// Those of [`with_loop`](Trainer::with_loop)'s `start`, and candle's for a schedule that gives no rate.
    pub fn start(self) -> Result<Training> {
        let standard = &self.training_loop;
        if let Some(schedule) = &standard.schedule {
            schedule.check()?;
        }
        // Not after an epoch.
        if let Some(test) = &standard.test {
            test.check()?;
        }
        let learning_rate = standard.optimizer.learning_rate();
        let schedule = standard.schedule.as_ref().map(|schedule| schedule.describe());
        let identity = identity(standard.optimizer.settings(), schedule);
        let Self { plan, loader, training_loop } = self;
        let given = loader.clone();
        start(plan, &given, Some(learning_rate), identity, Box::new(move |run| training_loop.train(&loader, run)))
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
            for batch in run.batches(loader, epoch) {
                let batch = batch?;
                if let Some(schedule) = &schedule {
                    optimizer.set_learning_rate(schedule.learning_rate(run.steps_done()));
                }
                let StepResult { loss, correct } = step(&mut optimizer.inner(), &batch.images, &batch.labels)?;
                run.counted_step(&loss, correct, batch.indices.len())?;
            }
            run.end_epoch(test.as_ref().map(|loader| evaluate(&network, loader)).transpose()?.as_ref())?;
        }
        Ok(())
    }
}

/// The step without a graph.
fn plain<'a, O: Optimizer>(forward: Forward<'a>) -> Step<'a, O> {
    Box::new(move |optimizer, images, labels| plain_step(&forward, optimizer, images, labels))
}

/// The same step, launched as a CUDA graph on a GPU if the network allows it.
fn captured<'a, O: ResumableOptimizer>(forward: Forward<'a>) -> Step<'a, O> {
    let forward = Rc::new(forward);
    let shared = forward.clone();
    let mut graph = Some(StepGraph::new(move |images, labels| shared(images, labels)));
    Box::new(move |optimizer, images, labels| {
        if let Some(step) = &mut graph {
            match optimizer.step_by_graph(step, images, labels) {
                Ok(Some(result)) => return Ok(result),
                // For example, dropout draws on the host. The step has not run yet.
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
    use crate::error::{DatasetError, Error};
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
        // On the CPU, a graph step is the plain step.
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
        let sgd = || SGD::new(parameters.trainable(), SgdConfig { learning_rate: 1e37, ..SgdConfig::default() });
        let error = Trainer::new(network.clone(), sgd()?, &loader.batch_size(0)).start().map(drop);
        assert!(matches!(error, Err(Error::Dataset(DatasetError::BatchSize))), "{error:?}");
        let error = Trainer::new(network, sgd()?, &loader).start()?.wait().unwrap_err().to_string();
        assert!(error.contains("epoch 1, step 2, with learning rate 10000000"), "{error}");
        Ok(())
    }
}
