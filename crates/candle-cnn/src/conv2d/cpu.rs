//! Direct convolution on blocks of sixteen channels.
//!
//! Input pictures are packed into `[C / 16][HP][WP][16]`, zeros around them, one picture at a time so that they stay in
//! the cache; weights into `[O / 16][C / 16][tap][16 inputs][16 outputs]`. A tile of output pixels times output channels
//! stays in registers over all taps and input channels: for each input channel, vectors of weights are loaded and the
//! pixels' values broadcast. The input's gradient is the same convolution with the weights turned round; the weight's
//! gradient keeps a tile of input channels times output channels in registers over the pixels of many pictures.

use rayon::prelude::*;

use super::dispatch;
use super::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use super::simd::Simd;
use super::winograd;

/// Floats of one tap's weights between 16 input and 16 output channels.
pub(super) const SQUARE: usize = LANES * LANES;

/// Sizes of one convolution of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: usize,
}

/// A raw pointer that threads may share: each writes to a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: only handed to tasks that write to disjoint parts; said again where it is used.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(p: *mut f32) -> Self {
        Self(p)
    }
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}

/// How a picture lies in a padded buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Channels.
    pub c: usize,
    /// Rows and columns of the buffer.
    pub rows: usize,
    pub columns: usize,
    /// Where the picture's first pixel goes; negative where rows or columns of the picture are left out.
    pub top: isize,
    pub left: isize,
    /// Distance of the picture's pixels in the buffer: more than 1 puts zeros between them.
    pub step: usize,
    /// Floats per pixel: 16, or 4 where there are so few channels.
    pub pixel: usize,
}

impl Frame {
    pub(crate) fn blocks(&self) -> usize {
        self.c.div_ceil(LANES)
    }
    /// Floats of one block of channels.
    pub(crate) fn block(&self) -> usize {
        (self.rows * self.columns * self.pixel).next_multiple_of(LANES)
    }
    /// Floats of one picture.
    pub(crate) fn picture(&self) -> usize {
        self.blocks() * self.block()
    }
}

impl Sizes {
    pub(crate) fn taps(&self) -> usize {
        self.kh * self.kw
    }
    pub(crate) fn pixels(&self) -> usize {
        self.oh * self.ow
    }
    pub(crate) fn input_blocks(&self) -> usize {
        self.c.div_ceil(LANES)
    }
    pub(crate) fn output_blocks(&self) -> usize {
        self.o.div_ceil(LANES)
    }
    /// The input as the forward pass and the weight's gradient read it.
    pub(crate) fn input_frame(&self) -> Frame {
        Frame {
            c: self.c,
            rows: (self.oh - 1) * self.stride + self.dilation * (self.kh - 1) + 1,
            columns: (self.ow - 1) * self.stride + self.dilation * (self.kw - 1) + 1,
            top: self.padding as isize,
            left: self.padding as isize,
            step: 1,
            pixel: if self.c <= 4 { 4 } else { LANES },
        }
    }
    /// The output's gradient as the input's gradient reads it.
    pub(crate) fn output_frame(&self) -> Frame {
        Frame {
            c: self.o,
            rows: self.h + self.dilation * (self.kh - 1),
            columns: self.w + self.dilation * (self.kw - 1),
            top: (self.dilation * (self.kh - 1)) as isize - self.padding as isize,
            left: (self.dilation * (self.kw - 1)) as isize - self.padding as isize,
            step: self.stride,
            pixel: LANES,
        }
    }
    /// Pictures that one task takes: few enough for 8 tasks, many enough that weights are read once for several small
    /// pictures, which together should stay in the second-level cache.
    pub(crate) fn group(&self) -> usize {
        if winograd::serves(self) {
            return winograd::group(self);
        }
        let bytes = 4 * (self.input_frame().picture() + self.output_blocks() * LANES * self.pixels());
        ((256 << 10) / bytes.max(1)).clamp(1, self.n.div_ceil(8).max(1))
    }
    fn weight_lanes(&self) -> usize {
        self.output_blocks() * self.input_blocks() * self.taps() * LANES
    }
}

// ---------------------------------------------------------------------------------------------------------- packing

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
fn pack_weights(weight: &[f32], sizes: &Sizes) -> Buffer {
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
fn turn_weights(packed: &[Lane], sizes: &Sizes) -> Buffer {
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

// ------------------------------------------------------------------------------------------------------ convolution

/// One call of the convolution kernel: some pictures, all output channels. Distances are in floats.
pub(crate) struct Convolve {
    pub input: *const f32,
    pub input_picture: usize,
    pub input_block: usize,
    pub input_row: usize,
    /// Floats per pixel of the buffer, and pixels between two output pixels.
    pub input_pixel: usize,
    pub stride: usize,
    pub taps: *const usize,
    pub tap_count: usize,
    pub channels: usize,
    pub weights: *const f32,
    pub bias: Option<*const f32>,
    pub pictures: usize,
    pub rows: usize,
    pub columns: usize,
    pub output: *mut f32,
    pub output_picture: usize,
    pub output_block: usize,
    pub output_blocks: usize,
}

#[inline(always)]
unsafe fn tile<S: Simd, const OV: usize, const R: usize, const PX: usize>(
    job: &Convolve,
    input: *const f32,
    pixel: usize,
    block: usize,
    output: *mut f32,
) {
    let blocks = job.channels.div_ceil(LANES);
    let weight_block = blocks * job.tap_count * SQUARE;
    // SAFETY: `convolve`'s caller has laid out what the strides reach.
    unsafe {
        let mut sums = [[[S::zero(); PX]; R]; OV];
        if let Some(bias) = job.bias {
            for (o, sums) in sums.iter_mut().enumerate() {
                *sums = [[S::load(bias.add((block + o) * LANES)); PX]; R];
            }
        }
        let mut weights = job.weights.add(block * weight_block);
        for c in 0..blocks {
            let channels = LANES.min(job.channels - c * LANES);
            for t in 0..job.tap_count {
                let source = input.add(c * job.input_block + *job.taps.add(t));
                for i in 0..channels {
                    let w: [S::V; OV] = std::array::from_fn(|o| S::load(weights.add(o * weight_block + i * LANES)));
                    for r in 0..R {
                        for p in 0..PX {
                            let x = S::splat(*source.add(r * job.input_row + p * pixel + i));
                            for o in 0..OV {
                                sums[o][r][p] = S::fma(w[o], x, sums[o][r][p]);
                            }
                        }
                    }
                }
                weights = weights.add(SQUARE);
            }
        }
        for o in 0..OV {
            for r in 0..R {
                for p in 0..PX {
                    let at = o * job.output_block + (r * job.columns + p) * LANES;
                    S::store(output.add(at), sums[o][r][p]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<S: Simd, const OV: usize, const R: usize>(
    job: &Convolve,
    picture: usize,
    row: usize,
    pixel: usize,
    block: usize,
) {
    // SAFETY: as `tile`.
    unsafe {
        let input = job.input.add(picture * job.input_picture + row * job.input_row);
        let output =
            job.output.add(picture * job.output_picture + block * job.output_block + row * job.columns * LANES);
        // Even segments: a short one at the end would leave the multiply-add units waiting.
        let segments = job.columns.div_ceil(S::PIXELS / R);
        let (length, longer) = (job.columns / segments, job.columns % segments);
        let mut column = 0;
        for segment in 0..segments {
            let length = length + usize::from(segment < longer);
            let (x, y) = (input.add(column * pixel), output.add(column * LANES));
            match length {
                1 => tile::<S, OV, R, 1>(job, x, pixel, block, y),
                2 => tile::<S, OV, R, 2>(job, x, pixel, block, y),
                3 => tile::<S, OV, R, 3>(job, x, pixel, block, y),
                4 => tile::<S, OV, R, 4>(job, x, pixel, block, y),
                _ if R > 1 => unreachable!("two rows of more than four pixels"),
                5 => tile::<S, OV, 1, 5>(job, x, pixel, block, y),
                6 => tile::<S, OV, 1, 6>(job, x, pixel, block, y),
                7 => tile::<S, OV, 1, 7>(job, x, pixel, block, y),
                _ => tile::<S, OV, 1, 8>(job, x, pixel, block, y),
            }
            column += length;
        }
    }
}

#[inline(always)]
unsafe fn pictures<S: Simd, const OV: usize>(job: &Convolve, pixel: usize, block: usize) {
    // Where a row is too short for a tile, two rows make one.
    let double = S::PIXELS >= 8 && job.columns <= 4;
    // SAFETY: as `tile`.
    unsafe {
        for picture in 0..job.pictures {
            let mut row = 0;
            while row < job.rows {
                if double && row + 1 < job.rows {
                    rows::<S, OV, 2>(job, picture, row, pixel, block);
                    row += 2;
                } else {
                    rows::<S, OV, 1>(job, picture, row, pixel, block);
                    row += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn convolve_with_pixel<S: Simd>(job: &Convolve, pixel: usize) {
    let mut block = 0;
    // SAFETY: as `tile`.
    unsafe {
        while block < job.output_blocks {
            if S::OUTPUTS == 2 && block + 1 < job.output_blocks {
                pictures::<S, 2>(job, pixel, block);
                block += 2;
            } else {
                pictures::<S, 1>(job, pixel, block);
                block += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn convolve_generic<S: Simd>(job: &Convolve) {
    // SAFETY: as `tile`. The usual distance is a constant, so that it becomes part of the instructions.
    unsafe {
        if job.stride == 1 && job.input_pixel == LANES {
            convolve_with_pixel::<S>(job, LANES);
        } else {
            convolve_with_pixel::<S>(job, job.stride * job.input_pixel);
        }
    }
}

dispatch! {
    /// Runs a convolution.
    ///
    /// # Safety
    /// Everything that the job's pointers, sizes and distances reach must exist, and the output be this task's alone.
    pub(crate) fn convolve = convolve_generic(job: &Convolve)
}

/// Weights as one of the two ways of convolution reads them.
pub(crate) enum Weights {
    /// Packed.
    Direct(Buffer),
    /// Packed and transformed.
    Winograd(Buffer),
}

/// The weights `[O, C, KH, KW]` of one group for the forward pass.
pub(crate) fn forward_weights(weight: &[f32], sizes: &Sizes) -> Weights {
    let packed = pack_weights(weight, sizes);
    if winograd::serves(sizes) { Weights::Winograd(winograd::weights(&packed)) } else { Weights::Direct(packed) }
}

/// The same for the input's gradient.
pub(crate) fn backward_weights(weight: &[f32], sizes: &Sizes) -> Weights {
    let turned = turn_weights(&pack_weights(weight, sizes), sizes);
    if winograd::serves_input_gradient(sizes) {
        Weights::Winograd(winograd::weights(&turned))
    } else {
        Weights::Direct(turned)
    }
}

/// Offsets of a kernel's taps in a padded picture.
pub(crate) fn taps(kh: usize, kw: usize, dilation: usize, frame: &Frame) -> Vec<usize> {
    let at = |y: usize, x: usize| dilation * (y * frame.columns + x) * frame.pixel;
    (0..kh).flat_map(|y| (0..kw).map(move |x| at(y, x))).collect()
}

/// Convolves packed pictures at `input` into blocks at `output`.
///
/// # Safety
/// `input` must hold `pictures` pictures as `sizes.input_frame()` lays them out, `output` have room for as many of
/// `sizes.output_blocks()` blocks of `sizes.pixels()` pixels, for this task alone.
pub(crate) unsafe fn forward_packed(
    input: *const f32,
    pictures: usize,
    weights: &Weights,
    bias: Option<&[Lane]>,
    sizes: &Sizes,
    output: *mut f32,
) {
    let frame = sizes.input_frame();
    let weights = match weights {
        Weights::Direct(weights) => weights,
        Weights::Winograd(weights) => {
            // SAFETY: the caller's promise.
            return unsafe { winograd::forward(input, pictures, &frame, weights, bias, sizes.output_blocks(), output) };
        }
    };
    let offsets = taps(sizes.kh, sizes.kw, sizes.dilation, &frame);
    let job = Convolve {
        input,
        input_picture: frame.picture(),
        input_block: frame.block(),
        input_row: sizes.stride * frame.columns * frame.pixel,
        input_pixel: frame.pixel,
        stride: sizes.stride,
        taps: offsets.as_ptr(),
        tap_count: offsets.len(),
        channels: sizes.c,
        weights: floats(weights),
        bias: bias.map(floats),
        pictures,
        rows: sizes.oh,
        columns: sizes.ow,
        output,
        output_picture: sizes.output_blocks() * sizes.pixels() * LANES,
        output_block: sizes.pixels() * LANES,
        output_blocks: sizes.output_blocks(),
    };
    // SAFETY: the caller's promise, and `weights` and `bias` were packed for these sizes.
    unsafe { convolve(&job) }
}

/// The input's gradient for pictures whose output gradient has been packed as `sizes.output_frame()` says.
///
/// # Safety
/// `grad` must hold `pictures` such pictures, `output` have room for as many of `sizes.input_blocks()` blocks of h · w
/// pixels, for this task alone.
pub(crate) unsafe fn input_gradient_packed(
    grad: *const f32,
    pictures: usize,
    turned: &Weights,
    sizes: &Sizes,
    output: *mut f32,
) {
    let frame = sizes.output_frame();
    let turned = match turned {
        Weights::Direct(turned) => turned,
        Weights::Winograd(turned) => {
            // SAFETY: the caller's promise.
            return unsafe { winograd::forward(grad, pictures, &frame, turned, None, sizes.input_blocks(), output) };
        }
    };
    let offsets = taps(sizes.kh, sizes.kw, sizes.dilation, &frame);
    let plane = sizes.h * sizes.w;
    let job = Convolve {
        input: grad,
        input_picture: frame.picture(),
        input_block: frame.block(),
        input_row: frame.columns * LANES,
        input_pixel: LANES,
        stride: 1,
        taps: offsets.as_ptr(),
        tap_count: offsets.len(),
        channels: sizes.o,
        weights: floats(turned),
        bias: None,
        pictures,
        rows: sizes.h,
        columns: sizes.w,
        output,
        output_picture: sizes.input_blocks() * plane * LANES,
        output_block: plane * LANES,
        output_blocks: sizes.input_blocks(),
    };
    // SAFETY: the caller's promise, and `turned` was packed for these sizes.
    unsafe { convolve(&job) }
}

// -------------------------------------------------------------------------------------------------- weight gradient

/// One call of the weight-gradient kernel: one block of input channels, one or two of output channels, some pictures.
/// Distances are in floats.
pub(super) struct Correlate {
    /// The packed input of this block of channels.
    pub input: *const f32,
    pub input_picture: usize,
    pub input_row: usize,
    pub input_pixel: usize,
    pub taps: *const usize,
    pub tap_count: usize,
    pub channels: usize,
    /// The output's gradient of the first of these blocks, at its first pixel.
    pub grad: *const f32,
    pub grad_picture: usize,
    pub grad_block: usize,
    pub grad_row: usize,
    pub grad_pixel: usize,
    pub pictures: usize,
    pub rows: usize,
    pub columns: usize,
    /// The packed weight gradient of these blocks; each tap's square follows the one before.
    pub output: *mut f32,
    pub output_block: usize,
    pub output_blocks: usize,
    /// Whether the sums start here, or go on from what `output` holds.
    pub fresh: bool,
}

#[inline(always)]
unsafe fn correlate_tile<S: Simd, const OV: usize, const CI: usize>(
    job: &Correlate,
    input: *const f32,
    grad: *const f32,
    pictures: usize,
    output: *mut f32,
    fresh: bool,
) {
    // SAFETY: `correlate`'s caller has laid out what the strides reach.
    unsafe {
        let mut sums = [[S::zero(); OV]; CI];
        if !fresh {
            for i in 0..CI {
                for o in 0..OV {
                    sums[i][o] = S::load(output.add(o * job.output_block + i * LANES));
                }
            }
        }
        for picture in 0..pictures {
            for row in 0..job.rows {
                let mut x = input.add(picture * job.input_picture + row * job.input_row);
                let mut dy = grad.add(picture * job.grad_picture + row * job.grad_row);
                for _ in 0..job.columns {
                    let mut g = [S::zero(); OV];
                    for o in 0..OV {
                        g[o] = S::load(dy.add(o * job.grad_block));
                    }
                    for i in 0..CI {
                        let value = S::splat(*x.add(i));
                        for o in 0..OV {
                            sums[i][o] = S::fma(g[o], value, sums[i][o]);
                        }
                    }
                    x = x.add(job.input_pixel);
                    dy = dy.add(job.grad_pixel);
                }
            }
        }
        for i in 0..CI {
            for o in 0..OV {
                S::store(output.add(o * job.output_block + i * LANES), sums[i][o]);
            }
        }
    }
}

/// Pixels over which a tile of sums stays in registers at least, so that loading and storing it costs little.
const CORRELATED_PIXELS: usize = 128;

#[inline(always)]
unsafe fn correlate_blocks<S: Simd, const OV: usize>(job: &Correlate, block: usize) {
    // SAFETY: as `correlate_tile`.
    unsafe {
        let grad = job.grad.add(block * job.grad_block);
        let output = job.output.add(block * job.output_block);
        let chunk = CORRELATED_PIXELS.div_ceil(job.rows * job.columns);
        let segments = job.channels.div_ceil(S::INPUTS);
        let (length, longer) = (job.channels / segments, job.channels % segments);
        let mut first = 0;
        while first < job.pictures {
            let pictures = chunk.min(job.pictures - first);
            let (x, dy) = (job.input.add(first * job.input_picture), grad.add(first * job.grad_picture));
            for t in 0..job.tap_count {
                let x = x.add(*job.taps.add(t));
                let mut channel = 0;
                for segment in 0..segments {
                    let length = length + usize::from(segment < longer);
                    let (x, out) = (x.add(channel), output.add(t * SQUARE + channel * LANES));
                    let fresh = job.fresh && first == 0;
                    match length {
                        1 => correlate_tile::<S, OV, 1>(job, x, dy, pictures, out, fresh),
                        2 => correlate_tile::<S, OV, 2>(job, x, dy, pictures, out, fresh),
                        3 => correlate_tile::<S, OV, 3>(job, x, dy, pictures, out, fresh),
                        4 => correlate_tile::<S, OV, 4>(job, x, dy, pictures, out, fresh),
                        5 => correlate_tile::<S, OV, 5>(job, x, dy, pictures, out, fresh),
                        6 => correlate_tile::<S, OV, 6>(job, x, dy, pictures, out, fresh),
                        7 => correlate_tile::<S, OV, 7>(job, x, dy, pictures, out, fresh),
                        _ => correlate_tile::<S, OV, 8>(job, x, dy, pictures, out, fresh),
                    }
                    channel += length;
                }
            }
            first += pictures;
        }
    }
}

#[inline(always)]
unsafe fn correlate_generic<S: Simd>(job: &Correlate) {
    let mut block = 0;
    // SAFETY: as `correlate_tile`.
    unsafe {
        while block < job.output_blocks {
            if S::OUTPUTS == 2 && block + 1 < job.output_blocks {
                correlate_blocks::<S, 2>(job, block);
                block += 2;
            } else {
                correlate_blocks::<S, 1>(job, block);
                block += 1;
            }
        }
    }
}

dispatch! {
    /// Runs a correlation.
    ///
    /// # Safety
    /// As `convolve`.
    pub(super) fn correlate = correlate_generic(job: &Correlate)
}

/// How the output's gradient lies in memory, in floats, from its first pixel on.
#[derive(Clone, Copy)]
pub(crate) struct GradLayout {
    pub offset: usize,
    pub picture: usize,
    pub block: usize,
    pub row: usize,
    pub pixel: usize,
}

impl GradLayout {
    /// As `sizes.output_frame()` lays it out. Only where no row or column of the gradient is left out of the frame.
    pub(crate) fn framed(sizes: &Sizes) -> Self {
        let frame = sizes.output_frame();
        Self {
            offset: (frame.top as usize * frame.columns + frame.left as usize) * LANES,
            picture: frame.picture(),
            block: frame.block(),
            row: frame.step * frame.columns * LANES,
            pixel: frame.step * LANES,
        }
    }
    /// Blocks without a frame.
    pub(crate) fn dense(sizes: &Sizes) -> Self {
        let block = sizes.pixels() * LANES;
        Self { offset: 0, picture: sizes.output_blocks() * block, block, row: sizes.ow * LANES, pixel: LANES }
    }
}

/// The weight's gradient, `[O, C, KH, KW]`, from all pictures: the packed input and the output's gradient.
pub(crate) fn weight_gradient(input: &[Lane], grad: &[Lane], layout: GradLayout, sizes: &Sizes, output: &mut [f32]) {
    let frame = sizes.input_frame();
    assert!(input.len() * LANES >= sizes.n * frame.picture());
    assert!(grad.len() * LANES >= sizes.n * layout.picture);
    assert_eq!(output.len(), sizes.o * sizes.c * sizes.taps());
    let (input_blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    if winograd::serves(sizes) {
        return unpack_weights(&winograd::weight_gradient(input, grad, layout, sizes), 1, sizes, output);
    }
    let offsets = taps(sizes.kh, sizes.kw, sizes.dilation, &frame);
    let pairs = output_blocks.div_ceil(2);
    let tiles = input_blocks * pairs;
    // Where there are few tiles, each is cut into sums over some of the pictures, so that threads have something to
    // share. The number depends on the shapes alone, and with it the order of all sums.
    let parts = 8usize.div_ceil(tiles).min(sizes.n);
    let part = sizes.weight_lanes();
    let mut sums = Buffer::new(parts * part);
    let shared = Shared::new(floats_mut(&mut sums));
    (0..parts * tiles).into_par_iter().for_each(|task| {
        let (run, tile) = (task / tiles, task % tiles);
        let (block, pair) = (tile / pairs, tile % pairs);
        let (from, to) = (run * sizes.n / parts, (run + 1) * sizes.n / parts);
        let output_block = input_blocks * sizes.taps() * SQUARE;
        // SAFETY: the assertions above; each task writes to the squares of its own run, block and pair.
        unsafe {
            let job = Correlate {
                input: floats(input).add(from * frame.picture() + block * frame.block()),
                input_picture: frame.picture(),
                input_row: sizes.stride * frame.columns * frame.pixel,
                input_pixel: sizes.stride * frame.pixel,
                taps: offsets.as_ptr(),
                tap_count: offsets.len(),
                channels: LANES.min(sizes.c - block * LANES),
                grad: floats(grad).add(from * layout.picture + 2 * pair * layout.block + layout.offset),
                grad_picture: layout.picture,
                grad_block: layout.block,
                grad_row: layout.row,
                grad_pixel: layout.pixel,
                pictures: to - from,
                rows: sizes.oh,
                columns: sizes.ow,
                output: shared.get().add(run * part * LANES + 2 * pair * output_block + block * sizes.taps() * SQUARE),
                output_block,
                output_blocks: 2.min(output_blocks - 2 * pair),
                fresh: true,
            };
            correlate(&job);
        }
    });
    unpack_weights(&sums, parts, sizes, output);
}

/// Packed weights, in `parts` that are added, as `[O, C, KH, KW]`.
fn unpack_weights(sums: &[Lane], parts: usize, sizes: &Sizes, output: &mut [f32]) {
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

// ------------------------------------------------------------------------------------- whole operations, [N, C, H, W]

/// A convolution of `[N, C, H, W]` in `groups` groups of `sizes` each.
pub(crate) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, groups: usize, sizes: &Sizes, y: &mut [f32]) {
    let (plane, pixels) = (sizes.h * sizes.w, sizes.pixels());
    let (x_picture, y_picture) = (groups * sizes.c * plane, groups * sizes.o * pixels);
    assert!(x.len() == sizes.n * x_picture && y.len() == sizes.n * y_picture);
    let weights: Vec<Weights> =
        weight.chunks_exact(weight.len() / groups).map(|weight| forward_weights(weight, sizes)).collect();
    let biases: Option<Vec<Vec<Lane>>> = bias.map(|bias| bias.chunks_exact(sizes.o).map(lanes).collect());
    let frame = sizes.input_frame();
    let group = sizes.group();
    y.par_chunks_mut(group * y_picture).zip(x.par_chunks(group * x_picture)).for_each(|(y, x)| {
        let pictures = x.len() / x_picture;
        let mut input = Buffer::new((pictures * frame.picture()).div_ceil(LANES));
        let mut output = Buffer::new(pictures * sizes.output_blocks() * pixels);
        for g in 0..groups {
            // SAFETY: the buffers have the lengths that the functions ask for; slices are indexed, so checked.
            unsafe {
                for picture in 0..pictures {
                    let src = &x[picture * x_picture + g * sizes.c * plane..][..sizes.c * plane];
                    let dst = floats_mut(&mut input).add(picture * frame.picture());
                    pack(src.as_ptr(), sizes.h, sizes.w, dst, &frame);
                }
                let bias = biases.as_ref().map(|biases| biases[g].as_slice());
                forward_packed(floats(&input), pictures, &weights[g], bias, sizes, floats_mut(&mut output));
                for picture in 0..pictures {
                    let src = floats(&output[picture * sizes.output_blocks() * pixels..]);
                    let dst = &mut y[picture * y_picture + g * sizes.o * pixels..][..sizes.o * pixels];
                    unpack(src, sizes.o, pixels, dst.as_mut_ptr());
                }
            }
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

/// Gradients of input and weight, each where wanted, for the output's gradient `grad` `[N, O, OH, OW]`.
pub(crate) fn backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    groups: usize,
    sizes: &Sizes,
    mut dx: Option<&mut [f32]>,
    mut dw: Option<&mut [f32]>,
) {
    let (plane, pixels) = (sizes.h * sizes.w, sizes.pixels());
    let (x_picture, y_picture) = (groups * sizes.c * plane, groups * sizes.o * pixels);
    assert!(x.len() == sizes.n * x_picture && grad.len() == sizes.n * y_picture);
    let (input_frame, output_frame) = (sizes.input_frame(), sizes.output_frame());
    let group = sizes.group();
    for g in 0..groups {
        let weight = &weight[g * weight.len() / groups..][..weight.len() / groups];
        if let Some(dx) = dx.as_deref_mut() {
            assert_eq!(dx.len(), x.len());
            let turned = backward_weights(weight, sizes);
            dx.par_chunks_mut(group * x_picture).zip(grad.par_chunks(group * y_picture)).for_each(|(dx, grad)| {
                let pictures = grad.len() / y_picture;
                let mut packed = Buffer::new((pictures * output_frame.picture()).div_ceil(LANES));
                let mut output = Buffer::new(pictures * sizes.input_blocks() * plane);
                // SAFETY: as in `forward`.
                unsafe {
                    for picture in 0..pictures {
                        let src = &grad[picture * y_picture + g * sizes.o * pixels..][..sizes.o * pixels];
                        let dst = floats_mut(&mut packed).add(picture * output_frame.picture());
                        pack(src.as_ptr(), sizes.oh, sizes.ow, dst, &output_frame);
                    }
                    input_gradient_packed(floats(&packed), pictures, &turned, sizes, floats_mut(&mut output));
                    for picture in 0..pictures {
                        let src = floats(&output[picture * sizes.input_blocks() * plane..]);
                        let dst = &mut dx[picture * x_picture + g * sizes.c * plane..][..sizes.c * plane];
                        unpack(src, sizes.c, plane, dst.as_mut_ptr());
                    }
                }
            });
        }
        if let Some(dw) = dw.as_deref_mut() {
            let dense = Frame { c: sizes.o, rows: sizes.oh, columns: sizes.ow, top: 0, left: 0, step: 1, pixel: LANES };
            let input = pack_all(&x[g * sizes.c * plane..], x_picture, sizes.n, sizes.h, sizes.w, &input_frame);
            let packed = pack_all(&grad[g * sizes.o * pixels..], y_picture, sizes.n, sizes.oh, sizes.ow, &dense);
            let share = dw.len() / groups;
            let dw = &mut dw[g * share..][..share];
            weight_gradient(&input, &packed, GradLayout::dense(sizes), sizes, dw);
        }
    }
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
