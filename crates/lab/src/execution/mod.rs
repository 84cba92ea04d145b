//! Executing notebooks headless in the real kernel.
//!
//! - [`client`]: the Python process that talks to the kernel.
//! - [`failure`]: whether a cell failed, and at which line.
//! - [`interrupts`]: what Ctrl-C stops.
//! - [`progress`]: what the terminal shows.

pub mod client;
pub mod failure;
mod interrupts;
pub mod progress;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::kernel::installation::{Installation, client_script, kernelspecs};
use crate::kernel::launcher::KERNEL_ID;
use crate::notebook::{Kind, Notebook, RAISES};
use crate::repository::Repository;
use client::{Client, Event, Job};
use failure::{Cell, Failure};
pub use interrupts::Interrupts;
use progress::{Progress, Shown};

/// The variable that tells cifar-lab the folder for a run's weights, figures and records.
const RUN_DIR: &str = "CIFAR_LAB_RUN_DIR";
/// The tag of the cell that says where execution stopped.
pub const STOPPED: &str = "stopped-here";
/// The tag of a cell that by its nature can't be executed twice; its source says why.
const RUN_ONCE: &str = "run-once";
/// In a run's folder: held while the run goes on, which writes the copy.
const LOCK: &str = ".lock";
/// The folder for the kernelspec in a kernel's folder that is kept.
pub const KEPT_KERNELS: &str = "kernels";

/// How the execution of a notebook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All cells ran.
    Passed,
    /// A code cell failed, counted from 1.
    Failed { cell: usize, failure: Failure },
    /// The user stopped it in a code cell, counted from 1; in 0 if none had begun.
    Interrupted { cell: usize },
}

/// An executed notebook.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The executed copy.
    pub copy: PathBuf,
    pub outcome: Outcome,
    /// From the kernel's start to its end.
    pub took: Duration,
    /// From the kernel's start to its first answer.
    pub ready: Duration,
    /// The time for each code cell, in order.
    pub cells: Vec<Duration>,
    /// The code cells, counted from 1, that were executed twice.
    pub repeated: Vec<usize>,
    /// Whether the kernel's folder was gone at the end.
    pub cleaned: bool,
}

/// What to execute, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The notebook, with its settings already in it.
    pub notebook: Notebook,
    pub name: String,
    /// The folder for the executed copy.
    pub folder: PathBuf,
    /// Environment variables for the kernel.
    pub variables: Vec<(String, String)>,
    /// The kernel's folder, if it is to be kept; its kernelspec is in [`KEPT_KERNELS`].
    pub kept: Option<PathBuf>,
    /// The kernel's name, and its folder's.
    pub kernel_id: String,
    /// Cells that take less are executed twice in a row, and must pass twice. Only the first outputs are kept.
    pub twice_below: Option<Duration>,
    pub shown: Shown,
}

impl Request {
    /// Executes `notebook`, called `name`, silently, and puts the copy into `folder`.
    pub fn new(notebook: Notebook, name: &str, folder: PathBuf) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let kernel_id = format!("run-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (variables, name) = (Vec::new(), name.to_string());
        let (kept, twice_below, shown) = (None, None, Shown::Nothing);
        Self { notebook, name, folder, variables, kept, kernel_id, twice_below, shown }
    }
}

/// Executes one notebook and writes the executed copy, complete or up to where it stopped. A failing cell is an
/// [`Outcome`] and not an error.
pub fn execute(
    repository: &Repository,
    installation: &Installation,
    request: &Request,
    interrupts: &Interrupts,
) -> Result<Execution> {
    execute_with(repository, installation, request, interrupts, &mut |_| {})
}

/// As [`execute`], and calls `between` with each code cell's number, counted from 1, before the kernel gets the next.
pub fn execute_with(
    repository: &Repository,
    installation: &Installation,
    request: &Request,
    interrupts: &Interrupts,
    between: &mut dyn FnMut(usize),
) -> Result<Execution> {
    fs::create_dir_all(&request.folder).map_err(Error::file("make", &request.folder))?;
    let copy = request.folder.join(format!("{}.ipynb", request.name));
    let lock_path = request.folder.join(LOCK);
    let lock = fs::File::create(&lock_path).map_err(Error::file("make", &lock_path))?;
    // Some file systems have no locks.
    if matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return Err(Error::RunGoesOn { folder: request.folder.clone() });
    }
    request.notebook.write(&copy)?;
    let mut variables = request.variables.clone();
    variables.push((KERNEL_ID.to_string(), request.kernel_id.clone()));
    variables.push((RUN_DIR.to_string(), request.folder.to_string_lossy().into_owned()));
    let job = Job {
        notebook: copy.clone(),
        kernel_dirs: request
            .kept
            .as_ref()
            .map_or_else(|| kernelspecs(&installation.environment), |kept| kept.join(KEPT_KERNELS)),
        cwd: repository.notebooks(),
        variables,
    };
    let kernel_folder = request.kept.clone().unwrap_or_else(|| installation.folders.live_path(&request.kernel_id));
    let started = Instant::now();
    let mut client =
        Client::start(&installation.python(), &client_script(&installation.environment), &job, repository)?;
    let orders = client.orders();
    interrupts.stops(&orders);
    let mut course = Course::default();
    let outcome = follow(&mut client, request, &mut course, between);
    client.wait();
    interrupts.forgets(&orders);
    let outcome = outcome?;
    match &outcome {
        Outcome::Passed => {}
        Outcome::Failed { cell, failure } => mark(&copy, *cell, failure)?,
        Outcome::Interrupted { cell } => {
            let message = "only the cells above were executed".to_string();
            mark(&copy, *cell, &Failure { what: "was interrupted".to_string(), line: None, message })?;
        }
    }
    let cleaned = request.kept.is_some() || wait_until_gone(&kernel_folder);
    let Course { ready, cells, repeated } = course;
    Ok(Execution { copy, outcome, took: started.elapsed(), ready, cells, repeated, cleaned })
}

/// Waits for the guard to remove the kernel's folder; returns whether it has.
fn wait_until_gone(folder: &Path) -> bool {
    // Removing half a gigabyte takes a second on a slow disk.
    let patience = Instant::now() + Duration::from_secs(20);
    while folder.exists() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    !folder.exists()
}

/// What is collected while a notebook runs; see [`Execution`].
#[derive(Default)]
struct Course {
    ready: Duration,
    cells: Vec<Duration>,
    repeated: Vec<usize>,
}

fn follow(
    client: &mut Client,
    request: &Request,
    course: &mut Course,
    between: &mut dyn FnMut(usize),
) -> Result<Outcome> {
    let code_cells = request.notebook.code_cells();
    let number = |index: usize| code_cells.iter().position(|(own, _)| *own == index).map_or(0, |at| at + 1);
    let progress = Progress::new(code_cells.len(), request.shown);
    // The code cell that runs, and whether it has passed once.
    let (mut current, mut again) = (0, false);
    // The kernel's last words, should it die.
    let mut log = Vec::new();
    loop {
        match client.next_event()? {
            Some(Event::Ready(took)) => {
                course.ready = took;
                progress.ready(took);
            }
            Some(Event::Cell(_) | Event::Stream { .. } | Event::Shown(_)) if again => {}
            Some(Event::Cell(index)) => {
                let source = code_cells.iter().find(|(own, _)| *own == index).map_or("", |(_, source)| source);
                current = number(index);
                progress.cell(current, source);
            }
            Some(Event::Stream { name, text }) => progress.printed(&name, &text),
            Some(Event::Shown(types)) => progress.shown(&types),
            Some(Event::Log(line)) => {
                progress.log(&line);
                log.push(line);
            }
            Some(Event::End { index, status, took, outputs }) => {
                let raises = request.notebook.is_tagged(index, RAISES);
                if let Some(failure) = (Cell { raises, status: &status, outputs: &outputs }).failure() {
                    return Ok(Outcome::Failed { cell: current, failure: failure.when(again) });
                }
                if again {
                    course.repeated.push(current);
                    progress.again(took);
                } else {
                    course.cells.push(took);
                    progress.end(took);
                }
                let wanted = request.twice_below.is_some_and(|limit| took < limit);
                again = wanted && !again && !request.notebook.is_tagged(index, RUN_ONCE);
                if again {
                    client.again();
                } else {
                    between(current);
                    client.go_on();
                }
            }
            Some(Event::Dead(index)) => {
                let said = failure::last_words(&log);
                let message =
                    if said.is_empty() { "it printed nothing".to_string() } else { format!("its last lines:\n{said}") };
                let failure = Failure { what: "lost its kernel, which died".to_string(), line: None, message };
                return Ok(Outcome::Failed { cell: number(index), failure: failure.when(again) });
            }
            Some(Event::Finished) => return Ok(Outcome::Passed),
            Some(Event::Stopped) => return Ok(Outcome::Interrupted { cell: current }),
            Some(Event::Failed(message)) => {
                return Err(Error::Client(format!("{message}\n{}", failure::last_words(&log)).trim().to_string()));
            }
            None => return Err(Error::Client("it ended without a message".to_string())),
        }
    }
}

/// Marks where execution stopped, in a new cell before the failing one.
fn mark(copy: &Path, cell: usize, failure: &Failure) -> Result<()> {
    let mut notebook = Notebook::read(copy)?;
    let index = notebook.code_cells().get(cell.saturating_sub(1)).map_or(0, |(index, _)| *index);
    let place = failure.line.map_or(String::new(), |line| format!(", line {line}"));
    let text = format!(
        "**Stopped here.** Code cell {cell}{place} {}:\n\n```text\n{}\n```\n\nThe cells below it were not executed.",
        failure.what, failure.message
    );
    notebook.insert(index, Kind::Markdown, STOPPED, &text);
    notebook.write(copy)
}

/// Describes a failed cell: its number, its line and the error.
pub fn describe(name: &str, notebook: &Notebook, cell: usize, failure: &Failure) -> String {
    let cells = notebook.code_cells();
    let source = cells.get(cell.saturating_sub(1)).map_or("", |(_, source)| source);
    let place = match failure.line {
        Some(line) => {
            let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
            format!(", line {line}, {}:\n    {text}", failure.what)
        }
        None => format!(" {}; it begins\n    {}", failure.what, source.lines().next().unwrap_or_default()),
    };
    let message: String = failure.message.lines().map(|line| format!("\n  {line}")).collect();
    format!("{name}: cell {cell} of {}{place}{message}", cells.len())
}

/// How long the cells took: their median tells how responsive the notebook feels, the slowest how long one waits.
pub fn latencies(cells: &[Duration]) -> String {
    let mut sorted: Vec<(Duration, usize)> = cells.iter().copied().zip(1..).collect();
    sorted.sort();
    match (sorted.get(sorted.len() / 2), sorted.last()) {
        (Some((median, _)), Some((slowest, cell))) => {
            let (median, slowest) = (crate::steps::seconds(*median), crate::steps::seconds(*slowest));
            format!("{} cells, median {median}, slowest {slowest} (cell {cell})", cells.len())
        }
        _ => "no cells".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_summed_up_by_median_and_slowest() {
        let cells = [0.3, 40.0, 0.5].map(Duration::from_secs_f64);
        assert_eq!(latencies(&cells), "3 cells, median 0.5 s, slowest 40 s (cell 2)");
        assert_eq!(latencies(&[]), "no cells");
    }

    #[test]
    fn a_failing_cell_is_described_and_marked() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("a.ipynb");
        let notebook = Notebook::from_cells(["let a = 1;", "let b = 2;\nlet c = b[7];"]);
        notebook.write(&copy).unwrap();
        let failure =
            Failure { what: "panicked".to_string(), line: Some(2), message: "out of bounds\nby far".to_string() };
        let described = describe("a", &notebook, 2, &failure);
        assert_eq!(described, "a: cell 2 of 2, line 2, panicked:\n    let c = b[7];\n  out of bounds\n  by far");
        mark(&copy, 2, &failure).unwrap();
        let marked = Notebook::read(&copy).unwrap();
        assert!(marked.is_tagged(1, STOPPED));
        assert_eq!(marked.code_cells().len(), 2);
    }
}
