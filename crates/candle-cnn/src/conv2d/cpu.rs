//! Direct convolution on blocks of sixteen channels.
//!
//! Input pictures are packed into `[C / 16][HP][WP][16]`, zeros around them, one picture at a time so that they stay in
//! the cache; weights into `[O / 16][C / 16][tap][16 inputs][16 outputs]`. A tile of output pixels times output channels
//! stays in registers over all taps and input channels: for each input channel, vectors of weights are loaded and the
//! pixels' values broadcast. The input's gradient is the same convolution, with inputs and outputs exchanged and the taps
//! reversed; with a stride it is one for each [`Phase`](super::geometry::Phase), so that no zeros are multiplied. The weight's
//! gradient keeps a tile of input channels times output channels in registers over the pixels of many pictures.

use rayon::prelude::*;

use super::geometry::{Frame, GradLayout, SQUARE, Sizes, taps};
use super::kernel::{Convolve, Correlate};
use super::pack::{Grads, Planes, Unpack, pack_pictures, pack_weights, turn_weights, unpack_weights};
use super::winograd;
use crate::element::Fresh;
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut, lanes};
use crate::simd::part::Part;
use crate::simd::{Whole, run};

/// Pictures that one task takes: few enough for 8 tasks, many enough that weights are read once for several small
/// pictures, which together should stay in the second-level cache.
pub(crate) fn group(sizes: &Sizes) -> usize {
    if sizes.in_tiles() {
        return winograd::group(sizes);
    }
    let bytes = 4 * (sizes.input_frame().picture() + sizes.output_blocks() * LANES * sizes.pixels());
    ((256 << 10) / bytes.max(1)).clamp(1, sizes.n.div_ceil(8).max(1))
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
    if sizes.in_tiles() { Weights::Winograd(winograd::weights(&packed)) } else { Weights::Direct(packed) }
}

/// The same for the input's gradient.
pub(crate) fn backward_weights(weight: &[f32], sizes: &Sizes) -> Weights {
    let turned = turn_weights(&pack_weights(weight, sizes), sizes);
    if sizes.input_gradient_in_tiles() {
        Weights::Winograd(winograd::weights(&turned))
    } else {
        Weights::Direct(turned)
    }
}

/// Convolves `pictures` packed pictures, as `sizes.input_frame()` lays them out, into `sizes.output_blocks()` blocks of
/// `sizes.pixels()` pixels of each.
pub(crate) fn forward_packed(
    input: &[f32],
    pictures: usize,
    weights: &Weights,
    bias: Option<&[Lane]>,
    sizes: &Sizes,
    output: &mut [f32],
) {
    let frame = sizes.input_frame();
    let weights = match weights {
        Weights::Direct(weights) => weights,
        Weights::Winograd(weights) => {
            let size = (sizes.output_blocks(), sizes.oh, sizes.ow);
            return winograd::forward(input, pictures, &frame, weights, bias, size, output);
        }
    };
    Convolve {
        input,
        input_picture: frame.picture(),
        input_block: frame.block(),
        input_row: sizes.stride * frame.columns * frame.pixel,
        input_pixel: frame.pixel,
        stride: sizes.stride,
        taps: &taps(sizes.kh, sizes.kw, sizes.dilation, &frame),
        channels: sizes.c,
        weights: floats(weights),
        bias: bias.map(floats),
        pictures,
        rows: sizes.oh,
        columns: sizes.ow,
        output,
        output_picture: sizes.output_blocks() * sizes.pixels() * LANES,
        output_block: sizes.pixels() * LANES,
        output_row: sizes.ow * LANES,
        output_pixel: LANES,
        output_blocks: sizes.output_blocks(),
    }
    .call();
}

/// The input's gradient for `pictures` pictures whose output gradient has been packed as `sizes.output_frame()` says, as
/// `sizes.input_blocks()` blocks of h · w pixels of each.
pub(crate) fn input_gradient_packed(
    grad: &[f32],
    pictures: usize,
    turned: &Weights,
    sizes: &Sizes,
    output: &mut [f32],
) {
    let frame = sizes.output_frame();
    let plane = sizes.h * sizes.w;
    let turned = match turned {
        Weights::Direct(turned) => turned,
        Weights::Winograd(turned) => {
            let size = (sizes.input_blocks(), sizes.h, sizes.w);
            return winograd::forward(grad, pictures, &frame, turned, None, size, output);
        }
    };
    let mut weights = floats(turned);
    for phase in sizes.phases() {
        Convolve {
            input: grad,
            input_picture: frame.picture(),
            input_block: frame.block(),
            input_row: frame.columns * LANES,
            input_pixel: LANES,
            stride: 1,
            taps: &phase.offsets,
            channels: sizes.o,
            weights,
            bias: None,
            pictures,
            rows: phase.rows,
            columns: phase.columns,
            output: &mut output[(phase.row * sizes.w + phase.column) * LANES..],
            output_picture: sizes.input_blocks() * plane * LANES,
            output_block: plane * LANES,
            output_row: sizes.stride * sizes.w * LANES,
            output_pixel: sizes.stride * LANES,
            output_blocks: sizes.input_blocks(),
        }
        .call();
        weights = &weights[sizes.output_blocks() * sizes.input_blocks() * phase.taps.len() * SQUARE..];
    }
}

/// The weight's gradient, `[O, C, KH, KW]`, from all pictures: the input and the output's gradient, which is or will be
/// packed as `layout` says.
pub(crate) fn weight_gradient(
    x: &[f32],
    x_picture: usize,
    grads: Grads,
    layout: GradLayout,
    sizes: &Sizes,
    output: &mut [f32],
) {
    let frame = sizes.input_frame();
    assert_eq!(output.len(), sizes.o * sizes.c * sizes.taps());
    let input = Planes { x, distance: x_picture, h: sizes.h, w: sizes.w, frame };
    if sizes.in_tiles() {
        let (packed, parts) = winograd::weight_gradient(&input, &grads, layout, sizes);
        return unpack_weights(&packed, parts, sizes, output);
    }
    let (input, grad) = (input.pack(0..sizes.n), grads.pack(0..sizes.n));
    assert!(input.len() * LANES >= sizes.n * frame.picture());
    assert!(grad.len() * LANES >= sizes.n * layout.picture);
    let (input_blocks, output_blocks) = (sizes.input_blocks(), sizes.output_blocks());
    let offsets = taps(sizes.kh, sizes.kw, sizes.dilation, &frame);
    let pairs = output_blocks.div_ceil(2);
    let tiles = input_blocks * pairs;
    // Where there are few tiles, each is cut into sums over some of the pictures, so that threads have something to
    // share. The number depends on the shapes alone, and with it the order of all sums.
    let parts = 8usize.div_ceil(tiles).min(sizes.n);
    let part = sizes.weight_lanes();
    let mut sums = Buffer::new(parts * part);
    let all = Part::new(floats_mut(&mut sums));
    let (input, grad) = (floats(&input), floats(&grad));
    (0..parts * tiles).into_par_iter().for_each(|task| {
        let (run_of_pictures, tile) = (task / tiles, task % tiles);
        let (block, pair) = (tile / pairs, tile % pairs);
        let (from, to) = (run_of_pictures * sizes.n / parts, (run_of_pictures + 1) * sizes.n / parts);
        let output_block = input_blocks * sizes.taps() * SQUARE;
        let first = 2 * pair * output_block + block * sizes.taps() * SQUARE;
        let kernel = Correlate {
            input: &input[from * frame.picture() + block * frame.block()..],
            input_picture: frame.picture(),
            input_row: sizes.stride * frame.columns * frame.pixel,
            input_pixel: sizes.stride * frame.pixel,
            taps: &offsets,
            channels: LANES.min(sizes.c - block * LANES),
            grad: &grad[from * layout.picture + 2 * pair * layout.block + layout.offset..],
            grad_picture: layout.picture,
            grad_block: layout.block,
            grad_row: layout.row,
            pictures: to - from,
            rows: sizes.oh,
            columns: sizes.ow,
            output: all.from(run_of_pictures * part * LANES + first),
            output_block,
            output_blocks: 2.min(output_blocks - 2 * pair),
            fresh: true,
        };
        // SAFETY: the assertions above: `input` and `grad` have all pictures, blocks and pixels; each task writes to the
        // squares of its own run of pictures, block and pair.
        unsafe { run(kernel) }
    });
    unpack_weights(&sums, parts, sizes, output);
}

/// A convolution of `[N, C, H, W]` in `groups` groups of `sizes` each.
pub(crate) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    groups: usize,
    sizes: &Sizes,
    y: Fresh<f32>,
) -> Vec<f32> {
    let (plane, pixels) = (sizes.h * sizes.w, sizes.pixels());
    let (x_picture, y_picture) = (groups * sizes.c * plane, groups * sizes.o * pixels);
    assert!(x.len() == sizes.n * x_picture);
    let weights: Vec<Weights> =
        weight.chunks_exact(weight.len() / groups).map(|weight| forward_weights(weight, sizes)).collect();
    let biases: Option<Vec<Vec<Lane>>> =
        bias.map(|bias| bias.chunks_exact(sizes.o).map(|bias| lanes(sizes.o, |c| bias[c].into())).collect());
    let frame = sizes.input_frame();
    let group = group(sizes);
    y.filled(group * y_picture, |i, y| {
        let (x, pictures) = (&x[i * group * x_picture..], y.len() / y_picture);
        let mut input = Buffer::new((pictures * frame.picture()).div_ceil(LANES));
        let mut output = Buffer::new(pictures * sizes.output_blocks() * pixels);
        for g in 0..groups {
            pack_pictures(&x[g * sizes.c * plane..], x_picture, sizes.h, sizes.w, &frame, &mut input);
            let bias = biases.as_ref().map(|biases| biases[g].as_slice());
            forward_packed(floats(&input), pictures, &weights[g], bias, sizes, floats_mut(&mut output));
            for (i, src) in output.chunks_exact(sizes.output_blocks() * pixels).enumerate() {
                let dst = &mut y[i * y_picture + g * sizes.o * pixels..];
                Unpack { src: floats(src), c: sizes.o, plane: pixels, dst }.call();
            }
        }
    })
}

/// The input's gradient, for the output's gradient `grad` `[N, O, OH, OW]`.
pub(crate) fn input_gradient(weight: &[f32], grad: &[f32], groups: usize, sizes: &Sizes, dx: Fresh<f32>) -> Vec<f32> {
    let (plane, pixels) = (sizes.h * sizes.w, sizes.pixels());
    let (x_picture, y_picture) = (groups * sizes.c * plane, groups * sizes.o * pixels);
    assert!(grad.len() == sizes.n * y_picture);
    let turned: Vec<Weights> =
        weight.chunks_exact(weight.len() / groups).map(|weight| backward_weights(weight, sizes)).collect();
    let frame = sizes.output_frame();
    let group = group(sizes);
    dx.filled(group * x_picture, |i, dx| {
        let (grad, pictures) = (&grad[i * group * y_picture..], dx.len() / x_picture);
        let mut packed = Buffer::new((pictures * frame.picture()).div_ceil(LANES));
        let mut output = Buffer::new(pictures * sizes.input_blocks() * plane);
        for g in 0..groups {
            pack_pictures(&grad[g * sizes.o * pixels..], y_picture, sizes.oh, sizes.ow, &frame, &mut packed);
            input_gradient_packed(floats(&packed), pictures, &turned[g], sizes, floats_mut(&mut output));
            for (i, src) in output.chunks_exact(sizes.input_blocks() * plane).enumerate() {
                let dst = &mut dx[i * x_picture + g * sizes.c * plane..];
                Unpack { src: floats(src), c: sizes.c, plane, dst }.call();
            }
        }
    })
}

/// The weight's gradients of all groups, for the output's gradient `grad` `[N, O, OH, OW]`.
pub(crate) fn weight_gradients(x: &[f32], grad: &[f32], groups: usize, sizes: &Sizes, dw: &mut [f32]) {
    let (plane, pixels) = (sizes.h * sizes.w, sizes.pixels());
    let (x_picture, y_picture) = (groups * sizes.c * plane, groups * sizes.o * pixels);
    assert!(x.len() == sizes.n * x_picture && grad.len() == sizes.n * y_picture);
    let frame = Frame::dense(sizes.o, sizes.oh, sizes.ow);
    let share = dw.len() / groups;
    for (g, dw) in dw.chunks_exact_mut(share).enumerate() {
        let grad = &grad[g * sizes.o * pixels..];
        let planes = Planes { x: grad, distance: y_picture, h: sizes.oh, w: sizes.ow, frame };
        let x = &x[g * sizes.c * plane..];
        weight_gradient(x, x_picture, Grads::Planes(planes), GradLayout::dense(sizes), sizes, dw);
    }
}
