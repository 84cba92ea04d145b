//! Checkpoints: parameters, buffers and the optimiser's state in one safetensors file, so that a training goes on as if
//! it had never been interrupted.

use candle_cnn::optim::{AdamW, SGD};
use candle_cnn::parameters::Parameters;
use candle_core::Tensor;
use candle_nn::Optimizer;
use std::collections::HashMap;
use std::path::Path;

use super::weights::{damaged, read_metadata, read_safetensors, save_tensors};
use crate::error::Result;

/// An optimiser whose state can be saved and put back.
pub trait ResumableOptimizer: Optimizer {
    /// The state as named tensors (copies), momentum buffers for example.
    ///
    /// # Errors
    /// Where the device has no memory for the copies.
    fn state(&self) -> candle_core::Result<HashMap<String, Tensor>>;

    /// Puts back what [`Self::state`] gave.
    ///
    /// # Errors
    /// Where it does not fit the optimiser's parameters; then nothing has been changed.
    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> candle_core::Result<()>;
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
        }
    )+};
}

resumable!(SGD, AdamW);

/// Names of a checkpoint's two parts, before each tensor's own.
const PARTS: [&str; 2] = ["model.", "optimizer."];

/// The note that counts a checkpoint's finished epochs.
const EPOCHS_DONE: &str = "epochs_done";

/// Writes a checkpoint to `path`: parameters, buffers, the optimiser's state and the number of epochs done, whole or
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
/// save_checkpoint(&path, &parameters, &sgd, 3, &[])?;
/// assert_eq!(load_checkpoint(&path, &parameters, &mut sgd)?, 3);
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] where the file cannot be written.
pub fn save_checkpoint(
    path: &Path,
    parameters: &Parameters,
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
    save_tensors(tensors, path, &notes)
}

/// Sets parameters, buffers and the optimiser's state from a checkpoint, and returns the number of epochs done: the
/// next epoch's number, counted from 0.
///
/// ```
/// use candle_cnn::{optim::{SGD, SgdConfig}, parameters::Parameters};
/// use candle_nn::Optimizer;
/// let (parameters, nowhere) = (Parameters::new(0), std::path::Path::new("no-such-file"));
/// let mut sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
/// assert!(cifar_lab::checkpoint::load_checkpoint(nowhere, &parameters, &mut sgd).is_err());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// As [`load_safetensors`], and [`Error::Weights`] for a file that holds weights only.
pub fn load_checkpoint(path: &Path, parameters: &Parameters, optimizer: &mut impl ResumableOptimizer) -> Result<usize> {
    let notes = read_metadata(path)?;
    let epochs_done = notes.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
    let epochs_done = epochs_done.ok_or_else(|| damaged(path, &"it holds weights, but is no checkpoint"))?;
    let [mut model, mut state] = [HashMap::new(), HashMap::new()];
    for (name, tensor) in read_safetensors(path)? {
        match PARTS.map(|part| name.strip_prefix(part).map(str::to_string)) {
            [Some(name), _] => model.insert(name, tensor),
            [_, Some(name)] => state.insert(name, tensor),
            _ => return Err(damaged(path, &format!("{name} belongs to neither model nor optimiser"))),
        };
    }
    parameters.load_state_dict(&model)?;
    optimizer.load_state(&state)?;
    Ok(epochs_done)
}
