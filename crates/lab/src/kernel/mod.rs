//! The kernel: evcxr_jupyter in a folder of its own, filled from a prepared one.
//!
//! evcxr keeps a Cargo package, `ctx`, in the folder that `EVCXR_TMPDIR` names and rewrites it for every cell, so two
//! kernels can't share one; and a new folder would compile candle again (minutes). So set-up prepares a folder once,
//! by running the kernel's first cells in it, and each kernel works on a copy.
//!
//! - [`settings`]: the profile, flags and environment that cells are compiled with.
//! - [`folder`]: prepared folders and the kernels' own, their copying, sweeping and keys.
//! - [`installation`]: where the launcher and the rest lie in an environment.
//! - [`launcher`]: what Jupyter starts; it makes the folder, starts evcxr, and sees that the folder goes again.
//! - [`report`]: how a cell ended, told by the cell itself.

pub mod folder;
pub mod installation;
pub mod launcher;
pub mod report;
pub mod settings;
