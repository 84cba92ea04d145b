//! Weights on disk, as safetensors: any network's parameters and buffers by name; and checkpoints, which hold the
//! optimiser's state too, so that a training goes on as if it had never been interrupted.

use candle_cnn::optim::{AdamW, SGD};
use candle_cnn::parameters::Parameters;
use candle_core::{Device, Tensor};
use candle_nn::Optimizer;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes all parameters and buffers to `path`, with `notes` (pairs of name and text, such as the data set) in the
/// file's metadata. The file is complete or the old one stays: it is written beside and renamed.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::checkpoint::{load_safetensors, safetensors_notes, save_safetensors};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("weights.safetensors");
/// let (first, second) = (Parameters::new(1), Parameters::new(2));
/// for parameters in [&first, &second] {
///     candle_nn::linear(4, 2, parameters.var_builder(&Device::Cpu).pp("fc1"))?;
/// }
/// save_safetensors(&first, &path, &[("data", "CIFAR-10")])?;
/// assert_eq!(safetensors_notes(&path)?["data"], "CIFAR-10");
/// load_safetensors(&second, &path)?;
/// assert_eq!(
///     first.state_dict()?["fc1.bias"].to_vec1::<f32>()?,
///     second.state_dict()?["fc1.bias"].to_vec1::<f32>()?
/// );
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] where the file cannot be written.
pub fn save_safetensors(parameters: &Parameters, path: &Path, notes: &[(&str, &str)]) -> Result<()> {
    save_tensors(parameters.state_dict()?, path, notes)
}

/// The notes that [`save_safetensors`] wrote into the file at `path`.
///
/// ```
/// # use cifar_lab::checkpoint::{safetensors_notes, save_safetensors};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("weights.safetensors");
/// let parameters = candle_cnn::parameters::Parameters::new(0);
/// save_safetensors(&parameters, &path, &[("data", "a stand-in")])?;
/// assert_eq!(safetensors_notes(&path)?["data"], "a stand-in");
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// As [`load_safetensors`].
pub fn safetensors_notes(path: &Path) -> Result<HashMap<String, String>> {
    let bytes = read(path)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| damaged(path, &error))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

/// Sets all parameters and buffers from the file at `path`, as PyTorch's `load_state_dict(strict=True)`.
///
/// ```
/// let parameters = candle_cnn::parameters::Parameters::new(0);
/// let missing = std::path::Path::new("no-such-file.safetensors");
/// let error = cifar_lab::checkpoint::load_safetensors(&parameters, missing).unwrap_err();
/// assert!(error.to_string().contains("no-such-file"));
/// ```
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Safetensors`] where it is no such file or a damaged one, and all
/// missing and unexpected names and wrong shapes at once where it does not fit; then nothing has been changed.
pub fn load_safetensors(parameters: &Parameters, path: &Path) -> Result<()> {
    Ok(parameters.load_state_dict(&load_tensors(path)?)?)
}

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
/// As [`load_safetensors`], and [`Error::Safetensors`] for a file that holds weights only.
pub fn load_checkpoint(path: &Path, parameters: &Parameters, optimizer: &mut impl ResumableOptimizer) -> Result<usize> {
    let notes = safetensors_notes(path)?;
    let epochs_done = notes.get(EPOCHS_DONE).and_then(|text| text.parse().ok());
    let epochs_done = epochs_done.ok_or_else(|| damaged(path, &"it holds weights, but is no checkpoint"))?;
    let [mut model, mut state] = [HashMap::new(), HashMap::new()];
    for (name, tensor) in load_tensors(path)? {
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

/// Writes named tensors to `path`, whole or not at all.
pub(crate) fn save_tensors(tensors: HashMap<String, Tensor>, path: &Path, notes: &[(&str, &str)]) -> Result<()> {
    let notes = notes.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|error| damaged(path, &error))?;
    write_atomically(path, &bytes)
}

/// Reads the named tensors of the file at `path`.
pub(crate) fn load_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = read(path)?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| damaged(path, &Error::from(error)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::File { action: "reading", path: path.to_path_buf(), source })
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Safetensors { path: path.to_path_buf(), reason: reason.to_string() }
}

/// Writes a file beside `path` and renames it, so that a reader sees the old bytes or the new ones, never half.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::File { action: "writing", path: path.to_path_buf(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // Without it a power cut could leave the new name with the old, or no, bytes.
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Net, NetConfig};

    fn network(seed: u64) -> Result<Parameters> {
        let parameters = Parameters::new(seed);
        let config = NetConfig { channels: vec![4, 8], dense: vec![8], ..NetConfig::default() };
        Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        Ok(parameters)
    }

    #[test]
    fn damaged_files_are_errors_and_change_nothing() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        save_safetensors(&network(1)?, &path, &[])?;
        let bytes = std::fs::read(&path).unwrap();
        let other = network(2)?;
        let before = other.state_dict()?["fc1.bias"].to_vec1::<f32>()?;
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(load_safetensors(&other, &path), Err(Error::Safetensors { .. })), "{length} bytes");
        }
        assert_eq!(other.state_dict()?["fc1.bias"].to_vec1::<f32>()?, before);
        Ok(())
    }

    #[test]
    fn counts_of_batches_are_saved_too() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a folder that is not there yet").join("weights.safetensors");
        save_safetensors(&network(1)?, &path, &[])?;
        assert!(load_tensors(&path)?.contains_key("bn1.num_batches_tracked"));
        Ok(())
    }
}
