//! ReLU, GELU and scaling on a GPU.

use candle_core::{Result, Tensor};

use crate::autograd::graph::node_of;
use crate::config::Gelu;
use crate::cuda::launch::{self, Address, Launch};
use crate::cuda::{Gpu, address};

pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    each("relu", x, launch::relu_forward, launch::relu_backward)
}

pub(crate) fn gelu(x: &Tensor, form: Gelu) -> Result<Tensor> {
    let by_tanh = form == Gelu::Tanh;
    let forward = move |x, y, count| launch::gelu_forward(x, y, count, by_tanh);
    each("gelu", x, forward, move |x, dy, dx, count| launch::gelu_backward(x, dy, dx, count, by_tanh))
}

pub(crate) fn scale(x: &Tensor, factor: f32) -> Result<Tensor> {
    let forward = move |x, y, count| launch::scale(x, y, count, factor);
    each("scale", x, forward, move |_, dy, dx, count| launch::scale(dy, dx, count, factor))
}

/// An operation on each value: `forward` launches y from x, `backward` dx from x and dy, for so many values.
fn each(
    name: &'static str,
    x: &Tensor,
    forward: impl Fn(Address, Address, usize) -> Launch,
    backward: impl Fn(Address, Address, Address, usize) -> Launch + Send + Sync + 'static,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (gpu, count) = (Gpu::of(&x)?, x.elem_count());
    if count == 0 {
        return Ok(x);
    }
    let y = gpu.empty::<f32>(count)?;
    gpu.run(forward(address::<f32>(&x)?, y.at(), count))?;
    let saved = x.clone();
    node_of(name, &[&x], y.into_storage(), x.dims(), move |grad| {
        let dx = gpu.empty::<f32>(count)?;
        gpu.run(backward(address::<f32>(&saved)?, address::<f32>(grad)?, dx.at(), count))?;
        Ok(vec![Some(dx.into_tensor(saved.dims()))])
    })
}
