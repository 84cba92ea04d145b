//! Pooling on a GPU.

use candle_core::{Result, Tensor};

use super::windows::Windows;
use crate::autograd::graph::node_of;
use crate::cuda::launch::Pooling;
use crate::cuda::{Gpu, address};

fn pooling(windows: &Windows) -> Pooling {
    let [n, c, h, w] = windows.dims;
    let Windows { kernel, stride, oh, ow, .. } = *windows;
    Pooling { planes: n * c, input: (h, w), kernel, stride, output: (oh, ow) }
}

pub(crate) fn max(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (gpu, pooling) = (Gpu::of(&x)?, pooling(&windows));
    let count = windows.shape().iter().product();
    let y = gpu.empty::<f32>(count)?;
    let winners = if x.track_op() { Some(gpu.empty::<i32>(count)?) } else { None };
    let places = winners.as_ref().map_or(0, |winners| winners.at());
    gpu.run(pooling.max_forward(address::<f32>(&x)?, y.at(), places))?;
    node_of("max_pool2d", &[&x], y.into_storage(), &windows.shape(), move |grad| {
        let Some(winners) = &winners else { return Ok(vec![None]) };
        let dx = gpu.empty::<f32>(windows.dims.iter().product())?;
        gpu.run(pooling.max_backward(address::<f32>(grad)?, winners.at(), dx.at()))?;
        Ok(vec![Some(dx.into_tensor(&windows.dims))])
    })
}

pub(crate) fn avg(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (gpu, pooling) = (Gpu::of(&x)?, pooling(&windows));
    let y = gpu.empty::<f32>(windows.shape().iter().product())?;
    gpu.run(pooling.avg_forward(address::<f32>(&x)?, y.at()))?;
    node_of("avg_pool2d", &[&x], y.into_storage(), &windows.shape(), move |grad| {
        let dx = gpu.empty::<f32>(windows.dims.iter().product())?;
        gpu.run(pooling.avg_backward(address::<f32>(grad)?, dx.at()))?;
        Ok(vec![Some(dx.into_tensor(&windows.dims))])
    })
}
