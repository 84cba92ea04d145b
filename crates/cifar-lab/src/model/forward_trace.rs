//! A forward pass recorded layer by layer.
//!
//! Shape errors appear here, right after a network is built, rather than in the middle of a training. The summary and the
//! drawing of a network are made from this record, so they can't disagree with the code.

use candle_cnn::trace::{self, LayerCall};
use candle_core::{Tensor, Var};
use candle_nn::ModuleT;

use crate::device::between_steps;
use crate::error::{Error, Result};

/// The record of one forward pass; [`forward_trace`] makes it. As a cell's last line it shows its summary.
#[derive(Clone, Debug)]
pub struct ForwardTrace {
    pub(crate) input: Tensor,
    pub(crate) output: Tensor,
    calls: Vec<LayerCall>,
}

/// Runs `network` in evaluation mode on `images` `[N, C, H, W]` and records each layer's output.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let net = Net::new(&NetConfig::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let trace = forward_trace(&net, &Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?)?;
/// let conv1 = &trace.calls()[0];
/// assert_eq!((conv1.name.as_str(), conv1.output.dims()), ("conv1", [1, 32, 32, 32].as_slice()));
/// assert_eq!(trace.output_shape(), [1, 10]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::ForwardTrace`], which names the last layer that ran, if a layer doesn't accept the previous one's output.
pub fn forward_trace(network: &impl ModuleT, images: &Tensor) -> Result<ForwardTrace> {
    trace_any(network, images)
}

/// Not generic: a cell would compile it for its network.
fn trace_any(network: &dyn ModuleT, images: &Tensor) -> Result<ForwardTrace> {
    // A variable, so that candle's graph also keeps operations that report nothing.
    let images = Var::from_tensor(&images.detach())?;
    let (output, calls) = between_steps(images.device(), || trace::dissect(|| network.forward_t(&images, false)));
    match output {
        Ok(output) => Ok(ForwardTrace { input: images.as_tensor().clone(), output, calls }),
        Err(source) => Err(Error::ForwardTrace {
            input: images.dims().to_vec(),
            after: match calls.last() {
                Some(call) => format!("{}, which gave {:?}", title(call), call.output.dims()),
                None => "nothing: no layer ran".to_string(),
            },
            source: Box::new(source.into()),
        }),
    }
}

/// A layer's name, such as `conv1`, or its kind if it has no parameters.
pub(crate) fn title(call: &LayerCall) -> &str {
    if call.name.is_empty() { call.kind } else { &call.name }
}

impl ForwardTrace {
    /// The layers' calls, in order.
    pub fn calls(&self) -> &[LayerCall] {
        &self.calls
    }

    /// The shape of the network's output, `[N, classes]` for a classifier.
    pub fn output_shape(&self) -> &[usize] {
        self.output.dims()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_cnn::layers::linear;
    use candle_cnn::ops::relu;
    use candle_cnn::parameters::Parameters;
    use candle_core::{DType, Device};
    use candle_nn::func_t;

    #[test]
    fn a_wrong_shape_is_explained() -> Result<()> {
        let vb = Parameters::new(0).var_builder(&Device::Cpu);
        let (a, b) = (linear(12, 5, vb.pp("a"))?, linear(6, 5, vb.pp("b"))?);
        let network = func_t(move |x, train| {
            let x = relu(&a.forward_t(&x.flatten_from(1)?, train)?)?;
            b.forward_t(&x, train)
        });
        let images = Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu)?;
        let message = forward_trace(&network, &images).unwrap_err().to_string();
        assert!(message.contains("after ReLU, which gave [1, 5]"), "{message}");
        Ok(())
    }
}
