//! Layers: an operation together with its parameters.
//!
//! They are built from candle_nn's [`VarBuilder`](candle_nn::VarBuilder) under PyTorch's names (`weight`, `bias`,
//! `running_mean`, …) with PyTorch's initial values, and implement candle_nn's [`Module`](candle_nn::Module) or, where
//! training and inference differ, [`ModuleT`](candle_nn::ModuleT); so they can be mixed with candle_nn's own layers.
//! Layers are cheap to clone; clones share their parameters. Each reports its calls to [`trace`](crate::trace).

pub use crate::activation::layer::Relu;
pub use crate::batch_norm2d::layer::{BatchNorm2d, batch_norm2d};
pub use crate::block::ConvBlock;
pub use crate::config::{Activation, BatchNormConfig, BlockPool, Conv2dConfig, ConvBlockConfig, Gelu};
pub use crate::conv2d::layer::{Conv2d, conv2d, conv2d_dirac, conv2d_no_bias};
pub use crate::dropout::Dropout;
pub use crate::flatten::Flatten;
pub use crate::linear::layer::{Linear, linear, linear_no_bias};
pub use crate::pool2d::layer::{AvgPool2d, MaxPool2d};
pub use crate::sequential::Sequential;
