//! Differentiable operations on candle tensors, as free functions.
//!
//! Each runs on the CPU in `f32` (fast) or `f64` (for references and finite differences), and with the feature `cuda` on
//! an NVIDIA GPU in `f32`. Other types and other devices fall back on candle's own operations, put together so that the
//! gradients are right.
//! Definitions follow `torch.nn.functional`; tensors of pictures are `[N, C, H, W]`.

mod activation;
mod batch_norm2d;
mod check;
mod conv2d;
mod conv_block;
mod count_correct;
mod cross_entropy;
mod gather_images;
mod lineage;
mod linear;
mod matmul;
mod pool2d;
mod sums;

#[cfg(feature = "cuda")]
pub(crate) use conv_block::BlockInputs;
#[cfg(feature = "cuda")]
pub(crate) use conv2d::Geometry;
#[cfg(feature = "cuda")]
pub(crate) use pool2d::Windows;

pub use activation::{flatten, relu};
pub use batch_norm2d::{BatchNormConfig, RunningStatistics, batch_norm2d};
pub use conv_block::{Convolution, Normalisation, conv_batch_norm_relu_max_pool};
pub use conv2d::{Conv2dConfig, conv2d};
pub use count_correct::count_correct;
pub use cross_entropy::{cross_entropy, cross_entropy_with_label_smoothing};
pub use gather_images::{Placement, gather_images};
pub use linear::linear;
pub use pool2d::{avg_pool2d, max_pool2d};
