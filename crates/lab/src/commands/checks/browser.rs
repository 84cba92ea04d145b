//! JupyterLab in a real browser: what its users see and click.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::expectation::Trial;
use super::laboratory::{Laboratory, STAND_IN};
use crate::environment::find_on_path;
use crate::error::{Error, Result};
use crate::machine::succeeded;
use crate::steps;

/// Names of Chromium and Chrome on PATH.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Runs `tests/browser.py`, which has a case for each thing to see and can run one alone.
pub fn check(laboratory: &Laboratory, filter: &str) -> Result<String, String> {
    let mut command = prepare(laboratory, filter).map_err(|error| error.to_string())?;
    let status = command.status().map_err(|error| format!("Python: {error}"))?;
    match status.success() {
        true => Ok(format!("screenshots are in {}", laboratory.folder.display())),
        false => Err(format!("see above, and the screenshots and jupyter.log in {}", laboratory.folder.display())),
    }
}

fn prepare(laboratory: &Laboratory, filter: &str) -> Result<Command> {
    let (repository, folder) = (&laboratory.repository, &laboratory.folder);
    let python = laboratory.installation.python();
    let browser = install(&python)?;
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let pipeline = repository.find_notebook("00_pipeline")?;
    Trial::read(&pipeline)?.notebook.write(&folder.join("small.ipynb"))?;
    fs::copy(&pipeline, folder.join("committed.ipynb")).map_err(Error::file("copy", &pipeline))?;
    let mut command = Command::new(python);
    command.arg(repository.root().join("crates/lab/tests/browser.py")).arg(folder);
    command.arg(std::env::current_exe().map_err(Error::file("find", "this program"))?);
    // An empty argument stands for playwright's own browser.
    command.arg(browser.unwrap_or_default()).arg(filter);
    command.env(STAND_IN.0, STAND_IN.1).current_dir(repository.root());
    Ok(command)
}

/// Installs playwright, which nothing else needs, and finds a browser; `None` is one that playwright has downloaded.
fn install(python: &Path) -> Result<Option<PathBuf>> {
    let module = |arguments: &[&str]| {
        let mut command = Command::new(python);
        command.arg("-m").args(arguments);
        command
    };
    if succeeded(Command::new(python).args(["-c", "import playwright"])).is_none() {
        steps::run(
            "installing playwright",
            &mut module(&["pip", "install", "--disable-pip-version-check", "--quiet", "playwright"]),
            "Check the network, which pip needs this once, and run the same command again.",
        )?;
    }
    let found = BROWSERS.iter().find_map(|name| find_on_path(name));
    if found.is_none() {
        steps::run(
            "downloading a browser",
            &mut module(&["playwright", "install", "chromium"]),
            "Install Chromium or Chrome (Debian: apt install chromium; macOS: brew install chromium; or google.com/chrome), \
             so that `chromium` or `google-chrome` is on PATH, and try again.",
        )?;
    }
    Ok(found)
}
