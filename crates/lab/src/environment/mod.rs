//! Setup: creates what is missing and leaves the rest alone. It can be repeated, and concurrent setups take turns.
//!
//! - [`packages`]: environment.yml, the one list of packages.
//! - [`python`]: Python and `.venv`.
//! - [`evcxr`]: the Rust kernel.
//! - [`kernelspec`]: what tells Jupyter of the kernel.

pub mod evcxr;
pub mod kernelspec;
pub mod packages;
pub mod python;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::cuda::Build;
use crate::error::{Error, Result};
use crate::execution::progress::Shown;
use crate::execution::{self, Interrupts, KEPT_KERNELS, Outcome, Request};
use crate::kernel::folder::{self, KernelFolders, Key};
use crate::kernel::installation::{Installation, launcher};
use crate::kernel::{known, settings};
use crate::notebook::Notebook;
use crate::repository::Repository;
use crate::steps;
use packages::Environment;

/// The environment, which may not exist yet: the active conda environment if it was made from environment.yml, or
/// `.venv`.
pub fn place(repository: &Repository, wanted: &Environment) -> PathBuf {
    let conda = std::env::var_os("CONDA_PREFIX").map(PathBuf::from);
    conda.filter(|prefix| is_made_from(prefix, wanted)).unwrap_or_else(|| repository.root().join(".venv"))
}

/// Whether conda has installed every package of the list under `prefix`.
fn is_made_from(prefix: &Path, wanted: &Environment) -> bool {
    let records: Vec<String> = fs::read_dir(prefix.join("conda-meta"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // A record is called <name>-<version>-<build>.json.
    wanted
        .packages
        .iter()
        .all(|package| records.iter().any(|record| record.rsplitn(3, '-').nth(2) == Some(package.name.as_str())))
}

/// The program of this name on PATH.
pub fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Waits until no other setup is under way, and keeps them out.
pub fn lock_set_up() -> Result<File> {
    folder::lock(&folder::user_cache()?.join("set-up.lock"), || {
        println!("Waiting for another `cargo lab` to finish its setup.");
    })
}

/// Sets up what is missing, and reports each step.
pub fn set_up(repository: &Repository) -> Result<Installation> {
    let wanted = Environment::read(&repository.root().join("environment.yml"))?;
    if find_on_path("cc").is_none() {
        return Err(Error::NoLinker);
    }
    let folders = KernelFolders::of_user()?;
    folders.check_path()?;
    let _lock = lock_set_up()?;
    folders.sweep()?;
    let environment = place(repository, &wanted);
    if environment.ends_with(".venv") && !python::is_ready(&environment, &wanted) {
        python::install(&environment, &wanted)?;
    }
    let program = match evcxr::find(&environment)? {
        Some(program) => program,
        None => evcxr::install()?,
    };
    if !kernelspec::is_ready(&environment, &program) {
        kernelspec::install(&environment, &program)?;
    }
    let installation = Installation { environment, folders };
    prepare(repository, &installation, &program)?;
    Ok(installation)
}

/// The cells that prepare a folder: the first cell of every notebook, and a `let` without a type.
const WARMING: [&str; 2] =
    [":dep cifar-lab = { path = \"../crates/cifar-lab\" }\nuse cifar_lab::prelude::*;", "let warm = 1 + 1;"];

/// Prepares a kernel folder for the repository as it is now, unless there is one.
fn prepare(repository: &Repository, installation: &Installation, evcxr: &Path) -> Result<()> {
    let build = Build::of_machine();
    let (newest, key) = (repository.newest_source(), Key::of(repository, &build)?);
    if installation.folders.prepared(&key).is_some_and(|prepared| known::are_in(&prepared)) {
        return Ok(());
    }
    println!("Notebooks are compiled for {build}.");
    let usual = match build {
        Build::Cpu(_) => "up to 6 minutes on 2 cores the first time, then half a minute",
        Build::Cuda(_) => "10 minutes or more on 2 cores the first time, mostly nvcc",
    };
    let step = steps::begin(
        "Preparing the kernel: compiling candle and the crates for notebooks, once for each change",
        usual,
    );
    let live = installation.folders.create(&format!("preparing-{}", std::process::id()))?;
    installation.folders.fill(&live, repository, &key)?;
    // evcxr without the launcher, which would delete the folder.
    let mut command = Command::new(evcxr);
    settings::apply(&mut command, live.path(), Some(repository), &build, &launcher(&installation.environment))?;
    command.env(known::PREPARING, "1");
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_string_lossy().into_owned(), value?.to_string_lossy().into_owned())));
    let spec = json!({
        "argv": [evcxr.to_string_lossy(), "--control_file", "{connection_file}"],
        "display_name": "Rust",
        "language": "rust",
        "interrupt_mode": "message",
    });
    let kernel_dirs = live.path().join(KEPT_KERNELS);
    let spec_path = kernel_dirs.join("rust/kernel.json");
    fs::create_dir_all(kernel_dirs.join("rust")).map_err(Error::file("make", &kernel_dirs))?;
    fs::write(&spec_path, spec.to_string()).map_err(Error::file("write", &spec_path))?;
    let request = Request {
        variables: variables.collect(),
        kept: Some(live.path().to_path_buf()),
        shown: Shown::Crates,
        ..Request::new(Notebook::from_cells(WARMING), "warming", live.path().join("warming"))
    };
    let execution = execution::execute(repository, installation, &request, &Interrupts::default())?;
    if let Outcome::Failed { cell, failure } = &execution.outcome {
        return Err(Error::step(
            "preparing the kernel",
            execution::describe("warming", &request.notebook, *cell, failure),
            "If a crate couldn't be downloaded, check the network and run the same command again.\n\
             If a crate doesn't compile, `cargo check --workspace` says more.",
        ));
    }
    for extra in [kernel_dirs, request.folder] {
        folder::remove(&extra);
    }
    if repository.newest_source() != newest || Key::of(repository, &build)? != key {
        // The other crates need not be compiled again.
        installation.folders.publish(live, &key.of_no_sources())?;
        return Err(Error::SourcesChanged);
    }
    installation.folders.publish(live, &key)?;
    step.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use packages::Package;

    #[test]
    fn a_conda_environment_counts_with_all_packages() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conda-meta")).unwrap();
        let package = |name: &str| Package { name: name.to_string(), versions: String::new() };
        let wanted = Environment { name: "x".to_string(), packages: vec![package("rust"), package("rust-src")] };
        let record = |name: &str| fs::write(folder.path().join("conda-meta").join(name), "{}").unwrap();
        record("rust-src-1.95.0-h1_0.json");
        assert!(!is_made_from(folder.path(), &wanted), "rust-src is not rust");
        record("rust-1.95.0-h1_0.json");
        assert!(is_made_from(folder.path(), &wanted));
    }
}
