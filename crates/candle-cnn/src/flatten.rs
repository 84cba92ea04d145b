//! Flattening.

use candle_core::backend::BackendStorage;
use candle_core::{Result, Storage, Tensor};
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
    let y = if x.track_op() { own_node(x, &y)? } else { y };
    trace::report(y, |y| LayerCall {
        name: String::new(),
        kind: "Flatten",
        settings: String::new(),
        operation: Operation::Flatten,
        inputs: vec![x.clone()],
        output: y.clone(),
        parameters: 0,
        multiply_adds: 0,
    })
}

/// `flat`, the same values as `x`, as a node of this crate's, which [`backward`](crate::backward) goes through: a copy,
/// since a node of candle's must own its values.
fn own_node(x: &Tensor, flat: &Tensor) -> Result<Tensor> {
    let flat = flat.detach().force_contiguous()?;
    let (storage, layout) = flat.storage_and_layout();
    let values = match &*storage {
        Storage::Cpu(values) => Storage::Cpu(values.clone()),
        Storage::Cuda(values) => Storage::Cuda(values.try_clone(layout)?),
        Storage::Metal(values) => Storage::Metal(values.try_clone(layout)?),
    };
    let shape = x.shape().clone();
    node_of("flatten", &[x], values, flat.dims(), move |grad| Ok(vec![Some(grad.detach().reshape(&shape)?)]))
}

/// [`ops::flatten`](crate::ops::flatten) as a layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        flatten(x)
    }
}
