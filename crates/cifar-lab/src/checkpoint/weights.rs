//! Saves and loads a network's parameters and buffers, as PyTorch's `.pth` and as safetensors.

use candle_cnn::parameters::{Parameters, StateDictMismatch};
use candle_core::{DType, Device, Tensor};
use pth::StateDict;
use safetensors::View;
use std::collections::{HashMap, hash_map::Entry};
use std::path::Path;

use super::file::{Format, damaged, read_as, read_safetensors, save_tensors, weights_format, write};
use super::model_card::{METADATA_KEY, ModelCard};
use crate::error::{Error, Result};

/// Writes all parameters and buffers to `path`, like PyTorch's `torch.save(net.state_dict(), path)`, and `card` into a
/// JSON file beside it. To load them in Python: `net.load_state_dict(torch.load(path, weights_only=True))`. If
/// writing one of the two files fails, its old version stays.
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
/// [`Error`](crate::error::Error): `File` if a file can't be written, `Weights` for a tensor type that PyTorch's format
/// doesn't have (`u32`).
pub fn save_pth(parameters: &Parameters, path: impl AsRef<Path>, card: &ModelCard) -> Result<()> {
    save_pth_at(parameters, path.as_ref(), card)
}

/// Not generic: a cell would compile it, and the writer of the archive with it.
fn save_pth_at(parameters: &Parameters, path: &Path, card: &ModelCard) -> Result<()> {
    if ModelCard::beside(path) == path {
        let reason = "the model card is saved under this name; end it in .pth".to_string();
        return Err(Error::Setting { name: "path", value: path.display().to_string(), reason });
    }
    let mut state = StateDict::new();
    for (name, tensor) in parameters.snapshot()? {
        let dtype = pth_dtype(tensor.dtype()).ok_or_else(|| {
            damaged(path, &format!("{name} has type {:?}, which PyTorch's state dicts don't support", tensor.dtype()))
        })?;
        let data = View::data(&tensor).into_owned();
        state.push(name, pth::Tensor::new(dtype, tensor.dims().to_vec(), data).map_err(|error| damaged(path, &error))?);
    }
    // PyTorch names the folder in the archive after the file, but accepts any name.
    let name: String =
        path.file_stem().map_or("archive".into(), |stem| stem.to_string_lossy().chars().take(50).collect());
    let mut bytes = Vec::new();
    state.write(&name, &mut bytes).map_err(|error| damaged(path, &error))?;
    // The card first, so that new weights never have an old card.
    card.write_beside(path)?;
    write(path, &bytes)
}

/// Loads all parameters and buffers from the `.pth` at `path`, written by PyTorch or [`save_pth`], like PyTorch's
/// `load_state_dict(strict=True)`. The state dict may be part of a checkpoint: under `state_dict`, `model_state_dict`
/// or `model`, or under any key if there is only one; otherwise see [`read_pth`]. Nothing in the file is executed.
///
/// # Errors
/// [`Error`](crate::error::Error): `File` if it can't be read, `Weights` if it has another format or is damaged; if it
/// doesn't match the network, candle's, which lists all missing and unexpected names and wrong shapes. In each case,
/// nothing is changed.
pub fn load_pth(parameters: &Parameters, path: impl AsRef<Path>) -> Result<()> {
    load_pth_at(parameters, path.as_ref())
}

/// Not generic: a cell would compile it.
fn load_pth_at(parameters: &Parameters, path: &Path) -> Result<()> {
    let file = read_as(path, Format::Pth)?;
    let state = StateDict::read(&file).map_err(|error| damaged(path, &error))?;
    // As in PyTorch, only version 1 of batch norm may lack the number of batches.
    let lacks = |name: &String| {
        let module = name.strip_suffix(".num_batches_tracked");
        module.is_some_and(|module| state.module_version(module) >= Some(2)) && state.get(name).is_none()
    };
    let missing: Vec<String> = parameters.named().into_iter().map(|(name, _)| name).filter(lacks).collect();
    if !missing.is_empty() {
        let mismatch = StateDictMismatch { missing, unexpected: vec![], wrong_shape: vec![] };
        return Err(candle_core::Error::wrap(mismatch).into());
    }
    Ok(parameters.load_state_dict(&from_state_dict(&state)?)?)
}

/// Reads the tensors of the `.pth` at `path` by name, on the CPU, to rename them before loading or to choose one of
/// several state dicts. `keys` is the path in the file: `&["ema", "weights"]` for `torch.load(path)["ema"]["weights"]`;
/// if empty, the state dict is found as in [`load_pth`]. Signed integers of 8, 16 or 32 bits become i64.
///
/// ```
/// use candle_core::Device;
/// use cifar_lab::checkpoint::{ModelCard, read_pth, save_pth};
/// # use candle_cnn::parameters::Parameters;
/// # let path = tempfile::tempdir().unwrap().path().join("parallel.pth");
/// # let saved = Parameters::new(1);
/// # candle_nn::linear(4, 2, saved.var_builder(&Device::Cpu).pp("module.fc1"))?;
/// # save_pth(&saved, &path, &ModelCard::default())?;
/// let parameters = Parameters::new(2);
/// candle_nn::linear(4, 2, parameters.var_builder(&Device::Cpu).pp("fc1"))?;
/// // Saved from nn.DataParallel, so every name begins with "module.".
/// let named = read_pth(&path, &[])?.into_iter().map(|(name, tensor)| (name.replacen("module.", "", 1), tensor));
/// parameters.load_state_dict(&named.collect())?;
/// assert!(read_pth(&path, &["ema"]).is_err());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error`](crate::error::Error): `File` if it can't be read, `Weights` if it has another format, is damaged, or has
/// nothing under `keys`.
pub fn read_pth(path: impl AsRef<Path>, keys: &[&str]) -> Result<HashMap<String, Tensor>> {
    let path = path.as_ref();
    let file = read_as(path, Format::Pth)?;
    from_state_dict(&StateDict::read_under(&file, keys).map_err(|error| damaged(path, &error))?)
}

/// Writes all parameters and buffers to `path` in the safetensors format, with `card` in the metadata. If the write
/// fails, the old file stays.
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
/// save_safetensors(&first, &path, &ModelCard { accuracy: Some(0.75), ..ModelCard::default() })?;
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
/// [`Error::File`](crate::error::Error::File) if the file can't be written.
pub fn save_safetensors(parameters: &Parameters, path: impl AsRef<Path>, card: &ModelCard) -> Result<()> {
    // Python's libraries look for `format`.
    save_tensors(parameters.state_dict()?, path.as_ref(), &[("format", "pt"), (METADATA_KEY, &card.to_json()?)])
}

/// Loads all parameters and buffers from the safetensors file at `path`, like PyTorch's `load_state_dict(strict=True)`.
///
/// # Errors
/// Those of [`load_pth`].
pub fn load_safetensors(parameters: &Parameters, path: impl AsRef<Path>) -> Result<()> {
    Ok(parameters.load_state_dict(&read_safetensors(path.as_ref())?)?)
}

/// Reads the named tensors of the file at `path`, in either format.
pub(crate) fn load_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    match weights_format(path)? {
        Format::Pth => read_pth(path, &[]),
        Format::Safetensors => read_safetensors(path),
    }
}

/// The tensors on the CPU; those that share their bytes still do.
fn from_state_dict(state: &StateDict) -> Result<HashMap<String, Tensor>> {
    let mut shared: HashMap<(*const u8, pth::DType, &[usize]), Tensor> = HashMap::new();
    let mut tensors = HashMap::with_capacity(state.len());
    for (name, tensor) in state.iter() {
        let value = match shared.entry((tensor.data().as_ptr(), tensor.dtype(), tensor.shape())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(from_pth(tensor)?).clone(),
        };
        tensors.insert(name.to_string(), value);
    }
    Ok(tensors)
}

fn from_pth(tensor: &pth::Tensor) -> Result<Tensor> {
    let (data, shape) = (tensor.data(), tensor.shape());
    // candle can't convert these to floats, but it can convert i64.
    let wider: Vec<i64> = match tensor.dtype() {
        pth::DType::I8 => data.iter().map(|&byte| i64::from(byte as i8)).collect(),
        pth::DType::I16 => data.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes).into()).collect(),
        pth::DType::I32 => data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect(),
        other => {
            let dtype = match other {
                pth::DType::F32 => DType::F32,
                pth::DType::F64 => DType::F64,
                pth::DType::F16 => DType::F16,
                pth::DType::BF16 => DType::BF16,
                pth::DType::I64 => DType::I64,
                // Bytes; a bool is a byte 0 or 1.
                _ => DType::U8,
            };
            return Ok(Tensor::from_raw_buffer(data, dtype, shape, &Device::Cpu)?);
        }
    };
    Ok(Tensor::from_vec(wider, shape, &Device::Cpu)?)
}

/// The type of the same name; `None` if PyTorch's state dicts have none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::{Net, NetConfig};
    use std::fs::File;
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
    fn a_pth_does_not_replace_its_own_model_card() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let error = save_pth(&network(1)?, folder.path().join("net.json"), &ModelCard::default()).unwrap_err();
        assert!(matches!(error, Error::Setting { name: "path", .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
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
    fn the_format_is_recognized_by_content_and_other_formats_are_named() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        for protocol in [1, 3, 5] {
            let file = format!("{}/../pth/tests/fixtures/legacy{protocol}.pth", env!("CARGO_MANIFEST_DIR"));
            assert_eq!(load_tensors(Path::new(&file))?["weight"].dims(), [2, 3]);
        }
        for (content, found) in [
            (&b"version https://git-lfs.github.com/spec/v1\n"[..], "run `git lfs pull`"),
            (b"<html>404</html>", "a web page"),
            (b"\x1f\x8b\x08\0\0", "compressed with gzip"),
            (b"", "it is empty"),
            (b"GIF89a", "neither .pth nor .safetensors"),
        ] {
            std::fs::write(&path, content).unwrap();
            for error in
                [load_pth(&network(1)?, &path), load_safetensors(&network(1)?, &path), load_tensors(&path).map(drop)]
            {
                let error = error.unwrap_err().to_string();
                assert!(error.contains(found) && !error.contains("header"), "{error}");
            }
        }
        save_pth(&network(1)?, &path, &ModelCard::default())?;
        let error = load_safetensors(&network(1)?, &path).unwrap_err().to_string();
        assert!(error.ends_with("load it with load_pth"), "{error}");
        save_safetensors(&network(1)?, &path, &ModelCard::default())?;
        let error = load_pth(&network(1)?, &path).unwrap_err().to_string();
        assert!(error.ends_with("load it with load_safetensors"), "{error}");
        Ok(())
    }

    #[test]
    fn safetensors_is_told_from_a_pickle_whatever_its_header_s_length_is() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        // Lengths are multiples of 8: tries all their first bytes, including 0x80, with which pickles begin.
        let mut firsts = std::collections::HashSet::new();
        for letters in 0..256 {
            let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
            save_tensors([("x".repeat(letters), tensor)].into(), &path, &[])?;
            firsts.insert(std::fs::read(&path).unwrap()[0]);
            assert_eq!(weights_format(&path)?, Format::Safetensors, "{letters}");
        }
        assert_eq!(firsts.len(), 32);
        Ok(())
    }

    #[test]
    fn the_count_of_batches_may_be_missing_where_pytorch_allows_it() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pth");
        let saved = network(1)?;
        let mut state = StateDict::new();
        for (name, var) in saved.named().into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
            let data = View::data(&var.as_detached_tensor()).into_owned();
            state.push(name, pth::Tensor::new(pth::DType::F32, var.dims().to_vec(), data).unwrap());
        }
        state.write("weights", File::create(&path).unwrap()).unwrap();
        load_pth(&network(2)?, &path)?;
        // A module's own state dict, which has version 2 of the batch norm, as all do since 2018.
        let of_pytorch = concat!(env!("CARGO_MANIFEST_DIR"), "/../pth/tests/fixtures/without_count.pth");
        let other = Parameters::new(0);
        let vb = other.var_builder(&Device::Cpu);
        candle_cnn::layers::conv2d(1, 2, 3, Default::default(), vb.pp("0"))?;
        candle_cnn::layers::batch_norm2d(2, 1e-5, vb.pp("1"))?;
        let error = load_pth(&other, of_pytorch).unwrap_err().to_string();
        assert_eq!(error, "the state dict does not match the network: missing 1.num_batches_tracked");
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
            "conv2.weight has shape [8, 4, 3, 3], expected [9, 4, 3, 3]",
            "conv2.bias has shape [8], expected [9]",
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
