//! Weights on disk, as safetensors: any network's parameters and buffers by name.

use candle_cnn::parameters::Parameters;
use candle_core::{Device, Tensor};
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
