//! The shared backward pass of convolution, batch norm, ReLU and 2×2 max-pool, on the CPU.
//!
//! Used by [`ConvBlock`](crate::layers::ConvBlock), and by the four operations called one after another: each attaches
//! a note to its output's node on how it was computed ([`set_note`](crate::autograd::graph::set_note)), and if the pool
//! finds notes for the whole chain, its output becomes a function of the chain's inputs: the same values and gradients,
//! without intermediate gradients. The intermediate tensors keep their own nodes for other uses.

pub(crate) mod cpu;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::autograd::graph::{Gradients, node};
use crate::batch_norm2d::BatchNormNote;
use crate::config::Conv2dConfig;
use crate::conv2d::geometry::{Frame, Geometry, GradLayout, Sizes};
use crate::conv2d::pack::{Grads, Pack, Unpack, pack_all};
use crate::conv2d::{Conv2dNote, cpu as cv};
use crate::element::{filled, tensor, values, vector, vector_or};
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut, lanes};
use crate::simd::{Whole, in_pool_alone};
use cpu::{Affine, Normalize, PooledSums, Slope, Spread};

/// The name of the chain's node in candle's graph.
pub(crate) const NAME: &str = "conv_block";

/// Whether there is fused code for this convolution.
pub(crate) fn serves(geometry: &Geometry) -> bool {
    let sizes = geometry.sizes();
    let frame = sizes.output_frame();
    geometry.config.groups == 1 && frame.top >= 0 && frame.left >= 0 && sizes.oh >= 2 && sizes.ow >= 2
}

/// The chain's inputs, contiguous.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub x: Tensor,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub gamma: Option<Tensor>,
    pub beta: Option<Tensor>,
    pub config: Conv2dConfig,
}

impl Inputs {
    /// In the order of the node's inputs.
    pub(crate) fn list(&self) -> Vec<&Tensor> {
        let mut list = vec![&self.x, &self.weight];
        list.extend([&self.bias, &self.gamma, &self.beta].into_iter().flatten());
        list
    }
}

pub(crate) fn affines(
    o: usize,
    mean: impl Fn(usize) -> f64,
    scale: impl Fn(usize) -> f64,
    shift: &[f64],
) -> Vec<Affine> {
    let (mean, scale, shift) = (lanes(o, mean), lanes(o, scale), lanes(o, |c| shift[c]));
    mean.into_iter().zip(scale).zip(shift).map(|((mean, scale), shift)| Affine { mean, scale, shift }).collect()
}

/// Sizes after the pool.
pub(crate) fn pooled(sizes: &Sizes) -> (usize, usize) {
    (sizes.oh / 2, sizes.ow / 2)
}

/// What the backward pass needs from the forward pass.
pub(crate) struct Saved {
    pub inputs: Inputs,
    pub sizes: Sizes,
    /// The convolution's output, as blocks, without its bias.
    pub y: Buffer,
    /// Which pixel of each window is the maximum.
    pub winners: Vec<u8>,
    /// Mean without the convolution's bias, and 1 / √(var + eps), of each channel.
    pub mean: Vec<f64>,
    pub inverse: Vec<f64>,
    pub gamma: Vec<f64>,
}

/// The output of the four operations, called one after another, as one node of their inputs.
pub(crate) fn node_of_chain(note: BatchNormNote, output: Vec<f32>) -> Result<Tensor> {
    let BatchNormNote { conv: Conv2dNote { x, weight, bias, geometry }, x: convolved, gamma, beta, normalizer } = note;
    let sizes = geometry.sizes();
    let inputs = Inputs { x, weight, bias, gamma, beta, config: geometry.config };
    let list = inputs.clone();
    let (ph, pw) = pooled(&sizes);
    node(NAME, &list.list(), output, &[sizes.n, sizes.o, ph, pw], move |grad| {
        in_pool_alone(|| {
            let (mean, inverse) = normalizer.iter().copied().unzip();
            Saved::again(inputs.clone(), sizes, &convolved, mean, inverse)?.backward(grad)
        })
    })
}

impl Saved {
    /// What the fused forward pass would have kept, computed from the convolution's output `[N, O, OH, OW]` and its
    /// statistics.
    fn again(inputs: Inputs, sizes: Sizes, y: &Tensor, mean: Vec<f64>, inverse: Vec<f64>) -> Result<Self> {
        let (ph, pw) = pooled(&sizes);
        let (o, obs, pixels) = (sizes.o, sizes.output_blocks(), sizes.pixels());
        let gamma = vector_or::<f32>(inputs.gamma.as_ref(), o, 1.0)?;
        let affines =
            affines(o, |c| mean[c], |c| gamma[c] * inverse[c], &vector_or::<f32>(inputs.beta.as_ref(), o, 0.0)?);
        let dense = Frame::dense(o, sizes.oh, sizes.ow);
        let y = pack_all(&values::<f32>(y)?, o * pixels, sizes.n, sizes.oh, sizes.ow, &dense);
        let mut winners = vec![0u8; sizes.n * obs * ph * pw * LANES];
        winners.par_chunks_mut(ph * pw * LANES).zip(y.par_chunks(pixels)).enumerate().for_each(|(i, (winners, y))| {
            let mut blocks = Buffer::new(ph * pw);
            let (affine, pooled) = (&affines[i % obs], floats_mut(&mut blocks));
            let (rows, columns, winners) = (sizes.oh, sizes.ow, Some(winners));
            Normalize { y: floats(y), rows, columns, affine: Some(affine), pooled, winners }.call();
        });
        Ok(Self { inputs, sizes, y, winners, mean, inverse, gamma })
    }

    pub(crate) fn backward(&self, grad: &Tensor) -> Result<Gradients> {
        let Self { inputs, sizes, .. } = self;
        let (ph, pw) = pooled(sizes);
        let (o, obs, pixels) = (sizes.o, sizes.output_blocks(), sizes.pixels());
        let window = obs * ph * pw;
        let dense = Frame::dense(o, ph, pw);
        let grad = values::<f32>(grad)?;
        let grad: &[f32] = &grad;

        // The pooled gradient as blocks, and its sums over each picture.
        let means = lanes(o, |c| self.mean[c]);
        let mut pooled_grad = Buffer::new(sizes.n * window);
        let mut sums = vec![[Lane::ZERO; 2]; sizes.n * obs];
        pooled_grad
            .par_chunks_mut(window)
            .zip(sums.par_chunks_mut(obs))
            .zip(grad.par_chunks(o * ph * pw))
            .zip(self.y.par_chunks(obs * pixels))
            .zip(self.winners.par_chunks(window * LANES))
            .for_each(|((((pooled, sums), grad), y), winners)| {
                Pack { src: grad, h: ph, w: pw, frame: &dense, dst: floats_mut(pooled) }.call();
                for (b, [total, product]) in sums.iter_mut().enumerate() {
                    PooledSums {
                        y: floats(&y[b * pixels..]),
                        rows: sizes.oh,
                        columns: sizes.ow,
                        mean: &means[b],
                        grad: floats(&pooled[b * ph * pw..]),
                        winners: &winners[b * ph * pw * LANES..],
                        total,
                        product,
                    }
                    .call();
                }
            });
        let parameters = normalizer_gradients(&sums, o, &self.inverse);
        let slopes = parameters.slopes(&self.mean, &self.inverse, &self.gamma, (sizes.n * pixels) as f64);
        let spread = |picture: usize, dy: &mut [f32], layout: &GradLayout| {
            for (b, slope) in slopes.iter().enumerate() {
                let at = picture * window + b * ph * pw;
                Spread {
                    y: floats(&self.y[(picture * obs + b) * pixels..]),
                    rows: sizes.oh,
                    columns: sizes.ow,
                    slope,
                    grad: floats(&pooled_grad[at..]),
                    winners: &self.winners[at * LANES..],
                    output: &mut dy[b * layout.block + layout.offset..],
                    output_row: layout.row,
                }
                .call();
            }
        };
        inputs.gradients(sizes, &spread, parameters)
    }
}

/// The gradients of a batch norm's weight and bias.
pub(crate) struct NormalizerGradients {
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
}

/// From Σ d and Σ d · (y − mean) of each block of each picture, d being the gradient of what was normalized and shifted.
pub(crate) fn normalizer_gradients(sums: &[[Lane; 2]], o: usize, inverse: &[f64]) -> NormalizerGradients {
    let obs = o.div_ceil(LANES);
    let sum = |which: usize, c: usize| -> f64 {
        sums.iter().skip(c / LANES).step_by(obs).map(|s| f64::from(s[which].0[c % LANES])).sum()
    };
    let beta = (0..o).map(|c| sum(0, c)).collect();
    NormalizerGradients { gamma: (0..o).map(|c| sum(1, c) * inverse[c]).collect(), beta }
}

impl NormalizerGradients {
    /// How the gradient goes on to what was normalized, of which each channel has `count` values.
    pub(crate) fn slopes(&self, mean: &[f64], inverse: &[f64], gamma: &[f64], count: f64) -> Vec<Slope> {
        let o = mean.len();
        let scale = |c: usize| gamma[c] * inverse[c];
        let (means, scales) = (lanes(o, |c| mean[c]), lanes(o, scale));
        let slopes = lanes(o, |c| scale(c) * inverse[c] * self.gamma[c] / count);
        let offsets = lanes(o, |c| scale(c) * self.beta[c] / count);
        let block = |b: usize| Slope { mean: means[b], scale: scales[b], slope: slopes[b], offset: offsets[b] };
        (0..means.len()).map(block).collect()
    }
}

impl Inputs {
    /// The gradients of all inputs. `spread` gives the gradient of the convolution's output: it writes all pixels of a
    /// picture, of this number, where the layout says.
    pub(crate) fn gradients(
        &self,
        sizes: &Sizes,
        spread: &(impl Fn(usize, &mut [f32], &GradLayout) + Sync),
        normalizer: NormalizerGradients,
    ) -> Result<Gradients> {
        let (x_picture, plane) = (sizes.c * sizes.h * sizes.w, sizes.h * sizes.w);
        let mut gradients = Vec::new();
        gradients.push(if self.x.track_op() {
            // With zeros around it.
            let (layout, frame) = (GradLayout::framed(sizes), sizes.output_frame());
            let turned = cv::backward_weights(&values::<f32>(&self.weight)?, sizes);
            let group = cv::group(sizes);
            let dx = filled(sizes.n * x_picture, group * x_picture, |task, dx| {
                let pictures = dx.len() / x_picture;
                let mut dy = Buffer::new(pictures * layout.picture / LANES);
                for (i, dy) in dy.chunks_exact_mut(layout.picture / LANES).enumerate() {
                    clear_frame(dy, sizes, &frame);
                    spread(task * group + i, floats_mut(dy), &layout);
                }
                let blocks = sizes.input_blocks() * plane;
                let mut output = Buffer::new(pictures * blocks);
                cv::input_gradient_packed(floats(&dy), pictures, &turned, sizes, floats_mut(&mut output));
                for (output, dst) in output.chunks_exact(blocks).zip(dx.chunks_exact_mut(x_picture)) {
                    Unpack { src: floats(output), c: sizes.c, plane, dst }.call();
                }
            });
            Some(tensor(dx, self.x.dims())?)
        } else {
            None
        });
        gradients.push(if self.weight.track_op() {
            let x = values::<f32>(&self.x)?;
            let mut dw = vec![0f32; self.weight.elem_count()];
            let layout = GradLayout::dense(sizes);
            let compute = |picture: usize, dy: &mut [Lane]| spread(picture, floats_mut(dy), &layout);
            cv::weight_gradient(&x, x_picture, Grads::Computed(&compute, layout.picture), layout, sizes, &mut dw);
            Some(tensor(dw, self.weight.dims())?)
        } else {
            None
        });
        let of_bias = vec![0.0; sizes.o];
        for (input, gradient) in [(&self.bias, of_bias), (&self.gamma, normalizer.gamma), (&self.beta, normalizer.beta)]
        {
            if let Some(input) = input {
                gradients.push(input.track_op().then(|| vector::<f32>(gradient.into_iter())).transpose()?);
            }
        }
        Ok(gradients)
    }
}

/// Zeros wherever no pixel of the gradient will be written.
fn clear_frame(dy: &mut [Lane], sizes: &Sizes, frame: &Frame) {
    let (top, left) = (frame.top as usize, frame.left as usize);
    for block in dy.chunks_exact_mut(frame.rows * frame.columns) {
        for (y, row) in block.chunks_exact_mut(frame.columns).enumerate() {
            if y < top || y >= top + sizes.oh {
                row.fill(Lane::ZERO);
            } else {
                row[..left].fill(Lane::ZERO);
                row[left + sizes.ow..].fill(Lane::ZERO);
            }
        }
    }
}
