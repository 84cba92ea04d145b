//! Whether this thread captures a training step in a CUDA graph: see [`step_graph`](crate::step_graph).

use candle_core::Result;
use std::cell::Cell;
#[cfg(any(feature = "cuda", test))]
use std::sync::RwLockReadGuard;
use std::sync::{PoisonError, RwLock};

/// Held for reading by every capture. It guards nothing but time.
static CAPTURES: RwLock<()> = RwLock::new(());

thread_local! {
    /// Whether this thread captures a step.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Rejects what a graph would silently get wrong: it would repeat what the host computed once.
pub(crate) fn refuse(reason: &'static str) -> Result<()> {
    if CAPTURING.get() { candle_core::bail!("{reason}") } else { Ok(()) }
}

/// Runs `work`, which waits for the whole GPU, while no thread captures a step: CUDA would give up the capture ("Stream
/// Capture", CUDA C++ Programming Guide: a context must not be synchronized while one of its streams is captured).
/// Opening and closing a device waits too, as does making or dropping a handle of cuBLAS or cuDNN.
///
/// ```
/// assert_eq!(candle_cnn::step_graph::outside_captures(|| "waited"), "waited");
/// ```
pub fn outside_captures<R>(work: impl FnOnce() -> R) -> R {
    if CAPTURING.get() {
        // It will fail, and say so; waiting for this thread's own capture would never end.
        return work();
    }
    let _none = CAPTURES.write().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Sets [`CAPTURING`] while it lives.
#[cfg(any(feature = "cuda", test))]
pub(crate) struct Capturing(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>);

#[cfg(any(feature = "cuda", test))]
impl Capturing {
    pub(crate) fn begin() -> Self {
        let reading = CAPTURES.read().unwrap_or_else(PoisonError::into_inner);
        CAPTURING.set(true);
        Self(reading)
    }
}

#[cfg(any(feature = "cuda", test))]
impl Drop for Capturing {
    fn drop(&mut self) {
        CAPTURING.set(false);
    }
}
