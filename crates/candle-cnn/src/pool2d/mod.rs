//! Pooling: the maximum or the mean of each window.

use candle_core::{DType, Result, Tensor, ToUsize2};
use rayon::prelude::*;

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod layer;
mod windows;

use crate::activation::ReluNote;
use crate::autograd::graph::{node, note};
use crate::chain;
use crate::check::{self, Backend};
use crate::element::{Element, filled, tensor, values};
use crate::simd::Whole;
use crate::sums::widened;
use crate::trace::{self, Operation};
use cpu::Maxima;
use windows::Windows;

/// The maximum of each window of `kernel` pixels, `stride` apart, without padding: `[N, C, H, W]` gives `[N, C, OH,
/// OW]`, OH = (H − KH) / stride + 1, rounded down. `kernel` and `stride` are a number or a pair (height, width).
///
/// As `torch.nn.functional.max_pool2d`: the whole gradient goes to the first maximum of a window in row-major order,
/// and NaN counts as the largest value (the last one if there are several). candle's own `max_pool2d` returns a quarter
/// of the gradient for a 2×2 window.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// let x = Tensor::new(&[[1f32, 3.], [3., 2.]], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
/// let x = Var::from_tensor(&x)?;
/// let y = candle_cnn::ops::max_pool2d(&x, 2, 2)?;
/// let gradients = y.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().flatten_all()?.to_vec1::<f32>()?, [0., 1., 0., 0.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is not `[N, C, H, W]` or is smaller than a window, or a setting is 0.
pub fn max_pool2d(x: &Tensor, kernel: impl ToUsize2, stride: impl ToUsize2) -> Result<Tensor> {
    max(x, kernel.to_usize2(), stride.to_usize2())
}

/// Not generic: each cell of a notebook would compile it again, and the whole of `trace::report`.
fn max(x: &Tensor, kernel: (usize, usize), stride: (usize, usize)) -> Result<Tensor> {
    let windows = Windows::new("max_pool2d", x, kernel, stride)?;
    let y = max_of(x, windows)?;
    trace::report(y, |y| windows.layer_call("MaxPool2d", Operation::MaxPool2d { kernel, stride }, x, y))
}

fn max_of(x: &Tensor, windows: Windows) -> Result<Tensor> {
    match check::backend(x) {
        Backend::CpuF32 if cpu::serves(&windows) => max_in_vectors(x, windows),
        Backend::CpuF32 => max_on_cpu::<f32>(x, windows),
        Backend::CpuF64 => max_on_cpu::<f64>(x, windows),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::max(x, windows),
        // Every value is one of f32 too, so the maximum is the same; candle's argmax passes over a NaN.
        Backend::Candle if matches!(x.dtype(), DType::F16 | DType::BF16) => {
            max_of(&x.to_dtype(DType::F32)?, windows)?.to_dtype(x.dtype())
        }
        Backend::Candle => {
            let gathered = windows.gather(x)?;
            let first = gathered.detach().argmax_keepdim(4)?;
            gathered.contiguous()?.gather(&first, 4)?.squeeze(4)
        }
    }
}

fn max_on_cpu<T: Element>(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (plane, pixels) = (windows.plane(), windows.pixels());
    let count = windows.dims[0] * windows.dims[1] * pixels;
    let mut y = vec![T::zero(); count];
    // The position of each window's maximum in its plane, for the backward pass.
    let mut winners = vec![0u32; if x.track_op() { count } else { 0 }];
    {
        let input = values::<T>(&x)?;
        let input: &[T] = &input;
        if winners.is_empty() {
            y.par_chunks_mut(pixels).zip(input.par_chunks(plane)).for_each(|(y, x)| {
                for (pixel, y) in y.iter_mut().enumerate() {
                    *y = maximum(x, windows.places(pixel)).0;
                }
            });
        } else {
            let planes = y.par_chunks_mut(pixels).zip(winners.par_chunks_mut(pixels)).zip(input.par_chunks(plane));
            planes.for_each(|((y, winners), x)| {
                for (pixel, (y, winner)) in y.iter_mut().zip(winners).enumerate() {
                    let (value, place) = maximum(x, windows.places(pixel));
                    *y = value;
                    *winner = place as u32;
                }
            });
        }
    }
    node("max_pool2d", &[&x], y, &windows.shape(), move |grad| {
        let grad = values::<T>(grad)?;
        let dy: &[T] = &grad;
        let mut dx = vec![T::zero(); windows.dims.iter().product()];
        let planes = dx.par_chunks_mut(plane).zip(dy.par_chunks(pixels)).zip(winners.par_chunks(pixels));
        planes.for_each(|((dx, dy), winners)| {
            for (&dy, &winner) in dy.iter().zip(winners) {
                dx[winner as usize] += dy;
            }
        });
        Ok(vec![Some(tensor(dx, &windows.dims)?)])
    })
}

/// Behind convolution, batch norm and ReLU a pool of 2×2 windows side by side is the chain's one node: see [`chain`].
fn max_in_vectors(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (plane, pixels) = (windows.plane(), windows.pixels());
    let count = windows.dims[0] * windows.dims[1] * pixels;
    let chain = note(&x).filter(|_| (windows.kernel, windows.stride) == ((2, 2), (2, 2)));
    let chain = chain.map(|ReluNote(batch_norm)| batch_norm).filter(|note| chain::serves(&note.conv.geometry));
    let mut winners = vec![0u8; if x.track_op() && chain.is_none() { count } else { 0 }];
    let y = {
        let input = values::<f32>(&x)?;
        let (input, windows): (&[f32], _) = (&input, &windows);
        if winners.is_empty() {
            filled(count, pixels, |i, y| Maxima { x: &input[i * plane..], windows, y, winners: None }.call())
        } else {
            let mut y = vec![0f32; count];
            let planes = y.par_chunks_mut(pixels).zip(winners.par_chunks_mut(pixels)).zip(input.par_chunks(plane));
            planes.for_each(|((y, winners), x)| Maxima { x, windows, y, winners: Some(winners) }.call());
            y
        }
    };
    if let Some(note) = chain {
        return chain::node_of_chain(note, y);
    }
    node("max_pool2d", &[&x], y, &windows.shape(), move |grad| {
        let grad = values::<f32>(grad)?;
        let dy: &[f32] = &grad;
        // The first window's pixels: from its own corner each window's lie as far.
        let offsets: Vec<usize> = windows.places(0).collect();
        let dx = filled(windows.dims.iter().product(), plane, |i, dx: &mut [f32]| {
            let own = i * pixels..(i + 1) * pixels;
            let rows = dy[own.clone()].chunks_exact(windows.ow).zip(winners[own].chunks_exact(windows.ow));
            for (row, (dy, winners)) in rows.enumerate() {
                let mut corner = row * windows.stride.0 * windows.dims[3];
                for (&dy, &winner) in dy.iter().zip(winners) {
                    dx[corner + offsets[usize::from(winner)]] += dy;
                    corner += windows.stride.1;
                }
            }
        });
        Ok(vec![Some(tensor(dx, &windows.dims)?)])
    })
}

/// PyTorch's rule: a value wins if it is greater than the best so far, or NaN.
fn maximum<T: Element>(x: &[T], places: impl Iterator<Item = usize>) -> (T, usize) {
    let mut best: Option<(T, usize)> = None;
    for place in places {
        let value = x[place];
        if best.is_none_or(|(best, _)| value > best || value.is_nan()) {
            best = Some((value, place));
        }
    }
    best.unwrap_or((T::NEG_INFINITY, 0))
}

/// The mean of each window of `kernel` pixels, `stride` apart, without padding: `[N, C, H, W]` gives `[N, C, OH, OW]`,
/// as `torch.nn.functional.avg_pool2d`. `kernel` and `stride` are a number or a pair (height, width).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 3.], [3., 1.]], &Device::Cpu)?.reshape((1, 1, 2, 2))?;
/// let y = candle_cnn::ops::avg_pool2d(&x, 2, 2)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is not `[N, C, H, W]` or is smaller than a window, or a setting is 0.
pub fn avg_pool2d(x: &Tensor, kernel: impl ToUsize2, stride: impl ToUsize2) -> Result<Tensor> {
    avg(x, kernel.to_usize2(), stride.to_usize2())
}

/// Not generic, as [`max`].
fn avg(x: &Tensor, kernel: (usize, usize), stride: (usize, usize)) -> Result<Tensor> {
    let windows = Windows::new("avg_pool2d", x, kernel, stride)?;
    check::float("avg_pool2d", "the input", x)?;
    let y = match check::backend(x) {
        Backend::CpuF32 => avg_on_cpu::<f32>(x, windows)?,
        Backend::CpuF64 => avg_on_cpu::<f64>(x, windows)?,
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::avg(x, windows)?,
        Backend::Candle => windows.gather(&widened(x)?)?.mean(4)?.to_dtype(x.dtype())?,
    };
    trace::report(y, |y| windows.layer_call("AvgPool2d", Operation::AvgPool2d { kernel, stride }, x, y))
}

fn avg_on_cpu<T: Element>(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (plane, pixels) = (windows.plane(), windows.pixels());
    let share = T::from_f64(1.0 / (windows.kernel.0 * windows.kernel.1) as f64);
    let mut y = vec![T::zero(); windows.dims[0] * windows.dims[1] * pixels];
    {
        let input = values::<T>(&x)?;
        let input: &[T] = &input;
        y.par_chunks_mut(pixels).zip(input.par_chunks(plane)).for_each(|(y, x)| {
            for (pixel, y) in y.iter_mut().enumerate() {
                *y = windows.places(pixel).fold(T::zero(), |sum, place| sum + x[place]) * share;
            }
        });
    }
    node("avg_pool2d", &[&x], y, &windows.shape(), move |grad| {
        let grad = values::<T>(grad)?;
        let dy: &[T] = &grad;
        let mut dx = vec![T::zero(); windows.dims.iter().product()];
        dx.par_chunks_mut(plane).zip(dy.par_chunks(pixels)).for_each(|(dx, dy)| {
            for (pixel, &dy) in dy.iter().enumerate() {
                windows.places(pixel).for_each(|place| dx[place] += dy * share);
            }
        });
        Ok(vec![Some(tensor(dx, &windows.dims)?)])
    })
}
