//! CIFAR-10's binary layout: a file is a sequence of records, and a record is a label byte (0 to 9) and 3,072 bytes of
//! pixels, the channels red, green and blue in turn, each 32 rows of 32 pixels.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version". The published files have 10,000 records;
//! any number is read here, so that smaller sets can use the layout.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{DatasetError, Result};

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
