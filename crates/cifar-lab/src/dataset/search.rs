//! Where CIFAR-10 is searched for, and in which order.

use std::env;
use std::path::{Path, PathBuf};

use super::archive::ArchiveSource;
use super::cifar10::{ARCHIVE_FOLDER, Cifar10, archive_in};
use super::stand_in::{STAND_IN_SEED, STAND_IN_TEST, STAND_IN_TRAIN};
use super::{DatasetError, Result};

impl Cifar10 {
    /// CIFAR-10 from the first place that has it, or the stand-in; prints which, and why.
    ///
    /// 1. `CIFAR10_DIR`: a folder for [`from_folder`](Self::from_folder); or a published archive
    ///    (`cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`) or a folder with one, which is unpacked into the cache.
    ///    If it is set and wrong, that is an error.
    /// 2. The cache: `CIFAR_LAB_CACHE`, or `cifar-lab` in `XDG_CACHE_HOME` or in `~/.cache`.
    /// 3. The published archive, downloaded once into the cache (162 MiB; `CIFAR10_URL` names another address).
    /// 4. The stand-in, if the archive can't be reached.
    ///
    /// `CIFAR_LAB_DATA=stand-in` uses the stand-in at once; `CIFAR_LAB_DATA=cifar-10` makes step 4 an error.
    ///
    /// # Errors
    /// If `CIFAR10_DIR` is wrong, the cache is damaged, the download is not the archive or can't be written, or the
    /// stand-in is needed but forbidden.
    pub fn load() -> Result<Self> {
        Search::from_environment()?.load(&mut |line| println!("{line}"))
    }
}

/// Which data set to take: `CIFAR_LAB_DATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// CIFAR-10 if it is available, else the stand-in.
    #[default]
    Either,
    /// CIFAR-10 or an error.
    Cifar10,
    /// The stand-in; CIFAR-10 is not searched for.
    StandIn,
}

/// Where CIFAR-10 is searched for. [`Cifar10::load`] takes this from the environment; a program can set it itself.
///
/// ```
/// use cifar_lab::dataset::{ArchiveSource, Choice, Search};
///
/// let archive = ArchiveSource::published();
/// let search = Search { folder: None, cache: None, archive, choice: Choice::StandIn };
/// let data = search.load(&mut |line| println!("{line}"))?;
/// assert!(data.train.is_stand_in());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    /// A folder for [`Cifar10::from_folder`], or a published archive; if given, nothing else is tried.
    pub folder: Option<PathBuf>,
    /// The folder that keeps downloads.
    pub cache: Option<PathBuf>,
    /// The archive to download.
    pub archive: ArchiveSource,
    /// CIFAR-10, the stand-in, or whichever is available.
    pub choice: Choice,
}

impl Search {
    /// The search that the environment asks for; see [`Cifar10::load`]. An empty variable counts as unset.
    ///
    /// # Errors
    /// If `CIFAR_LAB_DATA` is neither "cifar-10" nor "stand-in".
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
        // XDG base directory specification: a relative path is invalid and ignored.
        let xdg = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let user_cache = xdg.or(home.map(|home| home.join(".cache"))).map(|cache| cache.join("cifar-lab"));
        let mut archive = ArchiveSource::published();
        if let Some(url) = variable("CIFAR10_URL") {
            archive.url = url.to_string_lossy().into_owned();
        }
        Ok(Self { folder: path("CIFAR10_DIR"), cache: path("CIFAR_LAB_CACHE").or(user_cache), archive, choice })
    }

    /// Searches, and reports in a line or two what was found and why; a download reports its progress.
    ///
    /// # Errors
    /// Those of [`Cifar10::load`].
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
                // Only the network is at fault: the lesson continues with the stand-in.
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

/// Reads a folder that was unpacked here.
fn from_cache(folder: PathBuf) -> Result<Cifar10> {
    Cifar10::from_folder(&folder).map_err(|source| DatasetError::DamagedCache { folder, source: Box::new(source) })
}

/// The stand-in in its usual size; reports why.
fn stand_in_for(why: &str, report: &mut dyn FnMut(&str)) -> Cifar10 {
    let data = Cifar10::stand_in(STAND_IN_SEED, STAND_IN_TRAIN, STAND_IN_TEST);
    report(&format!("No CIFAR-10: {why}."));
    report(&format!("Using {data} instead. To use CIFAR-10, set CIFAR10_DIR to the folder with its .bin files."));
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
