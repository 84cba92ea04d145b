//! CIFAR-10's binary layout: a file is a row of records, and a record is a label byte (0 to 9) and 3,072 bytes of
//! pixels, the planes of red, green and blue, each 32 rows of 32 pixels.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version". The published files have 10,000 records;
//! any whole number is read here, so that smaller sets can have the same layout.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use super::{Dataset, DatasetError, Result};

/// Channels, height and width of a picture.
pub(super) const SHAPE: (usize, usize, usize) = (3, 32, 32);
/// The bytes of a picture.
pub(super) const PICTURE_LENGTH: usize = SHAPE.0 * SHAPE.1 * SHAPE.2;
/// The bytes of a record: a label and 3 × 32 × 32 pixels.
pub const RECORD_LENGTH: usize = 1 + PICTURE_LENGTH;
/// The ten classes as PyTorch's tutorial and the original notebook name them, in the order of the labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// The number of classes.
pub(super) const CLASSES: u8 = 10;
/// Records read at once: 1,000 are 3 MB, enough for the disk and little beside the 180 MB of the whole.
const BLOCK: usize = 1000;

/// Reads a record file: the pixels [N, 3, 32, 32] and the N labels are added to `pixels` and `labels`.
///
/// # Errors
/// When the file is missing, empty, can't be read, is not a whole number of records long, or has a label above 9.
/// What `pixels` and `labels` then hold is not to be used.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut pixels, mut labels) = (Vec::new(), Vec::new());
/// cifar_lab::dataset::read_records("cifar-10-batches-bin/test_batch.bin".as_ref(), &mut pixels, &mut labels)?;
/// assert_eq!(pixels.len(), labels.len() * 3 * 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn read_records(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Result<()> {
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

/// Writes a set of 3×32×32 pictures in ten classes or fewer as a record file, as PyTorch or another program reads it.
///
/// # Errors
/// When the pictures have another shape, there are more than ten classes, or writing fails.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let data = cifar_lab::dataset::Cifar10::stand_in(0, 4000, 1000);
/// cifar_lab::dataset::write_records(&data.test, "stand_in_test.bin".as_ref())?;
/// # Ok(())
/// # }
/// ```
pub fn write_records(dataset: &Dataset, path: &Path) -> Result<()> {
    let (channels, height, width) = dataset.image_shape();
    if (channels, height, width) != SHAPE {
        let (labels, found) = (dataset.len(), dataset.len() * dataset.image_length());
        let (channels, height, width) = SHAPE;
        let expected = labels * PICTURE_LENGTH;
        return Err(DatasetError::PixelCount { labels, channels, height, width, expected, found });
    }
    let failed = || DatasetError::io("writing", path);
    let mut file = std::io::BufWriter::new(File::create(path).map_err(failed())?);
    for index in 0..dataset.len() {
        let label = dataset.label(index)?;
        if label >= usize::from(CLASSES) {
            return Err(DatasetError::Label { index, label: label as u32, classes: CLASSES.into() });
        }
        file.write_all(&[label as u8]).map_err(failed())?;
        file.write_all(dataset.pixels(index)?).map_err(failed())?;
    }
    file.flush().map_err(failed())
}
