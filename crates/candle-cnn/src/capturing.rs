//! Whether this thread is capturing a training step in a CUDA graph: see [`step_graph`](crate::step_graph).

use candle_core::Result;
use std::cell::Cell;
#[cfg(any(feature = "cuda", test))]
use std::sync::RwLockReadGuard;
use std::sync::{PoisonError, RwLock};

/// Read-locked during every capture. It guards no data, but keeps work out that must not run meanwhile.
static CAPTURES: RwLock<()> = RwLock::new(());

thread_local! {
    /// Whether this thread is capturing a step.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

/// Rejects what a graph would silently get wrong, by repeating values that the host computed once.
pub(crate) fn refuse(reason: &'static str) -> Result<()> {
    if CAPTURING.get() { candle_core::bail!("{reason}") } else { Ok(()) }
}

/// Runs `work`, which synchronizes the whole GPU, while no thread is capturing a step: it would invalidate the capture
/// ("Stream Capture", CUDA C++ Programming Guide: a context must not be synchronized while one of its streams is being
/// captured). Opening or closing a device synchronizes too, as does creating or dropping a cuBLAS or cuDNN handle.
///
/// ```
/// assert_eq!(candle_cnn::step_graph::outside_captures(|| "waited"), "waited");
/// ```
pub fn outside_captures<R>(work: impl FnOnce() -> R) -> R {
    if CAPTURING.get() {
        // This fails with an error; waiting for this thread's own capture would deadlock.
        return work();
    }
    let _none = CAPTURES.write().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// Sets [`CAPTURING`] until dropped.
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
