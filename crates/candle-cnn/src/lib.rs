//! Correct and fast CNN training operations for candle.
//!
//! Fixes and completes what candle has for training convolutional networks, with PyTorch's definitions: layers take
//! candle_nn's `VarBuilder` and implement its `Module`/`ModuleT`, optimizers its `Optimizer`, so a candle user only
//! changes an import. On the CPU, `f32` uses AVX-512 or AVX2 if available ([`instruction_set`]); the features `cuda`
//! and `cudnn` add NVIDIA GPUs. The README covers other types and devices. Built for candle 0.11.1.
//!
//! | item | what it is for |
//! |---|---|
//! | [`backward`] | gradients through this crate's operations |
//! | [`ops`] | differentiable operations: convolution, batch norm, pooling, ReLU, GELU, sums, linear, cross entropy |
//! | [`layers`] | operations with their parameters, built from a `VarBuilder`; `Sequential` |
//! | [`optim`] | SGD and AdamW as PyTorch defines them, Muon, gradient clipping, parameter groups |
//! | [`schedule`] | learning-rate schedules |
//! | [`init`] | initial values: Dirac, whitening |
//! | [`linalg`] | eigenvalues of small symmetric matrices |
//! | [`memory`] | freed memory kept for the next step |
//! | [`step_graph`] | a training step that a GPU repeats with one launch |
//! | [`precision`] | `f32`, TF32 or bf16 on a GPU |
//! | [`parameters`] | a network's parameters: seeded, ordered, behind a `VarBuilder` |
//! | [`random`] | random streams keyed by seed and purpose |
//! | [`trace`] | the record of a forward pass, layer by layer |

mod activation;
mod add;
mod autograd;
mod batch_norm2d;
mod block;
mod capturing;
mod chain;
mod check;
mod config;
mod conv2d;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
mod dropout;
mod element;
mod error;
mod flatten;
mod gather_images;
pub mod init;
pub mod layers;
pub mod linalg;
mod linear;
pub mod memory;
pub mod ops;
pub mod optim;
pub mod parameters;
mod pool2d;
pub mod precision;
pub mod random;
pub mod schedule;
mod sequential;
mod simd;
pub mod step_graph;
mod sums;
pub mod trace;
mod turns;

pub use autograd::graph::backward;
pub use error::Error;
pub use simd::{InstructionSet, instruction_set};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
