use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, Var};
use candle_nn::Optimizer;
use std::collections::HashMap;

#[cfg(feature = "cuda")]
use super::capturable;
use super::capturable::{Capturable, Sealed};
#[cfg(feature = "cuda")]
use super::cuda::{self, RecordedStep};
use super::groups::{self, Parameter, ParameterGroup};
use super::in_place::{self, InPlace};
use crate::autograd::graph::backward;
use crate::check;
#[cfg(feature = "cuda")]
use candle_core::CudaDevice;

const NAME: &str = "SGD";

/// Settings of [`SGD`], as for `torch.optim.SGD`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// Momentum: the share of the previous direction that is kept, at least 0.
    pub momentum: f64,
    /// Factor of the parameter itself that is added to its gradient, at least 0.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum; requires a momentum above 0 and no dampening.
    pub nesterov: bool,
    /// Share of the gradient that momentum leaves out.
    pub dampening: f64,
}

impl Default for SgdConfig {
    /// PyTorch's: learning rate 0.001 and nothing else.
    fn default() -> Self {
        Self { learning_rate: 1e-3, momentum: 0.0, weight_decay: 0.0, nesterov: false, dampening: 0.0 }
    }
}

impl SgdConfig {
    fn check(&self) -> Result<()> {
        check::not_negative(NAME, "learning_rate", self.learning_rate)?;
        check::not_negative(NAME, "momentum", self.momentum)?;
        check::not_negative(NAME, "weight_decay", self.weight_decay)?;
        check::setting(NAME, "dampening", self.dampening, self.dampening.is_finite(), "a finite number")?;
        let holds = !self.nesterov || self.momentum > 0.0 && self.dampening == 0.0;
        let found = format!("true with momentum {} and dampening {}", self.momentum, self.dampening);
        check::setting(NAME, "nesterov", found, holds, "a momentum above 0 and no dampening")
    }
}

/// Stochastic gradient descent with momentum, Nesterov momentum, dampening and weight decay, exactly as
/// `torch.optim.SGD`: g = gradient + weight_decay · p; b = momentum · b + (1 − dampening) · g, with b = g at a
/// parameter's first step; p = p − learning_rate · (b, or g + momentum · b with Nesterov).
///
/// ```
/// use candle_cnn::optim::{SGD, SgdConfig};
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
///
/// let p = Var::new(&[1f32], &Device::Cpu)?;
/// let mut sgd = SGD::new(vec![p.clone()], SgdConfig { learning_rate: 0.1, momentum: 0.9, ..Default::default() })?;
/// for _ in 0..2 {
///     sgd.backward_step(&p.sqr()?.sum_all()?)?; // The gradient is 2 p.
/// }
/// // 1 − 0.1 · 2 = 0.8, then 0.8 − 0.1 · (0.9 · 2 + 1.6) = 0.46.
/// assert!((p.to_vec1::<f32>()?[0] - 0.46).abs() < 1e-6);
///
/// // Another one continues from its state.
/// let mut again = SGD::new(vec![p.clone()], SgdConfig { momentum: 0.9, ..Default::default() })?;
/// again.load_state(&sgd.state()?)?;
/// assert_eq!(again.state()?["momentum.0"].to_vec1::<f32>()?, sgd.state()?["momentum.0"].to_vec1::<f32>()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct SGD {
    parameters: Vec<Parameter>,
    /// Of each parameter; `None` until its first step with momentum.
    momentum: Vec<Option<Tensor>>,
    configs: Vec<SgdConfig>,
    initial_rates: Vec<f64>,
}

impl SGD {
    /// Groups of parameters, each with its own settings.
    ///
    /// # Errors
    /// If a setting is out of range, or two parameters share a tensor id.
    pub fn with_groups(groups: Vec<ParameterGroup<SgdConfig>>) -> Result<Self> {
        groups.iter().try_for_each(|group| group.config.check())?;
        let parameters = groups::parameters(NAME, &groups)?;
        let configs: Vec<SgdConfig> = groups.iter().map(|group| group.config).collect();
        let initial_rates = configs.iter().map(|config| config.learning_rate).collect();
        Ok(Self { momentum: vec![None; parameters.len()], parameters, configs, initial_rates })
    }

    /// Each group's settings as it was made, before any change of its learning rate.
    pub fn initial_configs(&self) -> Vec<SgdConfig> {
        let groups = self.configs.iter().zip(&self.initial_rates);
        groups.map(|(config, &learning_rate)| SgdConfig { learning_rate, ..*config }).collect()
    }

    /// Each group's learning rate.
    pub fn learning_rates(&self) -> Vec<f64> {
        self.configs.iter().map(|config| config.learning_rate).collect()
    }

    /// Sets each group's learning rate.
    ///
    /// # Errors
    /// If there is not one for each group, or one is negative or not finite.
    pub fn set_learning_rates(&mut self, rates: &[f64]) -> Result<()> {
        groups::check_rates(NAME, rates, self.configs.len())?;
        self.put_learning_rates(rates);
        Ok(())
    }

    pub(super) fn put_learning_rates(&mut self, rates: &[f64]) {
        self.configs.iter_mut().zip(rates).for_each(|(config, &rate)| config.learning_rate = rate);
    }

    /// The momentum buffers (copies) as `momentum.0`, `momentum.1`, … in the order of the parameters; a parameter that
    /// has not been stepped has none. Save it with the parameters.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        groups::momentum_state(&self.momentum)
    }

    /// Restores what [`Self::state`] returned.
    ///
    /// # Errors
    /// If an entry belongs to no parameter or has another shape; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.momentum = groups::restored_momentum(state, &self.parameters)?;
        Ok(())
    }
}

fn step<T: InPlace>(p: &Tensor, g: &Tensor, momentum: &mut Option<Tensor>, config: SgdConfig) -> Result<()> {
    let [rate, decay, share, fresh] =
        [config.learning_rate, config.weight_decay, config.momentum, 1.0 - config.dampening].map(T::from_f64);
    if config.momentum == 0.0 {
        return in_place::update::<T>(p, g, None, None, |p, g, _, _| {
            for (p, &g) in p.iter_mut().zip(g) {
                *p -= rate * (g + decay * *p);
            }
        });
    }
    // The first step starts the buffer with the gradient itself, dampening left out.
    let started = momentum.is_some();
    let buffer = match momentum {
        Some(buffer) => buffer.clone(),
        None => momentum.insert(p.zeros_like()?).clone(),
    };
    let (share_of_old, fresh) = if started { (share, fresh) } else { (T::zero(), T::one()) };
    in_place::update::<T>(p, g, Some(&buffer), None, |p, g, b, _| {
        if config.nesterov {
            for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
                let g = g + decay * *p;
                *b = share_of_old * *b + fresh * g;
                *p -= rate * (g + share * *b);
            }
        } else {
            for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
                *b = share_of_old * *b + fresh * (g + decay * *p);
                *p -= rate * *b;
            }
        }
    })
}

/// The kernel's settings; `started` where there is a buffer from the step before.
#[cfg(feature = "cuda")]
fn settings(config: SgdConfig, started: bool) -> [f64; 5] {
    let SgdConfig { learning_rate, momentum, weight_decay, dampening, .. } = config;
    let (old, fresh) = if started { (momentum, 1.0 - dampening) } else { (0.0, 1.0) };
    [learning_rate, weight_decay, momentum, old, fresh]
}

/// The same on a GPU, together with all other parameters.
#[cfg(feature = "cuda")]
fn add_to_step(
    step: &mut cuda::Step,
    p: &Tensor,
    g: &Tensor,
    momentum: &mut Option<Tensor>,
    config: SgdConfig,
) -> Result<()> {
    let settings = settings(config, momentum.is_some());
    if config.momentum != 0.0 && momentum.is_none() {
        *momentum = Some(p.detach().zeros_like()?);
    }
    let buffer = momentum.as_ref().filter(|_| config.momentum != 0.0);
    step.add(p, cuda::sgd(p, g, buffer, settings, config.nesterov)?)
}

#[cfg(feature = "cuda")]
impl SGD {
    /// The momentum of the parameter at `place`, where it is used.
    fn buffer(&self, place: usize) -> Option<&Tensor> {
        let parameter = self.parameters.get(place)?;
        self.momentum[place].as_ref().filter(|_| self.configs[parameter.group].momentum != 0.0)
    }
}

impl Sealed for SGD {}

impl Capturable for SGD {
    #[cfg(feature = "cuda")]
    fn begin_record(&self, device: &CudaDevice) -> Result<RecordedStep> {
        RecordedStep::new(device, cuda::SGD, self.parameters.len())
    }

    #[cfg(feature = "cuda")]
    fn record(&self, grads: &GradStore, step: &mut RecordedStep) -> Result<()> {
        for (place, parameter) in self.parameters.iter().enumerate() {
            let Some(gradient) = groups::gradient(NAME, grads, parameter)? else { continue };
            let (p, config, buffer) = (parameter.var.as_tensor(), self.configs[parameter.group], self.buffer(place));
            capturable::check(NAME, p, gradient, buffer.is_some() || config.momentum == 0.0)?;
            let entry = cuda::sgd(p, gradient, buffer, settings(config, true), config.nesterov)?;
            step.add(place, &[Some(p), buffer].into_iter().flatten().collect::<Vec<_>>(), entry);
        }
        step.launch()
    }

    #[cfg(feature = "cuda")]
    fn is_recorded(&self, step: &RecordedStep) -> bool {
        step.is_of(|place| {
            let parameter = self.parameters.get(place).map(|parameter| parameter.var.id());
            parameter.into_iter().chain(self.buffer(place).map(Tensor::id)).collect()
        })
    }

    #[cfg(feature = "cuda")]
    fn renew(&mut self, step: &mut RecordedStep) -> Result<()> {
        step.renew(|place| settings(self.configs[self.parameters[place].group], true))
    }
}

/// The same with candle's operations, on any device.
fn composed(var: &Var, g: &Tensor, momentum: &mut Option<Tensor>, config: SgdConfig) -> Result<()> {
    let p = var.as_detached_tensor();
    let g = if config.weight_decay == 0.0 { g.clone() } else { (g + (&p * config.weight_decay)?)? };
    let direction = if config.momentum == 0.0 {
        g
    } else {
        let buffer = match &*momentum {
            Some(buffer) => ((buffer * config.momentum)? + (&g * (1.0 - config.dampening))?)?,
            // The gradient itself may be strided, and later steps are made in place.
            None => g.contiguous()?.copy()?,
        };
        let buffer = momentum.insert(buffer.detach());
        if config.nesterov { (g + (&*buffer * config.momentum)?)? } else { buffer.clone() }
    };
    var.set(&(p - (direction * config.learning_rate)?)?)
}

impl Optimizer for SGD {
    type Config = SgdConfig;

    fn new(vars: Vec<Var>, config: SgdConfig) -> Result<Self> {
        Self::with_groups(vec![ParameterGroup { vars, config }])
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        #[cfg(feature = "cuda")]
        let mut on_gpu = cuda::Step::new(cuda::SGD);
        for (parameter, momentum) in self.parameters.iter().zip(&mut self.momentum) {
            let Some(gradient) = groups::gradient(NAME, grads, parameter)? else { continue };
            let (p, config) = (parameter.var.as_tensor(), self.configs[parameter.group]);
            #[cfg(feature = "cuda")]
            if cuda::serves(p, gradient) {
                add_to_step(&mut on_gpu, p, gradient, momentum, config)?;
                continue;
            }
            match p.dtype() {
                DType::F32 if in_place::serves(p, gradient) => step::<f32>(p, gradient, momentum, config)?,
                DType::F64 if in_place::serves(p, gradient) => step::<f64>(p, gradient, momentum, config)?,
                _ => composed(&parameter.var, gradient, momentum, config)?,
            }
        }
        #[cfg(feature = "cuda")]
        on_gpu.run()?;
        Ok(())
    }

    fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        self.step(&backward(loss)?)
    }

    /// The learning rate of the first group that started above 0.
    fn learning_rate(&self) -> f64 {
        self.configs.get(groups::leading(&self.initial_rates)).map_or(0.0, |config| config.learning_rate)
    }

    /// Sets the learning rate of the first group that started above 0; the others keep their initial ratio to it, so
    /// those at 0 stay there.
    fn set_learning_rate(&mut self, rate: f64) {
        self.put_learning_rates(&groups::scaled_rates(&self.initial_rates, rate));
    }
}
