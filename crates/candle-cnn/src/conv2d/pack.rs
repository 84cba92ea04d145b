//! Pictures and weights as blocks of sixteen channels, and back.

use rayon::prelude::*;
use std::ops::Range;

use super::geometry::{Frame, SQUARE, Sizes};
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::vector::{Simd, load, store};
use crate::simd::{Kernel, Whole, extent};

/// One picture of `frame.c` planes of `h` × `w` at `src`, into `frame.picture()` values at `dst`.
pub(crate) struct Pack<'a> {
    pub src: &'a [f32],
    pub h: usize,
    pub w: usize,
    pub frame: &'a Frame,
    pub dst: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    fn check(&self) {
        assert!(self.src.len() >= self.frame.c * self.h * self.w);
        assert!(self.dst.len() >= self.frame.picture());
        assert!(self.frame.pixel == LANES || self.frame.c <= self.frame.pixel);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, h, w, frame, dst } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has `frame.c` planes of `h` × `w`, and `dst` `frame.picture()` values (`check`); places outside of
        // the frame are left out.
        unsafe {
            std::ptr::write_bytes(dst, 0, frame.picture());
            let plane = h * w;
            let place = |p: usize| -> Option<usize> {
                let y = (p / w) as isize + frame.top;
                let x = (p % w) as isize + frame.left;
                let inside = y >= 0 && x >= 0 && (y as usize) < frame.rows && (x as usize) < frame.columns;
                inside.then(|| (y as usize * frame.columns + x as usize) * frame.pixel)
            };
            if frame.pixel != LANES {
                for p in 0..plane {
                    if let Some(at) = place(p) {
                        for c in 0..frame.c {
                            *dst.add(at + c) = *src.add(c * plane + p);
                        }
                    }
                }
                return;
            }
            for block in 0..frame.blocks() {
                let (src, dst) = (src.add(block * LANES * plane), dst.add(block * frame.block()));
                let channels = LANES.min(frame.c - block * LANES);
                let mut p = 0;
                while p < plane {
                    let count = LANES.min(plane - p);
                    let mut rows = [S::zero(); LANES];
                    for (c, row) in rows.iter_mut().enumerate().take(channels) {
                        *row = load::<S>(src.add(c * plane + p), count);
                    }
                    let columns = S::transpose(rows);
                    // Within one row of the picture positions follow each other.
                    let (mut y, mut x) = (p / w, p % w);
                    for &column in columns.iter().take(count) {
                        let (fy, fx) = (y as isize + frame.top, x as isize + frame.left);
                        if fy >= 0 && fx >= 0 && (fy as usize) < frame.rows && (fx as usize) < frame.columns {
                            S::store(dst.add((fy as usize * frame.columns + fx as usize) * LANES), column);
                        }
                        x += 1;
                        if x == w {
                            (y, x) = (y + 1, 0);
                        }
                    }
                    p += count;
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for Pack<'_> {}

/// Packs as many pictures as `packed` has room for, which lie `distance` values apart in `x`.
pub(crate) fn pack_pictures(x: &[f32], distance: usize, h: usize, w: usize, frame: &Frame, packed: &mut [Lane]) {
    for (i, dst) in floats_mut(packed).chunks_exact_mut(frame.picture()).enumerate() {
        Pack { src: &x[i * distance..], h, w, frame, dst }.call();
    }
}

/// Packs `n` pictures, which lie `distance` values apart in `x`.
pub(crate) fn pack_all(x: &[f32], distance: usize, n: usize, h: usize, w: usize, frame: &Frame) -> Buffer {
    Planes { x, distance, h, w, frame: *frame }.pack(0..n)
}

/// Pictures of planes of `h` × `w`, which lie `distance` values apart in `x`, and how they are to be packed.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    pub x: &'a [f32],
    pub distance: usize,
    pub h: usize,
    pub w: usize,
    pub frame: Frame,
}

impl Planes<'_> {
    /// Some of the pictures, packed.
    pub(crate) fn pack(&self, pictures: Range<usize>) -> Buffer {
        let Self { x, distance, h, w, frame } = *self;
        let mut packed = Buffer::new(pictures.len() * frame.picture() / LANES);
        packed.par_chunks_mut(frame.picture() / LANES).zip(pictures).for_each(|(dst, i)| {
            Pack { src: &x[i * distance..], h, w, frame: &frame, dst: floats_mut(dst) }.call();
        });
        packed
    }
}

/// The output's gradient of all pictures.
#[derive(Clone, Copy)]
pub(crate) enum Grads<'a> {
    /// As it is.
    Planes(Planes<'a>),
    /// Computed where it is needed: a picture's number to its blocks, of so many values.
    Computed(&'a (dyn Fn(usize, &mut [Lane]) + Sync), usize),
}

impl Grads<'_> {
    /// Some of the pictures, packed.
    pub(super) fn pack(&self, pictures: Range<usize>) -> Buffer {
        match *self {
            Self::Planes(planes) => planes.pack(pictures),
            Self::Computed(compute, picture) => {
                let mut packed = Buffer::new(pictures.len() * picture / LANES);
                packed.par_chunks_mut(picture / LANES).zip(pictures).for_each(|(dst, i)| compute(i, dst));
                packed
            }
        }
    }
}

/// Blocks of `plane` pixels at `src`, into `c` planes at `dst`.
pub(crate) struct Unpack<'a> {
    pub src: &'a [f32],
    pub c: usize,
    pub plane: usize,
    pub dst: &'a mut [f32],
}

impl Kernel for Unpack<'_> {
    fn check(&self) {
        assert!(self.src.len() >= self.c.next_multiple_of(LANES) * self.plane);
        assert!(self.dst.len() >= self.c * self.plane);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, c, plane, dst } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has ⌈`c` / 16⌉ blocks of `plane` pixels, and `dst` `c` planes (`check`).
        unsafe {
            for block in 0..c.div_ceil(LANES) {
                let (src, dst) = (src.add(block * LANES * plane), dst.add(block * LANES * plane));
                let channels = LANES.min(c - block * LANES);
                let mut p = 0;
                while p < plane {
                    let count = LANES.min(plane - p);
                    let mut rows = [S::zero(); LANES];
                    for (i, row) in rows.iter_mut().enumerate().take(count) {
                        *row = S::load(src.add((p + i) * LANES));
                    }
                    let columns = S::transpose(rows);
                    for (c, &column) in columns.iter().enumerate().take(channels) {
                        store::<S>(dst.add(c * plane + p), column, count);
                    }
                    p += count;
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for Unpack<'_> {}

/// `outputs` ≤ 16 rows of weights, of c · taps values each, at `src` into one packed block at `dst`.
struct PackWeights<'a> {
    src: &'a [f32],
    sizes: &'a Sizes,
    outputs: usize,
    dst: &'a mut [f32],
}

impl Kernel for PackWeights<'_> {
    fn check(&self) {
        let Self { src, sizes, outputs, dst } = self;
        assert!(*outputs <= LANES && src.len() >= outputs * sizes.c * sizes.taps());
        assert!(dst.len() >= sizes.input_blocks() * sizes.taps() * SQUARE);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, sizes, outputs, dst } = self;
        let (taps, row) = (sizes.taps(), sizes.c * sizes.taps());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has `outputs` ≤ 16 rows, and `dst` a square for each tap of each block of inputs (`check`).
        unsafe {
            std::ptr::write_bytes(dst, 0, sizes.input_blocks() * taps * SQUARE);
            // k counts input channels and taps as they lie in memory.
            let mut k = 0;
            while k < row {
                let count = LANES.min(row - k);
                let mut rows = [S::zero(); LANES];
                for (o, values) in rows.iter_mut().enumerate().take(outputs) {
                    *values = load::<S>(src.add(o * row + k), count);
                }
                for (i, &column) in S::transpose(rows).iter().enumerate().take(count) {
                    S::store(dst.add(place(k + i, taps)), column);
                }
                k += count;
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for PackWeights<'_> {}

/// Where the outputs of weight k of a row, which counts input channels and taps, lie in a packed block.
#[inline(always)]
fn place(k: usize, taps: usize) -> usize {
    let (c, tap) = (k / taps, k % taps);
    ((c / LANES * taps + tap) * LANES + c % LANES) * LANES
}

/// The weights `[O, C, KH, KW]` of one group as the forward pass reads them.
pub(super) fn pack_weights(weight: &[f32], sizes: &Sizes) -> Buffer {
    assert_eq!(weight.len(), sizes.o * sizes.c * sizes.taps());
    let mut packed = Buffer::new(sizes.weight_lanes());
    let row = sizes.c * sizes.taps();
    let block = sizes.input_blocks() * sizes.taps() * LANES;
    packed.par_chunks_mut(block).zip(weight.par_chunks(LANES * row)).for_each(|(dst, src)| {
        PackWeights { src, sizes, outputs: src.len() / row, dst: floats_mut(dst) }.call();
    });
    packed
}

/// All packed weights at `src`, into those of input block `block` as the input's gradient reads them in one phase.
struct TurnWeights<'a> {
    src: &'a [f32],
    sizes: &'a Sizes,
    phase: &'a [usize],
    block: usize,
    dst: &'a mut [f32],
}

impl Kernel for TurnWeights<'_> {
    fn check(&self) {
        let Self { src, sizes, phase, block, dst } = self;
        assert!(*block < sizes.input_blocks() && src.len() >= sizes.weight_lanes() * LANES);
        assert!(phase.iter().all(|&tap| tap < sizes.taps()));
        assert!(dst.len() >= sizes.output_blocks() * phase.len() * SQUARE);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, sizes, phase, block, dst } = self;
        let (taps, inputs) = (sizes.taps(), sizes.input_blocks());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has a square for each output block, input block and tap, `block` is one of the input blocks, those of
        // `phase` are taps, and `dst` has a square for each output block and each of `phase` (`check`).
        unsafe {
            for o in 0..sizes.output_blocks() {
                for (t, &tap) in phase.iter().enumerate() {
                    let square = src.add(((o * inputs + block) * taps + tap) * SQUARE);
                    let turned = S::transpose(std::array::from_fn(|i| S::load(square.add(i * LANES))));
                    let dst = dst.add((o * phase.len() + t) * SQUARE);
                    for (i, &row) in turned.iter().enumerate() {
                        S::store(dst.add(i * LANES), row);
                    }
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for TurnWeights<'_> {}

/// Packed weights as the input's gradient reads them, phase by phase: inputs and outputs exchanged, taps in reverse.
pub(super) fn turn_weights(packed: &[Lane], sizes: &Sizes) -> Buffer {
    assert_eq!(packed.len(), sizes.weight_lanes());
    let mut turned = Buffer::new(sizes.weight_lanes());
    let mut rest: &mut [Lane] = &mut turned;
    for phase in sizes.phases().iter().map(|phase| phase.taps.as_slice()).filter(|phase| !phase.is_empty()) {
        let block = sizes.output_blocks() * phase.len() * LANES;
        let (own, others) = rest.split_at_mut(sizes.input_blocks() * block);
        rest = others;
        own.par_chunks_mut(block).enumerate().for_each(|(c, dst)| {
            TurnWeights { src: floats(packed), sizes, phase, block: c, dst: floats_mut(dst) }.call();
        });
    }
    turned
}

/// The sum of `parts` packed blocks, which lie `part` values apart, into `outputs` ≤ 16 rows of weights.
struct UnpackWeights<'a> {
    src: &'a [f32],
    parts: usize,
    part: usize,
    sizes: &'a Sizes,
    outputs: usize,
    dst: &'a mut [f32],
}

impl Kernel for UnpackWeights<'_> {
    fn check(&self) {
        let Self { src, parts, part, sizes, outputs, dst } = self;
        assert!(src.len() >= extent(&[(*parts, *part)], sizes.input_blocks() * sizes.taps() * SQUARE));
        assert!(*outputs <= LANES && dst.len() >= outputs * sizes.c * sizes.taps());
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, parts, part, sizes, outputs, dst } = self;
        let (taps, row) = (sizes.taps(), sizes.c * sizes.taps());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has a square for each tap of each block of inputs, `parts` times and `part` apart, and `dst`
        // `outputs` ≤ 16 rows (`check`).
        unsafe {
            let mut k = 0;
            while k < row {
                let count = LANES.min(row - k);
                let mut rows = [S::zero(); LANES];
                for (i, values) in rows.iter_mut().enumerate().take(count) {
                    let src = src.add(place(k + i, taps));
                    *values = S::load(src);
                    for p in 1..parts {
                        *values = S::add(*values, S::load(src.add(p * part)));
                    }
                }
                for (o, &column) in S::transpose(rows).iter().enumerate().take(outputs) {
                    store::<S>(dst.add(o * row + k), column, count);
                }
                k += count;
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for UnpackWeights<'_> {}

/// Packed weights, in `parts` that are added, as `[O, C, KH, KW]`.
pub(super) fn unpack_weights(sums: &[Lane], parts: usize, sizes: &Sizes, output: &mut [f32]) {
    let row = sizes.c * sizes.taps();
    let block = sizes.input_blocks() * sizes.taps() * LANES;
    let part = sizes.weight_lanes();
    assert!(sums.len() >= parts * part && output.len() == sizes.o * row);
    output.par_chunks_mut(LANES * row).enumerate().for_each(|(o, dst)| {
        let src = floats(&sums[o * block..]);
        UnpackWeights { src, parts, part: part * LANES, sizes, outputs: dst.len() / row, dst }.call();
    });
}
