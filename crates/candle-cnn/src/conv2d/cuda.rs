//! Convolution on a GPU, without groups: by cuDNN with the feature `cudnn`, otherwise (and if cuDNN has no
//! deterministic algorithm) by products of matrices with a column for each output pixel of the batch.

use candle_core::{Result, Tensor};

use super::geometry::Geometry;
use crate::autograd::graph::{Gradients, node_of};
use crate::cuda::launch::{self, Address, Columns};
use crate::cuda::{Gpu, Memory, address, address_or_null, channel_gradient};

#[cfg(feature = "cudnn")]
use super::cudnn;

/// Whether this code supports a convolution: one group, and sizes that cuBLAS and cuDNN can represent.
pub(crate) fn serves(g: &Geometry) -> bool {
    let fits = |sizes: &[usize]| {
        let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        product.is_some_and(|product| product <= i32::MAX as usize)
    };
    g.config.groups == 1 && fits(&[g.n, g.oh, g.ow]) && fits(&[g.c, g.kh, g.kw]) && fits(&[g.n, g.h, g.w])
}

fn columns(g: &Geometry) -> Columns {
    let Geometry { n, c, h, w, kh, kw, oh, ow, config, .. } = *g;
    let (input, kernel, output) = ((h, w), (kh, kw), (oh, ow));
    Columns { n, c, input, kernel, output, stride: config.stride, dilation: config.dilation, padding: config.padding }
}

/// `[N, O, OH · OW]`.
fn output(g: &Geometry) -> [usize; 3] {
    [g.n, g.o, g.oh * g.ow]
}

/// x `[N, C, H, W]` convolved with weight `[O, C, KH, KW]`, both contiguous.
pub(crate) fn convolve(gpu: &Gpu, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: &Geometry) -> Result<Memory> {
    let y = gpu.empty::<f32>(output(g).iter().product())?;
    #[cfg(feature = "cudnn")]
    if cudnn::forward(gpu, address::<f32>(x)?, address::<f32>(weight)?, y.at(), g)? {
        if let Some(bias) = bias {
            gpu.run(launch::add_bias(y.at(), address::<f32>(bias)?, output(g)))?;
        }
        return Ok(y);
    }
    let matrix = gpu.product(&matrix_of(weight, g)?, &spread_out(gpu, x, g)?)?;
    gpu.run(launch::from_matrix(matrix.at(), address_or_null(bias)?, y.at(), output(g)))?;
    Ok(y)
}

/// weight as `[O, C · KH · KW]`, outside of any graph.
fn matrix_of(weight: &Tensor, g: &Geometry) -> Result<Tensor> {
    weight.detach().reshape((g.o, columns(g).taps()))
}

/// The inputs of each output pixel, `[C · KH · KW, N · OH · OW]`.
fn spread_out(gpu: &Gpu, x: &Tensor, g: &Geometry) -> Result<Tensor> {
    let columns = columns(g);
    let matrix = gpu.empty::<f32>(columns.taps() * columns.width())?;
    gpu.run(columns.im2col(address::<f32>(x)?, matrix.at()))?;
    Ok(matrix.into_tensor(&[columns.taps(), columns.width()]))
}

/// What cuDNN has algorithms for of the gradients of x and weight.
#[cfg(feature = "cudnn")]
fn gradients_by_cudnn(
    gpu: &Gpu,
    x: &Tensor,
    weight: &Tensor,
    dy: Address,
    g: &Geometry,
    wanted: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    let [mut dx, mut dw] = [None, None];
    if wanted[0] {
        let memory = gpu.empty::<f32>(x.elem_count())?;
        if cudnn::input_gradient(gpu, address::<f32>(weight)?, dy, memory.at(), g)? {
            dx = Some(memory.into_tensor(x.dims()));
        }
    }
    if wanted[1] {
        let memory = gpu.empty::<f32>(weight.elem_count())?;
        if cudnn::weight_gradient(gpu, address::<f32>(x)?, dy, memory.at(), g)? {
            dw = Some(memory.into_tensor(weight.dims()));
        }
    }
    Ok([dx, dw])
}

/// The gradients of x and weight, each if needed, from the output's at `dy`.
pub(crate) fn gradients(
    gpu: &Gpu,
    x: &Tensor,
    weight: &Tensor,
    dy: Address,
    g: &Geometry,
    wanted: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    #[cfg(feature = "cudnn")]
    let [mut dx, mut dw] = gradients_by_cudnn(gpu, x, weight, dy, g, wanted)?;
    #[cfg(not(feature = "cudnn"))]
    let [mut dx, mut dw] = [None, None];
    let wanted = [wanted[0] && dx.is_none(), wanted[1] && dw.is_none()];
    if !wanted.contains(&true) {
        return Ok([dx, dw]);
    }
    let columns = columns(g);
    let matrix = gpu.empty::<f32>(output(g).iter().product())?;
    gpu.run(launch::to_matrix(dy, matrix.at(), output(g)))?;
    let matrix = matrix.into_tensor(&[g.o, columns.width()]);
    if wanted[1] {
        let memory = gpu.product(&matrix, &spread_out(gpu, x, g)?.t()?)?;
        dw = Some(memory.into_tensor(weight.dims()));
    }
    if wanted[0] {
        let spread = gpu.product(&matrix_of(weight, g)?.t()?, &matrix)?;
        let memory = gpu.empty::<f32>(x.elem_count())?;
        gpu.run(columns.col2im(spread.at(), memory.at()))?;
        dx = Some(memory.into_tensor(x.dims()));
    }
    Ok([dx, dw])
}

pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: Geometry) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let gpu = Gpu::of(&x)?;
    let y = convolve(&gpu, &x, &weight, bias.as_ref(), &g)?;
    let mut inputs = vec![&x, &weight];
    inputs.extend(&bias);
    let tracked: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (saved_x, saved_weight) = (x.clone(), weight.clone());
    node_of("conv2d", &inputs, y.into_storage(), &[g.n, g.o, g.oh, g.ow], move |grad| -> Result<Gradients> {
        let dy = address::<f32>(grad)?;
        let mut all: Gradients = gradients(&gpu, &saved_x, &saved_weight, dy, &g, [tracked[0], tracked[1]])?.into();
        if let Some(&tracked) = tracked.get(2) {
            all.push(tracked.then(|| channel_gradient(&gpu, dy, output(&g))).transpose()?);
        }
        Ok(all)
    })
}
