//! `cargo lab` without a verb: JupyterLab on the notebooks.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::environment;
use crate::error::{DELETE_VENV, Error, Result};
use crate::kernel::settings;
use crate::repository::Repository;

/// Becomes JupyterLab, with `options` for it.
pub fn open(repository: &Repository, options: &[String]) -> Result<ExitCode> {
    let ready = environment::set_up(repository)?;
    let mut command = Command::new(ready.environment.join("bin/jupyter-lab"));
    settings::forget_cargo_run(&mut command, repository);
    // In front of whatever kernelspec called `rust` the user may have.
    let own = ready.environment.join("share/jupyter");
    let others = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    let path = [own].into_iter().chain(std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("JUPYTER_PATH", path);
    }
    println!("Opening JupyterLab on the notebooks; Ctrl-C in this terminal ends it.");
    // The whole repository can be browsed, runs/ among it; a kernel's working directory is its notebook's folder.
    command.arg(format!("--ServerApp.root_dir={}", repository.root().display()));
    command.arg("--LabApp.default_url=/lab/tree/notebooks");
    // Jupyter refuses to work for root, which in a container is who one is. It listens on this machine only.
    if rustix::process::geteuid().is_root() {
        command.arg("--allow-root");
    }
    command.args(options).current_dir(repository.root());
    Err(Error::start("jupyter-lab", DELETE_VENV)(command.exec()))
}
