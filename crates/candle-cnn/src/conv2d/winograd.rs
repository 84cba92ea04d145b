//! 3×3 convolutions by Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray, 2016, "Fast Algorithms for
//! Convolutional Neural Networks"): 36 products where the direct way takes 144, for each 4×4 tile of outputs and pair of
//! channels.
//!
//! A tile's 6×6 inputs d become BᵀdB, the weights g become GgGᵀ, their products are summed over the input channels in
//! matrix products, one for each of 36 points, and AᵀmA gives the 4×4 outputs. The weight's gradient is the adjoint of all
//! this: Gᵀ(Σ BᵀdB · AyAᵀ)G. Where a side is no multiple of four, the last tiles reach over the edge: zeros there are read,
//! and what is computed there is not stored. Their products at ∞, on which the fourth row or column alone depends, are left
//! out.
//!
//! Polynomials are evaluated at 0, 1, −1, ½, −2 and ∞, for which errors are about half of those with 2 in place of ½
//! (Barabasz et al., 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks"):
//! within 1e-5 of f64 in the tests, as the direct way.

// Tiles are arrays in registers: loops over their indices are what the compiler unrolls and keeps there.
#![allow(clippy::needless_range_loop)]

use rayon::prelude::*;
use std::ops::{Range, RangeInclusive};

use super::geometry::{Frame, GradLayout, SQUARE, Sizes, TILE};
use super::kernel::{Convolve, Correlate};
use super::pack::{Grads, Planes};
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::part::Part;
use crate::simd::vector::Simd;
use crate::simd::{Kernel, Whole, extent, run};

/// Rows of a tile's inputs, and points along one side.
const SIDE: usize = TILE + 2;

/// Products per tile: the transformed tile's values.
const POINTS: usize = SIDE * SIDE;

/// Taps of the kernels.
const TAPS: usize = 9;

/// x · factor + sum.
#[inline(always)]
unsafe fn times<S: Simd>(x: S::V, factor: f32, sum: S::V) -> S::V {
    // SAFETY: the caller has the instruction set.
    unsafe { S::fma(x, S::splat(factor), sum) }
}

/// Bᵀd.
#[inline(always)]
unsafe fn input_points<S: Simd>(d: [S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (a, b) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        [
            times::<S>(b, 1.5, times::<S>(d[2], -2.0, S::add(d[0], d[4]))),
            times::<S>(d[3], 2.5, times::<S>(d[2], 0.5, S::sub(d[4], d[1]))),
            times::<S>(d[2], -2.5, times::<S>(d[3], 0.5, S::add(d[4], d[1]))),
            times::<S>(b, 2.0, a),
            times::<S>(b, -0.5, a),
            times::<S>(a, 1.5, times::<S>(d[3], -2.0, S::add(d[1], d[5]))),
        ]
    }
}

/// Aᵀm.
#[inline(always)]
unsafe fn outputs<S: Simd>(m: [S::V; SIDE]) -> [S::V; TILE] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        [
            S::add(S::add(m[0], even), S::add(m[3], m[4])),
            times::<S>(m[3], 0.5, times::<S>(m[4], -2.0, odd)),
            times::<S>(m[3], 0.25, times::<S>(m[4], 4.0, even)),
            times::<S>(m[3], 0.125, times::<S>(m[4], -8.0, S::add(odd, m[5]))),
        ]
    }
}

/// Ay.
#[inline(always)]
unsafe fn grad_points<S: Simd>(y: [S::V; TILE]) -> [S::V; SIDE] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let at_half = times::<S>(times::<S>(times::<S>(y[3], 0.5, y[2]), 0.5, y[1]), 0.5, y[0]);
        let at_minus_two = times::<S>(times::<S>(times::<S>(y[3], -2.0, y[2]), -2.0, y[1]), -2.0, y[0]);
        let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
        [y[0], S::add(even, odd), S::sub(even, odd), at_half, at_minus_two, y[3]]
    }
}

/// Gg.
#[inline(always)]
unsafe fn weight_points<S: Simd>(g: [S::V; 3]) -> [S::V; SIDE] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let outer = S::add(g[0], g[2]);
        let at_half = times::<S>(times::<S>(g[0], 2.0, g[1]), 2.0, g[2]);
        let at_minus_two = times::<S>(times::<S>(g[2], -2.0, g[1]), -2.0, g[0]);
        [
            g[0],
            S::mul(S::add(g[1], outer), S::splat(1.0 / 3.0)),
            S::mul(S::sub(g[1], outer), S::splat(1.0 / 3.0)),
            S::mul(at_half, S::splat(-4.0 / 15.0)),
            S::mul(at_minus_two, S::splat(1.0 / 15.0)),
            g[2],
        ]
    }
}

/// Gᵀu.
#[inline(always)]
unsafe fn weights_of_points<S: Simd>(u: [S::V; SIDE]) -> [S::V; 3] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let third = S::splat(1.0 / 3.0);
        let (odd, even) = (S::mul(S::sub(u[1], u[2]), third), S::mul(S::add(u[1], u[2]), third));
        [
            S::add(u[0], times::<S>(u[3], -16.0 / 15.0, times::<S>(u[4], 1.0 / 15.0, odd))),
            times::<S>(u[3], -8.0 / 15.0, times::<S>(u[4], -2.0 / 15.0, even)),
            S::add(times::<S>(u[3], -4.0 / 15.0, times::<S>(u[4], 4.0 / 15.0, odd)), u[5]),
        ]
    }
}

/// How the transformed tiles of pictures of `rows` × `columns` tiles lie in memory: `[point][block of channels]`, then picture
/// by picture, or, where a last row or column isn't whole, `[tile][picture]`, so that a row of tiles without the last column is
/// one run of vectors.
#[derive(Clone, Copy)]
struct Tiles {
    blocks: usize,
    rows: usize,
    columns: usize,
    pictures: usize,
    whole: bool,
}

impl Tiles {
    fn new(blocks: usize, (rows, columns): (usize, usize), pictures: usize) -> Self {
        let whole = rows.is_multiple_of(TILE) && columns.is_multiple_of(TILE);
        Self { blocks, rows: rows.div_ceil(TILE), columns: columns.div_ceil(TILE), pictures, whole }
    }

    /// Vectors of all points.
    fn len(&self) -> usize {
        POINTS * self.point() / LANES
    }

    /// Values between two points,
    fn point(&self) -> usize {
        self.blocks * self.block()
    }

    /// two blocks,
    fn block(&self) -> usize {
        self.rows * self.columns * self.pictures * LANES
    }

    /// two pictures,
    fn picture(&self) -> usize {
        if self.whole { self.rows * self.columns * LANES } else { LANES }
    }

    /// two rows of a picture,
    fn row(&self) -> usize {
        self.columns * self.tile()
    }

    /// and two tiles.
    fn tile(&self) -> usize {
        if self.whole { LANES } else { self.pictures * LANES }
    }

    /// Values from the first of a picture to its last.
    fn extent(&self) -> usize {
        let tiles = (self.rows * self.columns, self.tile());
        extent(&[(POINTS, self.point()), (self.blocks, self.block()), tiles], LANES)
    }

    /// The rows and columns of tiles of a picture of `rows` × `columns` whose product at `point` is needed, one at least.
    fn needed(&self, point: usize, (rows, columns): (usize, usize)) -> (usize, usize) {
        let needed = |at: usize, tiles: usize, side: usize| {
            let all = at < SIDE - 1 || side.is_multiple_of(TILE);
            if all { tiles } else { (tiles - 1).max(1) }
        };
        (needed(point / SIDE, self.rows, rows), needed(point % SIDE, self.columns, columns))
    }
}

/// BᵀdB of all tiles of one packed picture.
struct TransformInputs<'a> {
    src: &'a [f32],
    frame: &'a Frame,
    dst: Part<'a>,
    tiles: Tiles,
}

impl Kernel for TransformInputs<'_> {
    fn check(&self) {
        let Self { src, frame, dst, tiles } = self;
        assert!(
            frame.pixel == LANES && frame.rows == TILE * tiles.rows + 2 && frame.columns == TILE * tiles.columns + 2
        );
        assert!(src.len() >= frame.picture() && frame.blocks() == tiles.blocks);
        assert!(dst.len() >= tiles.extent());
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, frame, dst, tiles } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        let point = tiles.point();
        // SAFETY: `src` has a picture as `frame` says, whose tiles of 6×6 pixels begin at every fourth of its rows and
        // columns; `dst` has a vector for each point, block and tile (`check`).
        unsafe {
            for b in 0..tiles.blocks {
                let (src, dst) = (src.add(b * frame.block()), dst.add(b * tiles.block()));
                for row in 0..tiles.rows {
                    for column in 0..tiles.columns {
                        let corner = src.add(TILE * (row * frame.columns + column) * LANES);
                        let dst = dst.add(row * tiles.row() + column * tiles.tile());
                        let mut t = [[S::zero(); SIDE]; SIDE];
                        for j in 0..SIDE {
                            let mut d = [S::zero(); SIDE];
                            for i in 0..SIDE {
                                d[i] = S::load(corner.add((i * frame.columns + j) * LANES));
                            }
                            let points = input_points::<S>(d);
                            for i in 0..SIDE {
                                t[i][j] = points[i];
                            }
                        }
                        for i in 0..SIDE {
                            let v = input_points::<S>(t[i]);
                            for j in 0..SIDE {
                                S::store(dst.add((SIDE * i + j) * point), v[j]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// AᵀmA + bias of all tiles of one picture of `rows` × `columns` outputs.
struct TransformOutputs<'a> {
    src: &'a [f32],
    tiles: Tiles,
    rows: usize,
    columns: usize,
    bias: Option<&'a [f32]>,
    dst: &'a mut [f32],
}

impl Kernel for TransformOutputs<'_> {
    fn check(&self) {
        let Self { src, tiles, rows, columns, bias, dst } = self;
        assert!(tiles.rows == rows.div_ceil(TILE) && tiles.columns == columns.div_ceil(TILE));
        assert!(src.len() >= tiles.extent());
        assert!(bias.is_none_or(|bias| bias.len() >= tiles.blocks * LANES));
        assert!(dst.len() >= tiles.blocks * rows * columns * LANES);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, tiles, rows, columns, bias, dst } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        let point = tiles.point();
        // SAFETY: `src` has a vector for each point, block and tile of 4×4 that `rows` and `columns` begin, `bias` one for
        // each block, `dst` one for each pixel of each block (`check`), and pixels beyond are left out.
        unsafe {
            for b in 0..tiles.blocks {
                let bias = bias.map_or(S::zero(), |bias| S::load(bias.as_ptr().add(b * LANES)));
                let (src, dst) = (src.add(b * tiles.block()), dst.add(b * rows * columns * LANES));
                for row in 0..tiles.rows {
                    for column in 0..tiles.columns {
                        let src = src.add(row * tiles.row() + column * tiles.tile());
                        let mut t = [[S::zero(); SIDE]; TILE];
                        for j in 0..SIDE {
                            let mut m = [S::zero(); SIDE];
                            for i in 0..SIDE {
                                m[i] = S::load(src.add((SIDE * i + j) * point));
                            }
                            let y = outputs::<S>(m);
                            for i in 0..TILE {
                                t[i][j] = y[i];
                            }
                        }
                        let (height, width) = (TILE.min(rows - TILE * row), TILE.min(columns - TILE * column));
                        for i in 0..TILE {
                            let y = outputs::<S>(t[i]);
                            for j in 0..TILE {
                                if i < height && j < width {
                                    let at = ((TILE * row + i) * columns + TILE * column + j) * LANES;
                                    S::store(dst.add(at), S::add(y[j], bias));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for TransformOutputs<'_> {}

/// AyAᵀ of all tiles of one picture's output gradient of `rows` × `columns`, which lies from its first pixel on as `layout`
/// says.
struct TransformGrads<'a> {
    src: &'a [f32],
    layout: &'a GradLayout,
    rows: usize,
    columns: usize,
    dst: Part<'a>,
    tiles: Tiles,
}

impl Kernel for TransformGrads<'_> {
    fn check(&self) {
        let Self { src, layout, rows, columns, dst, tiles } = self;
        let places = [(tiles.blocks, layout.block), (*rows, layout.row), (*columns, LANES)];
        assert!(src.len() >= extent(&places, LANES));
        assert!(tiles.rows == rows.div_ceil(TILE) && tiles.columns == columns.div_ceil(TILE));
        assert!(dst.len() >= tiles.extent());
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, layout, rows, columns, dst, tiles } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        let point = tiles.point();
        // SAFETY: `src` has a vector for each pixel of each block where `layout` says, and none is read beyond; `dst` has one
        // for each point, block and tile of 4×4 that `rows` and `columns` begin (`check`).
        unsafe {
            for b in 0..tiles.blocks {
                let (src, dst) = (src.add(b * layout.block), dst.add(b * tiles.block()));
                for row in 0..tiles.rows {
                    for column in 0..tiles.columns {
                        let corner = src.add(TILE * (row * layout.row + column * LANES));
                        let dst = dst.add(row * tiles.row() + column * tiles.tile());
                        let (height, width) = (TILE.min(rows - TILE * row), TILE.min(columns - TILE * column));
                        let mut t = [[S::zero(); TILE]; SIDE];
                        for j in 0..TILE {
                            let mut y = [S::zero(); TILE];
                            for i in 0..TILE {
                                if i < height && j < width {
                                    y[i] = S::load(corner.add(i * layout.row + j * LANES));
                                }
                            }
                            let points = grad_points::<S>(y);
                            for i in 0..SIDE {
                                t[i][j] = points[i];
                            }
                        }
                        for i in 0..SIDE {
                            let v = grad_points::<S>(t[i]);
                            for j in 0..SIDE {
                                S::store(dst.add((SIDE * i + j) * point), v[j]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// GgGᵀ of sixteen input by sixteen output channels: nine packed squares become 36, which lie `point` values apart.
struct TransformWeights<'a> {
    src: &'a [f32],
    dst: Part<'a>,
    point: usize,
}

impl Kernel for TransformWeights<'_> {
    fn check(&self) {
        assert!(self.src.len() >= TAPS * SQUARE);
        assert!(self.dst.len() >= extent(&[(POINTS, self.point)], SQUARE));
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, dst, point } = self;
        // SAFETY: `src` has nine squares, and `dst` one at each point (`check`).
        unsafe {
            for lane in 0..LANES {
                let (src, dst) = (src.as_ptr().add(lane * LANES), dst.as_mut_ptr().add(lane * LANES));
                let mut t = [[S::zero(); 3]; SIDE];
                for j in 0..3 {
                    let mut g = [S::zero(); 3];
                    for i in 0..3 {
                        g[i] = S::load(src.add((3 * i + j) * SQUARE));
                    }
                    let points = weight_points::<S>(g);
                    for i in 0..SIDE {
                        t[i][j] = points[i];
                    }
                }
                for i in 0..SIDE {
                    let u = weight_points::<S>(t[i]);
                    for j in 0..SIDE {
                        S::store(dst.add((SIDE * i + j) * point), u[j]);
                    }
                }
            }
        }
    }
}

/// GᵀuG, back from 36 squares, which lie `point` values apart, to nine.
struct UntransformWeights<'a> {
    src: &'a [f32],
    point: usize,
    dst: &'a mut [f32],
}

impl Kernel for UntransformWeights<'_> {
    fn check(&self) {
        assert!(self.src.len() >= extent(&[(POINTS, self.point)], SQUARE));
        assert!(self.dst.len() >= TAPS * SQUARE);
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { src, point, dst } = self;
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `src` has a square at each point, and `dst` nine squares (`check`).
        unsafe {
            for lane in 0..LANES {
                let (src, dst) = (src.add(lane * LANES), dst.add(lane * LANES));
                let mut t = [[S::zero(); SIDE]; 3];
                for j in 0..SIDE {
                    let mut u = [S::zero(); SIDE];
                    for i in 0..SIDE {
                        u[i] = S::load(src.add((SIDE * i + j) * point));
                    }
                    let g = weights_of_points::<S>(u);
                    for i in 0..3 {
                        t[i][j] = g[i];
                    }
                }
                for i in 0..3 {
                    let g = weights_of_points::<S>(t[i]);
                    for j in 0..3 {
                        S::store(dst.add((3 * i + j) * SQUARE), g[j]);
                    }
                }
            }
        }
    }
}

// SAFETY: `check` asserts all that `run` reaches, and it writes to `dst` alone.
unsafe impl Whole for UntransformWeights<'_> {}

/// Packed weights (or turned ones) as the products read them: `[point][output block][input block][16][16]`.
pub(super) fn weights(packed: &[Lane]) -> Buffer {
    let squares = packed.len() / (TAPS * LANES);
    let mut transformed = Buffer::new(POINTS * squares * LANES);
    let dst = Part::new(floats_mut(&mut transformed));
    packed.par_chunks_exact(TAPS * LANES).enumerate().for_each(|(square, src)| {
        let kernel = TransformWeights { src: floats(src), dst: dst.from(square * SQUARE), point: squares * SQUARE };
        // SAFETY: `src` is nine squares, and `transformed` has `squares` at each point; each task writes to its own.
        unsafe { run(kernel) }
    });
    transformed
}

/// Bytes of transformed pictures that one task works on at least: they should stay in the second-level cache beside one
/// point's weights.
const TASK_BYTES: usize = 512 << 10;

/// Pictures that one task takes: more where there are many channels, since each task reads all weights once.
pub(super) fn group(sizes: &Sizes) -> usize {
    let (inputs, outputs) = (sizes.input_blocks(), sizes.output_blocks());
    let tiles = sizes.tiles().max(sizes.input_tiles());
    let bytes = 4 * POINTS * (inputs + outputs) * tiles * LANES;
    let weights = 4 * POINTS * inputs * outputs * SQUARE;
    (TASK_BYTES.max(weights / 2) / bytes.max(1)).clamp(1, sizes.n.div_ceil(8).max(1))
}

/// Convolves `pictures` packed pictures, as `frame` says, with transformed weights, into `output_blocks` blocks of `rows` ×
/// `columns` of each.
pub(super) fn forward(
    input: &[f32],
    pictures: usize,
    frame: &Frame,
    weights: &[Lane],
    bias: Option<&[Lane]>,
    (output_blocks, rows, columns): (usize, usize, usize),
    output: &mut [f32],
) {
    let whole = [rows, columns].map(|side| side.next_multiple_of(TILE));
    assert!(frame.pixel == LANES && [frame.rows - 2, frame.columns - 2] == whole);
    assert!(input.len() >= pictures * frame.picture());
    assert!(output.len() >= pictures * output_blocks * rows * columns * LANES);
    let (from, to) =
        (Tiles::new(frame.blocks(), (rows, columns), pictures), Tiles::new(output_blocks, (rows, columns), pictures));
    let mut inputs = Buffer::new(from.len());
    let mut products = Buffer::new(to.len());
    let dst = Part::new(floats_mut(&mut inputs));
    for (i, src) in input.chunks_exact(frame.picture()).take(pictures).enumerate() {
        let kernel = TransformInputs { src, frame, dst: dst.from(i * from.picture()), tiles: from };
        // SAFETY: `src` is one picture, of whole tiles by the assertion above; `inputs` has room for each point, block, tile
        // and picture, and is this task's alone.
        unsafe { run(kernel) }
    }
    let (v, weights) = (floats(&inputs), floats(weights));
    for (point, output) in floats_mut(&mut products).chunks_exact_mut(to.point()).enumerate() {
        let needed = from.needed(point, (rows, columns));
        // All columns of tiles: the rows follow each other in one run.
        let (rows, run) = if needed.1 == from.columns { (1, needed.0 * needed.1) } else { needed };
        Convolve {
            input: &v[point * from.point()..],
            input_picture: 0,
            input_block: from.block(),
            input_row: from.row(),
            input_pixel: LANES,
            stride: 1,
            taps: &[0],
            channels: frame.c,
            weights: &weights[point * output_blocks * from.blocks * SQUARE..],
            bias: None,
            pictures: 1,
            rows,
            columns: run * pictures,
            output,
            output_picture: 0,
            output_block: to.block(),
            output_row: to.row(),
            output_pixel: LANES,
            output_blocks,
        }
        .call();
    }
    let (m, bias) = (floats(&products), bias.map(floats));
    for (i, dst) in output.chunks_exact_mut(output_blocks * rows * columns * LANES).take(pictures).enumerate() {
        // What is left over where a product isn't needed changes nothing that is stored.
        TransformOutputs { src: &m[i * to.picture()..], tiles: to, rows, columns, bias, dst }.call();
    }
}

/// Bytes of transformed pictures that the weight's gradient holds at a time: twice its sums, so that reading and writing
/// those costs little, but not less than stays in the second-level cache, and not more than half of a common third-level
/// cache. (All pictures packed at once would be fresh memory, a page fault every 4 KiB.)
const GRADIENT_BYTES: RangeInclusive<usize> = 1 << 20..=16 << 20;

/// Bytes of all parts' sums at most.
const PARTS_BYTES: usize = 4 << 20;

/// The weight's gradient as packed weights, in so many parts, which are to be added. Where its sums are small, each part is
/// that of a run of pictures, which one thread takes from pixels to products within its own cache. Their number depends on
/// the shapes alone, and with it the order of all sums.
pub(super) fn weight_gradient(input: &Planes, grads: &Grads, layout: GradLayout, sizes: &Sizes) -> (Buffer, usize) {
    let parts = (PARTS_BYTES / sums_bytes(sizes)).clamp(1, 8).min(sizes.n);
    let mut packed = Buffer::new(parts * sizes.weight_lanes());
    packed.par_chunks_mut(sizes.weight_lanes()).enumerate().for_each(|(part, packed)| {
        let pictures = part * sizes.n / parts..(part + 1) * sizes.n / parts;
        weight_gradient_of(pictures, input, grads, layout, sizes, packed);
    });
    (packed, parts)
}

/// Bytes of the sums of products at all points.
fn sums_bytes(sizes: &Sizes) -> usize {
    4 * POINTS * sizes.input_blocks() * sizes.output_blocks() * SQUARE
}

/// The weight's gradient from some of the pictures.
fn weight_gradient_of(
    all: Range<usize>,
    input: &Planes,
    grads: &Grads,
    layout: GradLayout,
    sizes: &Sizes,
    packed: &mut [Lane],
) {
    let (blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    let squares = blocks * output_blocks;
    let mut sums = Buffer::new(POINTS * squares * LANES);
    let tiles = sizes.tiles();
    let bytes = 4 * POINTS * (blocks + output_blocks) * tiles * LANES;
    let held = (2 * sums_bytes(sizes)).clamp(*GRADIENT_BYTES.start(), *GRADIENT_BYTES.end());
    let most = (held / bytes).clamp(1, all.len());
    let [from, to] = tiles_of(sizes, most);
    let mut transformed = (Buffer::new(from.len()), Buffer::new(to.len()));
    for first in all.clone().step_by(most) {
        let pictures = most.min(all.end - first);
        let packed = (input.pack(first..first + pictures), grads.pack(first..first + pictures));
        let (inputs, grads) = (floats_mut(&mut transformed.0), floats_mut(&mut transformed.1));
        transform_pictures((floats(&packed.0), floats(&packed.1)), layout, sizes, pictures, (inputs, grads));
        add_products(inputs, grads, sizes, pictures, first == all.start, floats_mut(&mut sums));
    }
    packed.par_chunks_mut(TAPS * LANES).enumerate().for_each(|(square, dst)| {
        let src = &floats(&sums)[square * SQUARE..];
        UntransformWeights { src, point: squares * SQUARE, dst: floats_mut(dst) }.call();
    });
}

/// BᵀdB and AyAᵀ of the first `pictures` pictures. (Pictures at the distance of all points would fall on the same few lines
/// of the cache.)
fn transform_pictures(
    (input, grad): (&[f32], &[f32]),
    layout: GradLayout,
    sizes: &Sizes,
    pictures: usize,
    (inputs, grads): (&mut [f32], &mut [f32]),
) {
    let frame = sizes.input_frame();
    let [from, to] = tiles_of(sizes, pictures);
    assert!(sizes.in_tiles());
    assert!(input.len() >= pictures * frame.picture() && grad.len() >= pictures * layout.picture);
    assert!(inputs.len() >= from.len() * LANES && grads.len() >= to.len() * LANES);
    let (v, m) = (Part::new(inputs), Part::new(grads));
    (0..pictures).into_par_iter().for_each(|i| {
        let inputs = TransformInputs {
            src: &input[i * frame.picture()..],
            frame: &frame,
            dst: v.from(i * from.picture()),
            tiles: from,
        };
        let grads = TransformGrads {
            src: &grad[i * layout.picture + layout.offset..],
            layout: &layout,
            rows: sizes.oh,
            columns: sizes.ow,
            dst: m.from(i * to.picture()),
            tiles: to,
        };
        // SAFETY: the assertions above: all pictures are there, and room for each point, block, tile and picture; each task
        // writes to the tiles of its own picture, of which the frame has whole ones, since the sizes are `in_tiles`.
        unsafe {
            run(inputs);
            run(grads);
        }
    });
}

/// The tiles of the inputs and of the output's gradient.
fn tiles_of(sizes: &Sizes, pictures: usize) -> [Tiles; 2] {
    [sizes.input_blocks(), sizes.output_blocks()].map(|blocks| Tiles::new(blocks, (sizes.oh, sizes.ow), pictures))
}

/// The sums over `pictures` pictures' tiles of all products of input and output channels, point by point.
fn add_products(inputs: &[f32], grads: &[f32], sizes: &Sizes, pictures: usize, fresh: bool, sums: &mut [f32]) {
    let [from, to] = tiles_of(sizes, pictures);
    let squares = from.blocks * to.blocks;
    assert!(inputs.len() >= from.len() * LANES && grads.len() >= to.len() * LANES);
    assert!(sums.len() >= POINTS * squares * SQUARE);
    let sums = Part::new(sums);
    let pairs = to.blocks.div_ceil(2);
    (0..POINTS * from.blocks * pairs).into_par_iter().for_each(|task| {
        let (point, tile) = (task / (from.blocks * pairs), task % (from.blocks * pairs));
        let (b, pair) = (tile / pairs, tile % pairs);
        let output_block = from.blocks * SQUARE;
        // Runs of vectors, and the distance of two: the pictures, or the rows of tiles of all pictures.
        let (runs, length, distance) = match from.needed(point, (sizes.oh, sizes.ow)) {
            (rows, columns) if from.whole => (pictures, rows * columns, from.picture()),
            (rows, columns) => (rows, columns * pictures, from.row()),
        };
        let kernel = Correlate {
            input: &inputs[point * from.point() + b * from.block()..],
            input_picture: distance,
            input_row: 0,
            input_pixel: LANES,
            taps: &[0],
            channels: LANES.min(sizes.c - b * LANES),
            grad: &grads[point * to.point() + 2 * pair * to.block()..],
            grad_picture: distance,
            grad_block: to.block(),
            grad_row: 0,
            pictures: runs,
            rows: 1,
            columns: length,
            output: sums.from(point * squares * SQUARE + 2 * pair * output_block + b * SQUARE),
            output_block,
            output_blocks: 2.min(to.blocks - 2 * pair),
            fresh,
        };
        // SAFETY: the assertions above: from `point` on there are all blocks, rows and columns of tiles; each task writes to
        // the squares of its own point, block and pair.
        unsafe { run(kernel) }
    });
}
