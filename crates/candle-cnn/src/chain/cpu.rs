//! Batch norm, ReLU and 2×2 max-pool on blocks of sixteen channels, forward and backward in one pass each.

use crate::simd::lanes::{LANES, Lane};
use crate::simd::vector::Simd;
use crate::simd::{Kernel, Whole, extent};

/// The winner's number if ReLU set the maximum to 0: no pixel of the window has a gradient.
const NOBODY: f32 = 4.0;

/// Mean, and sum of squared distances from it, of the pixels of one block, one at least.
pub(crate) struct Moments<'a> {
    pub y: &'a [f32],
    pub mean: &'a mut Lane,
    pub squares: &'a mut Lane,
}

impl Kernel for Moments<'_> {
    fn check(&self) {
        assert!(!self.y.is_empty() && self.y.len().is_multiple_of(LANES));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        /// Parallel chains of additions; a single one would wait for each result.
        const CHAINS: usize = 4;
        let Self { y, mean, squares } = self;
        let (y, pixels) = (y.as_ptr(), y.len() / LANES);
        // SAFETY: `y` has sixteen values for each of `pixels`, one at least (`check`).
        unsafe {
            // Relative to the first pixel, so that sums of squares keep their digits.
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
            S::store(mean.0.as_mut_ptr(), S::add(shift, offset));
            S::store(squares.0.as_mut_ptr(), S::sub(s2, S::mul(s1, offset)));
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `mean` and `squares` alone.
unsafe impl Whole for Moments<'_> {}

/// How one block of channels is normalized: (y − mean) · scale + shift.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine {
    pub mean: Lane,
    pub scale: Lane,
    pub shift: Lane,
}

/// Normalizes one block of `rows` × `columns` pixels, applies ReLU and takes the maximum of each 2×2 window, rows and
/// columns rounded down; without `affine`, takes the maximum alone. Notes which pixel of the window it came from, where
/// `winners` are wanted.
pub(crate) struct Normalize<'a> {
    pub y: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub affine: Option<&'a Affine>,
    pub pooled: &'a mut [f32],
    pub winners: Option<&'a mut [u8]>,
}

/// Values of a block's 2×2 windows, rows and columns rounded down.
fn windows(rows: usize, columns: usize) -> usize {
    rows / 2 * (columns / 2) * LANES
}

impl Kernel for Normalize<'_> {
    fn check(&self) {
        let windows = windows(self.rows, self.columns);
        assert!(self.y.len() >= self.rows * self.columns * LANES && self.pooled.len() >= windows);
        assert!(self.winners.as_ref().is_none_or(|winners| winners.len() >= windows));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { y, rows, columns, affine, pooled, winners } = self;
        let (y, pooled) = (y.as_ptr(), pooled.as_mut_ptr());
        let winners = winners.map_or(std::ptr::null_mut(), <[u8]>::as_mut_ptr);
        // SAFETY: `y` has sixteen values for each pixel, `pooled` and, unless it is null, `winners` for each window (`check`).
        unsafe {
            let relu = affine.is_some();
            let [mean, scale, shift] = match affine {
                Some(affine) => [&affine.mean, &affine.scale, &affine.shift].map(|lane| S::load(lane.0.as_ptr())),
                None => [S::zero(), S::splat(1.0), S::zero()],
            };
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
                    let dead = S::not_positive(if relu { best } else { S::splat(1.0) });
                    let place = (row * pw + column) * LANES;
                    S::store(pooled.add(place), S::select(dead, S::zero(), best));
                    if !winners.is_null() {
                        S::store_u8(winners.add(place), S::select(dead, S::splat(NOBODY), winner));
                    }
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `pooled` and `winners` alone.
unsafe impl Whole for Normalize<'_> {}

/// Σ d and Σ d · (y − mean) over one block of `rows` × `columns` pixels, d being the gradient `grad` of the pooled
/// output brought back to the pixels that it came from, which [`Normalize`]'s `winners` say.
pub(crate) struct PooledSums<'a> {
    pub y: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub mean: &'a Lane,
    pub grad: &'a [f32],
    pub winners: &'a [u8],
    pub total: &'a mut Lane,
    pub product: &'a mut Lane,
}

impl Kernel for PooledSums<'_> {
    fn check(&self) {
        let windows = windows(self.rows, self.columns);
        assert!(self.y.len() >= self.rows * self.columns * LANES);
        assert!(self.grad.len() >= windows && self.winners.len() >= windows);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { y, rows, columns, mean, grad, winners, total, product } = self;
        let (y, grad, winners) = (y.as_ptr(), grad.as_ptr(), winners.as_ptr());
        // SAFETY: `y` has sixteen values for each pixel, `grad` and `winners` for each window (`check`).
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
            S::store(total.0.as_mut_ptr(), s);
            S::store(product.0.as_mut_ptr(), t);
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `total` and `product` alone.
unsafe impl Whole for PooledSums<'_> {}

/// The gradient of what was normalized: d · scale − (y − mean) · slope − offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slope {
    pub mean: Lane,
    pub scale: Lane,
    pub slope: Lane,
    pub offset: Lane,
}

/// The gradient of one block of `rows` × `columns` pixels before normalization, for the gradient `grad` of the pooled
/// output and [`Normalize`]'s `winners`; its rows lie `output_row` values apart.
pub(crate) struct Spread<'a> {
    pub y: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub slope: &'a Slope,
    pub grad: &'a [f32],
    pub winners: &'a [u8],
    pub output: &'a mut [f32],
    pub output_row: usize,
}

impl Kernel for Spread<'_> {
    fn check(&self) {
        let windows = windows(self.rows, self.columns);
        assert!(self.y.len() >= self.rows * self.columns * LANES);
        assert!(self.grad.len() >= windows && self.winners.len() >= windows);
        assert!(self.output.len() >= extent(&[(self.rows, self.output_row)], self.columns * LANES));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { y, rows, columns, slope, grad, winners, output, output_row } = self;
        let (y, grad, winners, output) = (y.as_ptr(), grad.as_ptr(), winners.as_ptr(), output.as_mut_ptr());
        // SAFETY: `y` has sixteen values for each pixel, `grad` and `winners` for each window, and `output` for each pixel
        // where `output_row` says (`check`).
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
                        S::store(output.add(y_row * output_row + y_column * LANES), value);
                    }
                }
                if columns % 2 == 1 {
                    for y_row in [2 * row, 2 * row + 1] {
                        let value = base(y.add((y_row * columns + columns - 1) * LANES));
                        S::store(output.add(y_row * output_row + (columns - 1) * LANES), value);
                    }
                }
            }
            if rows % 2 == 1 {
                for column in 0..columns {
                    let value = base(y.add(((rows - 1) * columns + column) * LANES));
                    S::store(output.add((rows - 1) * output_row + column * LANES), value);
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `output` alone.
unsafe impl Whole for Spread<'_> {}
