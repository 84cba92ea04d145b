//! Checkpoints: parameters, buffers and the optimizer's state in one safetensors file, so that a training goes on as if
//! it had never been interrupted.

use candle_cnn::optim::{AdamW, SGD};
use candle_cnn::parameters::Parameters;
use candle_cnn::step_graph::{StepGraph, StepResult};
use candle_core::Tensor;
use candle_nn::Optimizer;
use std::collections::HashMap;
use std::path::Path;

use super::file::{damaged, read_metadata, read_safetensors, save_tensors};
use crate::error::Result;

/// An optimizer whose state can be saved and put back.
pub trait ResumableOptimizer: Optimizer {
    /// The state as named tensors (copies), momentum buffers for example.
    ///
    /// # Errors
    /// Where the device has no memory for the copies.
    fn state(&self) -> candle_core::Result<HashMap<String, Tensor>>;

    /// Puts back what [`Self::state`] gave.
    ///
    /// # Errors
    /// Where it does not fit the optimizer's parameters; then nothing has been changed.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> candle_core::Result<()>;

    /// A training step by a graph, or `None` from an optimizer that knows nothing of graphs.
    ///
    /// # Errors
    /// Those of [`StepGraph::run`].
    fn step_by_graph(
        &mut self,
        _graph: &mut StepGraph<'_>,
        _images: &Tensor,
        _labels: &Tensor,
    ) -> candle_core::Result<Option<StepResult>> {
        Ok(None)
    }
}

macro_rules! resumable {
    ($($optimizer:ident),+) => {$(
        impl ResumableOptimizer for $optimizer {
            fn state(&self) -> candle_core::Result<HashMap<String, Tensor>> {
                $optimizer::state(self)
            }

            fn load_state(&mut self, state: &HashMap<String, Tensor>) -> candle_core::Result<()> {
                $optimizer::load_state(self, state)
            }

            fn step_by_graph(
                &mut self,
                graph: &mut StepGraph<'_>,
                images: &Tensor,
                labels: &Tensor,
            ) -> candle_core::Result<Option<StepResult>> {
                graph.run(self, images, labels).map(Some)
            }
        }
    )+};
}

resumable!(SGD, AdamW);

/// Names of a checkpoint's two parts, before each tensor's own.
const PARTS: [&str; 2] = ["model.", "optimizer."];

/// The note that counts a checkpoint's finished epochs.
const EPOCHS_DONE: &str = "epochs_done";

/// Writes a checkpoint to `path`: parameters, buffers, the optimizer's state and the number of epochs done, whole or
/// not at all.
///
/// ```
/// use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
/// use candle_nn::Optimizer;
/// use cifar_lab::checkpoint::{load_checkpoint, save_checkpoint};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("checkpoint.safetensors");
/// let parameters = Parameters::new(0);
/// candle_nn::linear(4, 2, parameters.var_builder(&candle_core::Device::Cpu))?;
/// let mut sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// save_checkpoint(&parameters, &path, &sgd, 3, &[])?;
/// assert_eq!(load_checkpoint(&parameters, &path, &mut sgd)?, 3);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`](crate::error::Error::File) where the file cannot be written.
pub fn save_checkpoint(
    parameters: &Parameters,
    path: impl AsRef<Path>,
    optimizer: &impl ResumableOptimizer,
    epochs_done: usize,
    notes: &[(&str, &str)],
) -> Result<()> {
    let mut tensors = HashMap::new();
    for (part, state) in PARTS.into_iter().zip([parameters.state_dict()?, optimizer.state()?]) {
        tensors.extend(state.into_iter().map(|(name, tensor)| (format!("{part}{name}"), tensor)));
    }
    let epochs_done = epochs_done.to_string();
    let notes: Vec<(&str, &str)> = notes.iter().copied().chain([(EPOCHS_DONE, epochs_done.as_str())]).collect();
    save_tensors(tensors, path.as_ref(), &notes)
}

/// Sets parameters, buffers and the optimizer's state from a checkpoint, and returns the number of epochs done: the
/// next epoch's number, counted from 0.
///
/// # Errors
/// As [`load_safetensors`](super::load_safetensors), [`Error::Weights`](crate::error::Error::Weights) for a file that holds weights only, and candle's where the state is not
/// this optimizer's. Then nothing has been changed.
pub fn load_checkpoint(
    parameters: &Parameters,
    path: impl AsRef<Path>,
    optimizer: &mut impl ResumableOptimizer,
) -> Result<usize> {
    let path = path.as_ref();
    let notes = read_metadata(path)?;
    let epochs_done = notes.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
    let epochs_done = epochs_done.ok_or_else(|| damaged(path, &"it holds weights, but is no checkpoint"))?;
    let [mut model, mut state] = [HashMap::new(), HashMap::new()];
    for (name, tensor) in read_safetensors(path)? {
        match PARTS.map(|part| name.strip_prefix(part).map(str::to_string)) {
            [Some(name), _] => model.insert(name, tensor),
            [_, Some(name)] => state.insert(name, tensor),
            _ => return Err(damaged(path, &format!("{name} belongs to neither model nor optimizer"))),
        };
    }
    // Each changes nothing where it fails; together they are to change nothing either.
    let before = optimizer.state()?;
    optimizer.load_state(&state)?;
    if let Err(error) = parameters.load_state_dict(&model) {
        optimizer.load_state(&before)?;
        return Err(error.into());
    }
    Ok(epochs_done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_cnn::optim::{AdamWConfig, SgdConfig};
    use candle_core::{Device, Tensor, Var};

    fn layer(outputs: usize, seed: u64) -> Result<Parameters> {
        let parameters = Parameters::new(seed);
        candle_nn::linear(3, outputs, parameters.var_builder(&Device::Cpu).pp("fc"))?;
        Ok(parameters)
    }

    /// An optimizer after one step, so that it has a state.
    fn stepped(parameters: &Parameters) -> Result<SGD> {
        let mut sgd = SGD::new(parameters.trainable(), SgdConfig { momentum: 0.9, ..SgdConfig::default() })?;
        let sum = |var: &Var| var.sqr()?.sum_all();
        let losses = parameters.trainable().iter().map(sum).collect::<candle_core::Result<Vec<Tensor>>>()?;
        sgd.backward_step(&Tensor::stack(&losses, 0)?.sum_all()?)?;
        Ok(sgd)
    }

    fn values(tensors: &HashMap<String, Tensor>) -> Result<Vec<(String, Vec<f32>)>> {
        let values = tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.flatten_all()?.to_vec1()?)));
        let mut values: Vec<(String, Vec<f32>)> = values.collect::<Result<_>>()?;
        values.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(values)
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_changes_neither_weights_nor_optimizer() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let (saved, mine) = (layer(2, 1)?, layer(2, 2)?);
        let mut sgd = stepped(&mine)?;
        let before = (values(&mine.state_dict()?)?, values(&sgd.state()?)?);
        // The weights fit, and the state is another optimizer's.
        let adamw = AdamW::new(saved.trainable(), AdamWConfig::default())?;
        let mut state = adamw.state()?;
        state.insert("exp_avg.0".into(), Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu)?);
        let tensors = saved.state_dict()?.into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor));
        let states = state.into_iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
        save_tensors(tensors.chain(states).collect(), &path, &[(EPOCHS_DONE, "3")])?;
        assert!(load_checkpoint(&mine, &path, &mut sgd).unwrap_err().to_string().contains("exp_avg.0"));
        assert_eq!((values(&mine.state_dict()?)?, values(&sgd.state()?)?), before);
        // The state fits, and the weights have another name.
        let other = Parameters::new(3);
        candle_nn::linear(3, 2, other.var_builder(&Device::Cpu).pp("head"))?;
        save_checkpoint(&other, &path, &stepped(&other)?, 3, &[])?;
        assert!(load_checkpoint(&mine, &path, &mut sgd).is_err());
        assert_eq!((values(&mine.state_dict()?)?, values(&sgd.state()?)?), before);
        Ok(())
    }
}
