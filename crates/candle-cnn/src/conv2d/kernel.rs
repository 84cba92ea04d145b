//! The two kernels of convolution on packed pictures: one for outputs and the input's gradient, one for the weight's.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop)]

use super::geometry::SQUARE;
use crate::simd::dispatch;
use crate::simd::lanes::LANES;
use crate::simd::vector::Simd;

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
