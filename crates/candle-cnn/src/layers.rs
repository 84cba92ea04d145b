//! Layers: an operation together with its parameters.
//!
//! They are built from candle_nn's [`VarBuilder`] under PyTorch's names (`weight`, `bias`,
//! `running_mean`, …) with PyTorch's initial values, and implement candle_nn's [`Module`](candle_nn::Module) or, where
//! training and inference differ, [`ModuleT`](candle_nn::ModuleT); so they mix with candle_nn's own layers. A layer is
//! cheap to clone; clones share their parameters. Each reports its calls to [`trace`](crate::trace).

mod batch_norm2d;
mod conv2d;
mod conv_block;
mod dropout;
mod linear;
mod sequential;
mod stateless;

pub use crate::ops::{BatchNormConfig, Conv2dConfig};
pub use batch_norm2d::{BatchNorm2d, batch_norm2d};
pub use conv_block::{ConvBlock, conv_bn_relu_max_pool};
pub use conv2d::{Conv2d, conv2d, conv2d_no_bias};
pub use dropout::Dropout;
pub use linear::{Linear, linear, linear_no_bias};
pub use sequential::Sequential;
pub use stateless::{AvgPool2d, Flatten, MaxPool2d, Relu};

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// A parameter with PyTorch's default initial values for convolutions and linear layers: U(−1/√fan_in, 1/√fan_in).
fn uniform_by_fan_in(vb: &VarBuilder, shape: &[usize], name: &str, fan_in: usize) -> Result<Tensor> {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    vb.get_with_hints(shape, name, Init::Uniform { lo: -bound, up: bound })
}

fn count(parameters: &[Option<&Tensor>]) -> usize {
    parameters.iter().flatten().map(|parameter| parameter.elem_count()).sum()
}
