//! What can go wrong with data, from the file to the batch.

use std::ops::Range;
use std::path::PathBuf;

use super::PictureError;
use super::candle::without_backtrace;
use crate::paths::show_path;

/// What can go wrong with data, each with the offending value and what to do next.
///
/// ```
/// use cifar_lab::dataset::Cifar10;
///
/// let error = Cifar10::from_folder("no/such/folder").unwrap_err();
/// assert!(error.to_string().contains("no/such/folder"));
/// ```
///
/// Its `Debug` prints the message alone, because that is what a notebook shows for a failed `?`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A folder named by the user is not there.
    #[error("there is no folder {}: correct the path (CIFAR10_DIR, if it came from there)", show_path(.0))]
    MissingFolder(PathBuf),

    /// A file of the binary layout is not there.
    #[error(
        "there is no file {}: CIFAR-10 is data_batch_1.bin to data_batch_5.bin and test_batch.bin in one folder, the \
         same without .bin (the layout for Python), or pictures in train/CLASS and test/CLASS", show_path(.0)
    )]
    MissingFile(PathBuf),

    /// Reading or writing failed.
    #[error("{action} {} failed: {source}", show_path(.path))]
    Io {
        /// What was tried, as in "reading".
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },

    /// A record file has no records.
    #[error("{} is empty: get the file again", show_path(.0))]
    EmptyFile(PathBuf),

    /// A record file's length is not a whole number of records.
    #[error(
        "{} has {length} bytes, which is not a multiple of the record length {record} ({remainder} are left \
         over): it was cut or is another format; get the file again", show_path(.path)
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

    /// A record's label is not that of a class.
    #[error(
        "record {record} of {} has the label {label}, and labels run from 0 to 9: the file is damaged or is another \
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

    /// A file of the python layout can't be read.
    #[error("{} is no batch of CIFAR-10's layout for Python: {reason}", show_path(.path))]
    PythonBatch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A picture of an image folder can't be read.
    #[error(transparent)]
    Picture(#[from] PictureError),

    /// A split of an image folder is not there, or has no folders in it.
    #[error("{} is no folder with a folder for each class: pictures lie in train/CLASS and test/CLASS", show_path(.0))]
    NoClasses(PathBuf),

    /// Classes of an image folder have no pictures.
    #[error(
        "in {} there are folders without pictures (.jpg, .jpeg or .png), not even in folders inside them: {classes}; put \
         some there, or remove the folders", show_path(.folder)
    )]
    NoPictures {
        /// The split's folder.
        folder: PathBuf,
        /// The classes' names.
        classes: String,
    },

    /// An image folder is tested on what it does not learn.
    #[error("{} is the folder of a class that train does not have ({classes})", show_path(.path))]
    UnknownClass {
        /// The class's folder.
        path: PathBuf,
        /// The classes of `train`.
        classes: String,
    },

    /// Pictures in folders, but not of CIFAR-10's classes.
    #[error("the classes in {} are {classes}, and CIFAR-10 has others: open it with ImageFolder::open", show_path(.path))]
    OtherClasses {
        /// The image folder.
        path: PathBuf,
        /// Its classes.
        classes: String,
    },

    /// What lies in the cache can't be read.
    #[error(
        "the cache is damaged: {source}. Delete the folder {} and load again: it is then downloaded anew",
        show_path(.folder)
    )]
    DamagedCache {
        /// The folder in the cache.
        folder: PathBuf,
        /// What is wrong with it.
        source: Box<DatasetError>,
    },

    /// No cache folder can be named.
    #[error("no folder to keep the data in: set CIFAR_LAB_CACHE to one (HOME and XDG_CACHE_HOME are not set)")]
    NoCacheFolder,

    /// `CIFAR_LAB_DATA` has a value that means nothing.
    #[error("CIFAR_LAB_DATA is {0:?}: it is \"cifar-10\" (never the stand-in), \"stand-in\" (never CIFAR-10) or unset")]
    UnknownChoice(String),

    /// CIFAR-10 can't be had and `CIFAR_LAB_DATA=cifar-10` forbids the stand-in.
    #[error("CIFAR_LAB_DATA=cifar-10 forbids the stand-in, and CIFAR-10 could not be had: {0}")]
    StandInForbidden(Box<DatasetError>),

    /// The server could not be reached, or the connection broke too often.
    #[error(
        "downloading {url}{route} failed: {reason}{}", if *.kept > 0 {
            format!("; the {} already here are kept: load again to go on from there", megabytes(*.kept))
        } else {
            String::new()
        }
    )]
    Download {
        /// The address.
        url: String,
        /// Where it led, and through which proxy; empty where neither was so.
        route: String,
        /// What went wrong.
        reason: String,
        /// The bytes that a next try starts from.
        kept: u64,
    },

    /// The server answered with an error.
    #[error(
        "downloading {url}{route} failed: the server answered {status}; check the address (CIFAR10_URL, if it came from \
         there)"
    )]
    HttpStatus {
        /// The address.
        url: String,
        /// Where it led, and through which proxy; empty where neither was so.
        route: String,
        /// The HTTP status.
        status: u16,
    },

    /// The server offers a file of another length.
    #[error(
        "{url}{route} offers {found} bytes where the archive has {expected}: it is another file, and was not downloaded"
    )]
    ArchiveLength {
        /// The address.
        url: String,
        /// Where it led, and through which proxy; empty where neither was so.
        route: String,
        /// The archive's length in bytes.
        expected: u64,
        /// The length offered.
        found: u64,
    },

    /// What was downloaded is not the archive.
    #[error(
        "what came from {url} has the MD5 sum {found} where the archive has {expected}: it was deleted; load again, or \
         set CIFAR10_URL to another address"
    )]
    Checksum {
        /// The address.
        url: String,
        /// The archive's MD5 sum, in hexadecimal digits.
        expected: String,
        /// The MD5 sum found.
        found: String,
    },

    /// CIFAR-10's archive lies there, and nothing was told where to unpack it.
    #[error(
        "{} is an archive: set CIFAR10_DIR to it and call Cifar10::load, which unpacks it into the cache, or unpack it \
         with `tar -xzf`", show_path(.0)
    )]
    Packed(PathBuf),

    /// An archive on the disk is not CIFAR-10's.
    #[error(
        "{} is not CIFAR-10's archive, or was cut: its MD5 sum is {found}, that of cifar-10-binary.tar.gz is {binary}, and \
         that of cifar-10-python.tar.gz {python}; get it again", show_path(.path)
    )]
    OtherArchive {
        /// The archive.
        path: PathBuf,
        /// The MD5 sum of the archive of the binary layout.
        binary: String,
        /// The MD5 sum of the archive of the layout for Python.
        python: String,
        /// The MD5 sum found.
        found: String,
    },

    /// Writing the download failed, as on a full disk.
    #[error(
        "writing {} failed: {source}; the {} already written are kept: free some space, or set CIFAR_LAB_CACHE to a \
         folder elsewhere, and load again", show_path(.path), megabytes(*.kept)
    )]
    WriteDownload {
        /// The file that holds the part.
        path: PathBuf,
        /// The bytes it holds.
        kept: u64,
        /// What the system answered.
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
        "a data set of {labels} pictures of {channels}×{height}×{width} needs {expected} bytes of pixels, not {found}"
    )]
    PixelCount {
        /// The number of labels.
        labels: usize,
        /// The pictures' channels.
        channels: usize,
        /// The pictures' height.
        height: usize,
        /// The pictures' width.
        width: usize,
        /// The bytes wanted.
        expected: usize,
        /// The bytes given.
        found: usize,
    },

    /// A picture without pixels.
    #[error("pictures of {0}×{1}×{2} (channels, height, width) have no pixels: each is at least 1")]
    NoPixels(usize, usize, usize),

    /// A label has no class name.
    #[error("sample {index} has the label {label}, and there are {classes} class names")]
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
        /// The index asked for.
        index: usize,
        /// The number of samples.
        length: usize,
    },

    /// More samples were asked for than there are.
    #[error("{asked} samples were asked for, and the set has {length}")]
    Count {
        /// The number asked for.
        asked: usize,
        /// The number of samples.
        length: usize,
    },

    /// The samples asked for are not all there.
    #[error("samples {} to {} (exclusive) were asked for, and the set has {length}", .range.start, .range.end)]
    Range {
        /// The range asked for.
        range: Range<usize>,
        /// The number of samples.
        length: usize,
    },

    /// Pictures that can't be shown in colour or grey.
    #[error("a picture has 1 channel (grey) or 3 (red, green, blue), and these have {0}")]
    Channels(usize),

    /// A batch of no samples.
    #[error("the batch size is 0: a batch has at least 1 sample")]
    BatchSize,

    /// An epoch does not have that many batches.
    #[error("an epoch has {batches} batches, numbered from 0, and was to start at batch {first}")]
    FirstBatch {
        /// The batch asked for.
        first: usize,
        /// The number of batches.
        batches: usize,
    },

    /// A mean that can't be subtracted or a standard deviation that can't be divided by.
    #[error("normalising with mean {mean} and standard deviation {std}: both have to be finite, the second above 0")]
    Normalize {
        /// The channel's mean.
        mean: f32,
        /// The channel's standard deviation.
        std: f32,
    },

    /// Means and standard deviations of another number of channels.
    #[error("normalising has {means} means and {stds} standard deviations, and the pictures have {channels} channels")]
    NormalizeChannels {
        /// The number of means.
        means: usize,
        /// The number of standard deviations.
        stds: usize,
        /// The pictures' channels.
        channels: usize,
    },

    /// A probability that isn't one.
    #[error("the probability of a flip is {0}: it lies from 0 to 1")]
    Probability(f64),

    /// A padding that has nothing of the picture left in some crops.
    #[error("a random crop pads by {padding}, and the pictures have {height}×{width} pixels: pad by less than a side")]
    Padding {
        /// The padding asked for.
        padding: usize,
        /// The pictures' height.
        height: usize,
        /// The pictures' width.
        width: usize,
    },

    /// The thread that prepares batches could not start, or stopped.
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
    /// An [`Io`](Self::Io) error from what was tried on which path.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// "162.2 MB", in units of 1,000,000 bytes, or "512 bytes".
pub(crate) fn megabytes(bytes: u64) -> String {
    // Below that, "0.0 MB" would say nothing.
    if bytes < 100_000 { format!("{bytes} bytes") } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}
