//! Two-dimensional convolution (cross-correlation, as `torch.nn.functional.conv2d` defines it).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cudnn")]
mod cudnn;
pub(crate) mod geometry;
mod kernel;
pub(crate) mod layer;
pub(crate) mod pack;
mod reference;
mod winograd;

use crate::autograd::graph::{Gradients, node, set_note};
use crate::check::{self, Backend};
use crate::config::Conv2dConfig;
use crate::element::{Element, Fresh, tensor, values};
use crate::simd::in_pool;
use crate::sums::{sum, widened};
use geometry::{Geometry, NAME};

/// How a convolution's output was computed, its arguments contiguous.
#[derive(Clone)]
pub(crate) struct Conv2dNote {
    pub x: Tensor,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub geometry: Geometry,
}

/// Convolves `x` `[N, C, H, W]` with `weight` `[O, C / groups, KH, KW]` and adds `bias` `[O]`; gives `[N, O, OH, OW]`
/// with OH = (H + 2 · padding − dilation · (KH − 1) − 1) / stride + 1, rounded down. As
/// `torch.nn.functional.conv2d`; differentiable in `x`, `weight` and `bias`.
///
/// ```
/// use candle_cnn::ops::{Conv2dConfig, conv2d};
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::ones((1, 2, 4, 4), DType::F32, &Device::Cpu)?;
/// let weight = Tensor::ones((3, 2, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = conv2d(&x, &weight, None, Conv2dConfig { padding: 1, ..Default::default() })?;
/// assert_eq!(y.dims(), [1, 3, 4, 4]);
/// // In a corner four of nine taps meet the picture, in two channels.
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?[0], 8.);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, types or devices don't match, the kernel is larger than the padded image, or a setting is 0.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Tensor> {
    let geometry = Geometry::new(x, weight, bias, config)?;
    match check::backend(x) {
        Backend::CpuF32 => {
            let (x, weight) = (x.contiguous()?, weight.contiguous()?);
            let bias = bias.map(Tensor::contiguous).transpose()?;
            let y = on_cpu(&x, &weight, bias.as_ref(), geometry, blocked_forward, blocked_backward)?;
            set_note(&y, Conv2dNote { x, weight, bias, geometry });
            Ok(y)
        }
        Backend::CpuF64 => on_cpu::<f64>(x, weight, bias, geometry, reference::forward, reference::backward),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 if cuda::serves(&geometry) => cuda::conv2d(x, weight, bias, geometry),
        _ => check::by_candle("conv2d", x, || with_candle(x, weight, bias, geometry)),
    }
}

fn with_candle(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: Geometry) -> Result<Tensor> {
    let Conv2dConfig { padding, stride, dilation, groups } = g.config;
    let y = if stride == 1 {
        x.conv2d(weight, padding, stride, dilation, groups)?
    } else {
        // candle takes the rows that no window reaches for the number of columns, too: without any, its gradient is right.
        let reached = |outputs: usize, kernel: usize| (outputs - 1) * stride + dilation * (kernel - 1) + 1;
        let x = x.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
        let x = x.narrow(2, 0, reached(g.oh, g.kh))?.narrow(3, 0, reached(g.ow, g.kw))?;
        x.contiguous()?.conv2d(weight, 0, stride, dilation, groups)?
    };
    match bias {
        // Widened, since the bias's gradient is a sum over the batch.
        Some(bias) => widened(&y)?.broadcast_add(&widened(bias)?.reshape((1, g.o, 1, 1))?)?.to_dtype(y.dtype()),
        None => Ok(y),
    }
}

type Forward<T> = fn(&[T], &[T], Option<&[T]>, &Geometry) -> Vec<T>;
/// The gradients of x and weight, each if needed, from x, weight and the output's gradient.
type Backward<T> = fn(&[T], &[T], &[T], &Geometry, [bool; 2]) -> [Option<Vec<T>>; 2];

fn on_cpu<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    g: Geometry,
    forward: Forward<T>,
    backward: Backward<T>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let output = {
        let bias = bias.as_ref().map(values::<T>).transpose()?;
        forward(&values::<T>(&x)?, &values::<T>(&weight)?, bias.as_deref(), &g)
    };
    let mut inputs = vec![&x, &weight];
    inputs.extend(&bias);
    let tracked: Vec<bool> = inputs.iter().map(|input| input.track_op()).collect();
    let (saved_x, saved_weight) = (x.clone(), weight.clone());
    let backward = move |grad: &Tensor| -> Result<Gradients> {
        let (grad, x, weight) = (values::<T>(grad)?, values::<T>(&saved_x)?, values::<T>(&saved_weight)?);
        let [dx, dw] = backward(&x, &weight, &grad, &g, [tracked[0], tracked[1]]);
        let mut gradients = vec![
            dx.map(|dx| tensor(dx, &[g.n, g.c, g.h, g.w])).transpose()?,
            dw.map(|dw| tensor(dw, &[g.o, g.group_inputs(), g.kh, g.kw])).transpose()?,
        ];
        if let Some(&tracked) = tracked.get(2) {
            gradients.push(tracked.then(|| tensor(bias_gradient(&grad, &g), &[g.o])).transpose()?);
        }
        Ok(gradients)
    };
    node(NAME, &inputs, output, &[g.n, g.o, g.oh, g.ow], backward)
}

fn blocked_forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, g: &Geometry) -> Vec<f32> {
    let y = Fresh::new(g.n * g.o * g.pixels());
    in_pool(|| cpu::forward(x, weight, bias, g.config.groups, &g.sizes(), y))
}

fn blocked_backward(x: &[f32], weight: &[f32], grad: &[f32], g: &Geometry, wanted: [bool; 2]) -> [Option<Vec<f32>>; 2] {
    let (groups, sizes) = (g.config.groups, g.sizes());
    let (dx, mut dw) = (wanted[0].then(|| Fresh::new(x.len())), wanted[1].then(|| vec![0.0; weight.len()]));
    in_pool(|| {
        let dx = dx.map(|dx| cpu::input_gradient(weight, grad, groups, &sizes, dx));
        if let Some(dw) = &mut dw {
            cpu::weight_gradients(x, grad, groups, &sizes, dw);
        }
        [dx, dw]
    })
}

fn bias_gradient<T: Element>(grad: &[T], g: &Geometry) -> Vec<T> {
    let channel = |o| grad.chunks_exact(g.pixels()).skip(o).step_by(g.o).map(sum).sum::<f64>();
    (0..g.o).into_par_iter().map(|o| T::from_f64(channel(o))).collect()
}
