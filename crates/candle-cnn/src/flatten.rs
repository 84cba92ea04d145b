//! Flattening.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::{Layout, Result, Storage, Tensor};
use candle_nn::Module;

use crate::autograd::graph::node_of;
use crate::check;
use crate::trace::{self, LayerCall, Operation};

/// `[N, …]` as `[N, D]` with D the product of the other dimensions, as `torch.flatten(x, 1)`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let x = Tensor::zeros((2, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(candle_cnn::ops::flatten(&x)?.dims(), [2, 48]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is a scalar.
pub fn flatten(x: &Tensor) -> Result<Tensor> {
    let y = match x.rank() {
        0 => return Err(check::shape("flatten", "the input", x, "[N, …]")),
        1 => x.unsqueeze(1)?,
        _ => x.flatten_from(1)?,
    };
    // candle calls nodes of others on a CPU and on NVIDIA GPUs alone.
    let y = if x.track_op() && !x.device().is_metal() { own_node(x, &y)? } else { y };
    trace::report(y, |y| LayerCall::of("Flatten", String::new(), Operation::Flatten, x, y))
}

/// `flat`, the same values as `x`, as a node of this crate's, which [`backward`](crate::backward) goes through: a copy,
/// since a node of candle's must own its values.
fn own_node(x: &Tensor, flat: &Tensor) -> Result<Tensor> {
    let values = {
        let (storage, layout) = flat.storage_and_layout();
        match &*storage {
            Storage::Cpu(values) => Storage::Cpu(copied(values, layout)?),
            Storage::Cuda(values) => Storage::Cuda(copied(values, layout)?),
            Storage::Metal(values) => Storage::Metal(copied(values, layout)?),
        }
    };
    let shape = x.shape().clone();
    node_of("flatten", &[x], values, flat.dims(), move |grad| Ok(vec![Some(grad.detach().reshape(&shape)?)]))
}

/// The values that `layout` covers, in storage of their own.
fn copied<S: BackendStorage<Device: BackendDevice<Storage = S>>>(values: &S, layout: &Layout) -> Result<S> {
    // SAFETY: `copy_strided_src` writes every value of `layout`'s shape.
    let mut own = unsafe { values.device().alloc_uninit(layout.shape(), values.dtype())? };
    values.copy_strided_src(&mut own, 0, layout)?;
    Ok(own)
}

/// [`ops::flatten`](crate::ops::flatten) as a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        flatten(x)
    }
}
