//! Batch norm and activation on blocks of sixteen channels, forward and backward.

use crate::activation::cpu::activate;
use crate::chain::cpu::{Affine, Slope};
use crate::config::Activation;
use crate::simd::lanes::{LANES, Lane};
use crate::simd::vector::Simd;
use crate::simd::{Kernel, Whole, extent};

/// Normalizes and activates the pixels of one block.
pub(super) struct Activate<'a> {
    pub z: &'a [f32],
    pub affine: &'a Affine,
    pub activation: Activation,
    pub dst: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    fn check(&self) {
        assert!(self.z.len().is_multiple_of(LANES) && self.dst.len() == self.z.len());
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { z, affine, activation, dst } = self;
        let (len, z, dst) = (z.len(), z.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `z` and `dst` have `len` values, whole vectors (`check`).
        unsafe {
            let [mean, scale, shift] =
                [&affine.mean, &affine.scale, &affine.shift].map(|lane| S::load(lane.0.as_ptr()));
            let mut i = 0;
            while i < len {
                let normalized = S::fma(S::sub(S::load(z.add(i)), mean), scale, shift);
                S::store(dst.add(i), activate::<S>(normalized, activation).0);
                i += LANES;
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for Activate<'_> {}

/// Takes `grad` of one block back through the activation, to d, and gives Σ d and Σ d · (z − mean).
pub(super) struct ActivationGrad<'a> {
    pub z: &'a [f32],
    pub affine: &'a Affine,
    pub activation: Activation,
    pub grad: &'a mut [f32],
    pub total: &'a mut Lane,
    pub product: &'a mut Lane,
}

impl Kernel for ActivationGrad<'_> {
    fn check(&self) {
        assert!(self.z.len().is_multiple_of(LANES) && self.grad.len() == self.z.len());
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { z, affine, activation, grad, total, product } = self;
        let (len, z, grad) = (z.len(), z.as_ptr(), grad.as_mut_ptr());
        // SAFETY: `z` and `grad` have `len` values, whole vectors (`check`).
        unsafe {
            let [mean, scale, shift] =
                [&affine.mean, &affine.scale, &affine.shift].map(|lane| S::load(lane.0.as_ptr()));
            let (mut s, mut t) = (S::zero(), S::zero());
            let mut i = 0;
            while i < len {
                let centered = S::sub(S::load(z.add(i)), mean);
                let derivative = activate::<S>(S::fma(centered, scale, shift), activation).1;
                let d = S::mul(S::load(grad.add(i)), derivative);
                S::store(grad.add(i), d);
                s = S::add(s, d);
                t = S::fma(d, centered, t);
                i += LANES;
            }
            S::store(total.0.as_mut_ptr(), s);
            S::store(product.0.as_mut_ptr(), t);
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `grad`, `total` and `product` alone.
unsafe impl Whole for ActivationGrad<'_> {}

/// The gradient of one block of `rows` × `columns` pixels of the convolution's output, for the gradient `grad` of what was
/// normalized. With `winners` that is the maximum of each 2×2 window, rows and columns rounded down, and all other pixels have
/// none. The output's rows lie `output_row` values apart.
pub(super) struct NormGrad<'a> {
    pub z: &'a [f32],
    pub slope: &'a Slope,
    pub grad: &'a [f32],
    pub winners: Option<&'a [u8]>,
    pub rows: usize,
    pub columns: usize,
    pub output: &'a mut [f32],
    pub output_row: usize,
}

impl Kernel for NormGrad<'_> {
    fn check(&self) {
        let side = if self.winners.is_some() { 2 } else { 1 };
        let values = self.rows / side * (self.columns / side) * LANES;
        assert!(self.z.len() >= values && self.grad.len() >= values);
        assert!(self.winners.is_none_or(|winners| winners.len() >= values));
        assert!(self.output.len() >= extent(&[(self.rows, self.output_row)], self.columns * LANES));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { z, slope, grad, winners, rows, columns, output, output_row } = self;
        let (z, grad, output) = (z.as_ptr(), grad.as_ptr(), output.as_mut_ptr());
        // SAFETY: `z`, `grad` and, where there are any, `winners` have sixteen values for each window, or each pixel, and
        // `output` for each pixel where `output_row` says (`check`).
        unsafe {
            let [mean, scale, falling, offset] =
                [&slope.mean, &slope.scale, &slope.slope, &slope.offset].map(|lane| S::load(lane.0.as_ptr()));
            let falling = S::sub(S::zero(), falling);
            let at = |place: usize| {
                let base = S::sub(S::mul(S::sub(S::load(z.add(place)), mean), falling), offset);
                S::fma(S::load(grad.add(place)), scale, base)
            };
            let Some(winners) = winners else {
                for row in 0..rows {
                    for column in 0..columns {
                        let place = (row * columns + column) * LANES;
                        S::store(output.add(row * output_row + column * LANES), at(place));
                    }
                }
                return;
            };
            let winners = winners.as_ptr();
            let (ph, pw) = (rows / 2, columns / 2);
            for row in 0..ph {
                for column in 0..pw {
                    let place = (row * pw + column) * LANES;
                    let (d, winner) = (at(place), S::load_u8(winners.add(place)));
                    for i in 0..4 {
                        let mine = S::equal(winner, S::splat(i as f32));
                        let pixel = output.add((2 * row + i / 2) * output_row + (2 * column + i % 2) * LANES);
                        S::store(pixel, S::select(mine, d, S::zero()));
                    }
                }
                if columns % 2 == 1 {
                    for row in [2 * row, 2 * row + 1] {
                        S::store(output.add(row * output_row + (columns - 1) * LANES), S::zero());
                    }
                }
            }
            if rows % 2 == 1 {
                for column in 0..columns {
                    S::store(output.add((rows - 1) * output_row + column * LANES), S::zero());
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `output` alone.
unsafe impl Whole for NormGrad<'_> {}
