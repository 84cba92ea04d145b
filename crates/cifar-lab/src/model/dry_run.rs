//! A dry run: the network on one dummy image, right after it was built.
//!
//! Shape errors show here, in a second, and not in the middle of a training. What ran is recorded layer by layer; the
//! summary and the drawing of the network are made from that record, so they cannot disagree with the code.

use candle_cnn::trace::{self, LayerCall};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::ModuleT;

use crate::error::{Error, Result};

/// The record of one forward pass: over a dummy image ([`dry_run`]) or over given ones ([`forward_trace`]).
#[derive(Clone, Debug)]
pub struct DryRun {
    pub(crate) input: Tensor,
    pub(crate) output: Tensor,
    calls: Vec<LayerCall>,
}

/// Runs `network` in evaluation mode on a dummy image (all zeros) of shape `input` `[N, C, H, W]`.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::model::{Net, NetConfig, dry_run};
///
/// let net = Net::new(&NetConfig::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let run = dry_run(&net, [1, 3, 32, 32], &Device::Cpu)?;
/// assert_eq!(run.output_shape(), [1, 10]);
/// assert!(run.summary().to_string().contains("conv1"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::DryRun`], which names the last layer that ran, where a layer does not accept what the one before it gave.
pub fn dry_run(network: &impl ModuleT, input: [usize; 4], device: &Device) -> Result<DryRun> {
    forward_trace(network, &Tensor::zeros(input.to_vec(), DType::F32, device)?)
}

/// As [`dry_run`], on given images `[N, C, H, W]`: what each layer makes of them is in [`DryRun::calls`].
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::{dataset::Cifar10, model::{Net, NetConfig, forward_trace}};
///
/// let image = Cifar10::stand_in(0, 10, 10).train.tensor(3..4, &Device::Cpu)?;
/// let net = Net::new(&NetConfig::default(), Parameters::new(0).var_builder(&Device::Cpu))?;
/// let pass = forward_trace(&net, &image)?;
/// let conv1 = &pass.calls()[0];
/// assert_eq!((conv1.name.as_str(), conv1.output.dims()), ("conv1", [1, 32, 32, 32].as_slice()));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// As [`dry_run`].
pub fn forward_trace(network: &impl ModuleT, images: &Tensor) -> Result<DryRun> {
    // A variable, so that candle keeps what operations that report nothing do with it.
    let images = Var::from_tensor(&images.detach())?;
    let (output, calls) = trace::dissect(|| network.forward_t(&images, false));
    match output {
        Ok(output) => Ok(DryRun { input: images.as_tensor().clone(), output, calls }),
        Err(source) => Err(Error::DryRun {
            input: images.dims().to_vec(),
            after: match calls.last() {
                Some(call) => format!("{}, which gave {:?}", title(call), call.output.dims()),
                None => "nothing: no layer ran".to_string(),
            },
            source: Box::new(source.into()),
        }),
    }
}

/// `conv1`, or the kind of a layer that has no parameters.
pub(crate) fn title(call: &LayerCall) -> &str {
    if call.name.is_empty() { call.kind } else { &call.name }
}

impl DryRun {
    /// The layers' calls, in order.
    ///
    /// ```
    /// # use candle_core::Device;
    /// # let vb = candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu);
    /// # let net = cifar_lab::model::Net::new(&Default::default(), vb)?;
    /// let run = cifar_lab::model::dry_run(&net, [1, 3, 32, 32], &Device::Cpu)?;
    /// assert_eq!(run.calls()[0].name, "conv1");
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
    pub fn calls(&self) -> &[LayerCall] {
        &self.calls
    }

    /// The shape of what the network gave, `[N, classes]` for a classifier.
    ///
    /// ```
    /// # use candle_core::Device;
    /// # let vb = candle_cnn::parameters::Parameters::new(0).var_builder(&Device::Cpu);
    /// # let net = cifar_lab::model::Net::new(&Default::default(), vb)?;
    /// assert_eq!(cifar_lab::model::dry_run(&net, [7, 3, 32, 32], &Device::Cpu)?.output_shape(), [7, 10]);
    /// # Ok::<(), cifar_lab::error::Error>(())
    /// ```
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
    use candle_nn::func_t;

    #[test]
    fn a_wrong_shape_is_explained() -> Result<()> {
        let vb = Parameters::new(0).var_builder(&Device::Cpu);
        let (a, b) = (linear(12, 5, vb.pp("a"))?, linear(6, 5, vb.pp("b"))?);
        let network = func_t(move |x, train| {
            let x = relu(&a.forward_t(&x.flatten_from(1)?, train)?)?;
            b.forward_t(&x, train)
        });
        let message = dry_run(&network, [1, 3, 2, 2], &Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("after ReLU, which gave [1, 5]"), "{message}");
        Ok(())
    }
}
