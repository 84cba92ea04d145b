//! Convolution, perhaps a 2×2 max-pool, batch norm and activation on the CPU: the forward passes and the backward pass.

mod kernels;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::normalizer::Normalizer;
use super::separate::gradients_in_inference;
use crate::autograd::graph::{Gradients, node};
use crate::batch_norm2d::layer::BatchNorm2d;
use crate::chain::cpu::{Affine, Moments, Normalize};
use crate::chain::{Inputs, NAME, normalizer_gradients, pooled};
use crate::config::{Activation, BlockPool, ConvBlockConfig};
use crate::conv2d::cpu as cv;
use crate::conv2d::geometry::{Frame, GradLayout, Sizes};
use crate::conv2d::pack::{Pack, Unpack, pack_pictures};
use crate::element::{filled, values, vector_or};
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::{Whole, in_pool_alone};
use kernels::{Activate, ActivationGrad, NormGrad};

/// The sizes of a block and what it does.
#[derive(Clone, Copy)]
struct Shape {
    sizes: Sizes,
    pool: bool,
    activation: Activation,
}

impl Shape {
    fn new(sizes: Sizes, config: ConvBlockConfig) -> Self {
        Self { sizes, pool: config.pool == BlockPool::BeforeNorm, activation: config.activation }
    }

    /// Rows and columns of the output.
    fn side(&self) -> (usize, usize) {
        if self.pool { pooled(&self.sizes) } else { (self.sizes.oh, self.sizes.ow) }
    }

    /// Pixels of one channel of the output.
    fn pixels(&self) -> usize {
        self.side().0 * self.side().1
    }

    /// Vectors of one picture of the output.
    fn picture(&self) -> usize {
        self.sizes.output_blocks() * self.pixels()
    }

    fn dims(&self) -> [usize; 4] {
        [self.sizes.n, self.sizes.o, self.side().0, self.side().1]
    }

    /// Convolves and pools the pictures at `x`, as many as `z` has room for.
    fn convolve(&self, x: &[f32], weights: &cv::Weights, z: &mut [Lane], mut winners: Option<&mut [u8]>) {
        let sizes = &self.sizes;
        let (frame, pictures) = (sizes.input_frame(), z.len() / self.picture());
        let mut packed = Buffer::new(pictures * frame.picture() / LANES);
        pack_pictures(x, sizes.c * sizes.h * sizes.w, sizes.h, sizes.w, &frame, &mut packed);
        if !self.pool {
            return cv::forward_packed(floats(&packed), pictures, weights, None, sizes, floats_mut(z));
        }
        let mut y = Buffer::new(pictures * sizes.output_blocks() * sizes.pixels());
        cv::forward_packed(floats(&packed), pictures, weights, None, sizes, floats_mut(&mut y));
        let blocks = y.chunks_exact(sizes.pixels()).zip(z.chunks_exact_mut(self.pixels()));
        for (i, (y, z)) in blocks.enumerate() {
            Normalize {
                y: floats(y),
                rows: sizes.oh,
                columns: sizes.ow,
                affine: None,
                pooled: floats_mut(z),
                winners: winners.as_deref_mut().map(|winners| &mut winners[i * self.pixels() * LANES..]),
            }
            .call();
        }
    }

    /// Normalizes and activates the blocks of one picture into planes.
    fn finish(&self, z: &[Lane], affines: &[Affine], output: &mut [f32]) {
        let mut blocks = Buffer::new(z.len());
        let all = z.chunks_exact(self.pixels()).zip(blocks.chunks_exact_mut(self.pixels())).zip(affines);
        for ((z, dst), affine) in all {
            Activate { z: floats(z), affine, activation: self.activation, dst: floats_mut(dst) }.call();
        }
        Unpack { src: floats(&blocks), c: self.sizes.o, plane: self.pixels(), dst: output }.call();
    }
}

pub(super) fn infer(inputs: Inputs, bn: &BatchNorm2d, sizes: Sizes, config: ConvBlockConfig) -> Result<Tensor> {
    let shape = Shape::new(sizes, config);
    let output = {
        let affines = Normalizer::running(&inputs, bn, sizes.o)?.affines(&inputs)?;
        let x = values::<f32>(&inputs.x)?;
        let x: &[f32] = &x;
        let weights = cv::forward_weights(&values::<f32>(&inputs.weight)?, &sizes);
        let (x_picture, y_picture) = (sizes.c * sizes.h * sizes.w, sizes.o * shape.pixels());
        let group = cv::group(&sizes);
        filled(sizes.n * y_picture, group * y_picture, |task, output| {
            let mut z = Buffer::new(output.len() / y_picture * shape.picture());
            shape.convolve(&x[task * group * x_picture..], &weights, &mut z, None);
            for (z, output) in z.chunks_exact(shape.picture()).zip(output.chunks_exact_mut(y_picture)) {
                shape.finish(z, &affines, output);
            }
        })
    };
    let (saved, bn) = (inputs.clone(), bn.clone());
    node(NAME, &inputs.list(), output, &shape.dims(), move |grad| gradients_in_inference(&saved, &bn, config, grad))
}

pub(super) fn train(inputs: Inputs, bn: &BatchNorm2d, sizes: Sizes, config: ConvBlockConfig) -> Result<Tensor> {
    let shape = Shape::new(sizes, config);
    let obs = sizes.output_blocks();
    let mut z = Buffer::new(sizes.n * shape.picture());
    let mut winners = vec![0u8; if shape.pool { z.len() * LANES } else { 0 }];
    // Mean and sum of squares of each picture's blocks.
    let mut moments = vec![[Lane::ZERO; 2]; sizes.n * obs];
    {
        let x = values::<f32>(&inputs.x)?;
        let x: &[f32] = &x;
        let weights = cv::forward_weights(&values::<f32>(&inputs.weight)?, &sizes);
        let (x_picture, group) = (sizes.c * sizes.h * sizes.w, cv::group(&sizes));
        let task = |x: &[f32], z: &mut [Lane], winners: Option<&mut [u8]>, moments: &mut [[Lane; 2]]| {
            shape.convolve(x, &weights, z, winners);
            for (z, [mean, squares]) in z.chunks_exact(shape.pixels()).zip(moments) {
                Moments { y: floats(z), mean, squares }.call();
            }
        };
        let tasks = z.par_chunks_mut(group * shape.picture()).zip(moments.par_chunks_mut(group * obs));
        let tasks = tasks.zip(x.par_chunks(group * x_picture));
        if shape.pool {
            tasks
                .zip(winners.par_chunks_mut(group * shape.picture() * LANES))
                .for_each(|(((z, moments), x), winners)| task(x, z, Some(winners), moments));
        } else {
            tasks.for_each(|((z, moments), x)| task(x, z, None, moments));
        }
    }
    let normalizer = Normalizer::of_batch(&moments, shape.pixels(), &inputs, bn, sizes.o)?;
    let affines = normalizer.affines(&inputs)?;
    let y_picture = sizes.o * shape.pixels();
    let output = filled(sizes.n * y_picture, y_picture, |i, output| {
        shape.finish(&z[i * shape.picture()..][..shape.picture()], &affines, output);
    });
    let list = inputs.clone();
    let saved = Saved { inputs, shape, z, winners, normalizer, affines };
    node(NAME, &list.list(), output, &shape.dims(), move |grad| in_pool_alone(|| saved.backward(grad)))
}

/// What the backward pass needs from the forward pass.
struct Saved {
    inputs: Inputs,
    shape: Shape,
    /// The output of convolution and pool, as blocks, without the convolution's bias.
    z: Buffer,
    /// Which pixel of each window is the maximum; empty without a pool.
    winners: Vec<u8>,
    normalizer: Normalizer,
    affines: Vec<Affine>,
}

impl Saved {
    fn backward(&self, grad: &Tensor) -> Result<Gradients> {
        let Self { inputs, shape, z, winners, normalizer: Normalizer { mean, inverse }, affines } = self;
        let sizes = &shape.sizes;
        let (o, obs, pixels, picture) = (sizes.o, sizes.output_blocks(), shape.pixels(), shape.picture());
        let (rows, columns) = shape.side();
        let dense = Frame::dense(o, rows, columns);
        let grad = values::<f32>(grad)?;
        let grad: &[f32] = &grad;

        // The gradient before the activation, as blocks, and its sums over each picture.
        let mut dz = Buffer::new(z.len());
        let mut sums = vec![[Lane::ZERO; 2]; sizes.n * obs];
        dz.par_chunks_mut(picture)
            .zip(sums.par_chunks_mut(obs))
            .zip(grad.par_chunks(o * pixels))
            .zip(z.par_chunks(picture))
            .for_each(|(((dz, sums), grad), z)| {
                Pack { src: grad, h: rows, w: columns, frame: &dense, dst: floats_mut(dz) }.call();
                let blocks = dz.chunks_exact_mut(pixels).zip(z.chunks_exact(pixels)).zip(affines).zip(sums);
                for (((dz, z), affine), [total, product]) in blocks {
                    let (activation, grad) = (shape.activation, floats_mut(dz));
                    ActivationGrad { z: floats(z), affine, activation, grad, total, product }.call();
                }
            });
        let parameters = normalizer_gradients(&sums, o, inverse);
        let gamma = vector_or::<f32>(inputs.gamma.as_ref(), o, 1.0)?;
        let slopes = parameters.slopes(mean, inverse, &gamma, (sizes.n * pixels) as f64);
        let spread = |i: usize, dy: &mut [f32], layout: &GradLayout| {
            for (b, slope) in slopes.iter().enumerate() {
                let at = i * picture + b * pixels;
                NormGrad {
                    z: floats(&z[at..][..pixels]),
                    slope,
                    grad: floats(&dz[at..][..pixels]),
                    winners: shape.pool.then(|| &winners[at * LANES..]),
                    rows: sizes.oh,
                    columns: sizes.ow,
                    output: &mut dy[b * layout.block + layout.offset..],
                    output_row: layout.row,
                }
                .call();
            }
        };
        inputs.gradients(sizes, &spread, parameters)
    }
}
