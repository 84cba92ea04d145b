//! Pictures in folders: `train/CLASS/*.jpg` and `test/CLASS/*.jpg` (or `.png`), like torchvision's ImageFolder.
//! `tests/with_torchvision.py` compares the two.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::records::{CIFAR10_CLASSES, PICTURE_LENGTH, SHAPE};
use super::{Dataset, DatasetError, Result, Source, Split};
use crate::interrupt;
use crate::picture;

/// CIFAR-10's classes under its authors' names, in the order of the labels.
const PUBLISHED_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Your own pictures: a folder for each split, and in it one for each class.
///
/// ```text
/// pets/train/cat/1.jpg   pets/train/dog/rex.png   …
/// pets/test/cat/7.jpg    pets/test/dog/bella.jpg  …
/// ```
///
/// The folders' names are the classes, in the order of their bytes ("10" before "2"); CIFAR-10's names (plane or airplane,
/// car or automobile, …) are in CIFAR-10's order. Folders inside a class's folder are searched too
/// (`n01443537/images/0.jpg`), and links are followed. Pictures of any size become 32×32, as described at
/// [`Predictor::predict`](crate::predict::Predictor::predict).
///
/// Finds the same files and classes in `train` and in `test` as torchvision's `ImageFolder`, except:
///
/// - The classes take turns, so the first pictures cover all classes; within a class the order is torchvision's.
/// - Hidden files and folders (`._1.jpg`, `.ipynb_checkpoints`) are skipped.
/// - A link to one of its own parent folders is not followed.
/// - A file named like a picture (`.webp`, `.tif`, `.gif`, `.heic`, …) that is neither JPEG nor PNG is an error.
/// - `test` may lack classes of `train`; labels are numbered as in `train`.
///
/// As in torchvision, other files are skipped, and so are files beside the classes' folders.
///
/// ```
/// use cifar_lab::dataset::ImageFolder;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// for (split, class, color) in [("train", "moss", 90), ("train", "clay", 200), ("test", "moss", 80)] {
///     std::fs::create_dir_all(folder.path().join(split).join(class))?;
///     let picture = image::RgbImage::from_pixel(40, 50, image::Rgb([color, 90, 20]));
///     picture.save(folder.path().join(split).join(class).join("1.png"))?;
/// }
/// let data = ImageFolder::open(folder.path())?;
/// assert_eq!(data.train.class_names(), ["clay", "moss"]);
/// assert_eq!((data.train.len(), data.test.labels()), (2, vec![1]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ImageFolder {
    /// The training images.
    pub train: Dataset,
    /// The test images.
    pub test: Dataset,
}

impl ImageFolder {
    /// Reads the pictures in `folder`, which contains the folders `train` and `test`.
    ///
    /// # Errors
    /// If `train` or `test` is missing or has no classes, a class has no pictures, `test` has a class that `train` lacks,
    /// or a picture can't be read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // `.` has a name too.
        let name = folder.canonicalize().ok().and_then(|full| Some(shown(full.file_name()?)));
        let source = Source::Named(name.unwrap_or_else(|| folder.display().to_string()));
        let classes = classes_in_order(folder)?;
        Self::read(folder, &classes, names(&classes), source)
    }

    /// `classes` are the folders, `names` the classes' names.
    pub(super) fn read(folder: &Path, classes: &[OsString], names: Vec<String>, source: Source) -> Result<Self> {
        let [of_train, of_test] = ["train", "test"].map(|split| folder.join(split));
        if let Some(class) = folders(&of_test)?.into_iter().find(|class| !classes.contains(class)) {
            return Err(DatasetError::UnknownClass { path: of_test.join(class), classes: names.join(", ") });
        }
        let train = read_split(&of_train, Split::Train, classes, names.clone(), source.clone())?;
        let test = read_split(&of_test, Split::Test, classes, names, source)?;
        Ok(Self { train, test })
    }
}

impl fmt::Display for ImageFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, train, test) = (self.train.name(), self.train.len(), self.test.len());
        let classes = self.train.class_names().len();
        write!(f, "{name}: {train} training images, {test} test images, {classes} classes")
    }
}

/// Whether a folder looks like an image folder.
pub(super) fn is_image_folder(folder: &Path) -> bool {
    folder.join("train").is_dir() && folder.join("test").is_dir()
}

/// The folders of an image folder's classes, in the order of their labels.
pub(super) fn classes_in_order(folder: &Path) -> Result<Vec<OsString>> {
    let sorted = folders(&folder.join("train"))?;
    // The published names are in alphabetical order, the shorter ones are not.
    let mut shorter = CIFAR10_CLASSES;
    shorter.sort();
    Ok(if sorted == shorter { CIFAR10_CLASSES.map(OsString::from).to_vec() } else { sorted })
}

/// Whether these are CIFAR-10's classes, in its order.
pub(super) fn are_cifar10s(classes: &[OsString]) -> bool {
    classes == CIFAR10_CLASSES || classes == PUBLISHED_CLASSES
}

/// The names of the classes in these folders.
pub(super) fn names(classes: &[OsString]) -> Vec<String> {
    classes.iter().map(|class| shown(class)).collect()
}

/// A file's name as text; bytes that are not UTF-8 become `\xE9`, so that different names stay different.
fn shown(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02X}"));
    }
    text
}

/// The names of the folders in `folder`, sorted.
fn folders(folder: &Path) -> Result<Vec<OsString>> {
    if !folder.is_dir() {
        return Err(DatasetError::NoClasses(folder.into()));
    }
    let folders = entries(folder)?.into_iter().filter(|path| path.is_dir());
    let names: Vec<OsString> = folders.map(|path| path.file_name().unwrap_or_default().to_os_string()).collect();
    if names.is_empty() { Err(DatasetError::NoClasses(folder.into())) } else { Ok(names) }
}

/// The entries of a folder that are not hidden, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || DatasetError::io("reading the folder", folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The pictures in a class's folder and the folders inside it, in torchvision's order: folder by folder, by the text of
/// the folder's path, in which `cat.2` comes before `cat/2`.
fn pictures(class: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    add_pictures(class, &mut Vec::new(), &mut pictures)?;
    pictures.sort_by(|a, b| {
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("")).as_os_str().to_os_string();
        folder(a).cmp(&folder(b)).then_with(|| a.file_name().cmp(&b.file_name()))
    });
    Ok(pictures)
}

/// `above` are the folders on the way here, without links.
fn add_pictures(folder: &Path, above: &mut Vec<PathBuf>, pictures: &mut Vec<PathBuf>) -> Result<()> {
    let real = folder.canonicalize().map_err(DatasetError::io("reading the folder", folder))?;
    // A link to a parent folder would be followed forever.
    if above.iter().any(|above| above.starts_with(&real)) {
        return Ok(());
    }
    above.push(real);
    for path in entries(folder)? {
        if path.is_dir() {
            add_pictures(&path, above, pictures)?;
        } else if picture::has_ending(&path) {
            pictures.push(path);
        }
    }
    above.pop();
    Ok(())
}

/// Reads a split: `classes` are the folders, `names` the classes' names.
fn read_split(
    folder: &Path,
    split: Split,
    classes: &[OsString],
    names: Vec<String>,
    source: Source,
) -> Result<Dataset> {
    // By place in their class first, then by class: the classes take turns.
    let mut files: BTreeMap<(usize, u32), PathBuf> = BTreeMap::new();
    let mut empty = Vec::new();
    for (label, class) in (0..).zip(classes) {
        let folder = folder.join(class);
        if folder.is_dir() {
            let pictures = pictures(&folder)?;
            if pictures.is_empty() {
                empty.push(shown(class));
            }
            files.extend(pictures.into_iter().enumerate().map(|(place, path)| ((place, label), path)));
        }
    }
    if !empty.is_empty() {
        return Err(DatasetError::NoPictures { folder: folder.into(), classes: empty.join(", ") });
    }
    let (channels, height, width) = SHAPE;
    let mut pixels = Vec::with_capacity(files.len() * PICTURE_LENGTH);
    for path in files.values() {
        if interrupt::is_requested() {
            return Err(DatasetError::Interrupted("not all pictures were read; run the cell again"));
        }
        let middle = picture::middle(&picture::open(path)?, width as u32, height as u32)?;
        pixels.extend(picture::planes(&picture::resize(&middle, width as u32, height as u32), channels));
    }
    let labels = files.into_keys().map(|(_, label)| label).collect();
    Dataset::new(source, split, SHAPE, names, pixels, labels)
}
