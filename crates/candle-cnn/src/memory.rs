//! Memory that freed tensors leave behind.
//!
//! glibc returns large blocks to the system as soon as they are freed. A training step frees gigabytes that the next one
//! allocates again, and the page fault for each fresh 4 KiB costs more than the arithmetic on them.

use crate::simd::lanes::release;

/// Lets the process keep the memory of freed tensors for the next ones; returns whether the C library can (glibc). Call it
/// at the start of a program that trains, before other threads allocate: it holds for the whole process.
///
/// The network of the CIFAR-10 record, written layer by layer, trained nearly twice as fast with it at a batch of 2,000
/// images.
///
/// ```
/// let kept = candle_cnn::memory::keep_freed();
/// assert_eq!(kept, cfg!(all(target_os = "linux", target_env = "gnu")));
/// // … train …
/// candle_cnn::memory::return_freed();
/// ```
pub fn keep_freed() -> bool {
    system::keep_freed()
}

/// Returns to the system what [`keep_freed`] and this crate's operations have kept until now, as after a training.
pub fn return_freed() {
    release();
    system::return_freed();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    pub(super) fn keep_freed() -> bool {
        // SAFETY: `mallopt` takes two numbers, and locks what it changes.
        let set = |setting, value| unsafe { libc::mallopt(setting, value) } == 1;
        // An older glibc takes no more than half a heap.
        (set(libc::M_MMAP_THRESHOLD, i32::MAX) || set(libc::M_MMAP_THRESHOLD, 32 << 20))
            // Other heaps than the first hold no block above 64 MiB.
            && set(libc::M_ARENA_MAX, 1)
            // −1: never.
            && set(libc::M_TRIM_THRESHOLD, -1)
            && set(libc::M_TOP_PAD, 64 << 20)
    }

    pub(super) fn return_freed() {
        // SAFETY: `malloc_trim` takes a number, and returns unused pages alone.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub(super) fn keep_freed() -> bool {
        false
    }

    pub(super) fn return_freed() {}
}
