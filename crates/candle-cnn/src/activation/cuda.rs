//! ReLU on a GPU.

use candle_core::{Result, Tensor};

use crate::autograd::graph::node_of;
use crate::cuda::{Gpu, address, launch};

pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (gpu, count) = (Gpu::of(&x)?, x.elem_count());
    if count == 0 {
        return Ok(x);
    }
    let y = gpu.empty::<f32>(count)?;
    gpu.run(launch::relu_forward(address::<f32>(&x)?, y.at(), count))?;
    let saved = x.clone();
    node_of("relu", &[&x], y.into_storage(), x.dims(), move |grad| {
        let dx = gpu.empty::<f32>(count)?;
        gpu.run(launch::relu_backward(address::<f32>(&saved)?, address::<f32>(grad)?, dx.at(), count))?;
        Ok(vec![Some(dx.into_tensor(saved.dims()))])
    })
}
