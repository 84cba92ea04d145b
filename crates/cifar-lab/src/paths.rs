//! The folders that everything knows: the repository, its runs, the notebook's; and how a path is shown.

use std::path::{Path, PathBuf};

/// The folder that `cargo lab run` names for the notebook it runs.
const RUN_FOLDER: &str = "CIFAR_LAB_RUN_DIR";

/// The folder of the run in progress, where `cargo lab run` started it.
pub(crate) fn folder_of_the_run() -> Option<PathBuf> {
    std::env::var_os(RUN_FOLDER).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The folder that all runs are in, whether it is there already or not: `runs/` at the repository's root. For an
/// exported notebook on a machine without the repository it is `runs/` in the current folder.
///
/// ```
/// assert!(cifar_lab::run_folder::runs_folder().ends_with("runs"));
/// ```
pub fn runs_folder() -> PathBuf {
    repository().join("runs")
}

/// The folder that the notebook lies in: the process's own, or that of the copy that `cargo lab run` executes.
pub(crate) fn notebook_folder() -> PathBuf {
    folder_of_the_run().unwrap_or_else(|| PathBuf::from("."))
}

/// The repository that this crate was compiled in, or, for a program that runs on a machine without it, the current
/// folder.
pub(crate) fn repository() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize();
    repository.or_else(|_| std::env::current_dir()).unwrap_or_else(|_| PathBuf::from("."))
}

/// `path` as a notebook shows it: from the repository's root, or from `~`, so that a saved notebook names nobody's home
/// folder.
///
/// ```
/// use std::path::Path;
/// assert_eq!(cifar_lab::run_folder::show_path(Path::new("elsewhere/a.svg")), "elsewhere/a.svg");
/// if let Some(home) = std::env::home_dir() {
///     assert_eq!(cifar_lab::run_folder::show_path(&home.join("a.svg")), "~/a.svg");
/// }
/// ```
pub fn show_path(path: &Path) -> String {
    if let Ok(inside) = path.strip_prefix(repository()) {
        return inside.display().to_string();
    }
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(inside) => Path::new("~").join(inside).display().to_string(),
        None => path.display().to_string(),
    }
}
