//! 3×3 convolutions by Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray, 2016, "Fast Algorithms for
//! Convolutional Neural Networks"): 16 products where the direct way takes 36, for each 2×2 tile of outputs and pair of
//! channels.
//!
//! A tile's 4×4 inputs d become BᵀdB, the weights g become GgGᵀ, their products are summed over the input channels in
//! sixteen matrix products, and AᵀmA gives the 2×2 outputs. The weight's gradient is the adjoint of all this:
//! Gᵀ(Σ BᵀdB · AyAᵀ)G. The transforms only add, subtract and halve, so little accuracy is lost (within 1e-5 of f64 in
//! the tests, as the direct way).

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop, clippy::too_many_arguments)]

use rayon::prelude::*;

use super::geometry::{Frame, GradLayout, SQUARE, Sizes};
use super::kernel::{Convolve, Correlate, convolve, correlate};
use crate::simd::dispatch;
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::shared::Shared;
use crate::simd::vector::Simd;

/// Products per tile: the transformed tile's values.
const POINTS: usize = 16;

/// Whether the forward pass and the weight's gradient of a convolution of these sizes can go this way, and whether it
/// saves anything.
pub(crate) fn serves(sizes: &Sizes) -> bool {
    plain(sizes) && sizes.oh.is_multiple_of(2) && sizes.ow.is_multiple_of(2)
}

/// Whether the input's gradient can.
pub(crate) fn serves_input_gradient(sizes: &Sizes) -> bool {
    plain(sizes) && sizes.h.is_multiple_of(2) && sizes.w.is_multiple_of(2)
}

fn plain(sizes: &Sizes) -> bool {
    (sizes.kh, sizes.kw, sizes.stride, sizes.dilation) == (3, 3, 1, 1) && sizes.c.min(sizes.o) >= LANES
}

#[inline(always)]
unsafe fn transform_inputs_generic<S: Simd>(src: *const f32, frame: &Frame, dst: *mut f32, point: usize, block: usize) {
    let (rows, columns) = ((frame.rows - 2) / 2, (frame.columns - 2) / 2);
    // SAFETY: the caller's promise below.
    unsafe {
        for b in 0..frame.blocks() {
            let (src, dst) = (src.add(b * frame.block()), dst.add(b * block));
            for row in 0..rows {
                for column in 0..columns {
                    let corner = src.add((2 * row * frame.columns + 2 * column) * LANES);
                    let dst = dst.add((row * columns + column) * LANES);
                    let mut t = [[S::zero(); 4]; 4];
                    for j in 0..4 {
                        let mut d = [S::zero(); 4];
                        for i in 0..4 {
                            d[i] = S::load(corner.add((i * frame.columns + j) * LANES));
                        }
                        t[0][j] = S::sub(d[0], d[2]);
                        t[1][j] = S::add(d[1], d[2]);
                        t[2][j] = S::sub(d[2], d[1]);
                        t[3][j] = S::sub(d[1], d[3]);
                    }
                    for i in 0..4 {
                        let t = t[i];
                        let v = [S::sub(t[0], t[2]), S::add(t[1], t[2]), S::sub(t[2], t[1]), S::sub(t[1], t[3])];
                        for j in 0..4 {
                            S::store(dst.add((4 * i + j) * point), v[j]);
                        }
                    }
                }
            }
        }
    }
}

dispatch! {
    /// BᵀdB of all tiles of one packed picture; the points lie `point` floats apart, the blocks of channels `block`.
    ///
    /// # Safety
    /// `src` must have a picture as `frame` says, with an even number of rows and columns, `dst` room for the points.
    fn transform_inputs =
        transform_inputs_generic(src: *const f32, frame: &Frame, dst: *mut f32, point: usize, block: usize)
}

#[inline(always)]
unsafe fn transform_outputs_generic<S: Simd>(
    src: *const f32,
    point: usize,
    block: usize,
    blocks: usize,
    rows: usize,
    columns: usize,
    bias: *const f32,
    dst: *mut f32,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        for b in 0..blocks {
            let bias = if bias.is_null() { S::zero() } else { S::load(bias.add(b * LANES)) };
            let (src, dst) = (src.add(b * block), dst.add(b * rows * columns * LANES));
            for row in 0..rows / 2 {
                for column in 0..columns / 2 {
                    let src = src.add((row * (columns / 2) + column) * LANES);
                    let mut t = [[S::zero(); 4]; 2];
                    for j in 0..4 {
                        let mut m = [S::zero(); 4];
                        for i in 0..4 {
                            m[i] = S::load(src.add((4 * i + j) * point));
                        }
                        t[0][j] = S::add(S::add(m[0], m[1]), m[2]);
                        t[1][j] = S::sub(S::sub(m[1], m[2]), m[3]);
                    }
                    for i in 0..2 {
                        let t = t[i];
                        let y = [S::add(S::add(t[0], t[1]), t[2]), S::sub(S::sub(t[1], t[2]), t[3])];
                        for j in 0..2 {
                            let at = ((2 * row + i) * columns + 2 * column + j) * LANES;
                            S::store(dst.add(at), S::add(y[j], bias));
                        }
                    }
                }
            }
        }
    }
}

dispatch! {
    /// AᵀmA + bias of all tiles of one picture of `rows` × `columns` outputs.
    ///
    /// # Safety
    /// `src` must have the points of `blocks` blocks, `bias` be null or have a value for each channel, `dst` have room
    /// for the blocks; rows and columns must be even.
    fn transform_outputs = transform_outputs_generic(
        src: *const f32, point: usize, block: usize, blocks: usize, rows: usize, columns: usize, bias: *const f32,
        dst: *mut f32,
    )
}

#[inline(always)]
unsafe fn transform_grads_generic<S: Simd>(
    src: *const f32,
    layout: &GradLayout,
    blocks: usize,
    rows: usize,
    columns: usize,
    dst: *mut f32,
    point: usize,
    block: usize,
) {
    // SAFETY: the caller's promise below.
    unsafe {
        for b in 0..blocks {
            let (src, dst) = (src.add(b * layout.block), dst.add(b * block));
            for row in 0..rows / 2 {
                for column in 0..columns / 2 {
                    let corner = src.add(2 * row * layout.row + 2 * column * layout.pixel);
                    let dst = dst.add((row * (columns / 2) + column) * LANES);
                    let mut t = [[S::zero(); 2]; 4];
                    for j in 0..2 {
                        let d0 = S::load(corner.add(j * layout.pixel));
                        let d1 = S::load(corner.add(layout.row + j * layout.pixel));
                        t[0][j] = d0;
                        t[1][j] = S::add(d0, d1);
                        t[2][j] = S::sub(d0, d1);
                        t[3][j] = S::sub(S::zero(), d1);
                    }
                    for i in 0..4 {
                        let [d0, d1] = t[i];
                        let v = [d0, S::add(d0, d1), S::sub(d0, d1), S::sub(S::zero(), d1)];
                        for j in 0..4 {
                            S::store(dst.add((4 * i + j) * point), v[j]);
                        }
                    }
                }
            }
        }
    }
}

dispatch! {
    /// AyAᵀ of all tiles of one picture's output gradient of `rows` × `columns`.
    ///
    /// # Safety
    /// `src` must have the gradient as `layout` says, from its first pixel on, `dst` room for the points.
    fn transform_grads = transform_grads_generic(
        src: *const f32, layout: &GradLayout, blocks: usize, rows: usize, columns: usize, dst: *mut f32, point: usize,
        block: usize,
    )
}

#[inline(always)]
unsafe fn transform_weights_generic<S: Simd>(src: *const f32, squares: usize, dst: *mut f32, point: usize) {
    // SAFETY: the caller's promise below.
    unsafe {
        let half = S::splat(0.5);
        for square in 0..squares {
            for lane in 0..LANES {
                let src = src.add(square * 9 * SQUARE + lane * LANES);
                let dst = dst.add(square * SQUARE + lane * LANES);
                let mut t = [[S::zero(); 3]; 4];
                for j in 0..3 {
                    let mut g = [S::zero(); 3];
                    for i in 0..3 {
                        g[i] = S::load(src.add((3 * i + j) * SQUARE));
                    }
                    let (outer, inner) = (S::mul(S::add(g[0], g[2]), half), S::mul(g[1], half));
                    t[0][j] = g[0];
                    t[1][j] = S::add(outer, inner);
                    t[2][j] = S::sub(outer, inner);
                    t[3][j] = g[2];
                }
                for i in 0..4 {
                    let g = t[i];
                    let (outer, inner) = (S::mul(S::add(g[0], g[2]), half), S::mul(g[1], half));
                    let u = [g[0], S::add(outer, inner), S::sub(outer, inner), g[2]];
                    for j in 0..4 {
                        S::store(dst.add((4 * i + j) * point), u[j]);
                    }
                }
            }
        }
    }
}

dispatch! {
    /// GgGᵀ of `squares` times sixteen input by sixteen output channels.
    ///
    /// # Safety
    /// `src` must have nine packed squares for each, `dst` room for the points, which lie `point` floats apart.
    fn transform_weights = transform_weights_generic(src: *const f32, squares: usize, dst: *mut f32, point: usize)
}

#[inline(always)]
unsafe fn untransform_weights_generic<S: Simd>(src: *const f32, point: usize, squares: usize, dst: *mut f32) {
    // SAFETY: the caller's promise below.
    unsafe {
        let half = S::splat(0.5);
        for square in 0..squares {
            for lane in 0..LANES {
                let src = src.add(square * SQUARE + lane * LANES);
                let dst = dst.add(square * 9 * SQUARE + lane * LANES);
                let mut t = [[S::zero(); 4]; 3];
                for j in 0..4 {
                    let mut u = [S::zero(); 4];
                    for i in 0..4 {
                        u[i] = S::load(src.add((4 * i + j) * point));
                    }
                    let sum = S::mul(S::add(u[1], u[2]), half);
                    t[0][j] = S::add(u[0], sum);
                    t[1][j] = S::mul(S::sub(u[1], u[2]), half);
                    t[2][j] = S::add(sum, u[3]);
                }
                for i in 0..3 {
                    let u = t[i];
                    let sum = S::mul(S::add(u[1], u[2]), half);
                    let g = [S::add(u[0], sum), S::mul(S::sub(u[1], u[2]), half), S::add(sum, u[3])];
                    for j in 0..3 {
                        S::store(dst.add((3 * i + j) * SQUARE), g[j]);
                    }
                }
            }
        }
    }
}

dispatch! {
    /// GᵀuG, back to nine squares for each.
    ///
    /// # Safety
    /// As [`transform_weights`], the other way round.
    fn untransform_weights = untransform_weights_generic(src: *const f32, point: usize, squares: usize, dst: *mut f32)
}

/// Packed weights (or turned ones) as the sixteen products read them: `[point][output block][input block][16][16]`.
pub(crate) fn weights(packed: &[Lane]) -> Buffer {
    let squares = packed.len() / (9 * LANES);
    let mut transformed = Buffer::new(POINTS * squares * LANES);
    let shared = Shared::new(floats_mut(&mut transformed));
    packed.par_chunks(9 * LANES).enumerate().for_each(|(square, src)| {
        // SAFETY: `src` has nine squares; each task writes to its own square of each point.
        unsafe { transform_weights(floats(src), 1, shared.get().add(square * SQUARE), squares * SQUARE) }
    });
    transformed
}

/// Bytes of transformed pictures that one task works on: they should stay in the second-level cache beside one point's
/// weights.
const TASK_BYTES: usize = 512 << 10;

/// Pictures that one task takes.
pub(crate) fn group(sizes: &Sizes) -> usize {
    let tiles = sizes.pixels().max(sizes.h * sizes.w) / 4;
    let bytes = 4 * POINTS * (sizes.input_blocks() + sizes.output_blocks()) * tiles * LANES;
    (TASK_BYTES / bytes.max(1)).clamp(1, sizes.n.div_ceil(8).max(1))
}

/// Convolves packed pictures with transformed weights.
///
/// # Safety
/// `input` must have `pictures` pictures as `frame` says, with even numbers of rows and columns, `weights` be made for
/// its channels and `output_blocks`, `output` have room for the blocks, for this task alone.
pub(crate) unsafe fn forward(
    input: *const f32,
    pictures: usize,
    frame: &Frame,
    weights: &[Lane],
    bias: Option<&[Lane]>,
    output_blocks: usize,
    output: *mut f32,
) {
    let (rows, columns) = (frame.rows - 2, frame.columns - 2);
    let tiles = rows * columns / 4;
    let all = pictures * tiles;
    let (block, blocks) = (all * LANES, frame.blocks());
    let mut inputs = Buffer::new(POINTS * blocks * all);
    let mut products = Buffer::new(POINTS * output_blocks * all);
    let taps = [0];
    // SAFETY: the buffers have room for all points of all tiles; the rest is the caller's promise.
    unsafe {
        let (v, m) = (floats_mut(&mut inputs), floats_mut(&mut products));
        for picture in 0..pictures {
            let dst = v.add(picture * tiles * LANES);
            transform_inputs(input.add(picture * frame.picture()), frame, dst, blocks * block, block);
        }
        for point in 0..POINTS {
            let job = Convolve {
                input: v.add(point * blocks * block),
                input_picture: 0,
                input_block: block,
                input_row: 0,
                input_pixel: LANES,
                stride: 1,
                taps: taps.as_ptr(),
                tap_count: 1,
                channels: frame.c,
                weights: floats(weights).add(point * output_blocks * blocks * SQUARE),
                bias: None,
                pictures: 1,
                rows: 1,
                columns: all,
                output: m.add(point * output_blocks * block),
                output_picture: 0,
                output_block: block,
                output_blocks,
            };
            convolve(&job);
        }
        let bias = bias.map_or(std::ptr::null(), floats);
        for picture in 0..pictures {
            transform_outputs(
                m.add(picture * tiles * LANES),
                output_blocks * block,
                block,
                output_blocks,
                rows,
                columns,
                bias,
                output.add(picture * output_blocks * rows * columns * LANES),
            );
        }
    }
}

/// Bytes of transformed pictures that the weight's gradient holds at a time: half of a common third-level cache.
const GRADIENT_BYTES: usize = 16 << 20;

/// The weight's gradient as packed weights, from all pictures.
pub(crate) fn weight_gradient(input: &[Lane], grad: &[Lane], layout: GradLayout, sizes: &Sizes) -> Buffer {
    let (blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    let squares = blocks * output_blocks;
    let mut sums = Buffer::new(POINTS * squares * LANES);
    let tiles = sizes.pixels() / 4;
    let bytes = 4 * POINTS * (blocks + output_blocks) * tiles * LANES;
    let most = (GRADIENT_BYTES / bytes).clamp(1, sizes.n);
    let mut inputs = Buffer::new(POINTS * blocks * most * tiles);
    let mut grads = Buffer::new(POINTS * output_blocks * most * tiles);
    for first in (0..sizes.n).step_by(most) {
        let pictures = most.min(sizes.n - first);
        transform_pictures(input, grad, layout, sizes, first, pictures, &mut inputs, &mut grads);
        add_products(&inputs, &grads, sizes, pictures, first == 0, &mut sums);
    }
    let mut packed = Buffer::new(squares * 9 * LANES);
    packed.par_chunks_mut(9 * LANES).enumerate().for_each(|(square, dst)| {
        // SAFETY: `dst` is nine squares, `sums` has sixteen for each.
        unsafe { untransform_weights(floats(&sums).add(square * SQUARE), squares * SQUARE, 1, floats_mut(dst)) }
    });
    packed
}

/// BᵀdB and AyAᵀ of `pictures` pictures from `first` on. Point by point, block by block, the pictures lie one after
/// another: one long run for each task of [`add_products`]. (Pictures at the distance of all points would fall on the
/// same few lines of the cache.)
fn transform_pictures(
    input: &[Lane],
    grad: &[Lane],
    layout: GradLayout,
    sizes: &Sizes,
    first: usize,
    pictures: usize,
    inputs: &mut [Lane],
    grads: &mut [Lane],
) {
    let frame = sizes.input_frame();
    let (blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    let tiles = sizes.pixels() / 4;
    let (picture, block) = (tiles * LANES, pictures * tiles * LANES);
    assert!(input.len() * LANES >= (first + pictures) * frame.picture());
    assert!(grad.len() * LANES >= (first + pictures) * layout.picture);
    assert!(inputs.len() * LANES >= POINTS * blocks * block && grads.len() * LANES >= POINTS * output_blocks * block);
    let (v, m) = (Shared::new(floats_mut(inputs)), Shared::new(floats_mut(grads)));
    (0..pictures).into_par_iter().for_each(|i| {
        // SAFETY: the assertions above; each task writes to the tiles of its own picture.
        unsafe {
            let (v, m) = (v.get().add(i * picture), m.get().add(i * picture));
            let src = floats(input).add((first + i) * frame.picture());
            transform_inputs(src, &frame, v, blocks * block, block);
            let src = floats(grad).add((first + i) * layout.picture + layout.offset);
            transform_grads(src, &layout, output_blocks, sizes.oh, sizes.ow, m, output_blocks * block, block);
        }
    });
}

/// The sums over `pictures` pictures' tiles of all products of input and output channels, point by point.
fn add_products(inputs: &[Lane], grads: &[Lane], sizes: &Sizes, pictures: usize, fresh: bool, sums: &mut [Lane]) {
    let (blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    let tiles = sizes.pixels() / 4;
    let (picture, block) = (tiles * LANES, pictures * tiles * LANES);
    let squares = blocks * output_blocks;
    assert!(inputs.len() * LANES >= POINTS * blocks * block && grads.len() * LANES >= POINTS * output_blocks * block);
    assert!(sums.len() >= POINTS * squares * LANES);
    let shared = Shared::new(floats_mut(sums));
    let pairs = output_blocks.div_ceil(2);
    let taps = [0usize];
    let offsets = taps.as_slice();
    (0..POINTS * blocks * pairs).into_par_iter().for_each(|task| {
        let (point, tile) = (task / (blocks * pairs), task % (blocks * pairs));
        let (b, pair) = (tile / pairs, tile % pairs);
        let output_block = blocks * SQUARE;
        // SAFETY: the assertions above; each task writes to squares of its own.
        unsafe {
            let job = Correlate {
                input: floats(inputs).add((point * blocks + b) * block),
                input_picture: picture,
                input_row: 0,
                input_pixel: LANES,
                taps: offsets.as_ptr(),
                tap_count: 1,
                channels: LANES.min(sizes.c - b * LANES),
                grad: floats(grads).add((point * output_blocks + 2 * pair) * block),
                grad_picture: picture,
                grad_block: block,
                grad_row: 0,
                grad_pixel: LANES,
                pictures,
                rows: 1,
                columns: tiles,
                output: shared.get().add(point * squares * SQUARE + 2 * pair * output_block + b * SQUARE),
                output_block,
                output_blocks: 2.min(output_blocks - 2 * pair),
                fresh,
            };
            correlate(&job);
        }
    });
}
