//! The 2×2 max-pool of plain planes.

use crate::simd::lanes::LANES;
use crate::simd::vector::Simd;
use crate::simd::{Kernel, Whole};

/// The maximum of each 2×2 window of a plane of `rows` × `columns`, and, where `winners` are wanted, which of its
/// four values it is.
pub(super) struct Halve<'a> {
    pub x: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub y: &'a mut [f32],
    pub winners: Option<&'a mut [u8]>,
}

impl Kernel for Halve<'_> {
    fn check(&self) {
        let windows = (self.rows / 2) * (self.columns / 2);
        assert!(self.x.len() >= self.rows * self.columns && self.y.len() >= windows);
        assert!(self.winners.as_ref().is_none_or(|winners| winners.len() >= windows));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, rows, columns, y, winners } = self;
        let (oh, ow) = (rows / 2, columns / 2);
        let (x, y) = (x.as_ptr(), y.as_mut_ptr());
        let winners = winners.map_or(std::ptr::null_mut(), <[u8]>::as_mut_ptr);
        // SAFETY: `x` has `rows` × `columns` values, `y` and, unless it is null, `winners` one for each window (`check`).
        unsafe {
            for row in 0..oh {
                let (upper, lower) = (x.add(2 * row * columns), x.add((2 * row + 1) * columns));
                let (y, winners) = (y.add(row * ow), if winners.is_null() { winners } else { winners.add(row * ow) });
                let mut column = 0;
                while column + LANES <= ow {
                    let load = [upper.add(2 * column), lower.add(2 * column)];
                    let (mut best, b) = S::deinterleave(S::load(load[0]), S::load(load[0].add(LANES)));
                    let (c, d) = S::deinterleave(S::load(load[1]), S::load(load[1].add(LANES)));
                    let mut winner = S::zero();
                    for (i, value) in [b, c, d].into_iter().enumerate() {
                        let wins = S::beats(value, best);
                        best = S::select(wins, value, best);
                        winner = S::select(wins, S::splat((i + 1) as f32), winner);
                    }
                    S::store(y.add(column), best);
                    if !winners.is_null() {
                        S::store_u8(winners.add(column), winner);
                    }
                    column += LANES;
                }
                for column in column..ow {
                    let mut best = *upper.add(2 * column);
                    let mut winner = 0;
                    let others = [*upper.add(2 * column + 1), *lower.add(2 * column), *lower.add(2 * column + 1)];
                    for (i, value) in others.into_iter().enumerate() {
                        let wins = value > best || value.is_nan();
                        best = if wins { value } else { best };
                        winner = if wins { i as u8 + 1 } else { winner };
                    }
                    *y.add(column) = best;
                    if !winners.is_null() {
                        *winners.add(column) = winner;
                    }
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `y` and `winners` alone.
unsafe impl Whole for Halve<'_> {}
