//! PyTorch state dicts, written and read without PyTorch.
//!
//! `torch.save(net.state_dict(), "net.pth")` makes a zip archive: a pickle that describes the tensors, and a record of
//! raw bytes for each storage. This crate writes that archive as PyTorch 2 lays it out, and reads it and the format
//! that came before it. Reading executes nothing: a pickle is a program, and here its instructions build a description
//! (the name of a function and its arguments), which is then looked at. What is no tensor is stepped over.
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
//! | module | what it holds |
//! |---|---|
//! | [`StateDict`] | named tensors in order: the crate's two verbs, `read` and `write` |
//! | [`Tensor`], [`DType`] | bytes with a shape and a type |
//! | [`pickle`] | the reader of pickles, for other data than state dicts |
//! | [`numpy`] | arrays of NumPy inside a pickle |
//! | [`Error`] | what can be wrong with a file |
//!
//! # What a hostile file can do
//! It gives an error. No function calls itself, so no nesting exhausts the stack; every loop takes at least a byte of
//! the file a turn; and all memory that is taken on account of the file, that of all tensors included, is counted
//! against a limit of twice its length and [`MEMORY_FLOOR`]. Tensors borrow the file's bytes where they lie there as
//! they are, and are copied, once for each view, only where they have strides or the other byte order.

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
