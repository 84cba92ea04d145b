//! Makes batches from a stored set of bytes, on a GPU.

use candle_core::{Result, Tensor};

use crate::cuda::{Gpu, address, launch};

/// Shapes and types have been checked, indices have not.
pub(crate) fn gather_images(pictures: &Tensor, places: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (pictures, places, table) = (pictures.contiguous()?, places.contiguous()?, table.contiguous()?);
    let ((n, c, h, w), batch, gpu) = (pictures.dims4()?, places.dim(0)?, Gpu::of(&pictures)?);
    let y = gpu.empty::<f32>(batch * c * h * w)?;
    let from = [address::<u8>(&pictures)?, address::<i64>(&places)?, address::<f32>(&table)?];
    gpu.run(launch::gather_images(from, y.at(), batch, [n, c, h, w]))?;
    Ok(y.into_tensor(&[batch, c, h, w]))
}
