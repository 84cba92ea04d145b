//! What can go wrong with data, from the file to the batch.

use notebook_charts::numbers::bytes;
use std::ops::Range;
use std::path::PathBuf;

use super::PictureError;
use super::candle::without_backtrace;
use crate::paths::show_path;

/// What can go wrong with data: the offending value, and what to do next. Its `Debug` prints only the message, because
/// that is what a notebook shows for a failed `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The notebook's stop button was pressed.
    #[error("interrupted: {0}")]
    Interrupted(&'static str),

    /// The folder does not exist.
    #[error("there is no folder {}: check the path (and CIFAR10_DIR, if it is set)", show_path(.0))]
    MissingFolder(PathBuf),

    /// A file of the binary layout is missing.
    #[error(
        "there is no file {}: CIFAR-10 is data_batch_1.bin to data_batch_5.bin and test_batch.bin in one folder, the \
         same files without .bin (the Python layout), or pictures in train/CLASS and test/CLASS", show_path(.0)
    )]
    MissingFile(PathBuf),

    /// Reading or writing failed.
    #[error("{action} {} failed: {source}", show_path(.path))]
    Io {
        /// The attempted action, as in "reading".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// A record file has no records.
    #[error("{} is empty: get the file again", show_path(.0))]
    EmptyFile(PathBuf),

    /// A record file's length is not a whole number of records.
    #[error(
        "{} has {length} bytes, which is not a multiple of the record length {record} ({remainder} are left \
         over): it is truncated, or has another format; get the file again", show_path(.path)
    )]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The bytes of a record.
        record: usize,
        /// The bytes after the last whole record.
        remainder: u64,
    },

    /// A record's label belongs to no class.
    #[error(
        "record {record} of {} has the label {label}, but labels run from 0 to 9: the file is damaged, or has another \
         format; get it again", show_path(.path)
    )]
    FileLabel {
        /// The file.
        path: PathBuf,
        /// The record, counted from 0.
        record: usize,
        /// The label found.
        label: u8,
    },

    /// A file of the Python layout can't be read.
    #[error("{} is not a batch of CIFAR-10's Python layout: {reason}", show_path(.path))]
    PythonBatch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A picture of an image folder can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),

    /// A split of an image folder is missing, or contains no folders.
    #[error("{} does not contain a folder for each class: pictures belong in train/CLASS and test/CLASS", show_path(.0))]
    NoClasses(PathBuf),

    /// Classes of an image folder have no pictures.
    #[error(
        "in {} there are folders without pictures (.jpg, .jpeg or .png), not even in folders inside them: {classes}; add \
         some, or remove the folders", show_path(.folder)
    )]
    NoPictures {
        /// The split's folder.
        folder: PathBuf,
        /// The classes' names.
        classes: String,
    },

    /// `test` has a class that `train` lacks.
    #[error("{} is a class that train does not have (its classes: {classes})", show_path(.path))]
    UnknownClass {
        /// The class's folder.
        path: PathBuf,
        /// The classes of `train`.
        classes: String,
    },

    /// The folders' classes are not CIFAR-10's.
    #[error("the classes in {} are {classes}, not CIFAR-10's: open it with ImageFolder::open", show_path(.path))]
    OtherClasses {
        /// The image folder.
        path: PathBuf,
        /// Its classes.
        classes: String,
    },

    /// The cache can't be read.
    #[error(
        "the cache is damaged: {source}. Delete the folder {} and load again, to download it anew",
        show_path(.folder)
    )]
    DamagedCache {
        /// The folder in the cache.
        folder: PathBuf,
        /// What is wrong with it.
        source: Box<DatasetError>,
    },

    /// There is no cache folder.
    #[error("no folder to keep the data in: set CIFAR_LAB_CACHE to one (neither HOME nor XDG_CACHE_HOME is set)")]
    NoCacheFolder,

    /// `CIFAR_LAB_DATA` has an unknown value.
    #[error(
        "CIFAR_LAB_DATA is {0:?}: set it to \"cifar-10\" (never the stand-in) or \"stand-in\" (never CIFAR-10), or unset it"
    )]
    UnknownChoice(String),

    /// CIFAR-10 is not available and `CIFAR_LAB_DATA=cifar-10` forbids the stand-in.
    #[error("CIFAR_LAB_DATA=cifar-10 forbids the stand-in, but CIFAR-10 is not available: {0}")]
    StandInForbidden(Box<DatasetError>),

    /// The server could not be reached, or the connection broke too often.
    #[error(
        "downloading {url} failed: {reason}{}", if *.kept > 0 {
            format!("; the {} downloaded so far are kept: load again to resume from there", bytes(*.kept))
        } else {
            String::new()
        }
    )]
    Download {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
        /// The bytes that the next attempt starts from.
        kept: u64,
    },

    /// The server answered with an error.
    #[error(
        "downloading {url} failed: the server answered {status}; check the address (and CIFAR10_URL, if it is \
         set)"
    )]
    HttpStatus {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },

    /// The server offers a file of another length.
    #[error("{url} offers {found} bytes, but the archive has {expected}: it is another file and was not downloaded")]
    ArchiveLength {
        /// The address.
        url: String,
        /// The archive's length in bytes.
        expected: u64,
        /// The offered length.
        found: u64,
    },

    /// What was downloaded is not the archive.
    #[error(
        "the download from {url} has the MD5 sum {found}, but the archive has {expected}: it was deleted; load again, or \
         set CIFAR10_URL to another address"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The archive's MD5 sum, in hexadecimal digits.
        expected: String,
        /// The file's MD5 sum.
        found: String,
    },

    /// The path is CIFAR-10's archive, and only a folder can be read.
    #[error(
        "{} is an archive: set CIFAR10_DIR to it and call Cifar10::load, which unpacks it into the cache, or unpack it \
         with `tar -xzf`", show_path(.0)
    )]
    Packed(PathBuf),

    /// An archive on the disk is not CIFAR-10's.
    #[error(
        "{} is not CIFAR-10's archive, or is truncated: its MD5 sum is {found}, but cifar-10-binary.tar.gz has {binary} and \
         cifar-10-python.tar.gz has {python}; get it again", show_path(.path)
    )]
    OtherArchive {
        /// The archive.
        path: PathBuf,
        /// The MD5 sum of the archive of the binary layout.
        binary: String,
        /// The MD5 sum of the archive of the Python layout.
        python: String,
        /// The file's MD5 sum.
        found: String,
    },

    /// Writing the download failed, for example on a full disk.
    #[error(
        "writing {} failed: {source}; the {} written so far are kept: free some space, or set CIFAR_LAB_CACHE to another \
         folder, and load again", show_path(.path), bytes(*.kept)
    )]
    WriteDownload {
        /// The partial file.
        path: PathBuf,
        /// The bytes it holds.
        kept: u64,
        /// The system's error.
        source: std::io::Error,
    },

    /// The archive can't be unpacked.
    #[error("the archive {} can't be unpacked: {reason}", show_path(.path))]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The parts of a data set don't fit together.
    #[error(
        "a data set of {labels} images of {channels}×{height}×{width} needs {expected} bytes of pixels, not {found}"
    )]
    PixelCount {
        /// The number of labels.
        labels: usize,
        /// The images' channels.
        channels: usize,
        /// The images' height.
        height: usize,
        /// The images' width.
        width: usize,
        /// The expected bytes.
        expected: usize,
        /// The given bytes.
        found: usize,
    },

    /// An image without pixels.
    #[error("images of {0}×{1}×{2} (channels, height, width) have no pixels: each must be at least 1")]
    NoPixels(usize, usize, usize),

    /// A label has no class name.
    #[error("sample {index} has the label {label}, but there are {classes} class names")]
    Label {
        /// The sample.
        index: usize,
        /// Its label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },

    /// There is no such sample.
    #[error("there is no sample {index}: the set has {length}, numbered from 0")]
    Index {
        /// The requested index.
        index: usize,
        /// The number of samples.
        length: usize,
    },

    /// More samples were requested than there are.
    #[error("{asked} samples were asked for, but the set has {length}")]
    Count {
        /// The requested number.
        asked: usize,
        /// The number of samples.
        length: usize,
    },

    /// The range leaves the set.
    #[error("samples {} to {} (exclusive) were asked for, but the set has {length}", .range.start, .range.end)]
    Range {
        /// The requested range.
        range: Range<usize>,
        /// The number of samples.
        length: usize,
    },

    /// Images that are neither grayscale nor RGB.
    #[error("an image has 1 channel (gray) or 3 (red, green, blue), but these have {0}")]
    Channels(usize),

    /// A batch without samples.
    #[error("the batch size is 0: a batch has at least 1 sample")]
    BatchSize,

    /// An epoch does not have that many batches.
    #[error("an epoch has {batches} batches, numbered from 0, so it can't start at batch {first}")]
    FirstBatch {
        /// The requested batch.
        first: usize,
        /// The number of batches.
        batches: usize,
    },

    /// A mean that can't be subtracted, or a standard deviation that can't be divided by.
    #[error("can't normalize with mean {mean} and standard deviation {std}: both must be finite, the second above 0")]
    Normalize {
        /// The channel's mean.
        mean: f32,
        /// The channel's standard deviation.
        std: f32,
    },

    /// Means and standard deviations for another number of channels.
    #[error("got {means} means and {stds} standard deviations for images with {channels} channels")]
    NormalizeChannels {
        /// The number of means.
        means: usize,
        /// The number of standard deviations.
        stds: usize,
        /// The images' channels.
        channels: usize,
    },

    /// A number outside [0, 1] as a probability.
    #[error("the probability of a flip is {0}: it must be from 0 to 1")]
    Probability(f64),

    /// A random crop or translation by so much that some results would miss the image.
    #[error(
        "a random crop or translation by up to {padding} pixels doesn't fit images of {height}×{width}: use less than a side"
    )]
    Padding {
        /// The requested padding or distance.
        padding: usize,
        /// The images' height.
        height: usize,
        /// The images' width.
        width: usize,
    },

    /// The thread that prepares batches couldn't start, or stopped.
    #[error("the thread that prepares batches {0}")]
    Thread(String),

    /// A tensor operation failed.
    #[error("{}", without_backtrace(.0))]
    Tensor(#[from] candle_core::Error),
}

impl std::fmt::Debug for DatasetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl DatasetError {
    /// Makes an [`Io`](Self::Io) error of an attempted action on a path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
