//! `cargo lab run`: executes notebooks headless in the real kernel, with live progress, and keeps the results in `runs/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::environment;
use crate::error::{Error, Result};
use crate::execution::progress::Shown;
use crate::execution::{Interrupts, Outcome, Request, STOPPED, describe, execute, latencies};
use crate::notebook::Notebook;
use crate::notebook::parameters::{self, Setting};
use crate::repository::{Repository, stem};
use crate::steps::seconds;

/// What to execute, and how.
#[derive(clap::Args)]
pub struct Options {
    /// Number (00), name or path of a notebook; several are executed one after another
    #[arg(required = true, value_name = "NOTEBOOK")]
    notebooks: Vec<String>,
    /// Override a parameter from the cell tagged `parameters`; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Setting::parse)]
    settings: Vec<Setting>,
    /// Execute each cell twice in a row, as learners do
    #[arg(long, conflicts_with = "write_back")]
    twice: bool,
    /// Execute the notebook again in the folder of an earlier run in `runs/`, with that run's settings: a training that was
    /// not finished goes on
    #[arg(long, value_name = "RUN", conflicts_with_all = ["settings", "write_back"])]
    resume: Option<PathBuf>,
    /// If all cells pass, write the outputs into the notebook itself; for authors
    #[arg(long, conflicts_with = "settings")]
    write_back: bool,
}

/// Executes notebooks one after another; returns whether all passed. Mistakes in the options show before anything is executed.
pub fn run(repository: &Repository, options: &Options) -> Result<bool> {
    let Options { notebooks, settings, twice, resume, write_back } = options;
    let mut requests = Vec::new();
    for asked in notebooks {
        let path = repository.find_notebook(asked)?;
        let name = stem(&path);
        let mut notebook = Notebook::read(&path)?;
        // Of a copy.
        notebook.remove_tagged(STOPPED);
        parameters::set(&mut notebook, &name, settings)?;
        let folder = match resume {
            Some(run) => {
                let (folder, earlier) = earlier_run(repository, run, &path)?;
                parameters::set_as_in(&mut notebook, &earlier);
                folder
            }
            // Made when nothing is missing any more.
            None => PathBuf::new(),
        };
        let twice_below = twice.then_some(Duration::MAX);
        let request = Request { shown: Shown::Cells, twice_below, ..Request::new(notebook, &name, folder) };
        requests.push((path, request));
    }
    let ready = environment::set_up(repository)?;
    let interrupts = Interrupts::watch()?;
    let mut summary = Vec::new();
    let mut all_passed = true;
    for (path, request) in &mut requests {
        if interrupts.happened() {
            break;
        }
        if resume.is_none() {
            request.folder = run_folder(repository, &request.name);
        }
        println!("\n{}.ipynb", request.name);
        let execution = execute(repository, &ready, request, &interrupts)?;
        let copy = execution.copy.strip_prefix(repository.root()).unwrap_or(&execution.copy).display().to_string();
        let took = seconds(execution.took);
        let line = match &execution.outcome {
            Outcome::Passed => {
                if *write_back {
                    take_back(repository, path, &execution.copy)?;
                }
                format!("passed in {took}, {}: {copy}", latencies(&execution.cells))
            }
            Outcome::Failed { cell, failure } => {
                eprintln!("\nerror: {}", describe(&request.name, &request.notebook, *cell, failure));
                all_passed = false;
                format!("failed in cell {cell} after {took}: {copy}")
            }
            Outcome::Interrupted { cell } => {
                all_passed = false;
                format!("stopped in cell {cell} after {took}: {copy}")
            }
        };
        if !execution.cleaned {
            eprintln!("warning: the kernel's folder could not be removed; the next kernel will do it.");
        }
        summary.push(format!("{} {line}", request.name));
    }
    println!();
    summary.iter().for_each(|line| println!("{line}"));
    for (_, request) in requests.iter().skip(summary.len()) {
        println!("{} was not executed", request.name);
    }
    Ok(all_passed && summary.len() == requests.len())
}

/// The folder of an earlier run of `notebook`, a path or a name in `runs/`, and the copy in it.
fn earlier_run(repository: &Repository, run: &Path, notebook: &Path) -> Result<(PathBuf, Notebook)> {
    let name = stem(notebook);
    let folders = [run.to_path_buf(), repository.root().join("runs").join(run)];
    let copies = folders.map(|folder| (folder.join(format!("{name}.ipynb")), folder));
    let is_copy = |copy: &Path| copy.is_file() && !copy.canonicalize().is_ok_and(|copy| copy == notebook);
    match copies.into_iter().find(|(copy, _)| is_copy(copy)) {
        // The kernel's current folder is another one.
        Some((copy, folder)) => Ok((folder.canonicalize().unwrap_or(folder), Notebook::read(&copy)?)),
        None => Err(Error::NoSuchRun { run: run.to_path_buf(), notebook: name }),
    }
}

/// A new folder in `runs/`, named after the time and the notebook.
fn run_folder(repository: &Repository, name: &str) -> PathBuf {
    let runs = repository.root().join("runs");
    // In UTC, like the folders of training runs started in JupyterLab.
    let time = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let first = runs.join(format!("{time}-{name}"));
    // Two runs may begin in the same second.
    let mut folder = first.clone();
    for number in 2.. {
        match fs::create_dir_all(&runs).and_then(|()| fs::create_dir(&folder)) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                folder = runs.join(format!("{time}-{name}-{number}"));
            }
            // Any other error is reported when the copy is written.
            _ => break,
        }
    }
    folder
}

/// Writes the outputs of the executed `copy` into the notebook at `path`.
fn take_back(repository: &Repository, path: &Path, copy: &Path) -> Result<()> {
    let mut notebook = Notebook::read(path)?;
    let executed = Notebook::read(copy)?;
    let home = std::env::var("HOME").unwrap_or_default();
    for private in [repository.root().to_string_lossy().into_owned(), home] {
        // A home of `/`, or none, would be found everywhere.
        if private.len() < 2 {
            continue;
        }
        let leaking = executed
            .code_cells()
            .into_iter()
            .position(|(index, _)| executed.cells()[index]["outputs"].to_string().contains(&private));
        if let Some(cell) = leaking {
            return Err(Error::PrivatePath { notebook: stem(path), cell: cell + 1, path: private });
        }
    }
    notebook.take_outputs(&executed).map_err(|reason| Error::BadNotebook { path: path.to_path_buf(), reason })?;
    notebook.write(path)
}
