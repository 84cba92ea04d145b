//! Reads and writes weights files, and detects their format.

use candle_core::{Device, Tensor};
use pth::StateDict;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};

/// The formats of weights files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pth,
    Safetensors,
}

/// The format of the file at `path`, detected from its first bytes; its name doesn't matter.
///
/// # Errors
/// [`Error::Weights`], which says what the file is instead.
pub(super) fn weights_format(path: &Path) -> Result<Format> {
    /// Enough for both: safetensors starts with the length of its header in 8 bytes, then JSON.
    const START: u64 = 512;
    let failed = |source| Error::File { action: "reading", path: path.to_path_buf(), source };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(START).read_to_end(&mut start)).map_err(failed)?;
    if pth::is_pth(&start) {
        return Ok(Format::Pth);
    }
    if start.get(8) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    match StateDict::read(&start) {
        Err(pth::Error::UnknownFormat { found }) => {
            Err(damaged(path, &format!("{found}; it is neither .pth nor .safetensors")))
        }
        _ => Err(damaged(path, &"it is neither .pth nor .safetensors")),
    }
}

/// The bytes of the file at `path`, which must have the format `wanted`.
pub(super) fn read_as(path: &Path, wanted: Format) -> Result<Vec<u8>> {
    match (weights_format(path)?, wanted) {
        (Format::Pth, Format::Safetensors) => Err(damaged(path, &"it is a .pth file: load it with load_pth")),
        (Format::Safetensors, Format::Pth) => {
            Err(damaged(path, &"it is a safetensors file: load it with load_safetensors"))
        }
        _ => std::fs::read(path).map_err(|source| Error::File { action: "reading", path: path.to_path_buf(), source }),
    }
}

/// Writes named tensors to `path` in the safetensors format, with `notes` in the metadata.
pub(crate) fn save_tensors(tensors: HashMap<String, Tensor>, path: &Path, notes: &[(&str, &str)]) -> Result<()> {
    let notes = notes.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let bytes = safetensors::serialize(tensors, Some(notes)).map_err(|error| damaged(path, &error))?;
    write(path, &bytes)
}

pub(super) fn read_safetensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = read_as(path, Format::Safetensors)?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| damaged(path, &Error::from(error)))
}

/// The metadata of a safetensors file.
pub(super) fn read_metadata(path: &Path) -> Result<HashMap<String, String>> {
    let bytes = read_as(path, Format::Safetensors)?;
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| damaged(path, &error))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, bytes).map_err(|source| Error::File { action: "writing", path: path.to_path_buf(), source })
}

pub(super) fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Weights { path: path.to_path_buf(), reason: reason.to_string() }
}
