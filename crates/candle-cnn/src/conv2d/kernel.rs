//! The two kernels of convolution on packed pictures: one for outputs and the input's gradient, one for the weight's.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop)]

use super::geometry::SQUARE;
use crate::simd::lanes::LANES;
use crate::simd::part::Part;
use crate::simd::vector::Simd;
use crate::simd::{Kernel, Whole, extent};

/// A convolution of some pictures to all output channels. Distances are in values.
pub(super) struct Convolve<'a> {
    pub input: &'a [f32],
    pub input_picture: usize,
    pub input_block: usize,
    pub input_row: usize,
    /// Values per pixel of the buffer, and pixels between two output pixels.
    pub input_pixel: usize,
    pub stride: usize,
    pub taps: &'a [usize],
    pub channels: usize,
    pub weights: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub pictures: usize,
    pub rows: usize,
    pub columns: usize,
    pub output: &'a mut [f32],
    pub output_picture: usize,
    pub output_block: usize,
    pub output_row: usize,
    pub output_pixel: usize,
    pub output_blocks: usize,
}

impl Kernel for Convolve<'_> {
    fn check(&self) {
        let pixels = [(self.rows, self.input_row), (self.columns, self.stride * self.input_pixel)];
        let blocks = self.channels.div_ceil(LANES);
        let places = [(self.pictures, self.input_picture), (blocks, self.input_block), pixels[0], pixels[1]];
        let furthest = self.taps.iter().max().copied().unwrap_or_default();
        assert!(self.channels <= self.input_pixel || self.input_pixel == LANES);
        assert!(self.input.len() >= furthest + extent(&places, self.channels.min(LANES)));
        assert!(self.weights.len() >= self.output_blocks * blocks * self.taps.len() * SQUARE);
        assert!(self.bias.is_none_or(|bias| bias.len() >= self.output_blocks * LANES));
        let pixels = [(self.rows, self.output_row), (self.columns, self.output_pixel)];
        let places =
            [(self.pictures, self.output_picture), (self.output_blocks, self.output_block), pixels[0], pixels[1]];
        assert!(self.output.len() >= extent(&places, LANES));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `check` is the caller's promise. The usual distance is a constant, so that it becomes part of the
        // instructions.
        unsafe {
            if self.stride == 1 && self.input_pixel == LANES {
                self.with_pixel::<S>(LANES);
            } else {
                let pixel = self.stride * self.input_pixel;
                self.with_pixel::<S>(pixel);
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `output` alone.
unsafe impl Whole for Convolve<'_> {}

// The methods below ask for what `check` asserts, and for places (picture, row, block, column) that the job has; `pixel` is
// the distance of two output pixels' inputs.
impl Convolve<'_> {
    #[inline(always)]
    unsafe fn with_pixel<S: Simd>(self, pixel: usize) {
        let output = self.output.as_mut_ptr();
        let mut block = 0;
        while block < self.output_blocks {
            let two = S::OUTPUTS == 2 && block + 1 < self.output_blocks;
            // SAFETY: `block`, and the next one where there are `two`, are below `output_blocks`.
            unsafe {
                if two {
                    self.in_pictures::<S, 2>(pixel, block, output);
                } else {
                    self.in_pictures::<S, 1>(pixel, block, output);
                }
            }
            block += if two { 2 } else { 1 };
        }
    }

    #[inline(always)]
    unsafe fn in_pictures<S: Simd, const OV: usize>(&self, pixel: usize, block: usize, output: *mut f32) {
        // Where a row is too short for a tile, two rows make one.
        let double = S::PIXELS >= 8 && self.columns <= 4;
        for picture in 0..self.pictures {
            let mut row = 0;
            while row < self.rows {
                let two = double && row + 1 < self.rows;
                // SAFETY: `picture` is below `pictures`; `row`, and the next one where there are `two`, below `rows`.
                unsafe {
                    if two {
                        self.in_rows::<S, OV, 2>(picture, row, pixel, block, output);
                    } else {
                        self.in_rows::<S, OV, 1>(picture, row, pixel, block, output);
                    }
                }
                row += if two { 2 } else { 1 };
            }
        }
    }

    #[inline(always)]
    unsafe fn in_rows<S: Simd, const OV: usize, const R: usize>(
        &self,
        picture: usize,
        row: usize,
        pixel: usize,
        block: usize,
        output: *mut f32,
    ) {
        // Even segments: a short one at the end would leave the multiply-add units waiting.
        let segments = self.columns.div_ceil(S::PIXELS / R);
        let (length, longer) = (self.columns / segments, self.columns % segments);
        // SAFETY: `input` has this picture and row, `output` this picture, block and row; a segment's first column and its
        // length stay below `columns`.
        unsafe {
            let input = self.input.as_ptr().add(picture * self.input_picture + row * self.input_row);
            let output = output.add(picture * self.output_picture + block * self.output_block + row * self.output_row);
            let mut column = 0;
            for segment in 0..segments {
                let length = length + usize::from(segment < longer);
                let (x, y) = (input.add(column * pixel), output.add(column * self.output_pixel));
                match length {
                    1 => self.tile::<S, OV, R, 1>(x, pixel, block, y),
                    2 => self.tile::<S, OV, R, 2>(x, pixel, block, y),
                    3 => self.tile::<S, OV, R, 3>(x, pixel, block, y),
                    4 => self.tile::<S, OV, R, 4>(x, pixel, block, y),
                    _ if R > 1 => unreachable!("two rows of more than four pixels"),
                    5 => self.tile::<S, OV, 1, 5>(x, pixel, block, y),
                    6 => self.tile::<S, OV, 1, 6>(x, pixel, block, y),
                    7 => self.tile::<S, OV, 1, 7>(x, pixel, block, y),
                    _ => self.tile::<S, OV, 1, 8>(x, pixel, block, y),
                }
                column += length;
            }
        }
    }

    /// `OV` blocks of output channels of `R` rows of `PX` pixels, whose first input is at `input`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const OV: usize, const R: usize, const PX: usize>(
        &self,
        input: *const f32,
        pixel: usize,
        block: usize,
        output: *mut f32,
    ) {
        let blocks = self.channels.div_ceil(LANES);
        let weight_block = blocks * self.taps.len() * SQUARE;
        // SAFETY: from `input` on there are this tile's rows and pixels at each of `taps` in each block of `channels`; from
        // `output` on there are OV blocks of them; `weights` has `weight_block` values for each of the blocks from `block`
        // on, and `bias` sixteen.
        unsafe {
            let mut sums = [[[S::zero(); PX]; R]; OV];
            if let Some(bias) = self.bias {
                for (o, sums) in sums.iter_mut().enumerate() {
                    *sums = [[S::load(bias.as_ptr().add((block + o) * LANES)); PX]; R];
                }
            }
            let mut weights = self.weights.as_ptr().add(block * weight_block);
            for c in 0..blocks {
                let channels = LANES.min(self.channels - c * LANES);
                for &tap in self.taps {
                    let source = input.add(c * self.input_block + tap);
                    for i in 0..channels {
                        let w: [S::V; OV] = std::array::from_fn(|o| S::load(weights.add(o * weight_block + i * LANES)));
                        for r in 0..R {
                            for p in 0..PX {
                                let x = S::splat(*source.add(r * self.input_row + p * pixel + i));
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
                        let at = o * self.output_block + r * self.output_row + p * self.output_pixel;
                        S::store(output.add(at), sums[o][r][p]);
                    }
                }
            }
        }
    }
}

/// The weight's gradient of one block of input channels and one or two of output channels, from some pictures. Distances
/// are in values.
pub(super) struct Correlate<'a> {
    /// The packed input of this block of channels.
    pub input: &'a [f32],
    pub input_picture: usize,
    pub input_row: usize,
    pub input_pixel: usize,
    pub taps: &'a [usize],
    pub channels: usize,
    /// The output's gradient of the first of these blocks, at its first pixel.
    pub grad: &'a [f32],
    pub grad_picture: usize,
    pub grad_block: usize,
    pub grad_row: usize,
    pub pictures: usize,
    pub rows: usize,
    pub columns: usize,
    /// The packed weight gradient of these blocks; each tap's square follows the one before.
    pub output: Part<'a>,
    pub output_block: usize,
    pub output_blocks: usize,
    /// Whether the sums start here, or go on from what `output` holds.
    pub fresh: bool,
}

/// Pixels over which a tile of sums stays in registers at least, so that loading and storing it costs little.
const CORRELATED_PIXELS: usize = 128;

impl Kernel for Correlate<'_> {
    fn check(&self) {
        let (pictures, rows, columns) = (self.pictures, self.rows, self.columns);
        let furthest = self.taps.iter().max().copied().unwrap_or_default();
        let places = [(pictures, self.input_picture), (rows, self.input_row), (columns, self.input_pixel)];
        assert!(self.channels <= LANES && self.input.len() >= furthest + extent(&places, self.channels));
        let places = [(pictures, self.grad_picture), (rows, self.grad_row), (columns, LANES)];
        assert!(self.grad.len() >= extent(&places, extent(&[(self.output_blocks, self.grad_block)], LANES)));
        let places = [(self.output_blocks, self.output_block), (self.taps.len(), SQUARE)];
        assert!(self.output.len() >= extent(&places, self.channels * LANES));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut block = 0;
        while block < self.output_blocks {
            let two = S::OUTPUTS == 2 && block + 1 < self.output_blocks;
            // SAFETY: `block`, and the next one where there are `two`, are below `output_blocks`.
            unsafe {
                if two {
                    self.in_blocks::<S, 2>(block);
                } else {
                    self.in_blocks::<S, 1>(block);
                }
            }
            block += if two { 2 } else { 1 };
        }
    }
}

// The methods below ask for what `check` asserts, and for places (block, picture, tap, channel) that the job has.
impl Correlate<'_> {
    #[inline(always)]
    unsafe fn in_blocks<S: Simd, const OV: usize>(&self, block: usize) {
        let chunk = CORRELATED_PIXELS.div_ceil(self.rows * self.columns);
        let segments = self.channels.div_ceil(S::INPUTS);
        let (length, longer) = (self.channels / segments, self.channels % segments);
        // SAFETY: `input` and `grad` have all of the pictures from `first` on, and `input` each of `taps`; a segment's first
        // channel and its length stay below `channels`; `output` has the blocks from `block` on, each with all taps.
        unsafe {
            let grad = self.grad.as_ptr().add(block * self.grad_block);
            let output = self.output.as_mut_ptr().add(block * self.output_block);
            let mut first = 0;
            while first < self.pictures {
                let pictures = chunk.min(self.pictures - first);
                let x = self.input.as_ptr().add(first * self.input_picture);
                let dy = grad.add(first * self.grad_picture);
                for (t, &tap) in self.taps.iter().enumerate() {
                    let x = x.add(tap);
                    let mut channel = 0;
                    for segment in 0..segments {
                        let length = length + usize::from(segment < longer);
                        let (x, out) = (x.add(channel), output.add(t * SQUARE + channel * LANES));
                        let fresh = self.fresh && first == 0;
                        match length {
                            1 => self.tile::<S, OV, 1>(x, dy, pictures, out, fresh),
                            2 => self.tile::<S, OV, 2>(x, dy, pictures, out, fresh),
                            3 => self.tile::<S, OV, 3>(x, dy, pictures, out, fresh),
                            4 => self.tile::<S, OV, 4>(x, dy, pictures, out, fresh),
                            5 => self.tile::<S, OV, 5>(x, dy, pictures, out, fresh),
                            6 => self.tile::<S, OV, 6>(x, dy, pictures, out, fresh),
                            7 => self.tile::<S, OV, 7>(x, dy, pictures, out, fresh),
                            _ => self.tile::<S, OV, 8>(x, dy, pictures, out, fresh),
                        }
                        channel += length;
                    }
                }
                first += pictures;
            }
        }
    }

    /// `CI` input channels times `OV` blocks of output channels, from `pictures` pictures.
    #[inline(always)]
    unsafe fn tile<S: Simd, const OV: usize, const CI: usize>(
        &self,
        input: *const f32,
        grad: *const f32,
        pictures: usize,
        output: *mut f32,
        fresh: bool,
    ) {
        // SAFETY: from `input` on there are CI channels, and from `grad` on OV blocks, of each of `columns` pixels in each of
        // `rows` rows in each of `pictures` pictures; `output` has CI vectors of sixteen values in each of OV blocks.
        unsafe {
            let mut sums = [[S::zero(); OV]; CI];
            if !fresh {
                for i in 0..CI {
                    for o in 0..OV {
                        sums[i][o] = S::load(output.add(o * self.output_block + i * LANES));
                    }
                }
            }
            for picture in 0..pictures {
                for row in 0..self.rows {
                    let mut x = input.add(picture * self.input_picture + row * self.input_row);
                    let mut dy = grad.add(picture * self.grad_picture + row * self.grad_row);
                    for _ in 0..self.columns {
                        let mut g = [S::zero(); OV];
                        for o in 0..OV {
                            g[o] = S::load(dy.add(o * self.grad_block));
                        }
                        for i in 0..CI {
                            let value = S::splat(*x.add(i));
                            for o in 0..OV {
                                sums[i][o] = S::fma(g[o], value, sums[i][o]);
                            }
                        }
                        x = x.wrapping_add(self.input_pixel);
                        dy = dy.wrapping_add(LANES);
                    }
                }
            }
            for i in 0..CI {
                for o in 0..OV {
                    S::store(output.add(o * self.output_block + i * LANES), sums[i][o]);
                }
            }
        }
    }
}
