//! Groups of parameters that share settings.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use std::collections::HashMap;

use crate::autograd::identity;
use crate::check;
use crate::error::Error;

/// Parameters that share settings.
///
/// ```
/// use candle_cnn::optim::{ParameterGroup, SGD, SgdConfig};
/// use candle_core::{Device, Var};
/// use candle_nn::Optimizer;
///
/// let (weight, bias) = (Var::new(&[1f32], &Device::Cpu)?, Var::new(&[1f32], &Device::Cpu)?);
/// let decayed = SgdConfig { learning_rate: 0.1, weight_decay: 1e-3, ..Default::default() };
/// let plain = SgdConfig { learning_rate: 0.2, ..Default::default() };
/// let mut sgd = SGD::with_groups(vec![
///     ParameterGroup { vars: vec![weight], config: decayed },
///     ParameterGroup { vars: vec![bias], config: plain },
/// ])?;
/// sgd.set_learning_rate(0.05);
/// assert_eq!(sgd.learning_rates(), [0.05, 0.1]); // The second keeps its ratio to the first.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ParameterGroup<C> {
    /// The parameters.
    pub vars: Vec<Var>,
    /// Their settings.
    pub config: C,
}

/// A parameter with its position in the groups.
#[derive(Debug)]
pub(super) struct Parameter {
    pub var: Var,
    pub group: usize,
}

/// The parameters of all groups in order. Integers are not trained, so they are left out, as in candle_nn.
///
/// Rejects parameters whose gradients candle would mix up, because it identifies gradients by tensor id.
pub(super) fn parameters<C>(optimizer: &'static str, groups: &[ParameterGroup<C>]) -> Result<Vec<Parameter>> {
    let all = groups.iter().enumerate().flat_map(|(group, g)| g.vars.iter().map(move |var| (group, var)));
    let mut seen = HashMap::new();
    let mut parameters = Vec::new();
    for (place, (group, var)) in all.enumerate() {
        if let Some(first) = seen.insert(var.id(), place) {
            return Err(Error::SharedTensorId { first, second: place }.into());
        }
        if var.dtype().is_float() {
            parameters.push(Parameter { var: var.clone(), group });
        }
    }
    identity::check_parameters(optimizer, parameters.iter().map(|parameter| parameter.var.as_tensor()))?;
    Ok(parameters)
}

/// The gradient of a parameter, if it has one.
///
/// Rejects one with another shape or type, which only manual insertion or another copy of candle can produce.
pub(super) fn gradient<'a>(
    optimizer: &'static str,
    gradients: &'a GradStore,
    parameter: &Parameter,
) -> Result<Option<&'a Tensor>> {
    let (var, gradient) = (&parameter.var, gradients.get(&parameter.var));
    match gradient {
        Some(gradient) if gradient.dims() != var.dims() => {
            let wanted = format!("{:?}, its parameter's", var.dims());
            let found = gradient.dims().to_vec();
            Err(Error::Shape { operation: optimizer, argument: "a gradient", found, wanted }.into())
        }
        Some(gradient) if gradient.dtype() != var.dtype() => {
            let wanted = format!("{:?}, its parameter's", var.dtype());
            Err(Error::DType { operation: optimizer, argument: "a gradient", found: gradient.dtype(), wanted }.into())
        }
        gradient => Ok(gradient),
    }
}

/// The group whose rate stands for all groups': the first that is trained, for a frozen one, at rate 0, has no
/// proportion to others.
pub(super) fn leading(initial: &[f64]) -> usize {
    initial.iter().position(|&rate| rate > 0.0).unwrap_or(0)
}

/// New rates for all groups when the leading one's becomes `rate`: the others keep their proportion to it, as under
/// PyTorch's schedulers, so a frozen one stays so. Where all are frozen, all take it.
pub(super) fn scaled_rates(initial: &[f64], rate: f64) -> Vec<f64> {
    let lead = initial.get(leading(initial)).copied().unwrap_or_default();
    initial.iter().map(|&own| if own == lead { rate } else { own * (rate / lead) }).collect()
}

/// Rejects rates that can't be those of `count` groups.
pub(super) fn check_rates(optimizer: &'static str, rates: &[f64], count: usize) -> Result<()> {
    let wanted = format!("{count}, one for each group");
    check::setting(optimizer, "the number of learning rates", rates.len(), rates.len() == count, &wanted)?;
    rates.iter().try_for_each(|&rate| check::not_negative(optimizer, "learning_rate", rate))
}

/// Copies of momentum buffers by their places, `momentum.0`, …
pub(super) fn momentum_state(momentum: &[Option<Tensor>]) -> Result<HashMap<String, Tensor>> {
    let buffers = momentum.iter().enumerate();
    buffers.filter_map(|(i, m)| m.as_ref().map(|m| Ok((format!("momentum.{i}"), m.copy()?)))).collect()
}

/// The buffers from [`momentum_state`], one for each parameter.
pub(super) fn restored_momentum(
    state: &HashMap<String, Tensor>,
    parameters: &[Parameter],
) -> Result<Vec<Option<Tensor>>> {
    let mut momentum = vec![None; parameters.len()];
    for (name, tensor) in state {
        let place = name.strip_prefix("momentum.").and_then(|place| place.parse::<usize>().ok());
        let Some(place) = place.filter(|&place| place < parameters.len()) else {
            return Err(state_error(format!("{name} belongs to none of the {} parameters", parameters.len())));
        };
        momentum[place] = Some(restored(name, tensor, &parameters[place].var)?);
    }
    Ok(momentum)
}

/// A copy of a state tensor on its parameter's device and in its type.
pub(super) fn restored(name: &str, tensor: &Tensor, var: &Var) -> Result<Tensor> {
    if tensor.dims() != var.dims() {
        let reason = format!("{name} has shape {:?}, its parameter {:?}", tensor.dims(), var.dims());
        return Err(state_error(reason));
    }
    tensor.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?.copy()
}

pub(super) fn state_error(reason: String) -> candle_core::Error {
    Error::State { reason }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_the_proportions_of_their_own_first_rates() {
        assert_eq!(scaled_rates(&[0.1, 0.2, 0.0], 0.05), [0.05, 0.1, 0.0]);
        // A frozen group in front neither thaws nor makes the others one.
        assert_eq!((leading(&[0.0, 0.1, 0.2]), scaled_rates(&[0.0, 0.1, 0.2], 0.05)), (1, vec![0.0, 0.05, 0.1]));
        assert_eq!(scaled_rates(&[0.1, 0.2], 0.0), [0.0, 0.0]);
        assert_eq!(scaled_rates(&[0.0], 0.1), [0.1]);
    }
}
