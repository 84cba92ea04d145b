//! The kernel: evcxr_jupyter in a folder of its own, filled from a prepared one.
//!
//! evcxr keeps a Cargo package, `ctx`, in the folder that `EVCXR_TMPDIR` names, and rewrites it for every cell, so two
//! kernels can't share a folder. In an empty folder evcxr would compile candle again, which takes minutes. Therefore
//! setup prepares one folder by running a few cells in it, and each kernel works in a copy, most of it links.
//!
//! Jupyter talks to a [`front`], and evcxr works behind it.
//!
//! - [`settings`]: the profile, flags and environment that cells are compiled with.
//! - [`folder`]: prepared folders and the kernels' own: keys, copying, sweeping.
//! - [`installation`]: where the launcher and the rest lie in an environment.
//! - [`launcher`]: what Jupyter starts: it creates the folder, starts evcxr, and has the folder removed.
//! - [`front`]: what Jupyter talks to: interrupts, errors, output, restarts.
//! - [`cargo`]: what evcxr gets in place of cargo, so that it reads and compiles less.
//! - [`gate`]: lets evcxr start before its folder is filled.
//! - [`known`]: what cargo answered when the folder was prepared.
//! - [`recipe`]: how cargo called rustc for a cell, so that the next one needs no cargo.
//! - [`instrument`]: calls added to each cell, which lead its output to the front.
//! - [`cell`]: what is called, in the process with the variables, and what holds them.

pub mod cargo;
#[allow(dead_code, reason = "compiled as a library of its own; here it is only checked")]
mod cell;
pub mod folder;
pub mod front;
pub mod gate;
pub mod installation;
pub mod instrument;
pub mod known;
pub mod launcher;
pub mod recipe;
pub mod settings;
