//! `cargo lab` without a verb: JupyterLab on the notebooks.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::environment;
use crate::error::{DELETE_VENV, Error, Result};
use crate::kernel::settings;
use crate::repository::Repository;

/// Sets up what is missing, then becomes JupyterLab.
pub fn open(repository: &Repository, options: &[String]) -> Result<ExitCode> {
    let ready = environment::set_up(repository)?;
    let mut command = Command::new(ready.environment.join("bin/jupyter-lab"));
    settings::isolate_python(&mut command);
    settings::forget_cargo_run(&mut command, repository);
    // Takes precedence over a kernelspec `rust` of the user's.
    let own = ready.environment.join("share/jupyter");
    let others = std::env::var_os("JUPYTER_PATH").unwrap_or_default();
    let path = [own].into_iter().chain(std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()));
    if let Ok(path) = std::env::join_paths(path) {
        command.env("JUPYTER_PATH", path);
    }
    trust(repository, &ready.environment);
    println!("Opening JupyterLab on the notebooks; press Ctrl-C in this terminal to end it.");
    // From the repository's folder, runs/ can be browsed too.
    command.arg(format!("--ServerApp.root_dir={}", repository.root().display()));
    command.arg("--LabApp.default_url=/lab/tree/notebooks");
    // Jupyter refuses to run as root, the usual user in a container. It only listens on this machine.
    if rustix::process::geteuid().is_root() {
        command.arg("--allow-root");
    }
    command.args(options).current_dir(repository.root());
    Err(Error::start("jupyter-lab", DELETE_VENV)(command.exec()))
}

/// Makes JupyterLab show the committed figures, which it does for notebooks that ran here only. Without that they would be text.
fn trust(repository: &Repository, environment: &Path) {
    let mut command = Command::new(environment.join("bin/jupyter-trust"));
    settings::forget_cargo_run(&mut command, repository);
    command.args(repository.list_notebooks().unwrap_or_default()).stdin(Stdio::null());
    // If it fails, there is text.
    let _ = command.output();
}
