//! The kernel: evcxr_jupyter in a folder of its own, filled from a prepared one.
//!
//! evcxr keeps a Cargo package, `ctx`, in the folder that `EVCXR_TMPDIR` names, and rewrites it for every cell, so two
//! kernels can't share a folder. In an empty folder evcxr would compile candle again, which takes minutes. Therefore
//! setup prepares one folder by running a few cells in it, and each kernel works in a copy.
//!
//! - [`settings`]: the profile, flags and environment that cells are compiled with.
//! - [`folder`]: prepared folders and the kernels' own: keys, copying, sweeping.
//! - [`installation`]: where the launcher and the rest lie in an environment.
//! - [`launcher`]: what Jupyter starts: it creates the folder, starts evcxr, and has the folder removed.
//! - [`report`]: how a cell ended, reported by the cell itself.

pub mod folder;
pub mod installation;
pub mod launcher;
pub mod report;
pub mod settings;
