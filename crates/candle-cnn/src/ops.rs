//! Differentiable operations on candle tensors, as free functions.
//!
//! Each runs on the CPU in `f32` (fast) or `f64` (for references and finite differences), and with the feature `cuda`
//! on an NVIDIA GPU in `f32`. Other types and devices fall back on candle's own operations, combined so that the
//! gradients are correct. Definitions follow `torch.nn.functional`; image tensors are `[N, C, H, W]`.

pub use crate::activation::gelu::{gelu, gelu_tanh};
pub use crate::activation::relu;
pub use crate::activation::scale::scale;
pub use crate::add::add;
pub use crate::batch_norm2d::batch_norm2d;
pub use crate::batch_norm2d::running::RunningStatistics;
pub use crate::config::{BatchNormConfig, Conv2dConfig, CrossEntropyConfig, Reduction};
pub use crate::conv2d::conv2d;
pub use crate::cross_entropy::count_correct::count_correct;
pub use crate::cross_entropy::{cross_entropy, cross_entropy_with, cross_entropy_with_label_smoothing};
pub use crate::flatten::flatten;
pub use crate::gather_images::{Placement, gather_images, reflected};
pub use crate::linear::linear;
pub use crate::pool2d::{avg_pool2d, max_pool2d};
