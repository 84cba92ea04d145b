//! x · weightᵀ + bias.

use candle_core::{Result, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod layer;

use crate::autograd::graph::{Gradients, node};
use crate::check::{self, Backend};
use crate::element::{tensor, values, vector};
use crate::simd::in_pool;
use crate::sums::widened;

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
        return Err(check::shape(
            NAME,
            "the input",
            x,
            format!("[…, {inputs}], each at least 1, for a weight of {:?}", weight.dims()),
        ));
    }
    check::float(NAME, "the input", x)?;
    check::like(NAME, "the weight", weight, x)?;
    if let Some(bias) = bias {
        check::argument(NAME, "the bias", bias, &[outputs], x)?;
    }
    match check::backend(x) {
        Backend::CpuF32 => on_cpu(x, weight, bias),
        #[cfg(feature = "cuda")]
        Backend::CudaF32 => cuda::linear(x, weight, bias),
        Backend::CpuF64 | Backend::Candle => check::by_candle("linear", x, || {
            let y = x.reshape(((), inputs))?.matmul(&weight.t()?)?;
            let y = match bias {
                // Widened, since the bias's gradient is a sum over the batch.
                Some(bias) => widened(&y)?.broadcast_add(&widened(bias)?)?.to_dtype(y.dtype())?,
                None => y,
            };
            y.reshape([&x.dims()[..x.rank() - 1], &[outputs]].concat())
        }),
    }
}

fn on_cpu(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let (outputs, inputs) = weight.dims2()?;
    let n = x.elem_count() / inputs;
    let output = {
        let bias = bias.as_ref().map(values::<f32>).transpose()?;
        let mut y = vec![0.0; n * outputs];
        cpu::forward(&values::<f32>(&x)?, &values::<f32>(&weight)?, bias.as_deref(), n, inputs, &mut y);
        y
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
        let dy = values::<f32>(grad)?;
        let (x, weight) = (values::<f32>(&saved_x)?, values::<f32>(&saved_weight)?);
        let [dx, dw] = in_pool(|| {
            let [mut dx, mut dw] =
                [(tracked[0], x.len()), (tracked[1], weight.len())].map(|(wanted, n)| wanted.then(|| vec![0.0; n]));
            if let Some(dx) = &mut dx {
                cpu::input_gradient(&dy, &weight, n, inputs, dx);
            }
            if let Some(dw) = &mut dw {
                cpu::weight_gradient(&dy, &x, n, inputs, dw);
            }
            [dx, dw]
        });
        let mut gradients = vec![
            dx.map(|dx| tensor(dx, &dims)).transpose()?,
            dw.map(|dw| tensor(dw, saved_weight.dims())).transpose()?,
        ];
        if let Some(&tracked) = tracked.get(2) {
            let sums = || {
                let mut sums = vec![0f64; outputs];
                for row in dy.chunks_exact(outputs) {
                    sums.iter_mut().zip(row).for_each(|(sum, dy)| *sum += f64::from(*dy));
                }
                vector::<f32>(sums.into_iter())
            };
            gradients.push(tracked.then(sums).transpose()?);
        }
        Ok(gradients)
    };
    node(NAME, &arguments, output, &shape, backward)
}
