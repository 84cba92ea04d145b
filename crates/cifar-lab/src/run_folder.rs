//! The folder for a notebook's results.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::paths::{folder_of_the_run, training_folders};

pub use crate::paths::{runs_folder, show_path};

/// Creates a new folder for a training run called `name`: `runs/20261124-101500-name` in the repository (the time is
/// UTC), or, under `cargo lab run`, the folder `name` beside the executed copy of the notebook. If the name is taken, a
/// number is appended, so that no two runs share a folder.
///
/// ```
/// # let temporary = tempfile::tempdir().unwrap();
/// # unsafe { std::env::set_var("CIFAR_LAB_RUN_DIR", temporary.path()) };
/// let folder = cifar_lab::run_folder::run_folder("first_try")?;
/// assert!(folder.is_dir() && folder.ends_with("first_try"));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Setting`] if `name` is not a plain file name, [`Error::File`] if the folder can't be created.
pub fn run_folder(name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    if !plain {
        return Err(Error::Setting {
            name: "name",
            value: format!("{name:?}"),
            reason: "a folder name may only contain letters, digits, spaces, - and _".into(),
        });
    }
    match folder_of_the_run() {
        Some(run) => new_folder(&run, name),
        None => {
            let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
            new_folder(&runs_folder(), &format!("{now}-{name}"))
        }
    }
}

/// The file in a [`resumable_folder`].
const GROUP_FILE: &str = "group.json";

/// What the runs in a [`resumable_folder`] were started with.
#[derive(Debug, Serialize, Deserialize)]
struct Group {
    name: String,
    settings: Value,
    /// In UTC.
    started: String,
    finished: bool,
}

impl Group {
    /// The one in `folder`; a damaged file is none.
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(GROUP_FILE)).ok()?).ok()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(GROUP_FILE);
        let written =
            serde_json::to_vec_pretty(self).map_err(Into::into).and_then(|text| write_atomically(&path, &text));
        written.map_err(|source| Error::File { action: "writing", path, source })
    }
}

/// The folder for training runs that belong together, such as a sweep, each in a folder of its own within. If the last
/// ones called `name` with these `settings` were interrupted before [`finish_folder`], it is theirs: started again in the
/// same place, [resumable](crate::training::Trainer::resumable) runs go on, and those that were finished are not trained
/// again. Otherwise it is new, as from [`run_folder`].
///
/// ```
/// use cifar_lab::prelude::*;
///
/// # let temporary = tempfile::tempdir().unwrap();
/// # unsafe { std::env::set_var("CIFAR_LAB_RUN_DIR", temporary.path()) };
/// let folder = resumable_folder("sweep", &json!({ "epochs": 3 }))?;
/// assert_eq!(resumable_folder("sweep", &json!({ "epochs": 3 }))?, folder);
/// assert_ne!(resumable_folder("sweep", &json!({ "epochs": 4 }))?, folder);
/// finish_folder(&folder)?;
/// assert_ne!(resumable_folder("sweep", &json!({ "epochs": 3 }))?, folder);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`run_folder`].
pub fn resumable_folder(name: &str, settings: &Value) -> Result<PathBuf> {
    // As read back.
    let settings: Value = serde_json::from_str(&settings.to_string()).unwrap_or_default();
    let earlier = training_folders(name).into_iter().filter_map(|folder| Some((Group::read(&folder)?, folder)));
    let same = earlier.filter(|(group, _)| group.name == name && group.settings == settings);
    match same.max_by(|(one, _), (other, _)| one.started.cmp(&other.started)) {
        Some((group, folder)) if !group.finished => Ok(folder),
        _ => {
            let folder = run_folder(name)?;
            let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string();
            Group { name: name.to_string(), settings, started, finished: false }.write(&folder)?;
            Ok(folder)
        }
    }
}

/// Says that all runs in a [`resumable_folder`] are done, so that the next ones get a new folder.
///
/// # Errors
/// [`Error::Setting`] if `folder` is no such folder, [`Error::File`] if it can't be written to.
pub fn finish_folder(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let group = Group::read(folder).ok_or_else(|| Error::Setting {
        name: "folder",
        value: show_path(folder),
        reason: "only a folder from resumable_folder can be finished".into(),
    })?;
    Group { finished: true, ..group }.write(folder)
}

/// Creates a new folder: `name`, or if that exists, `name-2` and so on.
fn new_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { action: "creating the folder", path, source }
    };
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let mut folder = parent.join(name);
    let mut number = 1;
    loop {
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                number += 1;
                folder = parent.join(format!("{name}-{number}"));
            }
            Err(error) => return Err(failed(&folder)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_name_are_not_shared_however_many_are_made_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let make = || new_folder(&parent.path().join("runs"), "20261124-101500-net").unwrap();
        let made: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| [make(), make()])).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let different: std::collections::HashSet<&PathBuf> = made.iter().collect();
        assert_eq!((made.len(), different.len()), (16, 16));
        assert!(made.iter().all(|folder| folder.is_dir()));
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        for name in ["", "..", "a/b", "a\\b", "a\0b"] {
            assert!(run_folder(name).is_err(), "{name:?}");
        }
    }
}
