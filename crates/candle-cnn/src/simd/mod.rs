//! What runs on the CPU in `f32`: vector code for the instruction set that is found at run time.
//!
//! Pictures are kept in blocks of sixteen channels, `[C / 16][H][W][16]`, so that one vector holds one pixel's
//! channels, whatever the picture's width. All vector types have sixteen lanes (one AVX-512 register, two of AVX2) and
//! every sum runs in an order that depends on the shapes alone; so AVX2, AVX-512 and NEON give the same bits, with any
//! number of threads.

pub(crate) mod lanes;
pub(crate) mod shared;
pub(crate) mod vector;

use std::sync::OnceLock;

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
///
/// ```
/// println!("{:?}", candle_cnn::instruction_set());
/// ```
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

/// Declares `$name`, which runs the generic `$generic::<S>` compiled for the instruction set in use.
///
/// `$generic` and all that it calls with `S` must be `#[inline(always)]`: only what is inlined into the function with
/// the target feature is compiled for it.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident = $generic:ident($($arg:ident: $ty:ty),* $(,)?)) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx512($($arg: $ty),*) {
                    // SAFETY: the caller's promise.
                    unsafe { $generic::<$crate::simd::vector::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2($($arg: $ty),*) {
                    // SAFETY: the caller's promise.
                    unsafe { $generic::<$crate::simd::vector::Avx2>($($arg),*) }
                }
                match $crate::simd::instruction_set() {
                    // SAFETY: `instruction_set` has found these features; the rest is the caller's promise.
                    $crate::simd::InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the same.
                    $crate::simd::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::InstructionSet::Plain => {}
                }
            }
            // SAFETY: the caller's promise.
            unsafe { $generic::<$crate::simd::vector::Plain>($($arg),*) }
        }
    };
}
pub(crate) use dispatch;

/// Runs `f` on a thread of rayon's pool, so that the parallel loops in it need not hand over to the pool one by one.
pub(crate) fn in_pool<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| f())
}
