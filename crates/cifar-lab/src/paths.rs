//! The repository's folder, its runs, the notebook's folder; and how a path is shown.

use std::path::{Path, PathBuf};

/// The folder in which `cargo lab run` puts the results of the notebook it runs.
const RUN_FOLDER: &str = "CIFAR_LAB_RUN_DIR";

/// The folder of the current `cargo lab run`; `None` outside of one.
pub(crate) fn folder_of_the_run() -> Option<PathBuf> {
    std::env::var_os(RUN_FOLDER).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// The folder of all runs, `runs/` at the repository's root, whether or not it exists. For an exported notebook on a
/// machine without the repository it is `runs/` in the current folder.
pub fn runs_folder() -> PathBuf {
    repository().join("runs")
}

/// The folders that trainings called `name` may have made with `run_folder`.
pub(crate) fn training_folders(name: &str) -> Vec<PathBuf> {
    let (parent, with_time) = match folder_of_the_run() {
        Some(run) => (run, false),
        None => (runs_folder(), true),
    };
    let folders = std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let made_for = |path: &PathBuf| {
        let found = path.file_name().and_then(|found| found.to_str()).unwrap_or_default();
        // `20261124-101500-name`, and `-2` where the name was taken.
        let found = if with_time { found.splitn(3, '-').nth(2) } else { Some(found) };
        found.and_then(|found| found.strip_prefix(name)).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    folders.filter(made_for).collect()
}

/// The notebook's folder: the process's current one, or that of the copy that `cargo lab run` executes.
pub(crate) fn notebook_folder() -> PathBuf {
    folder_of_the_run().unwrap_or_else(|| PathBuf::from("."))
}

/// The repository that this crate was compiled in; on a machine without it, the current folder.
pub(crate) fn repository() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize();
    repository.or_else(|_| std::env::current_dir()).unwrap_or_else(|_| PathBuf::from("."))
}

/// `path` as a notebook shows it: relative to the repository or to `~`, so that a saved notebook doesn't reveal anyone's
/// home folder.
pub fn show_path(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    if let Ok(inside) = path.strip_prefix(repository()) {
        return inside.display().to_string();
    }
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    match home.and_then(|home| path.strip_prefix(home).ok().map(Path::to_path_buf)) {
        Some(inside) => Path::new("~").join(inside).display().to_string(),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_paths_reveal_no_home_folder() {
        assert_eq!(show_path("elsewhere/a.svg"), "elsewhere/a.svg");
        assert_eq!(show_path(repository().join("runs/a.svg")), "runs/a.svg");
        if let Some(home) = std::env::home_dir() {
            assert_eq!(show_path(home.join("a.svg")), "~/a.svg");
        }
    }
}
