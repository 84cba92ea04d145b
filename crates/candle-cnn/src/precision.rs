//! The precision of convolutions and linear layers on a GPU.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// The precision of the factors in convolutions (without groups) and linear layers on NVIDIA GPUs, forward and
/// backward. Tensors stay `f32` in any case, as do parameters, batch norm, loss and optimizer; sums are `f32`.
///
/// It affects neither the CPU nor candle's own operations. GPUs below compute capability 8.0 have no TF32 and bf16 and
/// use `f32`.
///
/// ```
/// use candle_cnn::precision::{Precision, precision, set_precision};
/// assert_eq!(precision(), Precision::F32);
/// set_precision(Precision::Tf32);
/// assert_eq!(precision().to_string(), "tf32");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// `f32`, with 24 bits of each factor; no TF32.
    #[default]
    F32,
    /// Factors with 11 bits, the range of `f32`. What PyTorch does in convolutions unless told otherwise.
    Tf32,
    /// Factors with 8 bits, the range of `f32` (mixed precision). What cuDNN returns is rounded to bf16 too.
    Bf16,
}

const ALL: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

/// The place in [`ALL`]. A number by itself, so no order with other memory is needed.
static PRECISION: AtomicU8 = AtomicU8::new(0);

/// The process's precision.
pub fn precision() -> Precision {
    ALL[usize::from(PRECISION.load(Ordering::Relaxed)) % ALL.len()]
}

/// Sets the precision of all devices and threads of this process, for operations from now on: the backward pass of an
/// operation has the precision of its forward pass. Other products of candle's follow its own switch,
/// `candle_core::cuda::set_gemm_reduced_precision_f32`.
pub fn set_precision(precision: Precision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}
