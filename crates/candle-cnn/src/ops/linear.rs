//! The fully connected layer's function.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::check::{self, Backend};
use super::matmul::{Matrix, matmul};
use crate::element::{Element, tensor, values};
use crate::graph::{Gradients, node};

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
/// Where shapes, types or devices do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let [outputs, inputs] = match *weight.dims() {
        [outputs, inputs] if outputs * inputs > 0 => [outputs, inputs],
        _ => return Err(check::shape(NAME, "the weight", weight, "[O, I], each at least 1")),
    };
    if x.elem_count() == 0 || x.dims().last() != Some(&inputs) {
        return Err(check::shape(NAME, "the input", x, format!("[…, {inputs}] for a weight of {:?}", weight.dims())));
    }
    check::like(NAME, "the weight", weight, x)?;
    if let Some(bias) = bias {
        check::argument(NAME, "the bias", bias, &[outputs], x)?;
    }
    match check::backend(x) {
        Backend::CpuF32 => on_cpu::<f32>(x, weight, bias),
        Backend::CpuF64 => on_cpu::<f64>(x, weight, bias),
        Backend::Candle => {
            let y = x.broadcast_matmul(&weight.t()?)?;
            bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
        }
    }
}

/// Columns or rows of a product that one thread computes at a time: fixed, so that each sum runs in one order, and
/// wide enough for the product's own blocking.
const BLOCK: usize = 64;

fn on_cpu<T: Element>(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let (outputs, inputs) = weight.dims2()?;
    let n = x.elem_count() / inputs;
    let output = {
        let bias = bias.as_ref().map(values::<T>).transpose()?;
        let (x, weight) = (values::<T>(&x)?, values::<T>(&weight)?);
        let mut y = vec![T::zero(); n * outputs];
        if let Some(bias) = &bias {
            y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(bias));
        }
        columns(&x, inputs, &weight, true, &mut y, outputs, bias.is_some());
        y
    };
    let mut arguments = vec![&x, &weight];
    arguments.extend(&bias);
    let tracked: Vec<bool> = arguments.iter().map(|argument| argument.track_op()).collect();
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let backward = {
        let (x, weight) = (x.clone(), weight.clone());
        move |grad: &Tensor| -> Result<Gradients> {
            let grad = values::<T>(grad)?;
            let dy: &[T] = &grad;
            let mut gradients = vec![None; tracked.len()];
            if tracked[0] {
                let mut dx = vec![T::zero(); n * inputs];
                columns(dy, outputs, &values::<T>(&weight)?, false, &mut dx, inputs, false);
                gradients[0] = Some(tensor(dx, x.dims())?);
            }
            if tracked[1] {
                let x_values = values::<T>(&x)?;
                let x = Matrix::new(&x_values, n, inputs, inputs);
                let mut dw = vec![T::zero(); outputs * inputs];
                dw.par_chunks_mut(BLOCK * inputs).enumerate().for_each(|(i, dw)| {
                    let dy = Matrix::new(&dy[i * BLOCK..], n, dw.len() / inputs, outputs);
                    matmul(dy.transposed(), x, dw, inputs, false);
                });
                gradients[1] = Some(tensor(dw, weight.dims())?);
            }
            if tracked.get(2) == Some(&true) {
                let mut sums = vec![0f64; outputs];
                for row in dy.chunks_exact(outputs) {
                    sums.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy.to_f64());
                }
                gradients[2] = Some(tensor::<T>(sums.into_iter().map(T::from_f64).collect(), &[outputs])?);
            }
            Ok(gradients)
        }
    };
    node(NAME, &arguments, output, &shape, backward)
}

/// c (+)= a · w (or a · wᵀ), `width` columns, block of columns by block of columns in parallel. `a` has rows of
/// `depth`.
fn columns<T: Element>(a: &[T], depth: usize, w: &[T], transposed: bool, c: &mut [T], width: usize, accumulate: bool) {
    let n = a.len() / depth;
    let a = Matrix::new(a, n, depth, depth);
    let blocks: Vec<Vec<T>> = (0..width.div_ceil(BLOCK))
        .into_par_iter()
        .map(|i| {
            let (start, block) = (i * BLOCK, BLOCK.min(width - i * BLOCK));
            let w = if transposed {
                Matrix::new(&w[start * depth..], block, depth, depth).transposed()
            } else {
                Matrix::new(&w[start..], depth, block, width)
            };
            let mut product = vec![T::zero(); n * block];
            matmul(a, w, &mut product, block, false);
            product
        })
        .collect();
    for (i, product) in blocks.iter().enumerate() {
        let (start, block) = (i * BLOCK, BLOCK.min(width - i * BLOCK));
        for (c, product) in c.chunks_exact_mut(width).zip(product.chunks_exact(block)) {
            for (c, &product) in c[start..start + block].iter_mut().zip(product) {
                *c = if accumulate { *c + product } else { product };
            }
        }
    }
}
