//! `cargo lab test`: format, lints, tests, then notebooks and kernel, in this order, up to the first failure.
//!
//! - [`tally`]: what passed and what failed.
//! - [`laboratory`]: where notebooks are executed to be checked.
//! - [`notebook`]: a notebook at its test settings.
//! - [`expectation`]: those settings, and numbers that must lie in a range.
//! - [`outputs`]: pictures that decode and are not blank, no errors, a size that can be committed.
//! - [`kernel`]: tests of the kernel itself.
//! - [`program`]: an exported notebook beside the notebook.
//! - [`mod@cuda`]: all CUDA code.
//! - [`sanitizer`]: candle-cnn under AddressSanitizer.
//! - [`quick`]: what changed, in a minute or two.

mod cuda;
mod expectation;
pub mod kernel;
mod laboratory;
mod notebook;
mod outputs;
mod program;
mod quick;
mod sanitizer;
mod tally;

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::error::Result;
use crate::repository::{Repository, stem};
use laboratory::Laboratory;
use tally::Tally;

/// What can be asked for by `--only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// rustfmt
    Format,
    /// clippy
    Lints,
    /// Unit, integration, property and doc tests
    Tests,
    /// Each notebook in the real kernel, at its test settings
    Notebooks,
    /// The kernel itself
    Kernel,
    /// Notebooks as programs (not a part of all checks)
    Export,
    /// CUDA code, on a GPU or a simulated one (not a part of all checks)
    Cuda,
    /// candle-cnn's CPU tests under AddressSanitizer (not a part of all checks)
    Sanitizer,
}

/// All checks, in their order; the other stages take minutes and run only when asked for.
const ALL: [Stage; 5] = [Stage::Format, Stage::Lints, Stage::Tests, Stage::Notebooks, Stage::Kernel];

/// What is to be checked, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One stage instead of all checks.
    pub only: Option<Stage>,
    /// Format, lints and unit tests of what changed, instead of all checks.
    pub quick: bool,
    /// Of notebooks, kernel tests and exports, those whose name contains this.
    pub filter: String,
    /// How long the idle kernel is left alone.
    pub idle: Duration,
}

/// Runs the stages, up to the first failure; returns whether all passed.
pub fn run(repository: &Repository, options: &Options) -> Result<bool> {
    let mut tally = Tally::default();
    let started = Instant::now();
    if options.quick {
        quick::check(repository, &mut tally)?;
        return Ok(tally.sum_up(started));
    }
    let mut laboratory = None;
    let stages = options.only.map_or(ALL.to_vec(), |only| vec![only]);
    for stage in stages {
        let name = stage.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
        println!("\n== {name} ==");
        let mut cargo = |arguments: &[&str]| tally.cargo(repository, arguments, |_| {});
        let good = match stage {
            Stage::Format => cargo(&["fmt", "--all", "--check"]),
            Stage::Lints => cargo(&quick::LINTS),
            Stage::Tests => cargo(&["test", "--workspace"]),
            Stage::Cuda => cuda::check(repository, &mut tally),
            Stage::Sanitizer => sanitizer::check(repository, &mut tally),
            Stage::Notebooks | Stage::Kernel | Stage::Export => {
                // The last test's executed copies are replaced.
                let folder = repository.root().join("runs/test").join(name);
                let laboratory = match &mut laboratory {
                    None => laboratory.insert(Laboratory::set_up(repository, folder, options.idle)?),
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

/// A stage that needs kernels; returns whether it passed.
fn in_kernels(stage: Stage, laboratory: &Laboratory, filter: &str, tally: &mut Tally) -> Result<bool> {
    let filter = if stage == Stage::Export && filter.is_empty() { "00" } else { filter };
    let notebooks = laboratory.repository.list_notebooks()?;
    let mut chosen = notebooks.iter().map(|path| (path, stem(path))).filter(|(_, name)| name.contains(filter));
    Ok(match stage {
        Stage::Notebooks => chosen.all(|(path, name)| {
            println!("{name}.ipynb at its test settings");
            tally.check(&format!("{name}.ipynb"), || notebook::check(laboratory, path))
        }),
        Stage::Export => chosen.all(|(path, name)| {
            println!("{name}.ipynb as a program and in the kernel");
            tally.check(&format!("{name} as a program"), || program::compare(laboratory, path))
        }),
        _ => kernel::TESTS
            .iter()
            .filter(|(name, _)| name.contains(filter))
            .all(|(name, test)| tally.check(name, || test(laboratory))),
    })
}
