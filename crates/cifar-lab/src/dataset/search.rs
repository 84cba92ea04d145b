//! The order in which CIFAR-10 is searched for.

use std::env;
use std::path::{Path, PathBuf};

use super::archive::ArchiveSource;
use super::cifar10::{ARCHIVE_FOLDER, Cifar10, archive_in};
use super::stand_in::{STAND_IN_SEED, STAND_IN_TEST, STAND_IN_TRAIN};
use super::{DatasetError, Result};

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
