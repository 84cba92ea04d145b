//! CIFAR-10's Python layout: a file is a pickled dict with `data`, a NumPy array of bytes [N, 3072], and `labels`, a
//! list or array of N numbers from 0 to 9. A row of `data` is an image as in the binary layout. The published files
//! were pickled by Python 2; files that Python 3 rewrote, in any protocol, are read too.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Python / Matlab versions". A pickle is a program, and
//! unknown ones are dangerous; [`pth::pickle`] executes nothing.

use std::path::Path;

use pth::pickle::{Node, Pickle};
use pth::{DType, numpy};

use super::records::{CLASSES, PICTURE_LENGTH};
use super::{DatasetError, Result};

/// Reads a file of the Python layout and appends the pixels [N, 3, 32, 32] and the N labels to `pixels` and `labels`.
pub(super) fn read_python_batch(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
    let wrong = |reason: String| DatasetError::PythonBatch { path: path.into(), reason };
    let file = std::fs::read(path).map_err(DatasetError::io("reading", path))?;
    if file.is_empty() {
        return Err(DatasetError::EmptyFile(path.into()));
    }
    let pickle = Pickle::read(&file).map_err(|error| wrong(error.to_string()))?;
    let get = |key: &str| {
        let root = pickle.root();
        root.get(key).ok_or_else(|| wrong(format!("it is {} without {key:?}", root.describe())))
    };
    let data = numpy::array(get("data")?, "data").map_err(|error| wrong(error.to_string()))?;
    let numbers = read_labels(get("labels")?).map_err(wrong)?;
    let records = numbers.len();
    if data.dtype() != DType::U8 || data.shape() != [records, PICTURE_LENGTH] {
        let (dtype, shape) = (data.dtype(), data.shape());
        return Err(wrong(format!(
            "data is {dtype} {shape:?}, expected uint8 [{records}, {PICTURE_LENGTH}] for {records} labels"
        )));
    }
    pixels.extend_from_slice(data.data());
    labels.reserve_exact(records);
    for (record, number) in numbers.into_iter().enumerate() {
        let label = u32::try_from(number).ok().filter(|&label| label < CLASSES.into());
        labels.push(label.ok_or_else(|| wrong(format!("the label of record {record} is {number}, expected 0 to 9")))?);
    }
    Ok(())
}

/// The integers of a list or an array.
fn read_labels(node: Node) -> Result<Vec<i64>, String> {
    if let Some(items) = node.items() {
        let number = |(record, item): (usize, Node)| {
            let found = || format!("the label of record {record} is {}, expected an integer", item.describe());
            numpy::integer(item).ok_or_else(found)
        };
        return items.enumerate().map(number).collect();
    }
    let wrong = || format!("labels is {}, expected a list or array of integers", node.describe());
    let array = numpy::array(node, "labels").map_err(|_| wrong())?;
    let data = array.data();
    Ok(match (array.dtype(), array.shape()) {
        (DType::U8, [_]) => data.iter().map(|&label| label.into()).collect(),
        (DType::I8, [_]) => data.iter().map(|&label| i64::from(label as i8)).collect(),
        (DType::I32, [_]) => data.as_chunks().0.iter().map(|&label| i32::from_le_bytes(label).into()).collect(),
        (DType::I64, [_]) => data.as_chunks().0.iter().map(|&label| i64::from_le_bytes(label)).collect(),
        _ => return Err(wrong()),
    })
}
