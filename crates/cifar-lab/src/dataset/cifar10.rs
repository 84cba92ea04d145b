//! CIFAR-10, and the order in which it is searched for.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{ARCHIVE_FOLDER, ArchiveSource, PYTHON_FOLDER, archive_in};
use super::image_folder::{self, ImageFolder};
use super::python_layout::read_python_batch;
use super::records::{PICTURE_LENGTH, SHAPE, read_records};
use super::stand_in::{self, STAND_IN_SEED, STAND_IN_TEST, STAND_IN_TRAIN};
use super::{Dataset, DatasetError, Result, Source, Split};
use crate::paths::show_path;

/// The ten classes as PyTorch's tutorial and the original notebook name them, in the order of the labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILE: &str = "test_batch.bin";

/// CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): 50,000 pictures to learn from
/// and 10,000 to be tested on, in ten classes; or the generated stand-in where CIFAR-10 can't be had.
///
/// ```
/// use cifar_lab::dataset::Cifar10;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let data = Cifar10::stand_in(0, 100, 20);
/// println!("{data}");
/// assert!(data.train.is_stand_in());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cifar10 {
    /// What the network learns from.
    pub train: Dataset,
    /// What it is tested on.
    pub test: Dataset,
}

impl Cifar10 {
    /// CIFAR-10 from the first place that has it, or the stand-in; a printed line says which and why.
    ///
    /// 1. `CIFAR10_DIR`, a folder as [`from_folder`](Self::from_folder) takes; or a published archive
    ///    (`cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`) or the folder it lies in, which is unpacked into the
    ///    cache. An error when it is set and wrong.
    /// 2. The cache: `CIFAR_LAB_CACHE`, or `cifar-lab` in `XDG_CACHE_HOME` or in `~/.cache`.
    /// 3. The published archive, downloaded once into the cache (162 MiB; `CIFAR10_URL` names another address).
    /// 4. The stand-in, when the archive can't be reached.
    ///
    /// `CIFAR_LAB_DATA=stand-in` takes the stand-in at once; `CIFAR_LAB_DATA=cifar-10` makes step 4 an error.
    ///
    /// # Errors
    /// When `CIFAR10_DIR` is wrong, the cache is damaged, what was downloaded is not the archive or can't be
    /// written, or the stand-in is forbidden and needed.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let data = cifar_lab::dataset::Cifar10::load()?;
    /// println!("{}", data.train.name());
    /// # Ok(())
    /// # }
    /// ```
    pub fn load() -> Result<Self> {
        Search::from_environment()?.load(&mut |line| println!("{line}"))
    }

    /// CIFAR-10 from a folder, or from `cifar-10-batches-bin` or `cifar-10-batches-py` in it, in one of three layouts:
    /// the binary one (`data_batch_1.bin`, …), the one for Python (`data_batch_1`, …; nothing in it is executed), or
    /// pictures in folders (`train/cat/1.jpg`, …; see [`ImageFolder`]).
    ///
    /// # Errors
    /// When the folder or one of the files is missing, a file is cut or damaged, or pictures are of other classes;
    /// [`DatasetError::Packed`] for an archive, which [`load`](Self::load) unpacks.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let data = cifar_lab::dataset::Cifar10::from_folder("cifar-10-batches-bin")?;
    /// assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
    /// # Ok(())
    /// # }
    /// ```
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
            Self::from_batches(&folder, |name| name, read_records)
        } else if has(without_ending(TEST_FILE)) || has(without_ending(TRAIN_FILES[0])) {
            Self::from_batches(&folder, without_ending, read_python_batch)
        } else if image_folder::is_image_folder(&folder) {
            Self::from_pictures(&folder)
        } else {
            let missing = || DatasetError::MissingFile(folder.join(TRAIN_FILES[0]));
            Err(archive_in(given).map_or_else(missing, DatasetError::Packed))
        }
    }

    /// From files that `read` reads, called as `name` makes of the binary layout's names.
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
            // All of the memory at once: growing would hold the pixels twice for a moment.
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

    /// From pictures in folders, of CIFAR-10's classes.
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

    /// The stand-in: `train` and `test` pictures of ten kinds of shapes and textures, drawn from `seed`. The same seed
    /// gives the same pictures, and fewer of them are the first ones of more.
    ///
    /// # Panics
    /// When they don't fit into the memory, as [`Vec`] does: a picture takes 3,072 bytes.
    ///
    /// ```
    /// use cifar_lab::dataset::Cifar10;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (small, large) = (Cifar10::stand_in(3, 20, 0), Cifar10::stand_in(3, 40, 10));
    /// assert_eq!(small.train.pixels(19)?, large.train.pixels(19)?);
    /// assert_eq!(large.train.name(), "stand-in (generated pictures, not CIFAR-10)");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stand_in(seed: u64, train: usize, test: usize) -> Self {
        let set = |split, count| stand_in::generate(seed, split, count);
        Self { train: set(Split::Train, train), test: set(Split::Test, test) }
    }
}

impl fmt::Display for Cifar10 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, train, test) = (self.train.name(), self.train.len(), self.test.len());
        write!(f, "{name}: {train} pictures to learn from, {test} to be tested on")?;
        match self.train.source() {
            Source::Cifar10(folder) => write!(f, ", read from {}", show_path(folder)),
            Source::StandIn { seed } => write!(f, ", from the seed {seed}"),
            Source::Named(_) => Ok(()),
        }
    }
}

/// A file's name in the layout for Python.
fn without_ending(name: &'static str) -> &'static str {
    name.strip_suffix(".bin").unwrap_or(name)
}

/// What to do about CIFAR-10: `CIFAR_LAB_DATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// CIFAR-10 where it can be had, else the stand-in.
    #[default]
    Either,
    /// CIFAR-10 or an error.
    Cifar10,
    /// The stand-in, without looking for CIFAR-10.
    StandIn,
}

/// Where CIFAR-10 is searched for. [`Cifar10::load`] takes it from the environment; a program can set it itself.
///
/// ```
/// use cifar_lab::dataset::{ArchiveSource, Choice, Search};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let archive = ArchiveSource::published();
/// let search = Search { folder: None, cache: None, archive, choice: Choice::StandIn };
/// let data = search.load(&mut |line| println!("{line}"))?;
/// assert!(data.train.is_stand_in());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    /// A folder as [`Cifar10::from_folder`] takes, or a published archive; where it is given, nothing else is tried.
    pub folder: Option<PathBuf>,
    /// The folder that keeps what was downloaded.
    pub cache: Option<PathBuf>,
    /// The archive to download.
    pub archive: ArchiveSource,
    /// CIFAR-10, the stand-in, or whichever can be had.
    pub choice: Choice,
}

impl Search {
    /// The search that the environment asks for: see [`Cifar10::load`]. An empty variable counts as unset.
    ///
    /// # Errors
    /// When `CIFAR_LAB_DATA` is neither "cifar-10" nor "stand-in".
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()), env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<std::ffi::OsString>, home: Option<PathBuf>) -> Result<Self> {
        let path = |name: &str| variable(name).map(PathBuf::from);
        let choice = match variable("CIFAR_LAB_DATA").map(|value| value.to_string_lossy().into_owned()) {
            None => Choice::Either,
            Some(value) if value == "cifar-10" => Choice::Cifar10,
            Some(value) if value == "stand-in" => Choice::StandIn,
            Some(value) => return Err(DatasetError::UnknownChoice(value)),
        };
        // The XDG base directory specification: a relative path is invalid and to be ignored.
        let xdg = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let user_cache = xdg.or(home.map(|home| home.join(".cache"))).map(|cache| cache.join("cifar-lab"));
        let mut archive = ArchiveSource::published();
        if let Some(url) = variable("CIFAR10_URL") {
            archive.url = url.to_string_lossy().into_owned();
        }
        Ok(Self { folder: path("CIFAR10_DIR"), cache: path("CIFAR_LAB_CACHE").or(user_cache), archive, choice })
    }

    /// Searches, and tells `report` in a line or two what was taken and why; a download reports its progress.
    ///
    /// # Errors
    /// As [`Cifar10::load`].
    pub fn load(&self, report: &mut dyn FnMut(&str)) -> Result<Cifar10> {
        if self.choice == Choice::StandIn {
            return Ok(stand_in_for("CIFAR_LAB_DATA=stand-in", report));
        }
        let data = match &self.folder {
            Some(folder) => match Cifar10::from_folder(folder) {
                Err(DatasetError::Packed(archive)) => self.unpacked(&archive, report)?,
                read => read?,
            },
            None => match self.cached(report) {
                Ok(data) => data,
                // What only the network is to blame for: the lesson goes on with the stand-in.
                Err(
                    error @ (DatasetError::Download { .. }
                    | DatasetError::HttpStatus { .. }
                    | DatasetError::ArchiveLength { .. }
                    | DatasetError::NoCacheFolder),
                ) => match self.choice {
                    Choice::Cifar10 => return Err(DatasetError::StandInForbidden(Box::new(error))),
                    _ => return Ok(stand_in_for(&error.to_string(), report)),
                },
                Err(error) => return Err(error),
            },
        };
        report(&data.to_string());
        Ok(data)
    }

    fn cached(&self, report: &mut dyn FnMut(&str)) -> Result<Cifar10> {
        let cache = self.cache.as_ref().ok_or(DatasetError::NoCacheFolder)?;
        let folder = cache.join(ARCHIVE_FOLDER);
        if folder.is_dir() {
            return from_cache(folder);
        }
        // Someone may have put the archive there.
        match archive_in(cache) {
            Some(archive) => self.unpacked(&archive, report),
            None => from_cache(self.archive.fetch(cache, report)?),
        }
    }

    fn unpacked(&self, archive: &Path, report: &mut dyn FnMut(&str)) -> Result<Cifar10> {
        let cache = self.cache.as_ref().ok_or(DatasetError::NoCacheFolder)?;
        from_cache(self.archive.unpack_local(archive, cache, report)?)
    }
}

/// From a folder that was unpacked here.
fn from_cache(folder: PathBuf) -> Result<Cifar10> {
    Cifar10::from_folder(&folder).map_err(|source| DatasetError::DamagedCache { folder, source: Box::new(source) })
}

/// The stand-in of the usual size, after telling why.
fn stand_in_for(why: &str, report: &mut dyn FnMut(&str)) -> Cifar10 {
    let data = Cifar10::stand_in(STAND_IN_SEED, STAND_IN_TRAIN, STAND_IN_TEST);
    report(&format!("No CIFAR-10: {why}."));
    report(&format!("Used instead: {data}. To use CIFAR-10, set CIFAR10_DIR to the folder of its .bin files."));
    data
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn search(variables: &[(&str, &str)]) -> Result<Search> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Search::from_variables(variable, Some("/home/ada".into()))
    }

    #[test]
    fn the_environment_names_the_places() {
        let plain = search(&[]).unwrap();
        assert_eq!(plain.cache.as_deref(), Some(Path::new("/home/ada/.cache/cifar-lab")));
        assert_eq!((plain.folder, plain.choice), (None, Choice::Either));
        assert_eq!(plain.archive, ArchiveSource::published());

        let xdg = search(&[("XDG_CACHE_HOME", "/var/cache")]).unwrap();
        assert_eq!(xdg.cache.as_deref(), Some(Path::new("/var/cache/cifar-lab")));
        let relative = search(&[("XDG_CACHE_HOME", "cache")]).unwrap();
        assert_eq!(relative.cache.as_deref(), Some(Path::new("/home/ada/.cache/cifar-lab")));

        let all = [
            ("XDG_CACHE_HOME", "/var/cache"),
            ("CIFAR_LAB_CACHE", "/data/lab"),
            ("CIFAR10_DIR", "/data/cifar"),
            ("CIFAR10_URL", "http://mirror/c.tar.gz"),
            ("CIFAR_LAB_DATA", "cifar-10"),
        ];
        let all = search(&all).unwrap();
        assert_eq!(all.cache.as_deref(), Some(Path::new("/data/lab")));
        assert_eq!(all.folder.as_deref(), Some(Path::new("/data/cifar")));
        assert_eq!((all.archive.url.as_str(), all.choice), ("http://mirror/c.tar.gz", Choice::Cifar10));
    }

    #[test]
    fn an_unknown_choice_is_an_error_that_shows_it() {
        let error = search(&[("CIFAR_LAB_DATA", "cifar10")]).unwrap_err();
        assert!(matches!(&error, DatasetError::UnknownChoice(value) if value == "cifar10"), "{error}");
    }
}
