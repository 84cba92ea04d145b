//! A network's parameters and buffers in a file, by name: PyTorch's `.pth` and safetensors.

use candle_cnn::parameters::Parameters;
use candle_core::{DType, Device, Tensor};
use pth::StateDict;
use safetensors::View;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::ModelCard;
use super::model_card::METADATA_KEY;
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};

/// Writes all parameters and buffers to `path`, as PyTorch's `torch.save(net.state_dict(), path)` does, and `card` into
/// a JSON file beside it. In Python: `net.load_state_dict(torch.load(path, weights_only=True))`. Each of the two files
/// is complete or the old one stays.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::checkpoint::{ModelCard, load_pth, save_pth};
/// use cifar_lab::model::{Net, NetConfig};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("redneuronal.pth");
/// let (first, second) = (Parameters::new(1), Parameters::new(2));
/// for parameters in [&first, &second] {
///     Net::new(&NetConfig::default(), parameters.var_builder(&Device::Cpu))?;
/// }
/// save_pth(&first, &path, &ModelCard::default())?;
/// load_pth(&second, &path)?;
/// assert_eq!(
///     first.state_dict()?["fc3.bias"].to_vec1::<f32>()?,
///     second.state_dict()?["fc3.bias"].to_vec1::<f32>()?
/// );
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] where a file cannot be written, [`Error::Weights`] for a type of tensor that PyTorch's format does
/// not have (`u32`).
pub fn save_pth(parameters: &Parameters, path: impl AsRef<Path>, card: &ModelCard) -> Result<()> {
    let path = path.as_ref();
    let mut state = StateDict::new();
    for (name, var) in parameters.named() {
        let tensor = var.as_detached_tensor();
        let dtype = pth_dtype(tensor.dtype()).ok_or_else(|| {
            damaged(path, &format!("{name} has the type {:?}, which PyTorch's state dicts do not have", tensor.dtype()))
        })?;
        let data = View::data(&tensor).into_owned();
        state.push(name, pth::Tensor::new(dtype, tensor.dims().to_vec(), data).map_err(|error| damaged(path, &error))?);
    }
    // PyTorch names the folder in the archive after the file; any name opens.
    let name: String =
        path.file_stem().map_or("archive".into(), |stem| stem.to_string_lossy().chars().take(50).collect());
    let mut bytes = Vec::new();
    state.write(&name, &mut bytes).map_err(|error| damaged(path, &error))?;
    // The card first: where the weights are new, so is what is said of them.
    card.write_beside(path)?;
    write(path, &bytes)
}

/// Sets all parameters and buffers from the `.pth` at `path`, which PyTorch or [`save_pth`] wrote, as PyTorch's
/// `load_state_dict(strict=True)`. The state dict may lie inside a checkpoint, under `state_dict`, `model_state_dict` or
/// `model`. Nothing in the file is executed.
///
/// ```
/// let parameters = candle_cnn::parameters::Parameters::new(0);
/// let error = cifar_lab::checkpoint::load_pth(&parameters, "no-such-file.pth").unwrap_err();
/// assert!(error.to_string().contains("no-such-file"));
/// ```
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Weights`] where it is no such file or a damaged one, and all missing
/// and unexpected names and wrong shapes at once where it does not fit; then nothing has been changed.
pub fn load_pth(parameters: &Parameters, path: impl AsRef<Path>) -> Result<()> {
    Ok(parameters.load_state_dict(&read_pth(path.as_ref())?)?)
}

/// Writes all parameters and buffers to `path` in the safetensors format, with `card` in the file's metadata. The file
/// is complete or the old one stays.
///
/// ```
/// use candle_cnn::parameters::Parameters;
/// use candle_core::Device;
/// use cifar_lab::checkpoint::{ModelCard, load_safetensors, save_safetensors};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("weights.safetensors");
/// let (first, second) = (Parameters::new(1), Parameters::new(2));
/// for parameters in [&first, &second] {
///     candle_nn::linear(4, 2, parameters.var_builder(&Device::Cpu).pp("fc1"))?;
/// }
/// save_safetensors(&first, &path, &ModelCard::default().accuracy(0.75))?;
/// assert_eq!(ModelCard::read(&path)?.accuracy, Some(0.75));
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
pub fn save_safetensors(parameters: &Parameters, path: impl AsRef<Path>, card: &ModelCard) -> Result<()> {
    // `format` is what Python's libraries look for.
    save_tensors(parameters.state_dict()?, path.as_ref(), &[("format", "pt"), (METADATA_KEY, &card.to_json()?)])
}

/// Sets all parameters and buffers from the safetensors file at `path`, as PyTorch's `load_state_dict(strict=True)`.
///
/// ```
/// let parameters = candle_cnn::parameters::Parameters::new(0);
/// let error = cifar_lab::checkpoint::load_safetensors(&parameters, "no-such-file.safetensors").unwrap_err();
/// assert!(error.to_string().contains("no-such-file"));
/// ```
///
/// # Errors
/// As [`load_pth`].
pub fn load_safetensors(parameters: &Parameters, path: impl AsRef<Path>) -> Result<()> {
    Ok(parameters.load_state_dict(&read_safetensors(path.as_ref())?)?)
}

/// The two formats of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Pth,
    Safetensors,
}

/// The format of the file at `path`, by its first bytes and not by its name.
pub(crate) fn weights_format(path: &Path) -> Result<Format> {
    /// A zip archive, and the pickle of PyTorch's format before 1.6. A safetensors file starts with its header's length
    /// in 8 bytes, of which the last are 0.
    const PTH: [[u8; 4]; 2] = [*b"PK\x03\x04", [0x80, 2, 0x8a, 0x0a]];
    let failed = |source| Error::File { action: "reading", path: path.to_path_buf(), source };
    let mut start = Vec::with_capacity(4);
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(failed)?;
    Ok(if PTH.iter().any(|magic| start == magic) { Format::Pth } else { Format::Safetensors })
}

/// Reads the named tensors of the file at `path`, of either format.
pub(crate) fn load_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    match weights_format(path)? {
        Format::Pth => read_pth(path),
        Format::Safetensors => read_safetensors(path),
    }
}

fn read_pth(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = read(path)?;
    let state = StateDict::read(&file).map_err(|error| damaged(path, &error))?;
    state.into_iter().map(|(name, tensor)| Ok((name.into_owned(), from_pth(&tensor)?))).collect()
}

fn from_pth(tensor: &pth::Tensor) -> Result<Tensor> {
    let (data, shape) = (tensor.data(), tensor.shape());
    let dtype = match tensor.dtype() {
        pth::DType::F32 => DType::F32,
        pth::DType::F64 => DType::F64,
        pth::DType::F16 => DType::F16,
        pth::DType::BF16 => DType::BF16,
        pth::DType::I64 => DType::I64,
        pth::DType::I32 => DType::I32,
        pth::DType::I16 => DType::I16,
        // candle has no signed bytes.
        pth::DType::I8 => {
            let wider: Vec<i16> = data.iter().map(|&byte| i16::from(byte as i8)).collect();
            return Ok(Tensor::from_vec(wider, shape, &Device::Cpu)?);
        }
        // Bytes, and the bytes 0 and 1 that a bool is.
        _ => DType::U8,
    };
    Ok(Tensor::from_raw_buffer(data, dtype, shape, &Device::Cpu)?)
}

/// The type of the same name; None where PyTorch's state dicts have none.
fn pth_dtype(dtype: DType) -> Option<pth::DType> {
    Some(match dtype {
        DType::F32 => pth::DType::F32,
        DType::F64 => pth::DType::F64,
        DType::F16 => pth::DType::F16,
        DType::BF16 => pth::DType::BF16,
        DType::I64 => pth::DType::I64,
        DType::I32 => pth::DType::I32,
        DType::I16 => pth::DType::I16,
        DType::U8 => pth::DType::U8,
        _ => return None,
    })
}

/// Writes named tensors to `path` in the safetensors format, with `notes` in the metadata.
pub(crate) fn save_tensors(tensors: HashMap<String, Tensor>, path: &Path, notes: &[(&str, &str)]) -> Result<()> {
    let notes = notes.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|error| damaged(path, &error))?;
    write(path, &bytes)
}

pub(super) fn read_safetensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = read(path)?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| damaged(path, &Error::from(error)))
}

/// What a safetensors file says beside its tensors.
pub(super) fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let bytes = read(path)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| damaged(path, &error))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::File { action: "reading", path: path.to_path_buf(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(|source| Error::File { action: "writing", path: path.to_path_buf(), source })
}

pub(super) fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Weights { path: path.to_path_buf(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Net, NetConfig};
    use std::path::PathBuf;

    type Save = fn(&Parameters, PathBuf, &ModelCard) -> Result<()>;
    type Load = fn(&Parameters, PathBuf) -> Result<()>;

    fn network(seed: u64) -> Result<Parameters> {
        let parameters = Parameters::new(seed);
        let config = NetConfig { channels: vec![4, 8], dense: vec![8], ..NetConfig::default() };
        Net::new(&config, parameters.var_builder(&Device::Cpu))?;
        Ok(parameters)
    }

    fn bytes(parameters: &Parameters) -> Vec<(String, Vec<u8>)> {
        let named = parameters.named().into_iter();
        named.map(|(name, var)| (name, View::data(&var.as_detached_tensor()).into_owned())).collect()
    }

    #[test]
    fn both_formats_give_back_every_bit() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a folder that is not there yet").join("weights");
        let saved = network(1)?;
        let count = saved.get("bn1.num_batches_tracked").unwrap();
        count.set(&Tensor::new(1563i64, &Device::Cpu)?)?;
        let formats: [(Save, Format); 2] = [(save_safetensors, Format::Safetensors), (save_pth, Format::Pth)];
        for (save, format) in formats {
            save(&saved, path.clone(), &ModelCard::default())?;
            assert_eq!(weights_format(&path)?, format);
            let loaded = network(2)?;
            loaded.load_state_dict(&load_tensors(&path)?)?;
            assert_eq!(bytes(&loaded), bytes(&saved));
            assert_eq!(ModelCard::read(&path)?, ModelCard::default());
        }
        Ok(())
    }

    #[test]
    fn damaged_files_are_errors_and_change_nothing() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        for save in [save_safetensors as Save, save_pth] {
            save(&network(1)?, path.clone(), &ModelCard::default())?;
            let whole = std::fs::read(&path).unwrap();
            let other = network(2)?;
            let before = bytes(&other);
            for length in [0, 1, 7, 8, 100, whole.len() - 1] {
                std::fs::write(&path, &whole[..length]).unwrap();
                for load in [load_safetensors as Load, load_pth] {
                    assert!(matches!(load(&other, path.clone()), Err(Error::Weights { .. })), "{length} bytes");
                }
            }
            assert_eq!(bytes(&other), before);
        }
        Ok(())
    }

    #[test]
    fn all_that_does_not_fit_is_listed_at_once() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        save_pth(&network(1)?, &path, &ModelCard::default())?;
        let other = Parameters::new(2);
        let config = NetConfig { channels: vec![4, 9], dense: vec![8, 8], batch_norm: false, ..NetConfig::default() };
        Net::new(&config, other.var_builder(&Device::Cpu))?;
        let before = bytes(&other);
        let error = load_pth(&other, &path).unwrap_err().to_string();
        for part in [
            "missing fc3.weight, fc3.bias",
            "unexpected bn1.bias, bn1.num_batches_tracked, bn1.running_mean",
            "conv2.weight has shape [8, 4, 3, 3], wanted [9, 4, 3, 3]",
            "conv2.bias has shape [8], wanted [9]",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(bytes(&other), before);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn saved_files_are_readable_by_others_as_the_umask_has_it() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, plain) = (folder.path().join("weights.pth"), folder.path().join("plain"));
        save_pth(&network(1)?, &path, &ModelCard::default())?;
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(mode(&path.with_extension("json")), mode(&plain));
        Ok(())
    }
}
