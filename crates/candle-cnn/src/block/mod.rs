//! Convolution, batch norm, ReLU and 2×2 max-pool as one operation.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod inputs;
pub(crate) mod layer;
pub(crate) mod lineage;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::autograd::graph::{Gradients, node};
use crate::batch_norm2d::running::update;
use crate::check::{self, Backend};
use crate::conv2d::cpu as cv;
use crate::conv2d::geometry::{Frame, Geometry, GradLayout, Sizes};
use crate::conv2d::pack::{Pack, Unpack, pack_all};
use crate::element::{tensor, values};
use crate::error::Error;
use crate::simd::lanes::{Buffer, LANES, Lane, floats, floats_mut};
use crate::simd::{Whole, in_pool};
use crate::trace;
use cpu::{Affine, Moments, Normalize, PooledSums, Slope, Spread};
use inputs::{BlockInputs, Convolution, Normalization, separate};
use lineage::{ConvCall, NormCall};

const NAME: &str = "conv_batch_norm_relu_max_pool";

/// max_pool2d(relu(batch_norm2d(conv2d(x))), 2, 2) in one operation: the same values and gradients, without writing
/// what lies between, which is what the separate operations spend half of their time on. `x` is `[N, C, H, W]`; gives
/// `[N, O, OH / 2, OW / 2]`, rounded down.
///
/// In training the gradient of the convolution's bias is exactly 0 (the batch's mean takes any bias out again); the
/// separate operations give what rounding leaves of it.
///
/// Where no fused code serves (another type or device, groups, on the CPU a padding beyond the kernel's reach) the
/// separate operations run, and also while [`trace`] records, so that each is seen.
///
/// ```
/// use candle_cnn::ops::{Conv2dConfig, Convolution, Normalization, RunningStatistics, conv_batch_norm_relu_max_pool};
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::randn(0f32, 1., (2, 3, 8, 8), &Device::Cpu)?;
/// let weight = Tensor::randn(0f32, 1., (16, 3, 3, 3), &Device::Cpu)?;
/// let running = RunningStatistics::new(16, DType::F32, &Device::Cpu)?;
/// let config = Conv2dConfig { padding: 1, ..Default::default() };
/// let convolution = Convolution { weight: &weight, bias: None, config };
/// let normalization = Normalization { running: &running, weight: None, bias: None, config: Default::default() };
/// let y = conv_batch_norm_relu_max_pool(&x, convolution, normalization, true)?;
/// assert_eq!(y.dims(), [2, 16, 4, 4]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// As the separate operations.
pub fn conv_batch_norm_relu_max_pool(
    x: &Tensor,
    convolution: Convolution<'_>,
    normalization: Normalization<'_>,
    train: bool,
) -> Result<Tensor> {
    let geometry = Geometry::new(x, convolution.weight, convolution.bias, convolution.config)?;
    normalization.config.check()?;
    let sizes = geometry.sizes();
    let backend = check::backend(x);
    let served = match backend {
        Backend::CpuF32 => serves(&geometry),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::serves(&geometry) && crate::batch_norm2d::cuda::serves(Some(normalization.running)),
        _ => false,
    };
    if !served || trace::is_recording() {
        return separate(x, convolution, normalization, train);
    }
    let arguments = [
        ("the batch norm's weight", normalization.weight),
        ("the batch norm's bias", normalization.bias),
        ("the running mean", Some(normalization.running.mean.as_tensor())),
        ("the running variance", Some(normalization.running.var.as_tensor())),
    ];
    for (name, argument) in arguments {
        if let Some(argument) = argument {
            check::argument(NAME, name, argument, &[sizes.o], x)?;
        }
    }
    if train && sizes.n * sizes.pixels() == 1 {
        return Err(Error::OneValuePerChannel { found: vec![sizes.n, sizes.o, sizes.oh, sizes.ow] }.into());
    }
    let inputs = BlockInputs::new(x, convolution, normalization)?;
    #[cfg(feature = "cuda")]
    if matches!(backend, Backend::CudaF32) {
        return if train {
            cuda::train(inputs, normalization, geometry)
        } else {
            cuda::infer(inputs, normalization, geometry)
        };
    }
    in_pool(|| {
        if train { forward_train(inputs, normalization, sizes) } else { forward_eval(inputs, normalization, sizes) }
    })
}

/// Whether there is code for a block around this convolution.
pub(crate) fn serves(geometry: &Geometry) -> bool {
    let sizes = geometry.sizes();
    let frame = sizes.output_frame();
    geometry.config.groups == 1 && frame.top >= 0 && frame.left >= 0 && sizes.oh >= 2 && sizes.ow >= 2
}

/// The values of a vector of `[O]`, or `default` for each channel.
fn channels(vector: Option<&Tensor>, o: usize, default: f64) -> Result<Vec<f64>> {
    match vector {
        Some(vector) => Ok(values::<f32>(&vector.contiguous()?)?.iter().map(|&v| f64::from(v)).collect()),
        None => Ok(vec![default; o]),
    }
}

/// One value per channel as blocks, zeros behind the last channel.
fn lanes(o: usize, f: impl Fn(usize) -> f64) -> Vec<Lane> {
    let block = |b: usize| Lane(std::array::from_fn(|i| if b * LANES + i < o { f(b * LANES + i) as f32 } else { 0.0 }));
    (0..o.div_ceil(LANES)).map(block).collect()
}

fn affines(o: usize, mean: impl Fn(usize) -> f64, scale: impl Fn(usize) -> f64, shift: &[f64]) -> Vec<Affine> {
    let (mean, scale, shift) = (lanes(o, mean), lanes(o, scale), lanes(o, |c| shift[c]));
    mean.into_iter().zip(scale).zip(shift).map(|((mean, scale), shift)| Affine { mean, scale, shift }).collect()
}

/// Sizes after the pool.
fn pooled(sizes: &Sizes) -> (usize, usize) {
    (sizes.oh / 2, sizes.ow / 2)
}

/// Normalizes and pools the blocks of one picture into `[O, OH / 2, OW / 2]`; `winners`, where wanted, are those of the
/// picture.
fn finish(y: &[Lane], affines: &[Affine], sizes: &Sizes, mut winners: Option<&mut [u8]>, output: &mut [f32]) {
    let (ph, pw) = pooled(sizes);
    let mut blocks = Buffer::new(affines.len() * ph * pw);
    for (b, (affine, (pooled, y))) in
        affines.iter().zip(blocks.chunks_exact_mut(ph * pw).zip(y.chunks_exact(sizes.pixels()))).enumerate()
    {
        let winners = winners.as_deref_mut().map(|winners| &mut winners[b * ph * pw * LANES..]);
        let pooled = floats_mut(pooled);
        Normalize { y: floats(y), rows: sizes.oh, columns: sizes.ow, affine, pooled, winners }.call();
    }
    Unpack { src: floats(&blocks), c: sizes.o, plane: ph * pw, dst: output }.call();
}

fn forward_eval(inputs: BlockInputs, n: Normalization<'_>, sizes: Sizes) -> Result<Tensor> {
    let (ph, pw) = pooled(&sizes);
    let o = sizes.o;
    let mut output = vec![0f32; sizes.n * o * ph * pw];
    {
        let bias = channels(inputs.bias.as_ref(), o, 0.0)?;
        let (mean, var) = (channels(Some(&n.running.mean), o, 0.0)?, channels(Some(&n.running.var), o, 0.0)?);
        let (gamma, beta) = (channels(inputs.gamma.as_ref(), o, 1.0)?, channels(inputs.beta.as_ref(), o, 0.0)?);
        let scale = |c: usize| gamma[c] / (var[c] + n.config.eps).sqrt();
        let affines = affines(o, |c| mean[c] - bias[c], scale, &beta);
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
            pack_pictures(x, x_picture, &sizes, &frame, &mut packed);
            cv::forward_packed(floats(&packed), pictures, &weights, None, &sizes, floats_mut(&mut y));
            for (y, output) in y.chunks_exact(blocks).zip(output.chunks_exact_mut(y_picture)) {
                finish(y, &affines, &sizes, None, output);
            }
        });
    }
    if !inputs.tracked() {
        return tensor(output, &[sizes.n, o, ph, pw]);
    }
    let (running, config) = (n.running.clone(), n.config);
    let saved = inputs.clone();
    node(NAME, &inputs.list(), output, &[sizes.n, o, ph, pw], move |grad| {
        saved.gradients_in_inference(&running, config, grad)
    })
}

/// Packs the pictures in `x` one after another.
fn pack_pictures(x: &[f32], x_picture: usize, sizes: &Sizes, frame: &Frame, packed: &mut [Lane]) {
    for (x, packed) in x.chunks_exact(x_picture).zip(floats_mut(packed).chunks_exact_mut(frame.picture())) {
        Pack { src: x, h: sizes.h, w: sizes.w, frame, dst: packed }.call();
    }
}

/// What the backward pass needs of the forward pass.
struct Saved {
    inputs: BlockInputs,
    sizes: Sizes,
    /// What the convolution gave, as blocks, without its bias.
    y: Buffer,
    /// Which pixel of each window is the maximum.
    winners: Vec<u8>,
    /// Mean without the convolution's bias, and 1 / √(var + eps), of each channel.
    mean: Vec<f64>,
    inverse: Vec<f64>,
    gamma: Vec<f64>,
}

fn forward_train(inputs: BlockInputs, n: Normalization<'_>, sizes: Sizes) -> Result<Tensor> {
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
            pack_pictures(x, x_picture, &sizes, &frame, &mut packed);
            cv::forward_packed(floats(&packed), pictures, &weights, None, &sizes, floats_mut(y));
            for (y, [mean, squares]) in y.chunks_exact(sizes.pixels()).zip(moments) {
                Moments { y: floats(y), mean, squares }.call();
            }
        });
    }
    let (mean, var) = combine(&moments, &sizes);
    let bias = channels(inputs.bias.as_ref(), o, 0.0)?;
    let count = (sizes.n * sizes.pixels()) as f64;
    let vector = |f: &dyn Fn(usize) -> f64| tensor::<f32>((0..o).map(|c| f(c) as f32).collect(), &[o]);
    update(
        n.running,
        &vector(&|c| mean[c] + bias[c])?,
        &vector(&|c| var[c] * count / (count - 1.0))?,
        n.config.momentum,
    )?;
    let inverse: Vec<f64> = var.iter().map(|var| 1.0 / (var + n.config.eps).sqrt()).collect();
    let gamma = channels(inputs.gamma.as_ref(), o, 1.0)?;
    let affines = affines(o, |c| mean[c], |c| gamma[c] * inverse[c], &channels(inputs.beta.as_ref(), o, 0.0)?);

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
    let saved = Saved { inputs, sizes, y, winners, mean, inverse, gamma };
    node(NAME, &list.list(), output, &[sizes.n, o, ph, pw], move |grad| in_pool(|| saved.backward(grad)))
}

/// The output of the four operations, called one after another, as one node of their inputs.
pub(crate) fn node_of_chain(call: NormCall, output: Vec<f32>) -> Result<Tensor> {
    let NormCall { conv, gamma, beta, normalizer } = call;
    let ConvCall { x, weight, bias, geometry, y: convolved } = conv;
    let sizes = geometry.sizes();
    let inputs = BlockInputs { x, weight, bias, gamma, beta, config: geometry.config };
    let list = inputs.clone();
    let (ph, pw) = pooled(&sizes);
    node(NAME, &list.list(), output, &[sizes.n, sizes.o, ph, pw], move |grad| {
        in_pool(|| {
            let (mean, inverse) = normalizer.iter().copied().unzip();
            Saved::again(inputs.clone(), sizes, &convolved, mean, inverse)?.backward(grad)
        })
    })
}

/// Mean and biased variance of each channel from those of each picture's blocks (Chan, Golub and LeVeque, 1979).
fn combine(moments: &[[Lane; 2]], sizes: &Sizes) -> (Vec<f64>, Vec<f64>) {
    let obs = sizes.output_blocks();
    let count = sizes.pixels() as f64;
    let channel = |c: usize| {
        let pictures = moments.iter().skip(c / LANES).step_by(obs);
        let (mut mean, mut squares, mut seen) = (0.0, 0.0, 0.0);
        for [m, s] in pictures {
            let delta = f64::from(m.0[c % LANES]) - mean;
            let total = seen + count;
            mean += delta * count / total;
            squares += f64::from(s.0[c % LANES]) + delta * delta * seen * count / total;
            seen = total;
        }
        (mean, (squares / seen).max(0.0))
    };
    (0..sizes.o).map(channel).unzip()
}

impl Saved {
    /// What the fused forward pass would have kept, from the convolution's output `[N, O, OH, OW]` and its statistics.
    fn again(inputs: BlockInputs, sizes: Sizes, y: &Tensor, mean: Vec<f64>, inverse: Vec<f64>) -> Result<Self> {
        let (ph, pw) = pooled(&sizes);
        let (o, obs, pixels) = (sizes.o, sizes.output_blocks(), sizes.pixels());
        let gamma = channels(inputs.gamma.as_ref(), o, 1.0)?;
        let affines = affines(o, |c| mean[c], |c| gamma[c] * inverse[c], &channels(inputs.beta.as_ref(), o, 0.0)?);
        let dense = Frame { c: o, rows: sizes.oh, columns: sizes.ow, top: 0, left: 0, step: 1, pixel: LANES };
        let y = pack_all(&values::<f32>(y)?, o * pixels, sizes.n, sizes.oh, sizes.ow, &dense);
        let mut winners = vec![0u8; sizes.n * obs * ph * pw * LANES];
        winners.par_chunks_mut(ph * pw * LANES).zip(y.par_chunks(pixels)).enumerate().for_each(|(i, (winners, y))| {
            let mut blocks = Buffer::new(ph * pw);
            let (affine, pooled) = (&affines[i % obs], floats_mut(&mut blocks));
            let (rows, columns, winners) = (sizes.oh, sizes.ow, Some(winners));
            Normalize { y: floats(y), rows, columns, affine, pooled, winners }.call();
        });
        Ok(Self { inputs, sizes, y, winners, mean, inverse, gamma })
    }

    fn backward(&self, grad: &Tensor) -> Result<Gradients> {
        let Self { inputs, sizes, .. } = self;
        let (ph, pw) = pooled(sizes);
        let (o, obs, pixels) = (sizes.o, sizes.output_blocks(), sizes.pixels());
        let window = obs * ph * pw;
        let dense = Frame { c: o, rows: ph, columns: pw, top: 0, left: 0, step: 1, pixel: LANES };
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
        let sum = |which: usize, c: usize| -> f64 {
            sums.iter().skip(c / LANES).step_by(obs).map(|s| f64::from(s[which].0[c % LANES])).sum()
        };
        let total: Vec<f64> = (0..o).map(|c| sum(0, c)).collect();
        let product: Vec<f64> = (0..o).map(|c| sum(1, c) * self.inverse[c]).collect();

        let count = (sizes.n * pixels) as f64;
        let scale = |c: usize| self.gamma[c] * self.inverse[c];
        let scales = lanes(o, scale);
        let slope_lanes = lanes(o, |c| scale(c) * self.inverse[c] * product[c] / count);
        let offsets = lanes(o, |c| scale(c) * total[c] / count);
        let slopes: Vec<Slope> = (0..obs)
            .map(|b| Slope { mean: means[b], scale: scales[b], slope: slope_lanes[b], offset: offsets[b] })
            .collect();

        let (want_x, want_weight) = (inputs.x.track_op(), inputs.weight.track_op());
        // Framed where the input's gradient needs zeros around it.
        let layout = if want_x { GradLayout::framed(sizes) } else { GradLayout::dense(sizes) };
        let frame = sizes.output_frame();
        let mut dy = Buffer::new(sizes.n * layout.picture / LANES);
        let mut dx = vec![0f32; if want_x { inputs.x.elem_count() } else { 0 }];
        let (x_picture, plane) = (sizes.c * sizes.h * sizes.w, sizes.h * sizes.w);
        let spread = |first: usize, dy: &mut [Lane]| {
            for (i, dy) in dy.chunks_exact_mut(layout.picture / LANES).enumerate() {
                let picture = first + i;
                if want_x {
                    clear_frame(dy, sizes, &frame);
                }
                for (b, slope) in slopes.iter().enumerate() {
                    let at = picture * window + b * ph * pw;
                    Spread {
                        y: floats(&self.y[(picture * obs + b) * pixels..]),
                        rows: sizes.oh,
                        columns: sizes.ow,
                        slope,
                        grad: floats(&pooled_grad[at..]),
                        winners: &self.winners[at * LANES..],
                        output: &mut floats_mut(dy)[b * layout.block + layout.offset..],
                        output_row: layout.row,
                        output_pixel: layout.pixel,
                    }
                    .call();
                }
            }
        };
        let group = cv::group(sizes);
        if want_x {
            let turned = cv::backward_weights(&values::<f32>(&inputs.weight)?, sizes);
            dy.par_chunks_mut(group * layout.picture / LANES)
                .zip(dx.par_chunks_mut(group * x_picture))
                .enumerate()
                .for_each(|(i, (dy, dx))| {
                    spread(i * group, dy);
                    let pictures = dx.len() / x_picture;
                    let blocks = sizes.input_blocks() * plane;
                    let mut output = Buffer::new(pictures * blocks);
                    cv::input_gradient_packed(floats(dy), pictures, &turned, sizes, floats_mut(&mut output));
                    for (output, dx) in output.chunks_exact(blocks).zip(dx.chunks_exact_mut(x_picture)) {
                        Unpack { src: floats(output), c: sizes.c, plane, dst: dx }.call();
                    }
                });
        } else {
            dy.par_chunks_mut(group * layout.picture / LANES).enumerate().for_each(|(i, dy)| spread(i * group, dy));
        }
        let mut gradients = vec![want_x.then(|| tensor(dx, inputs.x.dims())).transpose()?];
        gradients.push(if want_weight {
            let x = values::<f32>(&inputs.x)?;
            let input = pack_all(&x, x_picture, sizes.n, sizes.h, sizes.w, &sizes.input_frame());
            let mut dw = vec![0f32; inputs.weight.elem_count()];
            cv::weight_gradient(&input, &dy, layout, sizes, &mut dw);
            Some(tensor(dw, inputs.weight.dims())?)
        } else {
            None
        });
        let vector = |f: &dyn Fn(usize) -> f64| tensor::<f32>((0..o).map(|c| f(c) as f32).collect(), &[o]);
        for (input, gradient) in [(&inputs.bias, vec![0.0; o]), (&inputs.gamma, product), (&inputs.beta, total)] {
            if let Some(input) = input {
                gradients.push(input.track_op().then(|| vector(&|c| gradient[c])).transpose()?);
            }
        }
        Ok(gradients)
    }
}

/// Zeros wherever no pixel of the gradient will be written.
fn clear_frame(dy: &mut [Lane], sizes: &Sizes, frame: &Frame) {
    if frame.step > 1 {
        dy.fill(Lane::ZERO);
        return;
    }
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
