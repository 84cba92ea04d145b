//! `cargo lab test`: format, lints, tests, then notebooks and kernel, in this order, up to the first failure.
//!
//! - [`outputs`]: pictures that decode and are not blank, no errors, a size that can be committed.
//! - [`expectation`]: the small settings of a notebook's test, and numbers that must lie in a range.
//! - [`kernel`]: tests of the kernel itself.
//! - [`program`]: an exported notebook beside the notebook.

mod expectation;
pub mod kernel;
mod outputs;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cuda::{self, CudaBuild, Places};
use crate::environment::{self, Ready};
use crate::error::{Error, Result};
use crate::execution::progress::Shown;
use crate::execution::{self, Interrupts, Outcome, Request};
use crate::kernel::settings;
use crate::notebook::{Notebook, parameters};
use crate::programs::CUDA_TARGET;
use crate::repository::{Repository, stem};
use crate::steps::seconds;
use kernel::{Laboratory, TESTS};

/// The variable by which the crate takes the generated stand-in for CIFAR-10, and what makes it do so.
pub const STAND_IN: (&str, &str) = ("CIFAR_LAB_DATA", "stand-in");

/// Cells that take less are executed twice. At test settings they take seconds; the bound is for what a notebook may
/// hold one day, far enough off that a busy machine skips nothing.
const TWICE_BELOW: Duration = Duration::from_secs(120);

/// The stages, in their order: a name for `--only` and, for those that are a cargo command, its arguments.
const STAGES: [(&str, &[&str]); 5] = [
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("tests", &["test", "--workspace"]),
    ("notebooks", &[]),
    ("kernel", &[]),
];

/// Stages that run only where `--only` asks for them: they take minutes.
const ON_REQUEST: [&str; 2] = ["export", "cuda"];

/// Runs a program that was compiled with CUDA where there is no GPU.
const SIMULATED_GPU: &str = "crates/candle-cnn/tests/simulated_gpu/run.sh";

/// The tests that compute on a GPU.
const CUDA_TESTS: [&str; 5] = ["cuda", "cuda_precision", "pytorch", "cuda_training", "cuda_errors"];

/// What has been checked so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Counts one check and says how it went; returns whether it passed.
    fn count(&mut self, what: &str, took: Duration, result: &Result<String, String>) -> bool {
        let took = seconds(took);
        match result {
            Ok(remark) if remark.is_empty() => println!("ok      {what} ({took})"),
            Ok(remark) => println!("ok      {what} ({took}): {remark}"),
            Err(reason) => println!("FAILED  {what} ({took}): {reason}"),
        }
        match result {
            Ok(_) => self.passed += 1,
            Err(_) => self.failed += 1,
        }
        result.is_ok()
    }
}

/// What is to be checked.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// One stage, or all.
    pub only: Option<String>,
    /// Of notebooks and kernel tests, those whose name contains this.
    pub filter: String,
}

/// Runs the stages of `selection`, up to the first failure. `idle` is how long the idle kernel is left alone. Returns
/// whether all passed.
///
/// # Errors
/// [`Error::NoSuchStage`]; where set-up fails.
pub fn test(repository: &Repository, selection: &Selection, idle: Duration) -> Result<bool> {
    let only = selection.only.as_deref();
    let names = || STAGES.iter().map(|(name, _)| *name).chain(ON_REQUEST);
    if let Some(asked) = only.filter(|asked| names().all(|name| name != *asked)) {
        let known = names().map(str::to_string).collect();
        return Err(Error::NoSuchStage { asked: asked.to_string(), known });
    }
    let mut tally = Tally::default();
    let started = Instant::now();
    let mut ready = None;
    let on_request = ON_REQUEST.iter().filter(|name| only == Some(**name)).map(|name| (*name, [].as_slice()));
    for (name, arguments) in STAGES.into_iter().chain(on_request) {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        println!("\n== {name} ==");
        let good = if name == "cuda" {
            cuda(repository, &mut tally)
        } else if arguments.is_empty() {
            let (ready, interrupts) = match &ready {
                Some(both) => both,
                None => ready.insert((environment::set_up(repository)?, Interrupts::watch()?)),
            };
            let laboratory = Laboratory { repository, ready, interrupts, folder: folder(repository).join(name), idle };
            match name {
                "notebooks" => notebooks(repository, ready, interrupts, &selection.filter, &mut tally)?,
                "export" => exports(&laboratory, &selection.filter, &mut tally)?,
                _ => kernel(&laboratory, &selection.filter, &mut tally),
            }
        } else {
            let begun = Instant::now();
            let result = cargo(repository, arguments);
            tally.count(&format!("cargo {}", arguments.join(" ")), begun.elapsed(), &result)
        };
        if !good {
            break;
        }
    }
    println!("\n{} passed, {} failed", tally.passed, tally.failed);
    println!("in {}", seconds(started.elapsed()));
    Ok(tally.failed == 0)
}

fn cargo(repository: &Repository, arguments: &[&str]) -> Result<String, String> {
    cargo_with(repository, arguments, |_| {})
}

/// All CUDA code compiled, linted and linked, which needs the toolkit and no GPU. Then what computes with it is run: on
/// the GPU, or on the simulated one where there is no driver.
fn cuda(repository: &Repository, tally: &mut Tally) -> bool {
    let build = match CudaBuild::of_toolkit() {
        Ok(build) => build,
        Err(reason) => return tally.count("the CUDA toolkit", Duration::ZERO, &Err(reason.to_string())),
    };
    let simulated = cuda::find_driver(&Places::of_process()).is_none();
    if simulated {
        println!("skipped: no GPU: the simulated one shows results and errors, not what a GPU's own kernels do");
    }
    let mut step = |feature: &str, configuration: &[&str], first: &[&str], last: &[&str]| {
        let begun = Instant::now();
        let features = format!("candle-cnn/{feature},cifar-lab/{feature}");
        let crates = ["--package", "candle-cnn", "--package", "cifar-lab", "--features", &features];
        let named = [first, &crates, last].concat();
        let result = cargo_with(repository, &[configuration, &named].concat(), |command| {
            build.apply(command);
            // Apart from what is compiled without CUDA: libcifar_lab.so has the same name in both.
            command.env("CARGO_TARGET_DIR", repository.root().join(CUDA_TARGET));
        });
        tally.count(&format!("cargo {}", named.join(" ")), begun.elapsed(), &result)
    };
    let mut features = vec!["cuda", build.feature()];
    features.dedup();
    let (lint, deny) = (["clippy", "--all-targets"], ["--", "-D", "warnings"]);
    let runner = format!("target.'cfg(all())'.runner = {:?}", repository.root().join(SIMULATED_GPU));
    let runner: &[&str] = if simulated { &["--config", &runner] } else { &[] };
    let mut computing = vec!["test", "--lib"];
    computing.extend(CUDA_TESTS.iter().flat_map(|name| ["--test", name]));
    features.into_iter().all(|feature| step(feature, &[], &lint, &deny))
        && step(build.feature(), &[], &["test", "--no-run"], &[])
        && step(build.feature(), runner, &computing, &[])
}

fn cargo_with(repository: &Repository, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Result<String, String> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(repository.root());
    settings::forget_cargo_run(&mut command, repository);
    set(&mut command);
    match command.status() {
        Ok(status) if status.success() => Ok(String::new()),
        Ok(status) => Err(format!("{status}, see above")),
        Err(error) => Err(error.to_string()),
    }
}

/// The folder for executed copies of the tests; the last test's are replaced.
fn folder(repository: &Repository) -> PathBuf {
    repository.root().join("runs/test")
}

fn notebooks(
    repository: &Repository,
    ready: &Ready,
    interrupts: &Interrupts,
    filter: &str,
    tally: &mut Tally,
) -> Result<bool> {
    for path in repository.list_notebooks()?.into_iter().filter(|path| stem(path).contains(filter)) {
        let begun = Instant::now();
        println!("{}.ipynb at its test settings", stem(&path));
        let result = notebook(repository, ready, interrupts, &path);
        if !tally.count(&format!("{}.ipynb", stem(&path)), begun.elapsed(), &result) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn notebook(repository: &Repository, ready: &Ready, interrupts: &Interrupts, path: &Path) -> Result<String, String> {
    let name = stem(path);
    let (notebook, expected) = read(path, &name).map_err(|error| error.to_string())?;
    let folder = folder(repository).join(&name);
    let _ = fs::remove_dir_all(&folder);
    let mut request = Request::new(notebook.clone(), &name, folder);
    request.variables.push((STAND_IN.0.to_string(), STAND_IN.1.to_string()));
    request.shown = Shown::Cells;
    request.twice_below = Some(TWICE_BELOW);
    let execution = execution::execute(repository, ready, &request, interrupts).map_err(|error| error.to_string())?;
    match &execution.outcome {
        Outcome::Passed => {}
        Outcome::Failed { cell, failure } => return Err(execution::describe(&name, &notebook, *cell, failure)),
        Outcome::Interrupted { cell } => return Err(format!("interrupted in cell {cell}")),
    }
    let executed = Notebook::read(&execution.copy).map_err(|error| error.to_string())?;
    let bytes = fs::metadata(&execution.copy).map(|metadata| metadata.len()).map_err(|error| error.to_string())?;
    let mut problems = outputs::problems(&executed, bytes);
    let printed = executed.all_printed();
    problems.extend(expected.iter().filter_map(|expectation| expectation.problem(&printed)));
    if !execution.cleaned {
        problems.push("the kernel's folder was left behind".to_string());
    }
    if problems.is_empty() {
        let (cells, pictures) = (notebook.code_cells().len(), outputs::count_pictures(&executed));
        let twice = execution.repeated.len();
        let twice = if twice == cells { "each twice".to_string() } else { format!("{twice} twice") };
        let latencies = execution::latencies(&execution.cells);
        Ok(format!("{latencies}; {twice}; {pictures} pictures, {} kB", bytes / 1000))
    } else {
        Err(problems.join("\n        "))
    }
}

fn read(path: &Path, name: &str) -> Result<(Notebook, Vec<expectation::Expectation>)> {
    let mut notebook = Notebook::read(path)?;
    let settings = expectation::test_settings(&notebook, path)?;
    let expected = expectation::expectations(&notebook, path)?;
    parameters::set(&mut notebook, name, &settings)?;
    Ok((notebook, expected))
}

/// Notebooks as programs: 00, or those that the filter names.
fn exports(laboratory: &Laboratory, filter: &str, tally: &mut Tally) -> Result<bool> {
    let filter = if filter.is_empty() { "00" } else { filter };
    let all = laboratory.repository.list_notebooks()?;
    Ok(all.iter().map(|path| stem(path)).filter(|name| name.contains(filter)).all(|name| {
        let begun = Instant::now();
        println!("{name}.ipynb as a program and in the kernel");
        let result = program::compare(laboratory, &name);
        tally.count(&format!("{name} as a program"), begun.elapsed(), &result)
    }))
}

fn kernel(laboratory: &Laboratory, filter: &str, tally: &mut Tally) -> bool {
    TESTS.iter().filter(|(name, _)| name.contains(filter)).all(|(name, test)| {
        let begun = Instant::now();
        let result = test(laboratory);
        tally.count(name, begun.elapsed(), &result)
    })
}
