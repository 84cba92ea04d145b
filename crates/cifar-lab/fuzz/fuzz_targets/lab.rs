//! `cargo lab`'s own reader of notebooks. That crate is a program, so its files are included here.
#![allow(dead_code, missing_docs)]

#[path = "../../../notebook-charts/src/atomic_file.rs"]
pub mod atomic_file;
#[path = "../../../lab/src/cuda.rs"]
pub mod cuda;
#[path = "../../../lab/src/error.rs"]
pub mod error;
#[path = "../../../lab/src/machine.rs"]
pub mod machine;
#[path = "../../../lab/src/notebook/mod.rs"]
pub mod notebook;
