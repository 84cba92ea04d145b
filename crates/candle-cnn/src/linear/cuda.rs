//! Linear layers on a GPU, with cuBLAS.

use candle_core::{Result, Tensor};

use crate::autograd::graph::{Gradients, node_of};
use crate::cuda::{Gpu, address, channel_gradient, launch};

pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let (outputs, inputs) = weight.dims2()?;
    let (gpu, rows) = (Gpu::of(&x)?, x.elem_count() / inputs);
    // Detached, so that candle records nothing.
    let (matrix, factor) = (x.detach().reshape((rows, inputs))?, weight.detach());
    let y = gpu.product(&matrix, &factor.t()?)?;
    if let Some(bias) = &bias {
        gpu.run(launch::add_bias(y.at(), address::<f32>(bias)?, [rows, outputs, 1]))?;
    }
    let mut arguments = vec![&x, &weight];
    arguments.extend(&bias);
    let tracked: Vec<bool> = arguments.iter().map(|argument| argument.track_op()).collect();
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let dims = x.dims().to_vec();
    node_of("linear", &arguments, y.into_storage(), &shape, move |grad| -> Result<Gradients> {
        let dy = grad.detach().reshape((rows, outputs))?;
        let mut gradients = vec![None, None];
        if tracked[0] {
            gradients[0] = Some(gpu.product(&dy, &factor)?.into_tensor(&dims));
        }
        if tracked[1] {
            gradients[1] = Some(gpu.product(&dy.t()?, &matrix)?.into_tensor(&[outputs, inputs]));
        }
        if let Some(&tracked) = tracked.get(2) {
            gradients
                .push(tracked.then(|| channel_gradient(&gpu, address::<f32>(&dy)?, [rows, outputs, 1])).transpose()?);
        }
        Ok(gradients)
    })
}
