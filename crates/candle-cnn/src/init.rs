//! PyTorch's initial values.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// A parameter with PyTorch's default initial values for convolutions and linear layers: U(−1/√fan_in, 1/√fan_in).
pub(crate) fn uniform_by_fan_in(vb: &VarBuilder, shape: &[usize], name: &str, fan_in: usize) -> Result<Tensor> {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    vb.get_with_hints(shape, name, Init::Uniform { lo: -bound, up: bound })
}

/// The number of trained values in some parameters.
pub(crate) fn count(parameters: &[Option<&Tensor>]) -> usize {
    parameters.iter().flatten().map(|parameter| parameter.elem_count()).sum()
}
