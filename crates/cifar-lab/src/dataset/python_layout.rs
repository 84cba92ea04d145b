//! CIFAR-10's python layout: a file is a pickled dict with `data`, an array of NumPy [N, 3072] of bytes, and `labels`, a
//! list of N numbers from 0 to 9. A row of `data` is a picture as in the binary layout.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Python / Matlab versions". A pickle is a program, and foreign
//! ones are dangerous; [`pth::pickle`] executes nothing.

use std::path::Path;

use pth::pickle::Pickle;
use pth::{DType, numpy};

use super::records::{CLASSES, PICTURE_LENGTH};
use super::{DatasetError, Result};

/// Reads a file of the python layout: the pixels [N, 3, 32, 32] and the N labels are added to `pixels` and `labels`.
pub(super) fn read_python_batch(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
    let wrong = |reason: String| DatasetError::PythonBatch { path: path.into(), reason };
    let file = std::fs::read(path).map_err(DatasetError::io("reading", path))?;
    if file.is_empty() {
        return Err(DatasetError::EmptyFile(path.into()));
    }
    let pickle = Pickle::read(&file, numpy::GLOBALS).map_err(|error| wrong(error.to_string()))?;
    let get = |key: &str| {
        let kind = pickle.root().kind();
        pickle.root().get(key).ok_or_else(|| wrong(format!("it is {kind} without {key:?}")))
    };
    let data = numpy::array(get("data")?, "data").map_err(|error| wrong(error.to_string()))?;
    let numbers = get("labels")?;
    let numbers =
        numbers.items().ok_or_else(|| wrong(format!("labels is {}, and should be a list", numbers.kind())))?;
    let records = numbers.len();
    if data.dtype() != DType::U8 || data.shape() != [records, PICTURE_LENGTH] {
        let (dtype, shape) = (data.dtype(), data.shape());
        return Err(wrong(format!(
            "data is {dtype} {shape:?}, and should be uint8 [{records}, {PICTURE_LENGTH}] for {records} labels"
        )));
    }
    pixels.extend_from_slice(data.data());
    labels.reserve_exact(records);
    for (record, number) in numbers.enumerate() {
        let label = number.as_i64().and_then(|label| u32::try_from(label).ok()).filter(|&label| label < CLASSES.into());
        labels.push(label.ok_or_else(|| {
            let found = number.as_i64().map_or(number.kind().into(), |label| label.to_string());
            wrong(format!("the label of record {record} is {found}, and labels run from 0 to 9"))
        })?);
    }
    Ok(())
}
