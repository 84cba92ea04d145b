//! CIFAR-10 from a folder, in one of its layouts.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::image_folder::{self, ImageFolder};
use super::python_layout::read_python_batch;
use super::records::{CIFAR10_CLASSES, PICTURE_LENGTH, SHAPE, read_records};
use super::stand_in;
use super::{Dataset, DatasetError, Result, Source, Split};
use crate::paths::show_path;

/// The folder in the archive, and therefore in the cache.
pub(super) const ARCHIVE_FOLDER: &str = "cifar-10-batches-bin";
/// The folder in the published archive of the Python layout.
pub(super) const PYTHON_FOLDER: &str = "cifar-10-batches-py";
/// The names of the published archives.
const ARCHIVE_FILES: [&str; 2] = ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"];
const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILE: &str = "test_batch.bin";

/// CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): 50,000
/// training and 10,000 test images in ten classes; or the generated stand-in where CIFAR-10 is not available.
///
/// ```
/// use cifar_lab::dataset::Cifar10;
///
/// let (small, large) = (Cifar10::stand_in(3, 20, 0), Cifar10::stand_in(3, 40, 10));
/// assert_eq!(small.train.pixels(19)?, large.train.pixels(19)?);
/// assert_eq!(large.train.name(), "stand-in (generated images, not CIFAR-10)");
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cifar10 {
    /// The training images.
    pub train: Dataset,
    /// The test images.
    pub test: Dataset,
}

impl Cifar10 {
    /// CIFAR-10 from a folder, or from `cifar-10-batches-bin` or `cifar-10-batches-py` in it, in one of three layouts:
    /// the binary one (`data_batch_1.bin`, …), the Python one (`data_batch_1`, …; nothing in it is executed), or
    /// image files in folders (`train/cat/1.jpg`, …; see [`ImageFolder`]).
    ///
    /// # Errors
    /// If the folder or one of the files is missing, a file is truncated or damaged, or the classes are not CIFAR-10's;
    /// [`DatasetError::Packed`] for an archive, which [`load`](Self::load) unpacks.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let given = folder.as_ref();
        if !given.is_dir() {
            let packed = given.is_file() && given.extension().is_some_and(|ending| ending == "gz" || ending == "tgz");
            let error = if packed { DatasetError::Packed } else { DatasetError::MissingFolder };
            return Err(error(given.into()));
        }
        let inside = [ARCHIVE_FOLDER, PYTHON_FOLDER].map(|name| given.join(name));
        let folder = inside.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| given.to_path_buf());
        let has = |name: &str| folder.join(name).is_file();
        if has(TEST_FILE) || has(TRAIN_FILES[0]) {
            Self::from_batches(&folder, |name| name, |path, pixels, labels| read_records(path, pixels, labels))
        } else if has(without_ending(TEST_FILE)) || has(without_ending(TRAIN_FILES[0])) {
            Self::from_batches(&folder, without_ending, read_python_batch)
        } else if image_folder::is_image_folder(&folder) {
            Self::from_pictures(&folder)
        } else {
            let missing = || DatasetError::MissingFile(folder.join(TRAIN_FILES[0]));
            Err(archive_in(given).map_or_else(missing, DatasetError::Packed))
        }
    }

    /// From files that `read` reads; `name` turns the binary layout's file names into theirs.
    fn from_batches(
        folder: &Path,
        name: impl Fn(&'static str) -> &'static str,
        read: impl Fn(&Path, &mut Vec<u8>, &mut Vec<u32>) -> Result<()>,
    ) -> Result<Self> {
        let set = |split, names: &[&'static str]| -> Result<Dataset> {
            let files: Vec<PathBuf> = names.iter().map(|file| folder.join(name(file))).collect();
            let mut bytes = 0;
            for path in &files {
                let length = fs::metadata(path).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => DatasetError::MissingFile(path.clone()),
                    _ => DatasetError::io("reading", path)(error),
                })?;
                bytes += length.len() as usize;
            }
            // Reserved at once: growing would briefly hold the pixels twice.
            let mut pixels = Vec::with_capacity(bytes);
            let mut labels = Vec::with_capacity(bytes / PICTURE_LENGTH);
            for path in &files {
                read(path, &mut pixels, &mut labels)?;
            }
            let class_names = CIFAR10_CLASSES.map(String::from).to_vec();
            Dataset::new(Source::Cifar10(folder.to_path_buf()), split, SHAPE, class_names, pixels, labels)
        };
        Ok(Self { train: set(Split::Train, &TRAIN_FILES)?, test: set(Split::Test, &[TEST_FILE])? })
    }

    /// From image files in a folder for each of CIFAR-10's classes.
    fn from_pictures(folder: &Path) -> Result<Self> {
        let classes = image_folder::classes_in_order(folder)?;
        if !image_folder::are_cifar10s(&classes) {
            let classes = image_folder::names(&classes).join(", ");
            return Err(DatasetError::OtherClasses { path: folder.into(), classes });
        }
        let (names, source) = (CIFAR10_CLASSES.map(String::from).to_vec(), Source::Cifar10(folder.to_path_buf()));
        let ImageFolder { train, test } = ImageFolder::read(folder, &classes, names, source)?;
        Ok(Self { train, test })
    }

    /// The stand-in: `train` and `test` images of ten kinds of shapes and textures, generated from `seed`. The same seed
    /// gives the same images, and a smaller set is the beginning of a larger one.
    ///
    /// # Panics
    /// If they don't fit into memory, like [`Vec`]: an image takes 3,072 bytes.
    pub fn stand_in(seed: u64, train: usize, test: usize) -> Self {
        let set = |split, count| stand_in::generate(seed, split, count);
        Self { train: set(Split::Train, train), test: set(Split::Test, test) }
    }
}

impl fmt::Display for Cifar10 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, train, test) = (self.train.name(), self.train.len(), self.test.len());
        write!(f, "{name}: {train} training images, {test} test images")?;
        match self.train.source() {
            Source::Cifar10(folder) => write!(f, ", read from {}", show_path(folder)),
            Source::StandIn { seed } => write!(f, ", from the seed {seed}"),
            Source::Named(_) => Ok(()),
        }
    }
}

/// The published archive in `folder`, of either layout.
pub(super) fn archive_in(folder: &Path) -> Option<PathBuf> {
    ARCHIVE_FILES.map(|name| folder.join(name)).into_iter().find(|path| path.is_file())
}

/// A file's name in the Python layout.
fn without_ending(name: &'static str) -> &'static str {
    name.strip_suffix(".bin").unwrap_or(name)
}
