//! The 2×2 max-pool of plain planes.

use crate::simd::dispatch;
use crate::simd::lanes::LANES;
use crate::simd::vector::Simd;

#[inline(always)]
unsafe fn halve_generic<S: Simd>(x: *const f32, rows: usize, columns: usize, y: *mut f32, winners: *mut u8) {
    let (oh, ow) = (rows / 2, columns / 2);
    // SAFETY: the caller's promise below.
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

dispatch! {
    /// The maximum of each 2×2 window of a plane of `rows` × `columns`, and, unless `winners` is null, which of its four
    /// values it is.
    ///
    /// # Safety
    /// `x` must have the plane behind it, `y` and `winners` room for rows and columns halved and rounded down.
    pub(crate) fn halve = halve_generic(x: *const f32, rows: usize, columns: usize, y: *mut f32, winners: *mut u8)
}
