use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use crate::init::{count, uniform_by_fan_in};
use crate::linear;
use crate::trace::{self, LayerCall, Operation};

/// A linear layer with its weight `[O, I]` and bias `[O]`; see [`ops::linear`](crate::ops::linear).
#[derive(Clone, Debug)]
pub struct Linear {
    name: String,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer around given parameters: `weight` `[O, I]`, `bias` `[O]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { name: String::new(), weight, bias }
    }

    /// The weight, `[O, I]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[O]`, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = linear::linear(x, &self.weight, self.bias.as_ref())?;
        trace::report(y, |y| {
            let (outputs, inputs) = (self.weight.dims()[0], self.weight.dims()[1]);
            LayerCall {
                name: self.name.clone(),
                kind: "Linear",
                settings: format!("{inputs}→{outputs}"),
                operation: Operation::Linear { weight: self.weight.clone(), bias: self.bias.clone() },
                inputs: vec![x.clone()],
                output: y.clone(),
                parameters: count(&[Some(&self.weight), self.bias.as_ref()]),
                multiply_adds: (y.elem_count() * inputs) as u64,
            }
        })
    }
}

/// A linear layer from `inputs` to `outputs` features with a bias, as `torch.nn.Linear`: parameters `weight`
/// and `bias`, both from U(±1/√inputs).
///
/// ```
/// use candle_cnn::{layers::linear, parameters::Parameters};
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// let fc = linear(8, 10, Parameters::new(0).var_builder(&Device::Cpu).pp("fc"))?;
/// assert_eq!(fc.forward(&Tensor::zeros((2, 8), DType::F32, &Device::Cpu)?)?.dims(), [2, 10]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `vb` has other shapes under these names.
pub fn linear(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Linear> {
    let layer = linear_no_bias(inputs, outputs, vb.clone())?;
    Ok(Linear { bias: Some(uniform_by_fan_in(&vb, &[outputs], "bias", inputs)?), ..layer })
}

/// Like [`linear`], without a bias.
///
/// # Errors
/// As for [`linear`].
pub fn linear_no_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = uniform_by_fan_in(&vb, &[outputs, inputs], "weight", inputs)?;
    Ok(Linear { name: vb.prefix(), weight, bias: None })
}
