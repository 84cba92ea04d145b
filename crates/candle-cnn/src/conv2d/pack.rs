//! Pictures and weights as blocks of sixteen channels, and back.

use rayon::prelude::*;

use super::geometry::{Frame, SQUARE, Sizes};
use crate::simd::dispatch;
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::vector::Simd;

#[inline(always)]
unsafe fn pack_generic<S: Simd>(src: *const f32, h: usize, w: usize, dst: *mut f32, frame: &Frame) {
    // SAFETY: `src` has `frame.c` planes of h × w, `dst` has `frame.picture()` floats; positions outside are left out.
    unsafe {
        std::ptr::write_bytes(dst, 0, frame.picture());
        let plane = h * w;
        let place = |p: usize| -> Option<usize> {
            let y = (p / w * frame.step) as isize + frame.top;
            let x = (p % w * frame.step) as isize + frame.left;
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
                    let src = src.add(c * plane + p);
                    *row = if count == LANES { S::load(src) } else { partial::<S>(src, count) };
                }
                let columns = S::transpose(rows);
                // Within one row of the picture positions follow each other.
                let (mut y, mut x) = (p / w, p % w);
                for &column in columns.iter().take(count) {
                    let (fy, fx) = ((y * frame.step) as isize + frame.top, (x * frame.step) as isize + frame.left);
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

/// Fewer than sixteen values, zeros behind them.
#[inline(always)]
unsafe fn partial<S: Simd>(src: *const f32, count: usize) -> S::V {
    let mut values = [0.0; LANES];
    // SAFETY: the caller has `count` ≤ 16 values behind `src`.
    unsafe {
        for (i, value) in values.iter_mut().enumerate().take(count) {
            *value = *src.add(i);
        }
        S::load(values.as_ptr())
    }
}

dispatch! {
    /// Packs one picture of `frame.c` planes of `h` × `w` at `src` into `frame.picture()` floats at `dst`.
    ///
    /// # Safety
    /// The pointers must have that many floats behind them.
    pub(crate) fn pack = pack_generic(src: *const f32, h: usize, w: usize, dst: *mut f32, frame: &Frame)
}

#[inline(always)]
unsafe fn unpack_generic<S: Simd>(src: *const f32, c: usize, plane: usize, dst: *mut f32) {
    // SAFETY: `src` has ⌈c / 16⌉ blocks of `plane` pixels, `dst` has `c` planes.
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
                    let dst = dst.add(c * plane + p);
                    if count == LANES {
                        S::store(dst, column);
                    } else {
                        let mut values = [0.0; LANES];
                        S::store(values.as_mut_ptr(), column);
                        std::ptr::copy_nonoverlapping(values.as_ptr(), dst, count);
                    }
                }
                p += count;
            }
        }
    }
}

dispatch! {
    /// Unpacks blocks of `plane` pixels at `src` into `c` planes at `dst`.
    ///
    /// # Safety
    /// `src` must have ⌈c / 16⌉ · 16 · plane floats behind it, `dst` c · plane.
    pub(crate) fn unpack = unpack_generic(src: *const f32, c: usize, plane: usize, dst: *mut f32)
}

#[inline(always)]
unsafe fn pack_weight_block_generic<S: Simd>(src: *const f32, sizes: &Sizes, outputs: usize, dst: *mut f32) {
    let (taps, row) = (sizes.taps(), sizes.c * sizes.taps());
    // SAFETY: `src` has `outputs` ≤ 16 rows of c · taps floats, `dst` has a block of packed weights.
    unsafe {
        std::ptr::write_bytes(dst, 0, sizes.input_blocks() * taps * SQUARE);
        // k counts input channels and taps as they lie in memory.
        let mut k = 0;
        while k < row {
            let count = LANES.min(row - k);
            let mut rows = [S::zero(); LANES];
            for (o, values) in rows.iter_mut().enumerate().take(outputs) {
                let src = src.add(o * row + k);
                *values = if count == LANES { S::load(src) } else { partial::<S>(src, count) };
            }
            for (i, &column) in S::transpose(rows).iter().enumerate().take(count) {
                let (c, tap) = ((k + i) / taps, (k + i) % taps);
                S::store(dst.add(((c / LANES * taps + tap) * LANES + c % LANES) * LANES), column);
            }
            k += count;
        }
    }
}

dispatch! {
    fn pack_weight_block =
        pack_weight_block_generic(src: *const f32, sizes: &Sizes, outputs: usize, dst: *mut f32)
}

/// The weights `[O, C, KH, KW]` of one group as the forward pass reads them.
pub(super) fn pack_weights(weight: &[f32], sizes: &Sizes) -> Buffer {
    assert_eq!(weight.len(), sizes.o * sizes.c * sizes.taps());
    let mut packed = Buffer::new(sizes.weight_lanes());
    let row = sizes.c * sizes.taps();
    let block = sizes.input_blocks() * sizes.taps() * LANES;
    packed.par_chunks_mut(block).zip(weight.par_chunks(LANES * row)).for_each(|(dst, src)| {
        // SAFETY: `src` has its rows (16, or fewer in the last block), `dst` is one block.
        unsafe { pack_weight_block(src.as_ptr(), sizes, src.len() / row, floats_mut(dst)) }
    });
    packed
}

#[inline(always)]
unsafe fn turn_weight_block_generic<S: Simd>(src: *const f32, sizes: &Sizes, block: usize, dst: *mut f32) {
    let (taps, inputs) = (sizes.taps(), sizes.input_blocks());
    // SAFETY: `src` has all packed weights, `dst` the block of turned ones of input block `block`.
    unsafe {
        for o in 0..sizes.output_blocks() {
            for tap in 0..taps {
                let square = src.add(((o * inputs + block) * taps + tap) * SQUARE);
                let turned = S::transpose(std::array::from_fn(|i| S::load(square.add(i * LANES))));
                let dst = dst.add((o * taps + taps - 1 - tap) * SQUARE);
                for (i, &row) in turned.iter().enumerate() {
                    S::store(dst.add(i * LANES), row);
                }
            }
        }
    }
}

dispatch! {
    fn turn_weight_block =
        turn_weight_block_generic(src: *const f32, sizes: &Sizes, block: usize, dst: *mut f32)
}

/// Packed weights as the input's gradient reads them: inputs and outputs exchanged, taps in reverse.
pub(super) fn turn_weights(packed: &[Lane], sizes: &Sizes) -> Buffer {
    assert_eq!(packed.len(), sizes.weight_lanes());
    let mut turned = Buffer::new(sizes.weight_lanes());
    let block = sizes.output_blocks() * sizes.taps() * LANES;
    turned.par_chunks_mut(block).enumerate().for_each(|(c, dst)| {
        // SAFETY: both have the lengths that the assertion and the line above say.
        unsafe { turn_weight_block(floats(packed), sizes, c, floats_mut(dst)) }
    });
    turned
}

#[inline(always)]
unsafe fn unpack_weight_block_generic<S: Simd>(
    src: *const f32,
    parts: usize,
    part: usize,
    sizes: &Sizes,
    outputs: usize,
    dst: *mut f32,
) {
    let (taps, row) = (sizes.taps(), sizes.c * sizes.taps());
    // SAFETY: as `pack_weight_block`, the other way round, with `parts` packed blocks that lie `part` floats apart.
    unsafe {
        let mut k = 0;
        while k < row {
            let count = LANES.min(row - k);
            let mut rows = [S::zero(); LANES];
            for (i, values) in rows.iter_mut().enumerate().take(count) {
                let (c, tap) = ((k + i) / taps, (k + i) % taps);
                let src = src.add(((c / LANES * taps + tap) * LANES + c % LANES) * LANES);
                *values = S::load(src);
                for p in 1..parts {
                    *values = S::add(*values, S::load(src.add(p * part)));
                }
            }
            for (o, &column) in S::transpose(rows).iter().enumerate().take(outputs) {
                let dst = dst.add(o * row + k);
                if count == LANES {
                    S::store(dst, column);
                } else {
                    let mut values = [0.0; LANES];
                    S::store(values.as_mut_ptr(), column);
                    std::ptr::copy_nonoverlapping(values.as_ptr(), dst, count);
                }
            }
            k += count;
        }
    }
}

dispatch! {
    fn unpack_weight_block = unpack_weight_block_generic(
        src: *const f32, parts: usize, part: usize, sizes: &Sizes, outputs: usize, dst: *mut f32,
    )
}

/// Packed weights, in `parts` that are added, as `[O, C, KH, KW]`.
pub(super) fn unpack_weights(sums: &[Lane], parts: usize, sizes: &Sizes, output: &mut [f32]) {
    let row = sizes.c * sizes.taps();
    let block = sizes.input_blocks() * sizes.taps() * LANES;
    let part = sizes.weight_lanes();
    assert!(sums.len() >= parts * part);
    output.par_chunks_mut(LANES * row).enumerate().for_each(|(o, output)| {
        // SAFETY: the assertion above; what was left unwritten (rows of channels that do not exist) is not read.
        unsafe {
            let src = floats(&sums[o * block..]);
            unpack_weight_block(src, parts, part * LANES, sizes, output.len() / row, output.as_mut_ptr());
        }
    });
}

/// A vector as blocks, zeros behind it.
pub(crate) fn lanes(values: &[f32]) -> Vec<Lane> {
    let block = |chunk: &[f32]| {
        let mut lane = Lane::ZERO;
        lane.0[..chunk.len()].copy_from_slice(chunk);
        lane
    };
    values.chunks(LANES).map(block).collect()
}

/// Packs `n` pictures, which lie `distance` values apart in `x`.
pub(crate) fn pack_all(x: &[f32], distance: usize, n: usize, h: usize, w: usize, frame: &Frame) -> Buffer {
    assert!(x.len() >= (n - 1) * distance + frame.c * h * w);
    let mut packed = Buffer::new(n * frame.picture() / LANES);
    packed.par_chunks_mut(frame.picture() / LANES).enumerate().for_each(|(i, dst)| {
        // SAFETY: the assertion above, and `dst` is one picture (a multiple of 16 floats).
        unsafe { pack(x[i * distance..].as_ptr(), h, w, floats_mut(dst), frame) }
    });
    packed
}
