//! Networks on disk: any network's parameters and buffers by name, as PyTorch's `.pth` or as safetensors, with a card
//! that says what they are; and checkpoints, which hold the optimiser's state too.
//!
//! | file | what it holds |
//! |---|---|
//! | `file.rs` | a file of weights: its format told, its bytes read and written |
//! | `weights.rs` | [`save_pth`], [`load_pth`], [`read_pth`], [`save_safetensors`], [`load_safetensors`] |
//! | `model_card.rs` | [`ModelCard`]: classes, normalisation, data set, accuracy, settings |
//! | `onnx.rs`, `onnx_format.rs` | [`save_onnx`]: a network for programs that know neither Rust nor Python |
//! | `resume.rs` | [`save_checkpoint`], [`load_checkpoint`]: a training that goes on later |
//!
//! Every file is whole or the old one stays: it is written beside and renamed.

mod file;
mod model_card;
mod onnx;
mod onnx_format;
mod resume;
mod weights;

pub(crate) use file::save_tensors;
pub use model_card::ModelCard;
pub use onnx::save_onnx;
pub use resume::{ResumableOptimizer, load_checkpoint, save_checkpoint};
pub(crate) use weights::load_tensors;
pub use weights::{load_pth, load_safetensors, read_pth, save_pth, save_safetensors};
