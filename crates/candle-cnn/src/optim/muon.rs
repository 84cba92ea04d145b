use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use candle_nn::Optimizer;
use std::collections::HashMap;

use super::groups::{self, Parameter, ParameterGroup};
use super::sgd::{SGD, SgdConfig};
use crate::autograd::graph::backward;
use crate::check;
use crate::sums::widened;

const NAME: &str = "Muon";

/// What stands before the names of the state of the parameters that SGD steps.
const SGD_PREFIX: &str = "sgd.";

/// Added to a norm before something is divided by it.
const EPS: f64 = 1e-7;

/// Of the odd polynomial a x + b x³ + c x⁵ that is applied over and over: with these, singular values of 0 rise the
/// fastest, and all end up between 0.7 and 1.2 or so, rather than at 1.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// What keeps updates and weights of different shapes in proportion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MuonScaling {
    /// Updates of matrices with more rows than columns grow by √(rows / columns), as in Jordan's `Muon`.
    #[default]
    Updates,
    /// Before each step the weight is scaled to the norm √rows, as in Jordan's `airbench94_muon`. For a convolution before
    /// a batch norm, which takes the weight's scale out again.
    Weights,
}

/// Settings of [`Muon`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonConfig {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// Momentum: the share of the previous direction that is kept, at least 0.
    pub momentum: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Weight decay: each step shrinks a parameter by this times the learning rate; at least 0.
    pub weight_decay: f64,
    /// Newton-Schulz steps that orthogonalize an update: 5 usually, 3 where accuracy does not matter.
    pub steps: usize,
    /// How shapes are allowed for.
    pub scaling: MuonScaling,
}

impl Default for MuonConfig {
    /// Jordan's: learning rate 0.02, Nesterov momentum 0.95, five steps.
    fn default() -> Self {
        Self {
            learning_rate: 0.02,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.0,
            steps: 5,
            scaling: MuonScaling::Updates,
        }
    }
}

impl MuonConfig {
    fn check(&self) -> Result<()> {
        check::not_negative(NAME, "learning_rate", self.learning_rate)?;
        check::not_negative(NAME, "momentum", self.momentum)?;
        check::not_negative(NAME, "weight_decay", self.weight_decay)
    }
}

/// The matrix `[R, C]` with about the same singular vectors whose singular values are all near 1: UVᵀ for UΣVᵀ, up to a
/// factor of 0.7 to 1.2 for each singular value. By so many `steps` of a Newton-Schulz iteration; singular values that are
/// tiny beside the largest need more of them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let matrix = Tensor::new(&[[3f32, 0.], [0., -0.5], [0., 0.]], &Device::Cpu)?;
/// let found = candle_cnn::optim::orthogonalize(&matrix, 5)?.to_vec2::<f32>()?;
/// assert!((0.6..1.3).contains(&found[0][0]) && (-1.3..-0.6).contains(&found[1][1]));
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `matrix` is not `[R, C]` and of a floating-point type.
pub fn orthogonalize(matrix: &Tensor, steps: usize) -> Result<Tensor> {
    const NAME: &str = "orthogonalize";
    check::float(NAME, "the matrix", matrix)?;
    let &[rows, columns] = matrix.dims() else { return Err(check::shape(NAME, "the matrix", matrix, "[R, C]")) };
    let matrix = matrix.detach();
    // The products below are of the shorter side's size.
    let mut x = if rows > columns { matrix.t()? } else { matrix };
    x = x.broadcast_div(&(norm(&x)? + EPS)?)?;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..steps {
        let square = x.matmul(&x.t()?)?;
        let factor = ((&square * b)? + (square.matmul(&square)? * c)?)?;
        x = ((&x * a)? + factor.matmul(&x)?)?;
    }
    if rows > columns { x.t()?.contiguous() } else { x.contiguous() }
}

/// The Euclidean norm of all values, a scalar on their device.
fn norm(x: &Tensor) -> Result<Tensor> {
    widened(x)?.sqr()?.sum_all()?.sqrt()?.to_dtype(x.dtype())
}

/// Momentum whose direction is orthogonalized ([`orthogonalize`]) before each step, for weights of matrices and of
/// convolutions, `[O, …]` with a row for each output; and [`SGD`] for all other parameters (Jordan et al., "Muon: An
/// optimizer for hidden layers in neural networks", 2024, <https://kellerjordan.github.io/posts/muon>).
///
/// b = momentum · b + gradient; d = b, or gradient + momentum · b with Nesterov; p = (1 − learning_rate · weight_decay) ·
/// p − learning_rate · orthogonalize(d), scaled as [`MuonScaling`] says. Only the direction of a gradient counts, not its
/// size: the mean of a loss and its sum give the same steps.
///
/// ```
/// use candle_cnn::optim::{Muon, MuonConfig, ParameterGroup, SgdConfig};
/// use candle_core::{DType, Device, Var};
/// use candle_nn::Optimizer;
///
/// let weight = Var::from_tensor(&candle_core::Tensor::eye(3, DType::F32, &Device::Cpu)?)?;
/// let bias = Var::ones(3, DType::F32, &Device::Cpu)?;
/// let muon = ParameterGroup { vars: vec![weight.clone()], config: MuonConfig::default() };
/// let sgd = ParameterGroup { vars: vec![bias.clone()], config: SgdConfig::default() };
/// let mut optimizer = Muon::with_sgd(vec![muon], vec![sgd])?;
/// optimizer.backward_step(&(weight.sum(0)? * bias.as_tensor())?.sum_all()?)?;
/// assert!((bias.to_vec1::<f32>()?[0] - 0.999).abs() < 1e-6);
/// // The gradient, ones, has one singular value, 3; five steps bring it to between 0.68 and 1.2.
/// let step = weight.to_vec2::<f32>()?[0][1] * -3.;
/// assert!((0.68..1.2).contains(&(step / 0.02)), "{step}");
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Muon {
    parameters: Vec<Parameter>,
    /// Of each parameter; `None` until its first step.
    momentum: Vec<Option<Tensor>>,
    configs: Vec<MuonConfig>,
    others: SGD,
    /// Of all groups, those of `others` last.
    initial_rates: Vec<f64>,
}

impl Muon {
    /// Groups of weights of two dimensions or more, and groups of parameters that [`SGD`] steps, each with its own
    /// settings.
    ///
    /// # Errors
    /// If a setting is out of range, a weight has fewer dimensions, or two parameters share a tensor id.
    pub fn with_sgd(weights: Vec<ParameterGroup<MuonConfig>>, others: Vec<ParameterGroup<SgdConfig>>) -> Result<Self> {
        weights.iter().try_for_each(|group| group.config.check())?;
        // Among each other too no two may share an id.
        let vars = weights.iter().map(|group| &group.vars).chain(others.iter().map(|group| &group.vars));
        let all: Vec<ParameterGroup<()>> = vars.map(|vars| ParameterGroup { vars: vars.clone(), config: () }).collect();
        groups::parameters(NAME, &all)?;
        let parameters = groups::parameters(NAME, &weights)?;
        for Parameter { var, .. } in &parameters {
            if var.rank() < 2 || var.elem_count() == 0 {
                let wanted = "two dimensions or more, none of them 0; SGD steps other parameters (Muon::with_sgd)";
                return Err(check::shape(NAME, "a weight", var, wanted));
            }
        }
        let configs: Vec<MuonConfig> = weights.iter().map(|group| group.config).collect();
        let others = SGD::with_groups(others)?;
        let initial_rates = configs.iter().map(|config| config.learning_rate).chain(others.learning_rates()).collect();
        Ok(Self { momentum: vec![None; parameters.len()], parameters, configs, others, initial_rates })
    }

    /// Each group's settings as it was made, before any change of its learning rate.
    pub fn initial_configs(&self) -> (Vec<MuonConfig>, Vec<SgdConfig>) {
        let groups = self.configs.iter().zip(&self.initial_rates);
        let own = groups.map(|(config, &learning_rate)| MuonConfig { learning_rate, ..*config }).collect();
        (own, self.others.initial_configs())
    }

    /// Each group's learning rate, those that [`SGD`] steps last.
    pub fn learning_rates(&self) -> Vec<f64> {
        self.configs.iter().map(|config| config.learning_rate).chain(self.others.learning_rates()).collect()
    }

    /// Sets each group's learning rate, in the order of [`Self::learning_rates`].
    ///
    /// # Errors
    /// If there is not one for each group, or one is negative or not finite.
    pub fn set_learning_rates(&mut self, rates: &[f64]) -> Result<()> {
        groups::check_rates(NAME, rates, self.initial_rates.len())?;
        self.put_learning_rates(rates);
        Ok(())
    }

    fn put_learning_rates(&mut self, rates: &[f64]) {
        let (own, others) = rates.split_at(self.configs.len());
        self.configs.iter_mut().zip(own).for_each(|(config, &rate)| config.learning_rate = rate);
        self.others.put_learning_rates(others);
    }

    /// The momentum buffers (copies) as `momentum.0`, `momentum.1`, … in the order of the weights, and
    /// [`SGD`]'s as `sgd.momentum.0`, …; a parameter that has not been stepped has none. Save it with the parameters.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = groups::momentum_state(&self.momentum)?;
        state.extend(self.others.state()?.into_iter().map(|(name, tensor)| (format!("{SGD_PREFIX}{name}"), tensor)));
        Ok(state)
    }

    /// Restores what [`Self::state`] returned.
    ///
    /// # Errors
    /// If an entry belongs to no parameter or has another shape; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let (mut own, mut others) = (HashMap::new(), HashMap::new());
        for (name, tensor) in state {
            match name.strip_prefix(SGD_PREFIX) {
                Some(name) => others.insert(name.to_string(), tensor.clone()),
                None => own.insert(name.clone(), tensor.clone()),
            };
        }
        let momentum = groups::restored_momentum(&own, &self.parameters)?;
        self.others.load_state(&others)?;
        self.momentum = momentum;
        Ok(())
    }
}

/// One weight's step, by candle's operations, which run on any device.
fn step(var: &Var, gradient: &Tensor, momentum: &mut Option<Tensor>, config: MuonConfig) -> Result<()> {
    let buffer = match momentum.take() {
        Some(buffer) => ((buffer * config.momentum)? + gradient)?.detach(),
        None => gradient.copy()?.detach(),
    };
    let direction = if config.nesterov { (gradient + (&buffer * config.momentum)?)? } else { buffer.clone() };
    *momentum = Some(buffer);
    let rows = var.dim(0)?;
    let columns = var.elem_count() / rows;
    let update = orthogonalize(&direction.reshape((rows, columns))?, config.steps)?.reshape(var.shape())?;
    let (mut weight, mut size) = (var.as_detached_tensor(), config.learning_rate);
    match config.scaling {
        MuonScaling::Updates => size *= (rows as f64 / columns as f64).max(1.0).sqrt(),
        MuonScaling::Weights => weight = (weight.broadcast_div(&(norm(&weight)? + EPS)?)? * (rows as f64).sqrt())?,
    }
    let weight = (weight * (1.0 - config.learning_rate * config.weight_decay))?;
    var.set(&(weight - (update * size)?)?)
}

impl Optimizer for Muon {
    type Config = MuonConfig;

    fn new(vars: Vec<Var>, config: MuonConfig) -> Result<Self> {
        Self::with_sgd(vec![ParameterGroup { vars, config }], vec![])
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (parameter, momentum) in self.parameters.iter().zip(&mut self.momentum) {
            if let Some(gradient) = groups::gradient(NAME, grads, parameter)? {
                step(&parameter.var, gradient, momentum, self.configs[parameter.group])?;
            }
        }
        self.others.step(grads)
    }

    fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.step(&backward(loss)?)
    }

    /// The learning rate of the first group that started above 0.
    fn learning_rate(&self) -> f64 {
        self.learning_rates().get(groups::leading(&self.initial_rates)).copied().unwrap_or_default()
    }

    /// Sets the learning rate of the first group that started above 0; the others keep their initial ratio to it, so
    /// those at 0 stay there.
    fn set_learning_rate(&mut self, rate: f64) {
        self.put_learning_rates(&groups::scaled_rates(&self.initial_rates, rate));
    }
}
