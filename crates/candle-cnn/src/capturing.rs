//! Whether this thread captures a training step in a CUDA graph: see [`step_graph`](crate::step_graph).

use candle_core::Result;
use std::cell::Cell;

thread_local! {
    /// Whether this thread captures a step.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Rejects what a graph would silently get wrong: it would repeat what the host computed once.
pub(crate) fn refuse(reason: &'static str) -> Result<()> {
    if CAPTURING.get() { candle_core::bail!("{reason}") } else { Ok(()) }
}

/// Sets [`CAPTURING`] while it lives.
#[cfg(any(feature = "cuda", test))]
pub(crate) struct Capturing;

#[cfg(any(feature = "cuda", test))]
impl Capturing {
    pub(crate) fn begin() -> Self {
        CAPTURING.set(true);
        Self
    }
}

#[cfg(any(feature = "cuda", test))]
impl Drop for Capturing {
    fn drop(&mut self) {
        CAPTURING.set(false);
    }
}
