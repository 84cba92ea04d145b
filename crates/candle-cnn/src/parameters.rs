//! A network's parameters: a seeded store behind candle's [`VarBuilder`].
//!
//! candle's own `VarMap` uses generators that can't be seeded on the CPU, returns its variables in random order, and
//! mixes parameters with buffers. This store draws each parameter's values from a stream keyed by (seed, name), keeps
//! the order of creation, and separates parameters from buffers. It follows a layer's [`Init`] hint, so candle_nn's
//! layers work with it too.

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, init::NormalOrUniform, var_builder::SimpleBackend};
use rand::Rng;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use crate::random::stream;
use crate::turns::{Owner, read_of};
pub use crate::turns::{Updating, read_between_steps};

/// The name of batch norm's running mean, one of its [buffers](Parameters::trainable).
pub(crate) const RUNNING_MEAN: &str = "running_mean";
/// The name of its running variance.
pub(crate) const RUNNING_VAR: &str = "running_var";
/// The name of its number of batches.
pub(crate) const NUM_BATCHES_TRACKED: &str = "num_batches_tracked";

/// All parameters and buffers of a network, by name and in order of creation. Clones share them.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
///
/// let parameters = Parameters::new(7);
/// let vb = parameters.var_builder(&Device::Cpu);
/// let layer = candle_nn::linear(4, 2, vb.pp("fc"))?;
/// let names: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["fc.weight", "fc.bias"]);
/// // The same seed gives the same numbers, whatever else was made before.
/// let again = Parameters::new(7);
/// candle_nn::linear(9, 9, again.var_builder(&Device::Cpu).pp("other"))?;
/// let same = candle_nn::linear(4, 2, again.var_builder(&Device::Cpu).pp("fc"))?;
/// assert_eq!(layer.weight().to_vec2::<f32>()?, same.weight().to_vec2::<f32>()?);
/// // Batch norm's running statistics are buffers: saved, but not trained.
/// vb.pp("bn").get(8, "running_mean")?;
/// assert_eq!((parameters.trainable().len(), parameters.count()), (2, 4 * 2 + 2));
/// // A state dict that doesn't match is rejected with every difference.
/// let error = parameters.load_state_dict(&again.state_dict()?).unwrap_err().to_string();
/// assert!(error.contains("missing bn.running_mean") && error.contains("unexpected other.bias"));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    seed: u64,
    entries: Arc<RwLock<Vec<(String, Var)>>>,
    owner: Owner,
}

/// Why a state dict does not match a network; lists every difference, not only the first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state dict does not match the network: {}", self.describe())]
pub struct StateDictMismatch {
    /// Names that the network has and the state dict lacks.
    pub missing: Vec<String>,
    /// Names that the state dict has and the network lacks.
    pub unexpected: Vec<String>,
    /// Names with the shape found in the state dict and the shape that the network wants.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl StateDictMismatch {
    fn describe(&self) -> String {
        if let Some(prefix) = prefix(&self.unexpected, &self.missing) {
            return format!(
                "its names begin with {prefix:?} (DataParallel and torch.compile add such a prefix), and the network's do \
                 not: take it off before loading"
            );
        }
        if let Some(prefix) = prefix(&self.missing, &self.unexpected) {
            return format!(
                "the network's names begin with {prefix:?}, and the state dict's do not: add it to them before loading"
            );
        }
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing {}", self.missing.join(", ")));
        }
        if !self.unexpected.is_empty() {
            parts.push(format!("unexpected {}", self.unexpected.join(", ")));
        }
        for (name, found, wanted) in &self.wrong_shape {
            parts.push(format!("{name} has shape {found:?}, expected {wanted:?}"));
        }
        parts.join("; ")
    }
}

/// What stands before each of the `longer` names, where without it they are all among the `shorter` ones.
fn prefix<'a>(longer: &'a [String], shorter: &[String]) -> Option<&'a str> {
    let known: HashSet<&str> = shorter.iter().map(String::as_str).collect();
    let (first, _) = longer.first().zip(shorter.first())?;
    let ends = first.match_indices('.').map(|(at, _)| &first[..=at]);
    // The number of batches may be missing, and then is not among those that are.
    let fits = |rest: &str| known.contains(rest) || is_batch_count(rest);
    ends.into_iter().find(|prefix| longer.iter().all(|name| name.strip_prefix(prefix).is_some_and(fits)))
}

impl Parameters {
    /// An empty store whose initial values will be drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, entries: Arc::default(), owner: Owner::default() }
    }

    /// The seed for initial values.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether `other` is a clone of this, with the same variables.
    pub fn is_same(&self, other: &Self) -> bool {
        self.owner.is(&other.owner)
    }

    /// A `VarBuilder` for f32 parameters on `device`; the same name always gives the same variable.
    pub fn var_builder(&self, device: &Device) -> VarBuilder<'static> {
        self.var_builder_with_dtype(DType::F32, device)
    }

    /// Like [`Self::var_builder`], for parameters of another floating-point type.
    pub fn var_builder_with_dtype(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<(String, Var)>> {
        // A thread that panicked while holding the lock has at worst not added its entry.
        self.entries.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All parameters and buffers with their names, in order of creation. The variables are shared, not copied. On a GPU,
    /// nothing orders reading one and a training on another thread that updates it: read a [snapshot](Self::snapshot), or
    /// within [`read_between_steps`].
    pub fn named(&self) -> Vec<(String, Var)> {
        self.read().clone()
    }

    /// What an optimizer trains, in order of creation: everything but buffers.
    ///
    /// A layer makes a tensor a buffer (PyTorch's `register_buffer`) by asking for it as integers, which can't be trained,
    /// or under one of batch norm's names: `running_mean`, `running_var`, `num_batches_tracked`. candle's [`VarBuilder`]
    /// has no other way to say so: a store receives a name, a shape, initial values, a type and a device. A floating-point
    /// buffer with another name therefore counts as trained, but it has no gradient, so an optimizer doesn't change it.
    pub fn trainable(&self) -> Vec<Var> {
        self.read().iter().filter(|(name, var)| !is_buffer(name, var)).map(|(_, var)| var.clone()).collect()
    }

    /// The number of trained values (a weight of shape [32, 3, 3, 3] counts 864), buffers left out.
    pub fn count(&self) -> usize {
        self.trainable().iter().map(|var| var.elem_count()).sum()
    }

    /// The parameter or buffer called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.read().iter().find(|(known, _)| known == name).map(|(_, var)| var.clone())
    }

    /// A copy of every parameter and buffer by name, like PyTorch's `state_dict()`; later training does not change it.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn state_dict(&self) -> Result<HashMap<String, Tensor>> {
        Ok(self.snapshot()?.into_iter().collect())
    }

    /// A copy of every parameter and buffer, in order of creation. While a training [updates](Self::update) them, all
    /// are of one moment, between two of its steps.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>> {
        read_of(&self.owner, || {
            let entries = self.read();
            let copies = entries.iter().map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?)));
            let copies = copies.collect::<Result<_>>()?;
            // On a GPU each thread has its own stream: what is copied must be so before the training goes on.
            entries.first().map_or(Ok(()), |(_, var)| var.device().synchronize())?;
            Ok(copies)
        })
    }

    /// Begins a training on this thread: until the returned guard is dropped, [snapshots](Self::snapshot) on other
    /// threads wait for its [breaks](Updating::pause).
    ///
    /// ```
    /// use candle_cnn::parameters::Parameters;
    /// use candle_core::{Device, Tensor};
    ///
    /// let parameters = Parameters::new(0);
    /// let weights = ["a", "b"].map(|name| parameters.var_builder(&Device::Cpu).get(1000, name).unwrap());
    /// let reader = { let parameters = parameters.clone(); std::thread::spawn(move || parameters.state_dict()) };
    /// let updating = parameters.update();
    /// for step in 0..100 {
    ///     for name in ["a", "b"] {
    ///         parameters.get(name).unwrap().set(&Tensor::full(step as f32, 1000, &Device::Cpu)?)?;
    ///     }
    ///     if updating.is_awaited() {
    ///         updating.pause(|| ());
    ///     }
    /// }
    /// drop(updating);
    /// let read = reader.join().unwrap()?;
    /// assert_eq!(read["a"].to_vec1::<f32>()?, read["b"].to_vec1::<f32>()?);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn update(&self) -> Updating {
        Updating::new(&self.owner)
    }

    /// Whether [`Self::load_state_dict`] would take `state_dict`.
    ///
    /// # Errors
    /// [`StateDictMismatch`] (wrapped) if names or shapes differ.
    pub fn check_state_dict(&self, state_dict: &HashMap<String, Tensor>) -> Result<()> {
        let entries = self.named();
        let known: HashSet<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        let mut mismatch = StateDictMismatch { missing: vec![], unexpected: vec![], wrong_shape: vec![] };
        let fits = |found: &[usize], wanted: &[usize]| {
            found == wanted || (wanted.is_empty() && matches!(found, [count] if *count > 0))
        };
        for (name, var) in &entries {
            match state_dict.get(name) {
                None if is_batch_count(name) => {}
                None => mismatch.missing.push(name.clone()),
                Some(tensor) if !fits(tensor.dims(), var.dims()) => {
                    mismatch.wrong_shape.push((name.clone(), tensor.dims().to_vec(), var.dims().to_vec()));
                }
                Some(_) => {}
            }
        }
        mismatch.unexpected = state_dict.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        mismatch.unexpected.sort();
        if !(mismatch.missing.is_empty() && mismatch.unexpected.is_empty() && mismatch.wrong_shape.is_empty()) {
            return Err(Error::wrap(mismatch));
        }
        Ok(())
    }

    /// Sets every parameter and buffer from `state_dict`, like PyTorch's `load_state_dict(strict=True)`. Values are
    /// converted to each variable's type and device. As there, batch norm's `num_batches_tracked` may be missing (old
    /// files lack it) and then keeps its value; and a scalar variable takes the first value of a one-dimensional
    /// tensor.
    ///
    /// # Errors
    /// [`StateDictMismatch`] (wrapped) if names or shapes differ; then nothing is changed.
    pub fn load_state_dict(&self, state_dict: &HashMap<String, Tensor>) -> Result<()> {
        self.check_state_dict(state_dict)?;
        let entries = self.named();
        // Converted first and set last, so that a failed conversion changes nothing.
        let mut converted = Vec::with_capacity(entries.len());
        for (name, var) in &entries {
            let Some(tensor) = state_dict.get(name) else { continue };
            let tensor = if var.rank() < tensor.rank() { tensor.get(0)? } else { tensor.clone() };
            let value = tensor.to_dtype(var.dtype())?.to_device(var.device())?;
            converted.push((var, value.contiguous()?));
        }
        converted.into_iter().try_for_each(|(var, value)| var.set(&value))
    }
}

/// Whether this is saved but not trained; see [`Parameters::trainable`].
fn is_buffer(name: &str, var: &Var) -> bool {
    !var.dtype().is_float() || [RUNNING_MEAN, RUNNING_VAR, NUM_BATCHES_TRACKED].contains(&last_part(name))
}

/// Whether `name` is the number of batches that a batch norm has seen.
fn is_batch_count(name: &str) -> bool {
    last_part(name) == NUM_BATCHES_TRACKED
}

/// `weight` of `conv1.weight`.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Draws a variable's initial values from the stream of its name, in f64, then rounds to `dtype`: the values do not
/// depend on the device, nor, up to rounding, on the type.
fn initial(seed: u64, name: &str, shape: &Shape, init: Init, dtype: DType, device: &Device) -> Result<Var> {
    let mut random = stream(seed, &format!("parameter {name}"), &[]);
    let mut uniform = |lo: f64, up: f64| lo + (up - lo) * random.random::<f64>();
    let count = shape.elem_count();
    let normal = |mean: f64, stdev: f64, uniform: &mut dyn FnMut(f64, f64) -> f64| -> Vec<f64> {
        // Box and Muller's transform (1958); 1 − u lies in (0, 1], so the logarithm is finite.
        let draw = |_| {
            let radius = (-2.0 * (1.0 - uniform(0.0, 1.0)).ln()).sqrt();
            mean + stdev * radius * (std::f64::consts::TAU * uniform(0.0, 1.0)).cos()
        };
        (0..count).map(draw).collect()
    };
    let values: Vec<f64> = match init {
        Init::Const(value) => vec![value; count],
        Init::Uniform { lo, up } => (0..count).map(|_| uniform(lo, up)).collect(),
        Init::Randn { mean, stdev } => normal(mean, stdev, &mut uniform),
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Normal => normal(0.0, stdev, &mut uniform),
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * stdev;
                    (0..count).map(|_| uniform(-bound, bound)).collect()
                }
            }
        }
    };
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
    Var::from_tensor(&tensor)
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut entries = self.entries.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, var)) = entries.iter().find(|(known, _)| known == name) {
            if var.shape() != &shape {
                return Err(Error::UnexpectedShape {
                    msg: format!(
                        "parameter {name} already exists with another shape; give a second network its own Parameters"
                    ),
                    expected: shape,
                    got: var.shape().clone(),
                });
            }
            return Ok(var.as_tensor().clone());
        }
        let var = initial(self.seed, name, &shape, init, dtype, device)?;
        let tensor = var.as_tensor().clone();
        entries.push((name.to_string(), var));
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> Result<Tensor> {
        match Parameters::get(self, name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => candle_core::bail!("there is no parameter {name}, and a new one needs a shape"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        Parameters::get(self, name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, shape: &[usize], init: Init) -> Result<Vec<f32>> {
        let vb = Parameters::new(seed).var_builder(&Device::Cpu);
        vb.get_with_hints(shape, name, init)?.flatten_all()?.to_vec1()
    }

    #[test]
    fn initial_values_follow_the_hint() -> Result<()> {
        let uniform = values(1, "w", &[100, 100], Init::Uniform { lo: -0.2, up: 0.2 })?;
        assert!(uniform.iter().all(|v| v.abs() <= 0.2));
        assert!(uniform.iter().any(|v| v.abs() > 0.19));
        let kaiming = values(1, "w", &[100, 100], candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
        let variance = kaiming.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / kaiming.len() as f64;
        // Kaiming: 2 / fan_in = 0.02; the variance of 10,000 normal values is known to 1.4 %, five times that.
        assert!((variance / 0.02 - 1.0).abs() < 0.07, "variance {variance}");
        assert_eq!(values(1, "w", &[3], Init::Const(0.5))?, [0.5; 3]);
        Ok(())
    }

    #[test]
    fn values_depend_on_seed_and_name_only() -> Result<()> {
        let init = Init::Uniform { lo: 0.0, up: 1.0 };
        assert_eq!(values(1, "w", &[9], init)?, values(1, "w", &[9], init)?);
        assert_ne!(values(1, "w", &[9], init)?, values(2, "w", &[9], init)?);
        assert_ne!(values(1, "w", &[9], init)?, values(1, "v", &[9], init)?);
        Ok(())
    }

    #[test]
    fn a_second_shape_under_one_name_is_an_error() -> Result<()> {
        let vb = Parameters::new(0).var_builder(&Device::Cpu);
        vb.get(3, "bias")?;
        let error = vb.get(4, "bias").unwrap_err().to_string();
        assert!(error.contains("bias"), "{error}");
        Ok(())
    }

    #[test]
    fn buffers_are_not_trained() -> Result<()> {
        let parameters = Parameters::new(0);
        let vb = parameters.var_builder(&Device::Cpu);
        crate::layers::batch_norm2d(2, 1e-5, vb.pp("ours"))?;
        candle_nn::batch_norm(2, 1e-5, vb.pp("candle"))?;
        vb.get_with_hints_dtype(3, "steps", Init::Const(0.0), DType::I64)?;
        vb.get(3, "my_running_mean")?;
        // Weight and bias of both, and what no layer calls a buffer.
        assert_eq!((parameters.trainable().len(), parameters.count()), (5, 4 * 2 + 3));
        Ok(())
    }

    fn with_batch_norm() -> Result<Parameters> {
        let parameters = Parameters::new(0);
        crate::layers::batch_norm2d(2, 1e-5, parameters.var_builder(&Device::Cpu).pp("bn1"))?;
        Ok(parameters)
    }

    #[test]
    fn the_count_of_batches_may_be_missing_and_may_have_a_dimension() -> Result<()> {
        let parameters = with_batch_norm()?;
        let count = || parameters.get("bn1.num_batches_tracked").unwrap().to_scalar::<i64>();
        let mut saved = parameters.state_dict()?;
        saved.insert("bn1.num_batches_tracked".into(), Tensor::new(&[7f32, 8.0], &Device::Cpu)?);
        parameters.load_state_dict(&saved)?;
        assert_eq!(count()?, 7);
        saved.remove("bn1.num_batches_tracked");
        parameters.load_state_dict(&saved)?;
        assert_eq!(count()?, 7);
        saved.remove("bn1.running_mean");
        let error = parameters.load_state_dict(&saved).unwrap_err().to_string();
        assert!(error.starts_with("the state dict does not match the network: missing bn1.running_mean"), "{error}");
        assert!(!error.contains("num_batches_tracked"), "{error}");
        Ok(())
    }

    #[test]
    fn a_prefix_before_all_names_is_named() -> Result<()> {
        let parameters = with_batch_norm()?;
        let renamed = |rename: fn(String) -> String| -> Result<String> {
            let saved = parameters.state_dict()?.into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
            Ok(parameters.load_state_dict(&saved).unwrap_err().to_string())
        };
        assert!(renamed(|name| format!("module.{name}"))?.contains("its names begin with \"module.\""));
        assert!(renamed(|name| format!("net._orig_mod.{name}"))?.contains("begin with \"net._orig_mod.\""));
        let shorter = renamed(|name| name.trim_start_matches("bn1.").to_string())?;
        assert!(shorter.contains("the network's names begin with \"bn1.\""), "{shorter}");
        let other =
            renamed(|name| if name.ends_with("bias") { "module.else".into() } else { format!("module.{name}") })?;
        assert!(other.contains("missing bn1.weight"), "{other}");
        Ok(())
    }

    #[test]
    fn state_dicts_go_there_and_back() -> Result<()> {
        let (first, second) = (Parameters::new(1), Parameters::new(2));
        for parameters in [&first, &second] {
            candle_nn::linear(3, 2, parameters.var_builder(&Device::Cpu))?;
        }
        let saved = first.state_dict()?;
        second.load_state_dict(&saved)?;
        for (name, var) in second.named() {
            assert_eq!(var.flatten_all()?.to_vec1::<f32>()?, saved[&name].flatten_all()?.to_vec1::<f32>()?);
        }
        // A state dict is a copy: training on does not reach it.
        let bias = first.get("bias").ok_or_else(|| Error::Msg("bias".into()))?;
        bias.set(&bias.zeros_like()?)?;
        assert_ne!(saved["bias"].to_vec1::<f32>()?, [0.0, 0.0]);
        Ok(())
    }
}
