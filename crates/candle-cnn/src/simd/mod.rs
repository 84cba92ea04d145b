//! What runs on the CPU in `f32`: vector code for the instruction set that is found at run time.
//!
//! Pictures are kept in blocks of sixteen channels, `[C / 16][H][W][16]`, so that one vector holds one pixel's
//! channels, whatever the picture's width. All vector types have sixteen lanes (one AVX-512 register, two of AVX2) and
//! every sum runs in an order that depends on the shapes alone; so AVX2, AVX-512 and NEON give the same bits, with any
//! number of threads.

pub(crate) mod exp;
pub(crate) mod lanes;
pub(crate) mod part;
pub(crate) mod vector;

use std::sync::{Mutex, OnceLock, PoisonError};

use vector::Simd;

/// The instruction sets that there is code for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What the compiler makes of plain loops: SSE2 on x86-64, NEON on AArch64.
    Plain,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The instruction set in use: the best that this machine has, or a lower one that the environment variable
/// `CANDLE_CNN_ISA` (`avx512`, `avx2` or `plain`) asks for. Fixed at the first call.
pub fn instruction_set() -> InstructionSet {
    static FOUND: OnceLock<InstructionSet> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let best = detect();
        match std::env::var("CANDLE_CNN_ISA").as_deref() {
            Ok("plain") => InstructionSet::Plain,
            Ok("avx2") => best.min(InstructionSet::Avx2),
            _ => best,
        }
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> InstructionSet {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => InstructionSet::Avx512,
        (true, false) => InstructionSet::Avx2,
        _ => InstructionSet::Plain,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> InstructionSet {
    InstructionSet::Plain
}

/// A call of a kernel: what it works on.
pub(crate) trait Kernel: Sized {
    /// Panics where a length or distance reaches beyond what it works on.
    fn check(&self);

    /// Runs it in the instruction set `S`. It and all that it calls with `S` must be `#[inline(always)]`: only what is
    /// inlined into a function with the target feature is compiled for it.
    ///
    /// # Safety
    /// As [`run`]; and `S` must exist on this machine.
    unsafe fn run<S: Simd>(self);
}

/// Runs a kernel in the instruction set in use.
///
/// # Safety
/// [`Kernel::check`], which runs in debug builds alone, must pass; and where the kernel writes to a [`Part`](part::Part), no
/// other task may have the same places.
pub(crate) unsafe fn run<K: Kernel>(kernel: K) {
    if cfg!(debug_assertions) {
        kernel.check();
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn avx512<K: Kernel>(kernel: K) {
            // SAFETY: the caller's promise; this function's own features are those of `Avx512`.
            unsafe { kernel.run::<vector::Avx512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(kernel: K) {
            // SAFETY: the caller's promise; this function's own features are those of `Avx2`.
            unsafe { kernel.run::<vector::Avx2>() }
        }
        match instruction_set() {
            // SAFETY: `instruction_set` has found these features; the rest is the caller's promise.
            InstructionSet::Avx512 => return unsafe { avx512(kernel) },
            // SAFETY: the same.
            InstructionSet::Avx2 => return unsafe { avx2(kernel) },
            InstructionSet::Plain => {}
        }
    }
    // SAFETY: the caller's promise; `Plain` runs everywhere.
    unsafe { kernel.run::<vector::Plain>() }
}

/// A kernel that writes to nothing but what it has borrowed mutably.
///
/// # Safety
/// [`Kernel::run`] must need nothing but the instruction set and what [`Kernel::check`] asserts, and write only to what
/// the kernel borrows mutably.
pub(crate) unsafe trait Whole: Kernel {
    /// Checks the kernel, in release builds too, and runs it.
    fn call(self) {
        self.check();
        // SAFETY: `check` has just passed, and an implementation promises that it is all.
        unsafe { run(self) }
    }
}

/// The number of values from the first to the last that is reached: `run` values at each of some places, which lie some
/// `(count, distance)` apart.
pub(crate) fn extent(places: &[(usize, usize)], run: usize) -> usize {
    places.iter().map(|&(count, distance)| count.saturating_sub(1) * distance).sum::<usize>() + run
}

/// Runs `f` on a thread of rayon's pool, so that the parallel loops in it need not hand over to the pool one by one.
/// `f` takes none of candle's locks; what does goes through [`in_pool_alone`].
pub(crate) fn in_pool<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| f())
}

/// As [`in_pool`], for an `f` that takes candle's locks there. One runs at a time: a thread of the pool that waits inside one
/// `f` may take up any other task, and with a lock in its hands it would wait for itself, or for an update that waits for it.
pub(crate) fn in_pool_alone<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    alone(|| in_pool(f))
}

/// Runs `f` while no [`in_pool_alone`] runs. Called before any of candle's locks is taken.
pub(crate) fn alone<T>(f: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    // Within the pool it would hold up its own tasks; who runs a whole training there has nothing beside it.
    let _alone = rayon::current_thread_index().is_none().then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner));
    f()
}
