//! CIFAR-10's binary layout: a file is a sequence of records, and a record is a label byte (0 to 9) and 3,072 bytes of
//! pixels, the channels red, green and blue in turn, each 32 rows of 32 pixels.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version". The published files have 10,000 records;
//! any number is read here, so that smaller sets can use the layout.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Dataset, DatasetError, Result};
use crate::atomic_file::write_atomically;

/// An image's channels, height and width.
pub(super) const SHAPE: (usize, usize, usize) = (3, 32, 32);
/// The bytes of an image.
pub(super) const PICTURE_LENGTH: usize = SHAPE.0 * SHAPE.1 * SHAPE.2;
/// The bytes of a record: a label and 3 × 32 × 32 pixels.
pub const RECORD_LENGTH: usize = 1 + PICTURE_LENGTH;
/// The ten classes, in the order of the labels, named as in PyTorch's tutorial and the original notebook.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// The number of classes.
pub(super) const CLASSES: u8 = 10;
/// Records read at once: 1,000 are 3 MB, large for the disk and small beside the 180 MB of all.
const BLOCK: usize = 1000;

/// Reads a record file and appends the pixels [N, 3, 32, 32] and the N labels to `pixels` and `labels`.
///
/// # Errors
/// If the file is missing, empty, unreadable, not a whole number of records long, or has a label above 9. The contents of
/// `pixels` and `labels` are then unspecified.
pub fn read_records(path: impl AsRef<Path>, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
    let path = path.as_ref();
    let failed = || DatasetError::io("reading", path);
    let mut file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DatasetError::MissingFile(path.into()),
        _ => failed()(error),
    })?;
    let records = record_count(path, file.metadata().map_err(failed())?.len())?;
    pixels.reserve_exact(records * PICTURE_LENGTH);
    labels.reserve_exact(records);
    let mut block = vec![0; records.min(BLOCK) * RECORD_LENGTH];
    let mut done = 0;
    while done < records {
        let block = &mut block[..(records - done).min(BLOCK) * RECORD_LENGTH];
        file.read_exact(block).map_err(failed())?;
        for record in block.chunks_exact(RECORD_LENGTH) {
            let label = record[0];
            if label >= CLASSES {
                return Err(DatasetError::FileLabel { path: path.into(), record: done, label });
            }
            labels.push(u32::from(label));
            pixels.extend_from_slice(&record[1..]);
            done += 1;
        }
    }
    Ok(())
}

/// The number of records in a file of this length.
pub(super) fn record_count(path: &Path, length: u64) -> Result<usize> {
    let remainder = length % RECORD_LENGTH as u64;
    match length {
        0 => Err(DatasetError::EmptyFile(path.into())),
        _ if remainder > 0 => {
            Err(DatasetError::FileLength { path: path.into(), length, record: RECORD_LENGTH, remainder })
        }
        _ => Ok((length / RECORD_LENGTH as u64) as usize),
    }
}

/// Writes a set of 3×32×32 images in at most ten classes as a record file, for PyTorch and other programs.
///
/// ```
/// use cifar_lab::dataset::{Cifar10, read_records, write_records};
///
/// let file = tempfile::NamedTempFile::new().unwrap();
/// let data = Cifar10::stand_in(0, 0, 20).test;
/// write_records(&data, file.path())?;
/// let (mut pixels, mut labels) = (Vec::new(), Vec::new());
/// read_records(file.path(), &mut pixels, &mut labels)?;
/// assert_eq!((pixels.len(), labels), (20 * 3 * 32 * 32, data.labels()));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// If the images have another shape, a label is 10 or more, or writing fails. Then an old file stays.
pub fn write_records(dataset: &Dataset, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (channels, height, width) = dataset.image_shape();
    if (channels, height, width) != SHAPE {
        return Err(DatasetError::RecordShape { found: (channels, height, width) });
    }
    let mut records = Vec::with_capacity(dataset.len() * RECORD_LENGTH);
    for index in 0..dataset.len() {
        let label = dataset.label(index)?;
        if label >= usize::from(CLASSES) {
            return Err(DatasetError::Label { index, label: label as u32, classes: CLASSES.into() });
        }
        records.push(label as u8);
        records.extend_from_slice(dataset.pixels(index)?);
    }
    write_atomically(path, &records).map_err(DatasetError::io("writing", path))
}
