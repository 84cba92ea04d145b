//! Flattening.

use candle_core::{Result, Tensor};
use candle_nn::Module;

use crate::block::lineage::{self, Lineage};
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
/// Where `x` has no dimension at all.
pub fn flatten(x: &Tensor) -> Result<Tensor> {
    let y = match x.rank() {
        0 => return Err(check::shape("flatten", "the input", x, "[N, …]")),
        1 => x.unsqueeze(1)?,
        _ => x.flatten_from(1)?,
    };
    lineage::note(&y, Lineage::Flat(x.clone()));
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

/// [`ops::flatten`](crate::ops::flatten) as a layer.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// let x = Tensor::zeros((2, 3, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(candle_cnn::layers::Flatten.forward(&x)?.dims(), [2, 12]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        flatten(x)
    }
}
