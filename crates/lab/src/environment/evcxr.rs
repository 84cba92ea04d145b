//! Finding evcxr_jupyter in the environment, in the cache or on PATH, or compiling it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::kernel::folder::user_cache;
use crate::kernel::settings::{EVCXR_SERIES, EVCXR_VERSION};
use crate::steps;

const PROGRAM: &str = "evcxr_jupyter";

/// What the folder is called in the cache, before the version.
const FOLDER: &str = "evcxr-";

/// Crates of rust-analyzer that type each cell: they are compiled as cargo does by default, the others for less time.
const OFTEN_RUN: [&str; 11] = [
    "ra-ap-rustc_lexer",
    "ra_ap_hir_def",
    "ra_ap_hir_expand",
    "ra_ap_mbe",
    "ra_ap_parser",
    "ra_ap_span",
    "ra_ap_syntax",
    "ra_ap_syntax-bridge",
    "ra_ap_tt",
    "rowan",
    "salsa",
];

/// What a kernel calls little of, or waits for others in: an editor's refactorings and completions, reading packages, sockets.
const SELDOM_RUN: [&str; 12] = [
    "evcxr",
    "evcxr_jupyter",
    "ra_ap_ide",
    "ra_ap_ide_assists",
    "ra_ap_ide_completion",
    "ra_ap_ide_db",
    "ra_ap_ide_diagnostics",
    "ra_ap_ide_ssr",
    "ra_ap_load-cargo",
    "ra_ap_project_model",
    "tokio",
    "zeromq",
];

/// The profile that it is compiled with, as options of cargo.
fn profile() -> Vec<String> {
    let whole = ["opt-level=1".to_string(), "lto=\"off\"".to_string()];
    let often = OFTEN_RUN.map(|name| format!("package.{name}.opt-level=3"));
    let seldom = SELDOM_RUN.map(|name| format!("package.{name}.opt-level=0"));
    let settings = whole.into_iter().chain(often).chain(seldom);
    settings.map(|setting| format!("--config=profile.release.{setting}")).collect()
}

/// The folder that it is installed into.
fn cache() -> Result<PathBuf> {
    Ok(user_cache()?.join(format!("{FOLDER}{EVCXR_VERSION}")))
}

/// The folders of all versions in the cache.
pub fn all_installed() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(user_cache()?).into_iter().flatten().flatten();
    Ok(entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER))
        .map(|entry| entry.path())
        .collect())
}

/// An evcxr_jupyter of the supported series: in `environment`, in the cache, or on PATH.
pub fn find(environment: &Path) -> Result<Option<PathBuf>> {
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let folders: Vec<PathBuf> = [vec![environment.join("bin"), cache()?.join("bin")], on_path].concat();
    Ok(folders.into_iter().filter(|folder| folder.join(PROGRAM).is_file()).find_map(|folder| {
        // The installer's record lies near the file itself, not near a link to it, in ~/bin for example.
        let program = folder.join(PROGRAM).canonicalize().ok()?;
        is_of_the_series(program.parent()?.parent()?).then_some(program)
    }))
}

/// Whether cargo or conda has recorded under `prefix` that it installed evcxr of the supported series. (The program itself
/// has no `--version`.)
fn is_of_the_series(prefix: &Path) -> bool {
    let cargo = fs::read_to_string(prefix.join(".crates.toml")).unwrap_or_default();
    let conda = fs::read_dir(prefix.join("conda-meta")).into_iter().flatten().flatten();
    cargo.contains(&format!("\"{PROGRAM} {EVCXR_SERIES}."))
        || conda
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&format!("evcxr-{EVCXR_SERIES}.")))
}

/// Compiles it and installs it into the cache.
pub fn install() -> Result<PathBuf> {
    let root = cache()?;
    let step = steps::begin(
        &format!("Compiling {PROGRAM} {EVCXR_VERSION}, the Rust kernel, once"),
        "up to 6 minutes on 2 cores",
    );
    // With the folder on PATH, cargo doesn't advise the user to add it.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([root.join("bin")]);
    let mut command = Command::new("cargo");
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command
        .args(["install", "--locked", PROGRAM, "--version", EVCXR_VERSION, "--root"])
        .arg(&root)
        .args(profile())
        // Outside the repository, whose .cargo/config.toml doesn't concern it.
        .current_dir(root.parent().unwrap_or(&root))
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null());
    steps::show(
        &format!("compiling {PROGRAM}"),
        &mut command,
        "Check the network, which cargo needs this once, and run the same command again.",
    )?;
    step.end();
    let program = root.join("bin").join(PROGRAM);
    program.canonicalize().map_err(Error::file("find", &program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_series_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_of_the_series(folder.path()));
        let record = folder.path().join(".crates.toml");
        fs::write(&record, "[v1]\n\"evcxr_jupyter 0.21.1 (registry)\" = [\"evcxr_jupyter\"]\n").unwrap();
        assert!(!is_of_the_series(folder.path()));
        fs::write(&record, "[v1]\n\"evcxr_jupyter 0.22.3 (registry)\" = [\"evcxr_jupyter\"]\n").unwrap();
        assert!(is_of_the_series(folder.path()));
        let conda = tempfile::tempdir().unwrap();
        fs::create_dir(conda.path().join("conda-meta")).unwrap();
        fs::write(conda.path().join("conda-meta/evcxr-0.22.0-h1_0.json"), "{}").unwrap();
        assert!(is_of_the_series(conda.path()));
    }
}
