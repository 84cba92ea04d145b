//! Networks on disk: parameters and buffers by name, as PyTorch's `.pth` or as safetensors, with a model card; and
//! checkpoints, which include the optimizer's state.
//!
//! | file | what it holds |
//! |---|---|
//! | `file.rs` | the file formats |
//! | `weights.rs` | [`save_pth`], [`load_pth`], [`read_pth`], [`save_safetensors`], [`load_safetensors`] |
//! | `model_card.rs` | [`ModelCard`]: classes, normalization, data set, accuracy, settings |
//! | `onnx.rs`, `onnx_format.rs` | [`save_onnx`]: a network for programs in any language |
//! | `resume.rs` | [`save_checkpoint`], [`load_checkpoint`]: to resume training |
//! | `folder.rs` | a run's last checkpoints |
//!
//! Files are written atomically: if a write fails, the old file stays.

mod file;
mod folder;
mod model_card;
mod onnx;
mod onnx_format;
mod resume;
mod weights;

pub(crate) use file::save_tensors;
pub(crate) use folder::{CheckpointFolder, Newest};
pub use model_card::ModelCard;
pub use onnx::save_onnx;
pub(crate) use resume::Checkpoint;
pub use resume::{ResumableOptimizer, load_checkpoint, save_checkpoint};
pub(crate) use weights::load_tensors;
pub use weights::{load_pth, load_safetensors, read_pth, save_pth, save_safetensors};
