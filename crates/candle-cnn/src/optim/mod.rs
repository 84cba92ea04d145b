//! Optimizers as defined by `torch.optim`: [`SGD`] and [`AdamW`], in place and in one pass over the parameters; and
//! [`Muon`], which orthogonalizes the updates of matrices.
//!
//! On a GPU (feature `cuda`) in `f32` one launch of SGD or AdamW steps all parameters, without waiting for the GPU; both
//! are [`Capturable`] in a CUDA graph.
//!
//! All implement candle_nn's [`Optimizer`](candle_nn::Optimizer), skip parameters without a gradient, take groups
//! of parameters with their own settings, and can save and restore their state.

mod adamw;
pub(crate) mod capturable;
mod clip;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod groups;
mod in_place;
mod muon;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use capturable::Capturable;
pub use clip::clip_gradients_by_norm;
pub use groups::ParameterGroup;
pub use muon::{Muon, MuonConfig, MuonScaling, orthogonalize};
pub use sgd::{SGD, SgdConfig};
