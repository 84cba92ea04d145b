//! The folder for a notebook's results.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::paths::folder_of_the_run;

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
