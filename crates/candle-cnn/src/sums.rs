//! Sums over planes, and of two arrays.

use candle_core::{DType, Result, Tensor};

use crate::element::{Element, Fresh};

/// `x` in a type whose sums don't stall: adding 1 to 2048 in f16, or to 256 in bf16, changes nothing.
pub(super) fn widened(x: &Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}

/// Sums in lanes of this many, each short enough for `f32`; lanes are then added in `f64`.
const LANES: usize = 16;

/// Σ f(i) over a plane.
pub(super) fn sum_of<T: Element>(plane: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let chunks = plane.chunks_exact(LANES);
    let rest = chunks.remainder().iter().map(|&x| f(x).to_f64()).sum::<f64>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    rest + lanes.iter().map(|lane| lane.to_f64()).sum::<f64>()
}

/// Σ a · f(b) over two planes.
pub(super) fn dot<T: Element>(a: &[T], b: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let (chunks_a, chunks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    let rest = rest.map(|(&a, &b)| (a * f(b)).to_f64()).sum::<f64>();
    for (a, b) in chunks_a.zip(chunks_b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * f(b);
        }
    }
    rest + lanes.iter().map(|lane| lane.to_f64()).sum::<f64>()
}

/// Σ plane.
pub(super) fn sum<T: Element>(plane: &[T]) -> f64 {
    sum_of(plane, |x| x)
}

/// Elements that one thread adds at a time: 192 KiB of three arrays of `f32`.
const CHUNK: usize = 1 << 14;

/// x + y, for arrays of one length.
pub(super) fn added<T: Element>(x: &[T], y: &[T]) -> Vec<T> {
    Fresh::new(x.len()).filled(CHUNK, |i, sum| {
        for ((sum, &x), &y) in sum.iter_mut().zip(&x[i * CHUNK..]).zip(&y[i * CHUNK..]) {
            *sum = x + y;
        }
    })
}
