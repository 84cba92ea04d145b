//! The loop, ready made.

use candle_core::Tensor;
use candle_nn::{ModuleT, Optimizer};
use std::sync::Arc;

use super::handle::Training;
use super::run::{Plan, Run};
use crate::error::Result;
use crate::evaluate::evaluate;
use crate::loader::DataLoader;

/// Computes the loss from logits [N, classes] and labels [N].
type Loss = dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Send + Sync;

/// Gives the learning rate from the steps done so far.
type Schedule = dyn Fn(usize) -> f64 + Send + Sync;

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
    epochs: usize,
    plan: Option<Plan>,
}

impl<N: ModuleT + Send + 'static, O: Optimizer + Send + 'static> Trainer<N, O> {
    /// Trains `network` with `optimizer` on `loader`'s batches: one epoch, cross entropy, the optimiser's own learning
    /// rate, unless said otherwise.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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
        Self { network, optimizer, loader, test: None, loss, schedule: None, epochs: 1, plan: None }
    }

    /// How often the data set is gone through.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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

    /// Another loss than cross entropy: a scalar from logits [N, classes] and labels [N].
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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

    /// Name, settings and folder of the training; its epochs, steps and data are set from this trainer's.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
    /// # use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
    /// # use candle_core::Device;
    /// # use candle_nn::Optimizer;
    /// # let data = Cifar10::stand_in(0, 32, 10);
    /// # let parameters = Parameters::new(0);
    /// # let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    /// # let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    /// # let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    /// # let (train, test) = (DataLoader::new(&data.train, &Device::Cpu), DataLoader::new(&data.test, &Device::Cpu));
    /// let trainer = Trainer::new(net, sgd, train).plan(Plan::new("small network", 1, 1));
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Starts the training on a thread of its own.
    ///
    /// ```
    /// # use cifar_lab::{dataset::Cifar10, loader::DataLoader, model::{Net, NetConfig}, training::{Plan, Trainer}};
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
    /// As [`Training::start`], and where the loader's settings cannot be.
    pub fn start(mut self) -> Result<Training> {
        let mut plan = self.plan.take().unwrap_or_else(|| Plan::new("training", 1, 1));
        plan.epochs = self.epochs;
        plan.steps = self.loader.len();
        plan = plan.data(self.loader.dataset());
        Training::start(plan, move |run| self.train(run))
    }

    fn train(mut self, run: &mut Run) -> Result<()> {
        for epoch in run.epochs() {
            for (index, batch) in self.loader.epoch(epoch).enumerate() {
                let batch = batch?;
                if let Some(schedule) = &self.schedule {
                    self.optimizer.set_learning_rate(schedule(epoch * self.loader.len() + index));
                }
                let logits = self.network.forward_t(&batch.images, true)?;
                let loss = (self.loss)(&logits, &batch.labels)?;
                let gradients = loss.backward()?;
                self.optimizer.step(&gradients)?;
                run.step(&loss, &logits, &batch.labels)?;
            }
            run.learning_rate(self.optimizer.learning_rate());
            let evaluation = match &self.test {
                Some(loader) => Some(evaluate(&self.network, loader)?),
                None => None,
            };
            run.end_epoch(evaluation.as_ref())?;
        }
        Ok(())
    }
}
