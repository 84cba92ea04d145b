//! Batch norm, ReLU and 2×2 max-pool on blocks of sixteen channels, forward and backward in one pass each.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::too_many_arguments)]

use crate::simd::dispatch;
use crate::simd::lanes::{LANES, Lane};
use crate::simd::vector::Simd;

/// A winner's number where ReLU has set the maximum to 0: no pixel of the window has a gradient.
const NOBODY: f32 = 4.0;

#[inline(always)]
unsafe fn moments_generic<S: Simd>(y: *const f32, pixels: usize, mean: *mut f32, squares: *mut f32) {
    /// Chains of additions side by side: one alone would wait for each addition's result.
    const CHAINS: usize = 4;
    // SAFETY: the caller's promise below.
    unsafe {
        // Taken relative to the first pixel: sums of squares of small numbers keep their digits.
        let shift = S::load(y);
        let (mut s1, mut s2) = ([S::zero(); CHAINS], [S::zero(); CHAINS]);
        let whole = pixels / CHAINS * CHAINS;
        let mut p = 0;
        while p < whole {
            for i in 0..CHAINS {
                let d = S::sub(S::load(y.add((p + i) * LANES)), shift);
                s1[i] = S::add(s1[i], d);
                s2[i] = S::fma(d, d, s2[i]);
            }
            p += CHAINS;
        }
        for p in whole..pixels {
            let d = S::sub(S::load(y.add(p * LANES)), shift);
            s1[0] = S::add(s1[0], d);
            s2[0] = S::fma(d, d, s2[0]);
        }
        let sum = |s: [S::V; CHAINS]| S::add(S::add(s[0], s[1]), S::add(s[2], s[3]));
        let (s1, s2) = (sum(s1), sum(s2));
        let offset = S::mul(s1, S::splat(1.0 / pixels as f32));
        S::store(mean, S::add(shift, offset));
        S::store(squares, S::sub(s2, S::mul(s1, offset)));
    }
}

dispatch! {
    /// Mean, and sum of squared distances from it, of `pixels` pixels of one block.
    ///
    /// # Safety
    /// `y` must have that many pixels behind it, `mean` and `squares` room for one block each.
    pub(crate) fn moments = moments_generic(y: *const f32, pixels: usize, mean: *mut f32, squares: *mut f32)
}

/// How one block of channels is normalized: (y − mean) · scale + shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub mean: Lane,
    pub scale: Lane,
    pub shift: Lane,
}

#[inline(always)]
unsafe fn normalize_generic<S: Simd>(
    y: *const f32,
    rows: usize,
    columns: usize,
    affine: &Affine,
    pooled: *mut f32,
    winners: *mut u8,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        let [mean, scale, shift] = [&affine.mean, &affine.scale, &affine.shift].map(|lane| S::load(lane.0.as_ptr()));
        let at = |y: *const f32| S::fma(S::sub(S::load(y), mean), scale, shift);
        let (ph, pw) = (rows / 2, columns / 2);
        for row in 0..ph {
            let upper = y.add(2 * row * columns * LANES);
            let lower = upper.add(columns * LANES);
            for column in 0..pw {
                let left = 2 * column * LANES;
                let mut best = at(upper.add(left));
                let mut winner = S::zero();
                let others = [upper.add(left + LANES), lower.add(left), lower.add(left + LANES)];
                for (i, other) in others.into_iter().enumerate() {
                    let value = at(other);
                    let wins = S::beats(value, best);
                    best = S::select(wins, value, best);
                    winner = S::select(wins, S::splat((i + 1) as f32), winner);
                }
                let dead = S::not_positive(best);
                let place = (row * pw + column) * LANES;
                S::store(pooled.add(place), S::select(dead, S::zero(), best));
                if !winners.is_null() {
                    S::store_u8(winners.add(place), S::select(dead, S::splat(NOBODY), winner));
                }
            }
        }
    }
}

dispatch! {
    /// Normalizes one block of `rows` × `columns` pixels, applies ReLU and takes the maximum of each 2×2 window; notes
    /// which pixel of the window it came from, unless `winners` is null.
    ///
    /// # Safety
    /// `y` must have the pixels behind it, `pooled` and `winners` room for a quarter of them (rows and columns halved
    /// and rounded down).
    pub(crate) fn normalize = normalize_generic(
        y: *const f32, rows: usize, columns: usize, affine: &Affine, pooled: *mut f32, winners: *mut u8,
    )
}

#[inline(always)]
unsafe fn pooled_sums_generic<S: Simd>(
    y: *const f32,
    rows: usize,
    columns: usize,
    mean: &Lane,
    grad: *const f32,
    winners: *const u8,
    total: *mut f32,
    product: *mut f32,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        let mean = S::load(mean.0.as_ptr());
        let (ph, pw) = (rows / 2, columns / 2);
        let (mut s, mut t) = (S::zero(), S::zero());
        for row in 0..ph {
            let upper = y.add(2 * row * columns * LANES);
            let lower = upper.add(columns * LANES);
            for column in 0..pw {
                let (left, place) = (2 * column * LANES, (row * pw + column) * LANES);
                let winner = S::load_u8(winners.add(place));
                let mut value = S::load(upper.add(left));
                let others = [upper.add(left + LANES), lower.add(left), lower.add(left + LANES)];
                for (i, other) in others.into_iter().enumerate() {
                    value = S::select(S::equal(winner, S::splat((i + 1) as f32)), S::load(other), value);
                }
                let nobody = S::equal(winner, S::splat(NOBODY));
                let d = S::select(nobody, S::zero(), S::load(grad.add(place)));
                s = S::add(s, d);
                t = S::fma(d, S::sub(value, mean), t);
            }
        }
        S::store(total, s);
        S::store(product, t);
    }
}

dispatch! {
    /// Σ d and Σ d · (y − mean) over one block, d being the gradient `grad` of the pooled output brought back to the
    /// pixels that it came from.
    ///
    /// # Safety
    /// As [`normalize`], whose `winners` these are; `total` and `product` must have room for one block each.
    pub(crate) fn pooled_sums = pooled_sums_generic(
        y: *const f32, rows: usize, columns: usize, mean: &Lane, grad: *const f32, winners: *const u8,
        total: *mut f32, product: *mut f32,
    )
}

/// The gradient of what was normalized: d · scale − (y − mean) · slope − offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slope {
    pub mean: Lane,
    pub scale: Lane,
    pub slope: Lane,
    pub offset: Lane,
}

#[inline(always)]
unsafe fn spread_generic<S: Simd>(
    y: *const f32,
    rows: usize,
    columns: usize,
    slope: &Slope,
    grad: *const f32,
    winners: *const u8,
    output: *mut f32,
    output_row: usize,
    output_pixel: usize,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        let [mean, scale, falling, offset] =
            [&slope.mean, &slope.scale, &slope.slope, &slope.offset].map(|lane| S::load(lane.0.as_ptr()));
        let falling = S::sub(S::zero(), falling);
        let base = |y: *const f32| S::sub(S::mul(S::sub(S::load(y), mean), falling), offset);
        let (ph, pw) = (rows / 2, columns / 2);
        for row in 0..ph {
            for column in 0..pw {
                let place = (row * pw + column) * LANES;
                let winner = S::load_u8(winners.add(place));
                let d = S::mul(S::load(grad.add(place)), scale);
                for i in 0..4 {
                    let (y_row, y_column) = (2 * row + i / 2, 2 * column + i % 2);
                    let mine = S::select(S::equal(winner, S::splat(i as f32)), d, S::zero());
                    let value = S::add(base(y.add((y_row * columns + y_column) * LANES)), mine);
                    S::store(output.add(y_row * output_row + y_column * output_pixel), value);
                }
            }
            if columns % 2 == 1 {
                for y_row in [2 * row, 2 * row + 1] {
                    let value = base(y.add((y_row * columns + columns - 1) * LANES));
                    S::store(output.add(y_row * output_row + (columns - 1) * output_pixel), value);
                }
            }
        }
        if rows % 2 == 1 {
            for column in 0..columns {
                let value = base(y.add(((rows - 1) * columns + column) * LANES));
                S::store(output.add((rows - 1) * output_row + column * output_pixel), value);
            }
        }
    }
}

dispatch! {
    /// The gradient of one block before normalization, for the gradient `grad` of the pooled output; its rows and
    /// pixels lie `output_row` and `output_pixel` floats apart.
    ///
    /// # Safety
    /// As [`pooled_sums`], and `output` must have room for the pixels.
    pub(crate) fn spread = spread_generic(
        y: *const f32, rows: usize, columns: usize, slope: &Slope, grad: *const f32, winners: *const u8,
        output: *mut f32, output_row: usize, output_pixel: usize,
    )
}
