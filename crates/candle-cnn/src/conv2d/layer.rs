use candle_core::{Result, Tensor, Var};
use candle_nn::{Module, VarBuilder};

use crate::check;
use crate::config::Conv2dConfig;
use crate::conv2d;
use crate::init::{count, dirac, uniform_by_fan_in};
use crate::trace::{self, LayerCall, Operation};

/// A convolution with its weight `[O, C / groups, KH, KW]` and bias `[O]`; see [`ops::conv2d`](crate::ops::conv2d).
#[derive(Clone, Debug)]
pub struct Conv2d {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A layer around given parameters: `weight` `[O, C / groups, KH, KW]`, `bias` `[O]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: Conv2dConfig) -> Self {
        Self { name: String::new(), weight, bias, config }
    }

    /// The weight, `[O, C / groups, KH, KW]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[O]`, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Padding, stride, dilation and groups.
    pub fn config(&self) -> Conv2dConfig {
        self.config
    }

    /// The same layer, whose weight gets no gradient; its bias still does.
    pub fn with_frozen_weight(&self) -> Self {
        Self { weight: self.weight.detach(), ..self.clone() }
    }

    fn settings(&self) -> String {
        let Ok((outputs, inputs, kh, kw)) = self.weight.dims4() else { return String::new() };
        let Conv2dConfig { padding, stride, dilation, groups } = self.config;
        let mut settings = format!("{}→{outputs}, {kh}×{kw}", inputs * groups);
        for (name, value, default) in
            [("padding", padding, 0), ("stride", stride, 1), ("dilation", dilation, 1), ("groups", groups, 1)]
        {
            if value != default {
                settings += &format!(", {name} {value}");
            }
        }
        settings
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = conv2d::conv2d(x, &self.weight, self.bias.as_ref(), self.config)?;
        trace::report(y, |y| {
            // Each output value takes one multiply-add per weight of its channel.
            let per_value = self.weight.elem_count() / self.weight.dims()[0];
            LayerCall {
                name: self.name.clone(),
                kind: "Conv2d",
                settings: self.settings(),
                operation: Operation::Conv2d {
                    weight: self.weight.clone(),
                    bias: self.bias.clone(),
                    config: self.config,
                },
                inputs: vec![x.clone()],
                output: y.clone(),
                parameters: count(&[Some(&self.weight), self.bias.as_ref()]),
                multiply_adds: (y.elem_count() * per_value) as u64,
            }
        })
    }
}

fn build(inputs: usize, outputs: usize, kernel: usize, config: Conv2dConfig, vb: &VarBuilder) -> Result<Conv2d> {
    config.check_channels(inputs, outputs)?;
    let group = inputs / config.groups;
    let weight = uniform_by_fan_in(vb, &[outputs, group, kernel, kernel], "weight", group * kernel * kernel)?;
    Ok(Conv2d { name: vb.prefix(), weight, bias: None, config })
}

/// A convolution from `inputs` to `outputs` channels with a `kernel` × `kernel` weight and a bias, as
/// `torch.nn.Conv2d`: parameters `weight` and `bias`, both from U(±1/√fan_in), fan_in = inputs / groups · kernel².
///
/// ```
/// use candle_cnn::{layers::{Conv2dConfig, conv2d}, parameters::Parameters};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// let parameters = Parameters::new(0);
/// let vb = parameters.var_builder(&Device::Cpu);
/// let conv1 = conv2d(3, 32, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("conv1"))?;
/// let x = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(conv1.forward(&x)?.dims(), [1, 32, 32, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If the channels are not divisible by the groups, a setting is 0, or `vb` has other shapes under these names.
pub fn conv2d(inputs: usize, outputs: usize, kernel: usize, config: Conv2dConfig, vb: VarBuilder) -> Result<Conv2d> {
    let conv = build(inputs, outputs, kernel, config, &vb)?;
    let fan_in = inputs / config.groups * kernel * kernel;
    Ok(Conv2d { bias: Some(uniform_by_fan_in(&vb, &[outputs], "bias", fan_in)?), ..conv })
}

/// Like [`conv2d`], without a bias; for a convolution before a batch norm, whose shift replaces it.
///
/// # Errors
/// As for [`conv2d`].
pub fn conv2d_no_bias(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    config: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    build(inputs, outputs, kernel, config, &vb)
}

/// Like [`conv2d_no_bias`], with a weight that at first passes the input channels on; see [`init::dirac`](dirac). A weight
/// that `vb` already has stays as it is.
///
/// # Errors
/// As for [`conv2d`]; and if there are groups.
pub fn conv2d_dirac(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    config: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    check::setting("conv2d_dirac", "groups", config.groups, config.groups == 1, "1")?;
    let known = vb.contains_tensor("weight");
    let conv = build(inputs, outputs, kernel, config, &vb)?;
    if !known && conv.weight.is_variable() {
        // The same variable, not a copy.
        dirac(&Var::from_tensor(&conv.weight)?)?;
    }
    Ok(conv)
}
