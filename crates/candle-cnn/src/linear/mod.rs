//! x · weightᵀ + bias.

use candle_core::{Result, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod layer;

use crate::autograd::graph::{Gradients, node};
use crate::check::{self, Backend};
use crate::element::{Element, tensor, values, vector};
use crate::simd::in_pool;

const NAME: &str = "linear";

/// x · weightᵀ + bias for `x` `[…, I]`, `weight` `[O, I]` and `bias` `[O]`; gives `[…, O]`. As
/// `torch.nn.functional.linear`; differentiable in all three.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[3f32, 4.], [5., 6.], [7., 8.]], &Device::Cpu)?;
/// let y = candle_cnn::ops::linear(&x, &weight, None)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[11., 17., 23.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If shapes, types or devices don't match.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [outputs, inputs] = match *weight.dims() {
        [outputs, inputs] if outputs * inputs > 0 => [outputs, inputs],
        _ => return Err(check::shape(NAME, "the weight", weight, "[O, I], each at least 1")),
    };
    if x.elem_count() == 0 || x.dims().last() != Some(&inputs) {
        return Err(check::shape(NAME, "the input", x, format!("[…, {inputs}] for a weight of {:?}", weight.dims())));
    }
    check::float(NAME, "the input", x)?;
    check::like(NAME, "the weight", weight, x)?;
    if let Some(bias) = bias {
        check::argument(NAME, "the bias", bias, &[outputs], x)?;
    }
    match check::backend(x) {
        Backend::CpuF32 => {
            let forward: Forward<f32> = |x, weight, bias, n, inputs| {
                let mut y = vec![0.0; n * weight.len() / inputs];
                cpu::forward(x, weight, bias, n, inputs, &mut y);
                y
            };
            let backward: Backward<f32> = |x, weight, dy, n, inputs, wanted| {
                in_pool(|| {
                    let [mut dx, mut dw] =
                        [(wanted[0], x.len()), (wanted[1], weight.len())].map(|(w, n)| w.then(|| vec![0.0; n]));
                    if let Some(dx) = &mut dx {
                        cpu::input_gradient(dy, weight, n, inputs, dx);
                    }
                    if let Some(dw) = &mut dw {
                        cpu::weight_gradient(dy, x, n, inputs, dw);
                    }
                    [dx, dw]
                })
            };
            on_cpu(x, weight, bias, forward, backward)
        }
        Backend::CpuF64 => on_cpu::<f64>(x, weight, bias, general_forward, general_backward),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::linear(x, weight, bias),
        Backend::Candle => check::by_candle("linear", x, || {
            let y = x.broadcast_matmul(&weight.t()?)?;
            bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
        }),
    }
}

/// y from x, weight, bias, the number of rows and the number of inputs.
type Forward<T> = fn(&[T], &[T], Option<&[T]>, usize, usize) -> Vec<T>;
/// Gradients of x and weight from x, weight, the output's gradient, the number of rows and the number of inputs; each
/// only where wanted.
type Backward<T> = fn(&[T], &[T], &[T], usize, usize, [bool; 2]) -> [Option<Vec<T>>; 2];

fn on_cpu<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    forward: Forward<T>,
    backward: Backward<T>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let (outputs, inputs) = weight.dims2()?;
    let n = x.elem_count() / inputs;
    let output = {
        let bias = bias.as_ref().map(values::<T>).transpose()?;
        forward(&values::<T>(&x)?, &values::<T>(&weight)?, bias.as_deref(), n, inputs)
    };
    let mut arguments = vec![&x, &weight];
    arguments.extend(&bias);
    let tracked: Vec<bool> = arguments.iter().map(|argument| argument.track_op()).collect();
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let (saved_x, saved_weight, dims) = (x.clone(), weight.clone(), x.dims().to_vec());
    let backward = move |grad: &Tensor| -> Result<Gradients> {
        let dy = values::<T>(grad)?;
        let wanted = [tracked[0], tracked[1]];
        let [dx, dw] = backward(&values::<T>(&saved_x)?, &values::<T>(&saved_weight)?, &dy, n, inputs, wanted);
        let mut gradients = vec![
            dx.map(|dx| tensor(dx, &dims)).transpose()?,
            dw.map(|dw| tensor(dw, saved_weight.dims())).transpose()?,
        ];
        if let Some(&tracked) = tracked.get(2) {
            let sums = || {
                let mut sums = vec![0f64; outputs];
                for row in dy.chunks_exact(outputs) {
                    sums.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy.to_f64());
                }
                vector::<T>(sums.into_iter())
            };
            gradients.push(tracked.then(sums).transpose()?);
        }
        Ok(gradients)
    };
    node(NAME, &arguments, output, &shape, backward)
}

/// Plain loops: what runs in `f64`.
fn general_forward<T: Element>(x: &[T], weight: &[T], bias: Option<&[T]>, n: usize, inputs: usize) -> Vec<T> {
    let outputs = weight.len() / inputs;
    let mut y = vec![T::zero(); n * outputs];
    for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
        for (o, (y, weight)) in y.iter_mut().zip(weight.chunks_exact(inputs)).enumerate() {
            let start = bias.map_or(T::zero(), |bias| bias[o]);
            *y = x.iter().zip(weight).fold(start, |sum, (&x, &weight)| sum + x * weight);
        }
    }
    y
}

fn general_backward<T: Element>(
    x: &[T],
    weight: &[T],
    dy: &[T],
    _: usize,
    inputs: usize,
    wanted: [bool; 2],
) -> [Option<Vec<T>>; 2] {
    let outputs = weight.len() / inputs;
    let [mut dx, mut dw] =
        [(wanted[0], x.len()), (wanted[1], weight.len())].map(|(w, n)| vec![T::zero(); if w { n } else { 0 }]);
    // Sums row by row: each row of x and dy meets each row of the weight.
    let add = |sum: &mut [T], values: &[T], factor: T| {
        sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value * factor)
    };
    for (n, dy) in dy.chunks_exact(outputs).enumerate() {
        for (o, &dy) in dy.iter().enumerate() {
            if wanted[0] {
                add(&mut dx[n * inputs..][..inputs], &weight[o * inputs..][..inputs], dy);
            }
            if wanted[1] {
                add(&mut dw[o * inputs..][..inputs], &x[n * inputs..][..inputs], dy);
            }
        }
    }
    [wanted[0].then_some(dx), wanted[1].then_some(dw)]
}
