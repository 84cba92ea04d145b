//! The loop, ready made.

use candle_cnn::parameters::Parameters;
use candle_cnn::precision::{Precision, precision};
use candle_cnn::step_graph::{StepGraph, StepResult, plain_step};
use candle_core::Tensor;
use candle_nn::{ModuleT, Optimizer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::handle::Training;
use super::run::{Plan, Run};
use crate::checkpoint::{ResumableOptimizer, load_checkpoint, save_checkpoint};
use crate::device::describe;
use crate::error::Result;
use crate::evaluate::evaluate;
use crate::loader::DataLoader;

/// Computes the loss from logits `[N, classes]` and labels `[N]`.
type Loss = dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync;

/// Gives the learning rate from the steps done so far.
type Schedule = dyn Fn(usize) -> f64 + Send + Sync;

/// Computes loss and logits from a batch's images and labels.
type Forward<'a> = Box<dyn Fn(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)> + 'a>;

/// One step on a batch's images and labels.
type Step<'a, O> = Box<dyn FnMut(&mut O, &Tensor, &Tensor) -> candle_core::Result<StepResult> + 'a>;

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
                // As with dropout, which draws on the host. Then the step is still to be done.
                Ok(None) => graph = None,
                Err(_) if step.is_refused() => graph = None,
                Err(error) => return Err(error),
            }
        }
        plain_step(&*forward, optimizer, images, labels)
    })
}

/// Trains any network with any optimiser: for each batch forward, loss, backward, step; after each epoch an
/// evaluation on the test images, if a loader for them was given.
///
/// ```
/// use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
/// use candle_core::Device;
/// use candle_nn::Optimizer;
/// use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
///
/// let data = Cifar10::stand_in(0, 64, 32);
/// let parameters = Parameters::new(0);
/// let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
/// let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
/// let sgd = SGD::new(parameters.trainable(), SgdConfig { learning_rate: 0.01, ..SgdConfig::default() })?;
/// let training = Trainer::new(net, sgd, DataLoader::new(&data.train, &Device::Cpu).shuffle(0))
///     .epochs(2)
///     .test(DataLoader::new(&data.test, &Device::Cpu))
///     .start()?;
/// training.wait()?;
/// assert_eq!(training.history().epochs.len(), 2);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
pub struct Trainer<N, O> {
    network: N,
    optimizer: O,
    loader: DataLoader,
    test: Option<DataLoader>,
    loss: Arc<Loss>,
    schedule: Option<Arc<Schedule>>,
    step: for<'a> fn(Forward<'a>) -> Step<'a, O>,
    epochs: usize,
    name: String,
    settings: Value,
    folder: Option<PathBuf>,
    weights: Option<Parameters>,
    checkpoint: Option<(PathBuf, Parameters)>,
}

impl<N: ModuleT + Send + 'static, O: ResumableOptimizer + Send + 'static> Trainer<N, O> {
    /// Trains `network` with `optimizer` on `loader`'s batches: one epoch, cross entropy, the optimiser's own learning
    /// rate, unless said otherwise.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// Trainer::new(net, sgd, train).start()?.wait()?;
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn new(network: N, optimizer: O, loader: DataLoader) -> Self {
        let loss: Arc<Loss> = Arc::new(candle_cnn::ops::cross_entropy);
        Self {
            network,
            optimizer,
            loader,
            test: None,
            loss,
            schedule: None,
            step: captured,
            epochs: 1,
            name: "training".to_string(),
            settings: Value::Null,
            folder: None,
            weights: None,
            checkpoint: None,
        }
    }

    /// How often the data set is gone through.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let training = Trainer::new(net, sgd, train).epochs(2).start()?;
    /// training.wait()?;
    /// assert_eq!(training.history().epochs.len(), 2);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Evaluates on these images after each epoch.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let training = Trainer::new(net, sgd, train).test(test).start()?;
    /// training.wait()?;
    /// assert!(training.history().epochs[0].test_accuracy.is_some());
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn test(mut self, loader: DataLoader) -> Self {
        self.test = Some(loader);
        self
    }

    /// Another loss than cross entropy: a scalar from logits `[N, classes]` and labels `[N]`.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train)
    ///     .loss(|logits, labels| candle_cnn::ops::cross_entropy_with_label_smoothing(logits, labels, 0.1));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn loss(
        mut self,
        loss: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        self.loss = Arc::new(loss);
        self
    }

    /// The learning rate of each step, from the number of steps done before it.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train).schedule(|step| if step < 500 { 1e-2 } else { 1e-3 });
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn schedule(mut self, learning_rate: impl Fn(usize) -> f64 + Send + Sync + 'static) -> Self {
        self.schedule = Some(Arc::new(learning_rate));
        self
    }

    /// Whether each step is launched as one CUDA graph on a GPU (see [`StepGraph`]); it is, unless said otherwise. A network
    /// that can't be captured, one with dropout for example, trains without. On the CPU nothing changes.
    ///
    /// Say `false` for a network that decides anything anew at each step on the host: the graph repeats what it did in the
    /// step that was captured.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// Trainer::new(net, sgd, train).step_graph(false).start()?.wait()?;
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn step_graph(mut self, on: bool) -> Self {
        self.step = if on { captured } else { plain };
        self
    }

    /// What records, curves and error messages call the training.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train).name("small network");
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_string();
        self
    }

    /// Notes settings for the record, as a JSON object; they change nothing. The record has by itself: images, batch size,
    /// the optimiser's first learning rate, what the loader changes at random, its seed, the device.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train).settings(serde_json::json!({ "momentum": 0.9 }));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn settings(mut self, settings: Value) -> Self {
        self.settings = settings;
        self
    }

    /// Writes records into `folder`, as [`Plan::folder`] says.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let folder = tempfile::tempdir().unwrap();
    /// Trainer::new(net, sgd, train).folder(folder.path()).start()?.wait()?;
    /// let record = cifar_lab::run_records::RunRecord::read(folder.path())?;
    /// assert_eq!(record.number("batch_size"), Some(32.0));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// Saves these weights into the folder after each epoch, as [`Plan::save_weights`] says.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train).save_weights(&parameters);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn save_weights(mut self, parameters: &Parameters) -> Self {
        self.weights = Some(parameters.clone());
        self
    }

    /// Writes a checkpoint to `path` after each epoch; where one is there already, the training goes on from it, and
    /// gives what an uninterrupted one would have given. `parameters` are the network's.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Status, Trainer}};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let train = DataLoader::new(&Cifar10::stand_in(0, 32, 10).train, &Device::Cpu);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("checkpoint.safetensors");
    /// for (epochs, first) in [(1, 1), (3, 2)] {
    ///     let parameters = Parameters::new(0);
    ///     let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    ///     let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    ///     let trainer = Trainer::new(net, sgd, train.clone()).epochs(epochs).checkpoint(&path, &parameters);
    ///     let training = trainer.start()?;
    ///     training.wait()?;
    ///     assert_eq!(training.history().epochs[0].epoch, first);
    /// }
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn checkpoint(mut self, path: &Path, parameters: &Parameters) -> Self {
        self.checkpoint = Some((path.to_path_buf(), parameters.clone()));
        self
    }

    /// Starts the training on a thread of its own.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::Trainer};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let training = Trainer::new(net, sgd, train).start()?;
    /// training.wait()?;
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Training::start`], and [`load_checkpoint`] where there is a checkpoint to go on from.
    pub fn start(mut self) -> Result<Training> {
        let mut plan = Plan::new(&self.name, self.epochs, self.loader.len())
            .data(self.loader.dataset())
            .settings(self.all_settings());
        if let Some(folder) = &self.folder {
            plan = plan.folder(folder);
        }
        if let Some(parameters) = &self.weights {
            plan = plan.save_weights(parameters);
        }
        if let Some((path, parameters)) = self.checkpoint.as_ref().filter(|(path, _)| path.exists()) {
            plan = plan.first_epoch(load_checkpoint(path, parameters, &mut self.optimizer)?);
        }
        Training::start(plan, move |run| self.train(run))
    }

    /// What is known here, and over it what the caller noted.
    fn all_settings(&self) -> Value {
        let mut settings = json!({
            "images": self.loader.dataset().len(),
            "batch_size": self.loader.max_batch_size(),
            "learning_rate": self.optimizer.learning_rate(),
            "augmentation": self.loader.augmentation(),
            "seed": self.loader.random_seed(),
            "device": describe(self.loader.device()),
        });
        if precision() != Precision::F32 {
            settings["precision"] = json!(precision().to_string());
        }
        match (&mut settings, &self.settings) {
            (Value::Object(own), Value::Object(noted)) => own.extend(noted.clone()),
            (_, Value::Null) => {}
            (_, other) => settings["noted"] = other.clone(),
        }
        settings
    }

    fn train(self, run: &mut Run) -> Result<()> {
        let Self { network, mut optimizer, loader, test, loss, schedule, step, checkpoint, .. } = self;
        let mut step = step(Box::new(|images, labels| {
            let logits = network.forward_t(images, true)?;
            Ok((loss(&logits, labels)?, logits))
        }));
        for epoch in run.epochs() {
            for (index, batch) in loader.epoch(epoch).enumerate() {
                let batch = batch?;
                if let Some(schedule) = &schedule {
                    optimizer.set_learning_rate(schedule(epoch * loader.len() + index));
                }
                let StepResult { loss, correct } = step(&mut optimizer, &batch.images, &batch.labels)?;
                run.counted_step(&loss, correct, batch.indices.len())?;
            }
            run.learning_rate(optimizer.learning_rate());
            let evaluation = test.as_ref().map(|loader| evaluate(&network, loader)).transpose()?;
            run.end_epoch_with(evaluation.as_ref(), || match &checkpoint {
                Some((path, parameters)) => {
                    let notes = [("data", loader.dataset().name())];
                    save_checkpoint(path, parameters, &optimizer, epoch + 1, &notes)
                }
                None => Ok(()),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use crate::model::{Net, NetConfig};
    use crate::training::Status;
    use crate::transform::{RandomCrop, RandomHorizontalFlip};
    use candle_cnn::optim::{SGD, SgdConfig};
    use candle_core::Device;
    use candle_nn::Optimizer;

    /// Trains for `epochs` epochs, from the checkpoint if there is one; returns losses and the last bias.
    fn train(epochs: usize, checkpoint: Option<&Path>, by_graph: bool) -> Result<(Vec<f64>, Vec<f32>)> {
        let data = Cifar10::stand_in(3, 50, 10);
        let parameters = Parameters::new(3);
        let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
        let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        let settings = SgdConfig { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-3, ..SgdConfig::default() };
        let loader = DataLoader::new(&data.train, &Device::Cpu)
            .batch_size(16)
            .shuffle(3)
            .random_flip(RandomHorizontalFlip { p: 0.5 })
            .random_crop(RandomCrop { padding: 2 });
        let mut trainer = Trainer::new(net, SGD::new(parameters.trainable(), settings)?, loader).epochs(epochs);
        if let Some(path) = checkpoint {
            trainer = trainer.checkpoint(path, &parameters);
        }
        trainer = trainer.step_graph(by_graph);
        let training = trainer.start()?;
        training.wait()?;
        assert_eq!(training.progress().status, Status::Finished);
        let losses = training.history().epochs.iter().map(|row| row.train_loss).collect();
        Ok((losses, parameters.state_dict()?["fc2.bias"].to_vec1()?))
    }

    #[test]
    fn the_same_seed_gives_the_same_bits() -> Result<()> {
        assert_eq!(train(2, None, false)?, train(2, None, false)?);
        // On the CPU a step by a graph is the plain one.
        assert_eq!(train(2, None, true)?, train(2, None, false)?);
        Ok(())
    }

    #[test]
    fn an_epoch_s_row_is_there_before_its_checkpoint() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let data = Cifar10::stand_in(0, 8, 8);
        let parameters = Parameters::new(0);
        let config = NetConfig { channels: vec![4], dense: vec![], ..NetConfig::default() };
        let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
        // No checkpoint can be written inside a file: as if the process ended just there.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let training = Trainer::new(net, sgd, DataLoader::new(&data.train, &Device::Cpu))
            .epochs(2)
            .folder(folder.path())
            .checkpoint(&file.join("checkpoint"), &parameters)
            .start()?;
        let error = training.wait().unwrap_err().to_string();
        assert!(error.contains("failed at epoch 1"), "{error}");
        assert_eq!(crate::run_records::RunRecord::read(folder.path())?.rows.len(), 1);
        Ok(())
    }

    #[test]
    fn a_resumed_training_gives_the_bits_of_an_uninterrupted_one() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let whole = train(4, None, false)?;
        let first = train(2, Some(&path), false)?;
        let rest = train(4, Some(&path), false)?;
        assert_eq!([first.0, rest.0].concat(), whole.0);
        assert_eq!(rest.1, whole.1);
        Ok(())
    }
}
