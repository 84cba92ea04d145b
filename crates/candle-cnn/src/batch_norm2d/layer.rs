use candle_core::{DType, Error, Result, Tensor, Var};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::running::RunningStatistics;
use crate::batch_norm2d;
use crate::config::BatchNormConfig;
use crate::init::count;
use crate::parameters::{NUM_BATCHES_TRACKED, RUNNING_MEAN, RUNNING_VAR};
use crate::trace::{self, LayerCall, Operation};

/// Batch normalization with its weight and bias `[C]` and running statistics; see
/// [`ops::batch_norm2d`](crate::ops::batch_norm2d). In training mode the running statistics are updated in place.
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    name: String,
    running: RunningStatistics,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    config: BatchNormConfig,
}

impl BatchNorm2d {
    /// A layer around given parameters, each `[C]`.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(
        running: RunningStatistics,
        weight: Option<Tensor>,
        bias: Option<Tensor>,
        config: BatchNormConfig,
    ) -> Result<Self> {
        config.check()?;
        Ok(Self { name: String::new(), running, weight, bias, config })
    }

    /// The scale of each channel, `[C]`, if there is one.
    pub fn weight(&self) -> Option<&Tensor> {
        self.weight.as_ref()
    }

    /// The shift of each channel, `[C]`, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Running mean and variance, and the number of batches seen.
    pub fn running(&self) -> &RunningStatistics {
        &self.running
    }

    /// eps, momentum, and which parameters there are.
    pub fn config(&self) -> BatchNormConfig {
        self.config
    }
}

impl ModuleT for BatchNorm2d {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let (weight, bias) = (self.weight.as_ref(), self.bias.as_ref());
        let y = batch_norm2d::batch_norm2d(x, Some(&self.running), weight, bias, self.config, train)?;
        trace::report(y, |y| LayerCall {
            name: self.name.clone(),
            kind: "BatchNorm2d",
            settings: format!("{}", self.running.mean.elem_count()),
            operation: Operation::BatchNorm2d {
                running_mean: self.running.mean.as_tensor().clone(),
                running_var: self.running.var.as_tensor().clone(),
                weight: self.weight.clone(),
                bias: self.bias.clone(),
                eps: self.config.eps,
                train,
            },
            inputs: vec![x.clone()],
            output: y.clone(),
            parameters: count(&[weight, bias]),
            // One per value for scale and shift, if any.
            multiply_adds: if weight.or(bias).is_some() { y.elem_count() as u64 } else { 0 },
        })
    }
}

fn is_missing(error: &Error) -> bool {
    match error {
        Error::CannotFindTensor { .. } => true,
        Error::WithBacktrace { inner, .. } | Error::WithPath { inner, .. } | Error::Context { inner, .. } => {
            is_missing(inner)
        }
        _ => false,
    }
}

/// Batch normalization of `features` channels, as `torch.nn.BatchNorm2d`: parameters `weight` (1) and `bias` (0), each
/// where `config` asks for it, buffers `running_mean` (0), `running_var` (1) and `num_batches_tracked` (0, `i64`).
///
/// ```
/// use candle_cnn::{layers::{BatchNormConfig, batch_norm2d}, parameters::Parameters};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::ModuleT;
/// let bn1 = batch_norm2d(8, BatchNormConfig::default(), Parameters::new(0).var_builder(&Device::Cpu).pp("bn1"))?;
/// let x = Tensor::randn(0f32, 1., (4, 8, 5, 5), &Device::Cpu)?;
/// assert_eq!(bn1.forward_t(&x, true)?.dims(), [4, 8, 5, 5]);
/// assert_eq!(bn1.running().num_batches_tracked.as_ref().unwrap().to_scalar::<i64>()?, 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If a setting is out of range or `vb` has other shapes under these names.
pub fn batch_norm2d(features: usize, config: impl Into<BatchNormConfig>, vb: VarBuilder) -> Result<BatchNorm2d> {
    with_config(features, config.into(), vb)
}

/// Not generic: whoever calls it would compile it.
fn with_config(features: usize, config: BatchNormConfig, vb: VarBuilder) -> Result<BatchNorm2d> {
    config.check()?;
    let get = |name: &str, value: f64| vb.get_with_hints(features, name, Init::Const(value));
    let weight = config.weight.then(|| get("weight", 1.0)).transpose()?;
    let bias = config.bias.then(|| get("bias", 0.0)).transpose()?;
    let mean = Var::from_tensor(&get(RUNNING_MEAN, 0.0)?)?;
    let var = Var::from_tensor(&get(RUNNING_VAR, 1.0)?)?;
    // Weights from elsewhere may lack the counter, which does not affect the result.
    let count = match vb.get_with_hints_dtype((), NUM_BATCHES_TRACKED, Init::Const(0.0), DType::I64) {
        Ok(count) => Var::from_tensor(&count)?,
        Err(error) if is_missing(&error) => Var::zeros((), DType::I64, vb.device())?,
        Err(error) => return Err(error),
    };
    let running = RunningStatistics { mean, var, num_batches_tracked: Some(count) };
    Ok(BatchNorm2d { name: vb.prefix(), running, weight, bias, config })
}
