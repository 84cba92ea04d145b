//! The max-pool of plain planes, in vectors along the rows of the output.

use super::windows::Windows;
use crate::simd::lanes::LANES;
use crate::simd::vector::{Simd, load, store};
use crate::simd::{Kernel, Whole};

/// Pixels of a window that a winner's number, a byte, can tell apart: see [`Simd::store_u8`].
const MOST_PIXELS: usize = 128;

/// Whether [`Maxima`] has numbers enough for these windows.
pub(super) fn serves(windows: &Windows) -> bool {
    windows.kernel.0 * windows.kernel.1 <= MOST_PIXELS
}

/// The maximum of each window of a plane, and, where `winners` are wanted, which of the window's pixels, in row-major
/// order, it is.
pub(super) struct Maxima<'a> {
    pub x: &'a [f32],
    pub windows: &'a Windows,
    pub y: &'a mut [f32],
    pub winners: Option<&'a mut [u8]>,
}

impl Kernel for Maxima<'_> {
    fn check(&self) {
        let Windows { kernel, stride, oh, ow, dims: [_, _, rows, columns] } = *self.windows;
        assert!(serves(self.windows) && oh * ow > 0);
        assert!((oh - 1) * stride.0 + kernel.0 <= rows && (ow - 1) * stride.1 + kernel.1 <= columns);
        assert!(self.x.len() >= rows * columns && self.y.len() >= oh * ow);
        assert!(self.winners.as_ref().is_none_or(|winners| winners.len() >= oh * ow));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, windows, y, winners } = self;
        let Windows { kernel, stride, oh, ow, dims: [_, _, _, columns] } = *windows;
        let (x, y) = (x.as_ptr(), y.as_mut_ptr());
        let winners = winners.map_or(std::ptr::null_mut(), <[u8]>::as_mut_ptr);
        for row in 0..oh {
            let mut column = 0;
            while column < ow {
                let count = LANES.min(ow - column);
                // SAFETY: `x` has the pixels of the `count` windows from this one on, since all windows lie within its
                // rows and columns; `y` and, unless it is null, `winners` one value for each window (`check`).
                unsafe {
                    let corner = x.add(row * stride.0 * columns + column * stride.1);
                    let mut best = Best::<S> { value: S::zero(), winner: S::zero() };
                    for ky in 0..kernel.0 {
                        let line = corner.add(ky * columns);
                        let mut kx = 0;
                        while kx < kernel.1 {
                            let number = ky * kernel.1 + kx;
                            if stride.1 == 2 && kx + 1 < kernel.1 {
                                let (even, odd) = pairs::<S>(line.add(kx), 2 * count);
                                best.meet(even, number);
                                best.meet(odd, number + 1);
                                kx += 2;
                            } else {
                                best.meet(every::<S>(line.add(kx), stride.1, count), number);
                                kx += 1;
                            }
                        }
                    }
                    store::<S>(y.add(row * ow + column), best.value, count);
                    if !winners.is_null() {
                        let mut numbers = [0; LANES];
                        S::store_u8(numbers.as_mut_ptr(), best.winner);
                        std::ptr::copy_nonoverlapping(numbers.as_ptr(), winners.add(row * ow + column), count);
                    }
                }
                column += LANES;
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `y` and `winners` alone.
unsafe impl Whole for Maxima<'_> {}

/// The largest values so far and their numbers.
struct Best<S: Simd> {
    value: S::V,
    winner: S::V,
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    unsafe fn meet(&mut self, value: S::V, number: usize) {
        if number == 0 {
            self.value = value;
            return;
        }
        // SAFETY: the caller has the instruction set.
        unsafe {
            let wins = S::beats(value, self.value);
            self.value = S::select(wins, value, self.value);
            self.winner = S::select(wins, S::splat(number as f32), self.winner);
        }
    }
}

/// Of `count` values, 32 at most, those at even and those at odd places.
#[inline(always)]
unsafe fn pairs<S: Simd>(p: *const f32, count: usize) -> (S::V, S::V) {
    // SAFETY: `count` values are behind `p`; none is read where none is left.
    unsafe {
        let second = if count > LANES { load::<S>(p.add(LANES), count - LANES) } else { S::zero() };
        S::deinterleave(load::<S>(p, count), second)
    }
}

/// `count` values, 16 at most, that lie `distance` apart.
#[inline(always)]
unsafe fn every<S: Simd>(p: *const f32, distance: usize, count: usize) -> S::V {
    // SAFETY: the values are behind `p`, and nothing else is read.
    unsafe {
        match distance {
            1 => load::<S>(p, count),
            2 => pairs::<S>(p, 2 * count - 1).0,
            _ => {
                let mut values = [0.0; LANES];
                for (i, value) in values.iter_mut().enumerate().take(count) {
                    *value = *p.add(i * distance);
                }
                S::load(values.as_ptr())
            }
        }
    }
}
