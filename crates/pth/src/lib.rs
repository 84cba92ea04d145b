//! Reads and writes PyTorch state dicts without PyTorch.
//!
//! `torch.save(net.state_dict(), "net.pth")` writes a zip archive: a pickle that describes the tensors, and one record
//! of raw bytes per storage. This crate writes the layout of PyTorch 2, and reads it and the older format that preceded
//! it. Reading executes nothing: a pickle is a program, but here a call is only recorded (the function's name and its
//! arguments) and then inspected. What lies outside the state dict is skipped; within it, a value that
//! is no tensor is an error.
//!
//! ```
//! use pth::{DType, StateDict, Tensor};
//!
//! let mut state = StateDict::new();
//! state.push("fc.bias", Tensor::from_f32(&[3], &[0.5, -1.0, 2.0])?);
//! let mut file = Vec::new();
//! state.write("net", &mut file)?; // Python: torch.load("net.pth", weights_only=True)
//!
//! let read = StateDict::read(&file)?;
//! let bias = read.get("fc.bias").unwrap();
//! assert_eq!((bias.dtype(), bias.shape()), (DType::F32, &[3][..]));
//! assert_eq!(bias.data(), [0.5f32, -1.0, 2.0].map(f32::to_le_bytes).as_flattened());
//! # Ok::<(), pth::Error>(())
//! ```
//!
//! | item | what it is |
//! |---|---|
//! | [`StateDict`] | named tensors in order, with `read` and `write` |
//! | [`Tensor`], [`DType`] | bytes with a shape and an element type |
//! | [`pickle`] | the pickle reader, for data other than state dicts |
//! | [`numpy`] | NumPy arrays in a pickle |
//! | [`Error`] | what can be wrong with a file |
//!
//! # What a hostile file can do
//! Cause an error, and no more. Nothing is recursive, so deep nesting can't overflow the stack; every loop consumes at
//! least one byte of the file per iteration; and all memory allocated for the file, tensors included, counts toward a
//! limit of twice its length plus [`MEMORY_FLOOR`]. Tensors borrow the file's bytes; only strided or big-endian ones are
//! copied, once per view.

#![forbid(unsafe_code)]

mod budget;
mod cursor;
mod dtype;
mod error;
mod format;
mod layout;
mod legacy;
pub mod numpy;
pub mod pickle;
mod pickle_write;
mod rebuild;
mod search;
mod state_dict;
mod storage;
mod tensor;
mod zip_read;
mod zip_write;

pub use budget::MEMORY_FLOOR;
pub use dtype::DType;
pub use error::{Error, Result};
pub use format::is_pth;
pub use state_dict::StateDict;
pub use tensor::Tensor;
