//! Convolution, batch norm, ReLU and 2×2 max-pool on the CPU: the forward passes.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::normalizer::Normalizer;
use super::separate::gradients_in_inference;
use crate::autograd::graph::node;
use crate::batch_norm2d::layer::BatchNorm2d;
use crate::chain::cpu::{Affine, Moments, Normalize};
use crate::chain::{Inputs, NAME, Saved, pooled};
use crate::config::ConvBlockConfig;
use crate::conv2d::cpu as cv;
use crate::conv2d::geometry::Sizes;
use crate::conv2d::pack::{Unpack, pack_pictures};
use crate::element::{values, vector_or};
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::{Whole, in_pool_alone};

/// Normalizes and pools the blocks of one picture into `[O, OH / 2, OW / 2]`; `winners`, where wanted, are those of the
/// picture.
fn finish(y: &[Lane], affines: &[Affine], sizes: &Sizes, mut winners: Option<&mut [u8]>, output: &mut [f32]) {
    let (ph, pw) = pooled(sizes);
    let mut blocks = Buffer::new(affines.len() * ph * pw);
    for (b, affine) in affines.iter().enumerate() {
        Normalize {
            y: floats(&y[b * sizes.pixels()..]),
            rows: sizes.oh,
            columns: sizes.ow,
            affine: Some(affine),
            pooled: floats_mut(&mut blocks[b * ph * pw..]),
            winners: winners.as_deref_mut().map(|winners| &mut winners[b * ph * pw * LANES..]),
        }
        .call();
    }
    Unpack { src: floats(&blocks), c: sizes.o, plane: ph * pw, dst: output }.call();
}

pub(super) fn infer(inputs: Inputs, bn: &BatchNorm2d, sizes: Sizes) -> Result<Tensor> {
    let (ph, pw) = pooled(&sizes);
    let o = sizes.o;
    let mut output = vec![0f32; sizes.n * o * ph * pw];
    {
        let affines = Normalizer::running(&inputs, bn, o)?.affines(&inputs)?;
        let x = values::<f32>(&inputs.x)?;
        let x: &[f32] = &x;
        let weights = cv::forward_weights(&values::<f32>(&inputs.weight)?, &sizes);
        let frame = sizes.input_frame();
        let (x_picture, y_picture) = (sizes.c * sizes.h * sizes.w, o * ph * pw);
        let blocks = sizes.output_blocks() * sizes.pixels();
        let group = cv::group(&sizes);
        output.par_chunks_mut(group * y_picture).zip(x.par_chunks(group * x_picture)).for_each(|(output, x)| {
            let pictures = x.len() / x_picture;
            let mut packed = Buffer::new(pictures * frame.picture() / LANES);
            let mut y = Buffer::new(pictures * blocks);
            pack_pictures(x, x_picture, sizes.h, sizes.w, &frame, &mut packed);
            cv::forward_packed(floats(&packed), pictures, &weights, None, &sizes, floats_mut(&mut y));
            for (y, output) in y.chunks_exact(blocks).zip(output.chunks_exact_mut(y_picture)) {
                finish(y, &affines, &sizes, None, output);
            }
        });
    }
    let (saved, bn) = (inputs.clone(), bn.clone());
    node(NAME, &inputs.list(), output, &[sizes.n, o, ph, pw], move |grad| {
        gradients_in_inference(&saved, &bn, ConvBlockConfig::default(), grad)
    })
}

pub(super) fn train(inputs: Inputs, bn: &BatchNorm2d, sizes: Sizes) -> Result<Tensor> {
    let (ph, pw) = pooled(&sizes);
    let (o, obs) = (sizes.o, sizes.output_blocks());
    let blocks = obs * sizes.pixels();
    let mut y = Buffer::new(sizes.n * blocks);
    // Mean and sum of squares of each picture's blocks.
    let mut moments = vec![[Lane::ZERO; 2]; sizes.n * obs];
    {
        let x = values::<f32>(&inputs.x)?;
        let x: &[f32] = &x;
        let weights = cv::forward_weights(&values::<f32>(&inputs.weight)?, &sizes);
        let frame = sizes.input_frame();
        let x_picture = sizes.c * sizes.h * sizes.w;
        let group = cv::group(&sizes);
        let tasks = y.par_chunks_mut(group * blocks).zip(moments.par_chunks_mut(group * obs));
        tasks.zip(x.par_chunks(group * x_picture)).for_each(|((y, moments), x)| {
            let pictures = x.len() / x_picture;
            let mut packed = Buffer::new(pictures * frame.picture() / LANES);
            pack_pictures(x, x_picture, sizes.h, sizes.w, &frame, &mut packed);
            cv::forward_packed(floats(&packed), pictures, &weights, None, &sizes, floats_mut(y));
            for (y, [mean, squares]) in y.chunks_exact(sizes.pixels()).zip(moments) {
                Moments { y: floats(y), mean, squares }.call();
            }
        });
    }
    let normalizer = Normalizer::of_batch(&moments, sizes.pixels(), &inputs, bn, o)?;
    let affines = normalizer.affines(&inputs)?;
    let mut output = vec![0f32; sizes.n * o * ph * pw];
    let mut winners = vec![0u8; sizes.n * obs * ph * pw * LANES];
    output
        .par_chunks_mut(o * ph * pw)
        .zip(winners.par_chunks_mut(obs * ph * pw * LANES))
        .zip(y.par_chunks(blocks))
        .for_each(|((output, winners), y)| {
            finish(y, &affines, &sizes, Some(winners), output);
        });
    let list = inputs.clone();
    let Normalizer { mean, inverse } = normalizer;
    let gamma = vector_or::<f32>(inputs.gamma.as_ref(), o, 1.0)?;
    let saved = Saved { inputs, sizes, y, winners, mean, inverse, gamma };
    node(NAME, &list.list(), output, &[sizes.n, o, ph, pw], move |grad| in_pool_alone(|| saved.backward(grad)))
}
