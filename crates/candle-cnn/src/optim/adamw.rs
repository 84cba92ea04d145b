use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
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

const NAME: &str = "AdamW";

/// Settings of [`AdamW`], as for `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// Decay of the mean gradient, from 0 up to, not including, 1.
    pub beta1: f64,
    /// Decay of the mean squared gradient, from 0 up to, not including, 1.
    pub beta2: f64,
    /// Added to the root of the mean square, at least 0.
    pub eps: f64,
    /// Weight decay: each step shrinks a parameter by this times the learning rate; at least 0.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamWConfig {
    fn check(&self) -> Result<()> {
        check::not_negative(NAME, "learning_rate", self.learning_rate)?;
        check::not_negative(NAME, "eps", self.eps)?;
        check::not_negative(NAME, "weight_decay", self.weight_decay)?;
        for (setting, found) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            check::share_below_one(NAME, setting, found)?;
        }
        Ok(())
    }
}

/// What is kept of a parameter.
#[derive(Debug)]
struct Moments {
    steps: u32,
    first: Tensor,
    second: Tensor,
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), exactly as `torch.optim.AdamW`.
///
/// ```
/// use candle_cnn::optim::{AdamW, AdamWConfig};
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
///
/// let p = Var::new(&[1f32], &Device::Cpu)?;
/// let config = AdamWConfig { learning_rate: 0.1, weight_decay: 0., ..Default::default() };
/// let mut adamw = AdamW::new(vec![p.clone()], config)?;
/// adamw.backward_step(&p.sqr()?.sum_all()?)?;
/// // The first step has the length of the learning rate, whatever the gradient's.
/// assert!((p.to_vec1::<f32>()?[0] - 0.9).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    /// Of each parameter; `None` until its first step.
    moments: Vec<Option<Moments>>,
    configs: Vec<AdamWConfig>,
    initial_rates: Vec<f64>,
}

impl AdamW {
    /// Groups of parameters, each with its own settings.
    ///
    /// # Errors
    /// If a setting is out of range, or two parameters share a tensor id.
    pub fn with_groups(groups: Vec<ParameterGroup<AdamWConfig>>) -> Result<Self> {
        groups.iter().try_for_each(|group| group.config.check())?;
        let parameters = groups::parameters(NAME, &groups)?;
        let configs: Vec<AdamWConfig> = groups.iter().map(|group| group.config).collect();
        let initial_rates = configs.iter().map(|config| config.learning_rate).collect();
        let moments = parameters.iter().map(|_| None).collect();
        Ok(Self { parameters, moments, configs, initial_rates })
    }

    /// Each group's settings as it was made, before any change of its learning rate.
    pub fn initial_configs(&self) -> Vec<AdamWConfig> {
        let groups = self.configs.iter().zip(&self.initial_rates);
        groups.map(|(config, &learning_rate)| AdamWConfig { learning_rate, ..*config }).collect()
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

    fn put_learning_rates(&mut self, rates: &[f64]) {
        self.configs.iter_mut().zip(rates).for_each(|(config, &rate)| config.learning_rate = rate);
    }

    /// Steps and moments (copies) as `step.0`, `exp_avg.0`, `exp_avg_sq.0`, … in the order of the parameters; a
    /// parameter that has not been stepped has none. Save it with the parameters.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for (i, moments) in self.moments.iter().enumerate() {
            if let Some(moments) = moments {
                state.insert(format!("step.{i}"), Tensor::new(moments.steps, &Device::Cpu)?);
                state.insert(format!("exp_avg.{i}"), moments.first.copy()?);
                state.insert(format!("exp_avg_sq.{i}"), moments.second.copy()?);
            }
        }
        Ok(state)
    }

    /// Restores what [`Self::state`] returned.
    ///
    /// # Errors
    /// If an entry belongs to no parameter, is missing or has another shape; then nothing is changed.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut known = 0;
        let mut restore = |(i, parameter): (usize, &Parameter)| -> Result<Option<Moments>> {
            let names = [format!("step.{i}"), format!("exp_avg.{i}"), format!("exp_avg_sq.{i}")];
            match names.each_ref().map(|name| state.get(name)) {
                [None, None, None] => Ok(None),
                [Some(steps), ..] if steps.rank() != 0 => {
                    Err(groups::state_error(format!("{} has shape {:?}, expected a scalar", names[0], steps.dims())))
                }
                [Some(steps), Some(first), Some(second)] => {
                    known += 3;
                    Ok(Some(Moments {
                        steps: steps.to_dtype(DType::U32)?.to_scalar()?,
                        first: groups::restored(&names[1], first, &parameter.var)?,
                        second: groups::restored(&names[2], second, &parameter.var)?,
                    }))
                }
                _ => Err(groups::state_error(format!("some of {names:?} are missing"))),
            }
        };
        let moments = self.parameters.iter().enumerate().map(&mut restore).collect::<Result<Vec<_>>>()?;
        if known != state.len() {
            let reason = format!("{} of its entries belong to no parameter", state.len() - known);
            return Err(groups::state_error(reason));
        }
        self.moments = moments;
        Ok(())
    }
}

/// The factors of one step, with the moments' bias corrected as PyTorch does it.
#[derive(Clone, Copy)]
struct Factors {
    keep: f64,
    size: f64,
    root: f64,
}

impl Factors {
    fn new(config: AdamWConfig, steps: u32) -> Self {
        let steps = f64::from(steps);
        Self {
            keep: 1.0 - config.learning_rate * config.weight_decay,
            size: config.learning_rate / (1.0 - config.beta1.powf(steps)),
            root: (1.0 - config.beta2.powf(steps)).sqrt(),
        }
    }
}

fn step<T: InPlace>(p: &Tensor, g: &Tensor, moments: &Moments, config: AdamWConfig) -> Result<()> {
    let Factors { keep, size, root } = Factors::new(config, moments.steps);
    let [keep, size, root, eps] = [keep, size, root, config.eps].map(T::from_f64);
    let [beta2, fresh1, fresh2] = [config.beta2, 1.0 - config.beta1, 1.0 - config.beta2].map(T::from_f64);
    in_place::update::<T>(p, g, Some(&moments.first), Some(&moments.second), |p, g, m, v| {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *m += fresh1 * (g - *m);
            *v = beta2 * *v + fresh2 * g * g;
            *p = keep * *p - size * *m / ((*v).sqrt() / root + eps);
        }
    })
}

/// The same with candle's operations, on any device.
fn composed(var: &Var, g: &Tensor, moments: &mut Moments, config: AdamWConfig) -> Result<()> {
    let Factors { keep, size, root } = Factors::new(config, moments.steps);
    moments.first = ((&moments.first * config.beta1)? + (g * (1.0 - config.beta1))?)?.detach();
    moments.second = ((&moments.second * config.beta2)? + (g.sqr()? * (1.0 - config.beta2))?)?.detach();
    let denominator = ((moments.second.sqrt()? / root)? + config.eps)?;
    var.set(&((var.as_detached_tensor() * keep)? - (moments.first.div(&denominator)? * size)?)?)
}

/// The kernel's settings at a parameter's step number `steps`, counted from 1.
#[cfg(feature = "cuda")]
fn settings(config: AdamWConfig, steps: u32) -> [f64; 7] {
    let Factors { keep, size, root } = Factors::new(config, steps);
    let AdamWConfig { beta1, beta2, eps, .. } = config;
    [keep, size, root, eps, beta2, 1.0 - beta1, 1.0 - beta2]
}

impl Sealed for AdamW {}

impl Capturable for AdamW {
    #[cfg(feature = "cuda")]
    fn begin_record(&self, device: &CudaDevice) -> Result<RecordedStep> {
        RecordedStep::new(device, cuda::ADAMW, self.parameters.len())
    }

    #[cfg(feature = "cuda")]
    fn record(&self, grads: &GradStore, step: &mut RecordedStep) -> Result<()> {
        for (place, (parameter, moments)) in self.parameters.iter().zip(&self.moments).enumerate() {
            let Some(gradient) = groups::gradient(NAME, grads, parameter)? else { continue };
            let p = parameter.var.as_tensor();
            capturable::check(NAME, p, gradient, moments.is_some())?;
            let Some(Moments { first, second, steps }) = moments else { continue };
            let settings = settings(self.configs[parameter.group], *steps);
            step.add(place, &[p, first, second], cuda::adamw(p, gradient, [first, second], settings)?);
        }
        step.launch()
    }

    #[cfg(feature = "cuda")]
    fn is_recorded(&self, step: &RecordedStep) -> bool {
        step.is_of(|place| {
            let parameter = self.parameters.get(place).map(|parameter| parameter.var.id());
            let moments = self.moments.get(place).and_then(Option::as_ref);
            let moments = moments.into_iter().flat_map(|moments| [moments.first.id(), moments.second.id()]);
            parameter.into_iter().chain(moments).collect()
        })
    }

    #[cfg(feature = "cuda")]
    fn renew(&mut self, step: &mut RecordedStep) -> Result<()> {
        for place in step.places() {
            if let Some(moments) = &mut self.moments[place] {
                moments.steps += 1;
            }
        }
        step.renew(|place| {
            let steps = self.moments[place].as_ref().map_or(1, |moments| moments.steps);
            settings(self.configs[self.parameters[place].group], steps)
        })
    }
}

impl Optimizer for AdamW {
    type Config = AdamWConfig;

    fn new(vars: Vec<Var>, config: AdamWConfig) -> Result<Self> {
        Self::with_groups(vec![ParameterGroup { vars, config }])
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        #[cfg(feature = "cuda")]
        let mut on_gpu = cuda::Step::new(cuda::ADAMW);
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            let Some(gradient) = groups::gradient(NAME, grads, parameter)? else { continue };
            let (p, config) = (parameter.var.as_tensor(), self.configs[parameter.group]);
            let moments = match moments {
                Some(moments) => moments,
                None => {
                    let zeros = parameter.var.as_detached_tensor().zeros_like()?;
                    moments.insert(Moments { steps: 0, second: zeros.copy()?, first: zeros })
                }
            };
            moments.steps += 1;
            #[cfg(feature = "cuda")]
            if cuda::serves(p, gradient) {
                let moments_now = [&moments.first, &moments.second];
                on_gpu.add(p, cuda::adamw(p, gradient, moments_now, settings(config, moments.steps))?)?;
                continue;
            }
            match p.dtype() {
                DType::F32 if in_place::serves(p, gradient) => step::<f32>(p, gradient, moments, config)?,
                DType::F64 if in_place::serves(p, gradient) => step::<f64>(p, gradient, moments, config)?,
                _ => composed(&parameter.var, gradient, moments, config)?,
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
