//! Groups of parameters that are trained with the same settings.

use candle_core::{Result, Var};
use std::collections::HashMap;

use crate::Error;

/// Parameters that share settings.
#[derive(Debug, Clone)]
pub struct ParameterGroup<C> {
    /// The parameters.
    pub vars: Vec<Var>,
    /// Their settings.
    pub config: C,
}

/// A parameter with its place among the groups.
#[derive(Debug)]
pub(super) struct Parameter {
    pub var: Var,
    pub group: usize,
}

/// The parameters of all groups in order. Whole numbers are not trained, so they are left out, as in candle_nn.
///
/// Refuses two parameters with one tensor id: candle keeps gradients by id.
pub(super) fn parameters<C>(groups: &[ParameterGroup<C>]) -> Result<Vec<Parameter>> {
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
    Ok(parameters)
}

/// New rates for all groups when the first one's becomes `rate`: the others keep their proportion to it.
pub(super) fn scaled_rates(initial: &[f64], rate: f64) -> Vec<f64> {
    let first = initial.first().copied().unwrap_or_default();
    initial.iter().map(|&own| if first == 0.0 || own == first { rate } else { own * (rate / first) }).collect()
}

/// A setting that must be a finite number of at least 0.
pub(super) fn not_negative(operation: &'static str, setting: &'static str, found: f64) -> Result<()> {
    if !(found >= 0.0 && found.is_finite()) {
        let wanted = "a number of at least 0".to_string();
        return Err(Error::Setting { operation, setting, found: found.to_string(), wanted }.into());
    }
    Ok(())
}

pub(super) fn state_error(reason: String) -> candle_core::Error {
    Error::State { reason }.into()
}
