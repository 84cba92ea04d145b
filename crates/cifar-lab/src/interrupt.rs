//! The notebook's stop button: whether the running cell is asked to stop.
//!
//! The kernel of `cargo lab` creates a file for that, and removes it before the next cell. Only the thread that runs cells
//! looks, so a training goes on while the cell that waits for it stops. With another kernel nothing is ever asked.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;

/// The variable with the file's path.
const FILE: &str = "CIFAR_LAB_INTERRUPT";
/// The variable with the id of the thread that runs cells.
const THREAD: &str = "CIFAR_LAB_CELL_THREAD";

/// Whether this thread runs a cell that is to stop. Takes a microsecond.
pub(crate) fn is_requested() -> bool {
    static ASKED: OnceLock<Option<(PathBuf, String)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| Some((std::env::var_os(FILE)?.into(), std::env::var(THREAD).ok()?)));
    asked.as_ref().is_some_and(|(file, thread)| format!("{:?}", thread::current().id()) == *thread && file.exists())
}
