//! The learning-rate range test.

use candle_cnn::backward;
use candle_nn::{ModuleT, Optimizer};

use crate::error::{Error, Result};
use crate::loader::DataLoader;

/// Smoothing factor for the loss: it averages over about the last ten batches.
const SMOOTHING: f64 = 0.9;
/// The test ends when the smoothed loss exceeds its minimum by this factor; from there on, it only diverges.
const BLOWN_UP: f64 = 4.0;

/// Losses at increasing learning rates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeTest {
    /// For each batch, the learning rate of its step and the loss before it (cross entropy, in nats).
    pub batches: Vec<(f64, f64)>,
    /// The data set trained on.
    pub data: String,
}

/// Settings of a [`range_test`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeTestConfig {
    /// The learning rate of the first step, above 0.
    pub min_learning_rate: f64,
    /// The learning rate of the last step.
    pub max_learning_rate: f64,
    /// The number of steps, at least 2; each uses one batch.
    pub steps: usize,
}

impl Default for RangeTestConfig {
    /// From 1e-4 to 10 in 100 steps: from where the loss barely moves to where every network of ours diverges.
    fn default() -> Self {
        Self { min_learning_rate: 1e-4, max_learning_rate: 10.0, steps: 100 }
    }
}

/// Trains `network` while multiplying the learning rate by a constant factor at each step, and records the losses
/// (Smith, "Cyclical Learning Rates for Training Neural Networks", 2017, section 3.3, but with a geometric increase).
/// Ends early if the loss diverges.
///
/// This ruins the network's weights: build a new network to train.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 64, 10).train, &Device::Cpu);
/// let parameters = Parameters::new(0);
/// let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
/// let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
/// let mut sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// let config = RangeTestConfig { max_learning_rate: 1.0, steps: 20, ..RangeTestConfig::default() };
/// let test = range_test(&net, &mut sgd, &loader, config)?;
/// assert!((test.batches[0].0 - 1e-4).abs() < 1e-12);
/// assert_eq!(test.batches.len(), test.smoothed().len());
/// assert!(test.rate_of_least_loss().is_some());
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Setting`] unless the rates are positive and increase and there are at least 2 steps; the errors of the
/// loader, the network and the optimizer.
pub fn range_test(
    network: &impl ModuleT,
    optimizer: &mut impl Optimizer,
    loader: &DataLoader,
    config: RangeTestConfig,
) -> Result<RangeTest> {
    loader.check()?;
    let RangeTestConfig { min_learning_rate: lowest, max_learning_rate: highest, steps } = config;
    let grows = lowest > 0.0 && highest > lowest && highest.is_finite();
    if !grows || steps < 2 || loader.is_empty() {
        return Err(Error::Setting {
            name: "range test",
            value: format!("{steps} steps from {lowest} to {highest}, an epoch of {} batches", loader.len()),
            reason: "it needs at least two steps, a positive learning rate that increases, and a batch".into(),
        });
    }
    let mut test = RangeTest { batches: Vec::new(), data: loader.dataset().name().to_string() };
    let batches = (0..).flat_map(|epoch| loader.epoch(epoch)).take(steps);
    for (step, batch) in batches.enumerate() {
        let batch = batch?;
        let rate = lowest * (highest / lowest).powf(step as f64 / (steps - 1) as f64);
        let logits = network.forward_t(&batch.images, true)?;
        let loss = candle_cnn::ops::cross_entropy(&logits, &batch.labels)?;
        let value = f64::from(loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?);
        test.batches.push((rate, value));
        let smoothed = test.smoothed();
        let least = smoothed.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min);
        // Also true if the loss is NaN.
        if !smoothed.last().is_some_and(|(_, loss)| *loss <= BLOWN_UP * least) {
            break;
        }
        optimizer.set_learning_rate(rate);
        optimizer.step(&backward(&loss)?)?;
    }
    Ok(test)
}

impl RangeTest {
    /// Each learning rate with the smoothed loss, a weighted mean over about the last ten batches.
    pub fn smoothed(&self) -> Vec<(f64, f64)> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let mut smooth = |&(rate, loss): &(f64, f64)| {
            // Dividing by the sum of the weights keeps the first values from being biased toward zero.
            sum = SMOOTHING * sum + loss;
            weight = SMOOTHING * weight + 1.0;
            (rate, sum / weight)
        };
        self.batches.iter().map(&mut smooth).collect()
    }

    /// The learning rate with the lowest smoothed loss; `None` without batches. A good rate for training is lower.
    pub fn rate_of_least_loss(&self) -> Option<f64> {
        let smoothed = self.smoothed();
        let finite = smoothed.iter().filter(|(_, loss)| loss.is_finite());
        finite.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(rate, _)| *rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use candle_cnn::{optim::SGD, parameters::Parameters};
    use candle_core::{Device, Tensor};
    use candle_nn::Linear;

    /// One dense layer on the pixels.
    struct Dense(Linear);

    impl ModuleT for Dense {
        fn forward_t(&self, images: &Tensor, _train: bool) -> candle_core::Result<Tensor> {
            candle_nn::Module::forward(&self.0, &images.flatten_from(1)?)
        }
    }

    fn run(min_learning_rate: f64, max_learning_rate: f64, steps: usize) -> Result<RangeTest> {
        let data = Cifar10::stand_in(0, 40, 10);
        let parameters = Parameters::new(0);
        let net = Dense(candle_nn::linear(3 * 32 * 32, 10, parameters.var_builder(&Device::Cpu))?);
        let mut sgd = SGD::new(parameters.trainable(), Default::default())?;
        let loader = DataLoader::new(&data.train, &Device::Cpu).batch_size(20);
        range_test(&net, &mut sgd, &loader, RangeTestConfig { min_learning_rate, max_learning_rate, steps })
    }

    #[test]
    fn rates_grow_by_one_factor_and_epochs_go_on() -> Result<()> {
        let test = run(1e-6, 1e-4, 5)?;
        let rates: Vec<f64> = test.batches.iter().map(|(rate, _)| *rate).collect();
        assert_eq!(rates.len(), 5, "an epoch has two batches only");
        assert!(rates.windows(2).all(|pair| (pair[1] / pair[0] - 10f64.sqrt()).abs() < 1e-9), "{rates:?}");
        Ok(())
    }

    #[test]
    fn it_ends_where_the_loss_blows_up() -> Result<()> {
        let test = run(1e-3, 1e9, 60)?;
        assert!(test.batches.len() < 60);
        let (least, last) = (test.rate_of_least_loss().unwrap_or_default(), test.batches.last().unwrap());
        assert!(least < last.0 && last.1 > 5.0, "{test:?}");
        Ok(())
    }

    #[test]
    fn a_first_loss_that_is_no_number_is_named() {
        let test = RangeTest { batches: vec![(0.1, f64::NAN)], ..RangeTest::default() };
        assert_eq!(test.rate_of_least_loss(), None);
        let error = test.figure().unwrap_err().to_string();
        assert!(error.contains("each batch: 1 point left out (can't be drawn), the first NaN at 0.1"), "{error}");
    }

    #[test]
    fn settings_that_cannot_be_are_errors() {
        for (lowest, highest, steps) in [(0.0, 1.0, 9), (1.0, 0.1, 9), (0.1, f64::NAN, 9), (0.1, 1.0, 1)] {
            assert!(matches!(run(lowest, highest, steps), Err(Error::Setting { .. })));
        }
    }
}
