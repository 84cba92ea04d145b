//! `cargo lab test`: format, lints, tests, then notebooks and kernel, in this order, up to the first failure.
//!
//! - [`tally`]: what passed and what failed.
//! - [`laboratory`]: executing notebooks for checks.
//! - [`notebook`]: a notebook with its test settings.
//! - [`expectation`]: those settings, and ranges for the numbers it prints.
//! - [`outputs`]: no errors, no broken or blank pictures, small enough to be committed.
//! - [`kernel`]: tests of the kernel itself.
//! - [`front`]: tests of what JupyterLab does.
//! - [`browser`]: JupyterLab itself.
//! - [`survival`]: a training whose kernel is killed.
//! - [`program`]: an exported notebook, compared with the notebook.
//! - [`mod@cuda`]: all CUDA code.
//! - [`sanitizer`]: candle-cnn under AddressSanitizer.

mod browser;
mod cuda;
mod expectation;
mod front;
pub mod kernel;
mod laboratory;
mod notebook;
mod outputs;
mod program;
mod sanitizer;
mod survival;
mod tally;

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::error::Result;
use crate::repository::{Repository, stem};
use laboratory::Laboratory;
use tally::Tally;

/// A stage of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// rustfmt
    Format,
    /// clippy
    Lints,
    /// Unit, integration, property and doc tests
    Tests,
    /// Every notebook in the real kernel, with its test settings
    Notebooks,
    /// The kernel itself
    Kernel,
    /// Notebooks as programs (only on request)
    Export,
    /// JupyterLab in a browser (only on request)
    Browser,
    /// CUDA code, on a GPU or a simulated one (only on request)
    Cuda,
    /// candle-cnn's CPU tests under AddressSanitizer (only on request)
    Sanitizer,
}

/// All checks, in order. The other stages take minutes.
const ALL: [Stage; 5] = [Stage::Format, Stage::Lints, Stage::Tests, Stage::Notebooks, Stage::Kernel];

/// What to check.
#[derive(clap::Args)]
pub struct Options {
    /// One stage instead of all checks
    #[arg(long, value_name = "STAGE")]
    only: Option<Stage>,
    /// Only notebooks, kernel tests, exports and browser tests with TEXT in their name
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// How long the test of an idle kernel waits
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle_seconds: u64,
}

/// Runs the stages, up to the first failure; returns whether all passed.
pub fn run(repository: &Repository, options: &Options) -> Result<bool> {
    let mut tally = Tally::default();
    let started = Instant::now();
    let mut laboratory = None;
    let stages = options.only.map_or(ALL.to_vec(), |only| vec![only]);
    for stage in stages {
        let name = stage.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
        println!("\n== {name} ==");
        let mut cargo = |arguments: &[&str]| tally.cargo(repository, arguments, |_| {});
        let good = match stage {
            Stage::Format => cargo(&["fmt", "--all", "--check"]),
            Stage::Lints => cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            Stage::Tests => cargo(&["test", "--workspace"]),
            Stage::Cuda => cuda::check(repository, &mut tally),
            Stage::Sanitizer => sanitizer::check(repository, &mut tally),
            Stage::Notebooks | Stage::Kernel | Stage::Export | Stage::Browser => {
                // Replaces the executed copies of the last test.
                let folder = repository.root().join("runs/test").join(name);
                let laboratory = match &mut laboratory {
                    None => laboratory.insert(Laboratory::set_up(
                        repository,
                        folder,
                        Duration::from_secs(options.idle_seconds),
                    )?),
                    Some(laboratory) => {
                        laboratory.folder = folder;
                        laboratory
                    }
                };
                in_kernels(stage, laboratory, &options.filter, &mut tally)?
            }
        };
        if !good {
            break;
        }
    }
    Ok(tally.sum_up(started))
}

/// Runs a stage that needs kernels; returns whether it passed.
fn in_kernels(stage: Stage, laboratory: &Laboratory, filter: &str, tally: &mut Tally) -> Result<bool> {
    let filter = if stage == Stage::Export && filter.is_empty() { "00" } else { filter };
    let notebooks = laboratory.repository.list_notebooks()?;
    let mut chosen = notebooks.iter().map(|path| (path, stem(path))).filter(|(_, name)| name.contains(filter));
    Ok(match stage {
        Stage::Notebooks => chosen.all(|(path, name)| {
            println!("{name}.ipynb with its test settings");
            tally.check(&format!("{name}.ipynb"), || notebook::check(laboratory, path))
        }),
        Stage::Export => chosen.all(|(path, name)| {
            println!("{name}.ipynb as a program and in the kernel");
            tally.check(&format!("{name} as a program"), || program::compare(laboratory, path))
        }),
        Stage::Browser => tally.check("JupyterLab in a browser", || browser::check(laboratory, filter)),
        _ => kernel::TESTS
            .iter()
            .chain(&survival::TESTS)
            .chain(&front::TESTS)
            .filter(|(name, _)| name.contains(filter))
            .all(|(name, test)| tally.check(name, || test(laboratory))),
    })
}
