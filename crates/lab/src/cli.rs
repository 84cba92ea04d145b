//! The command line: verbs and options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, bundle, checks, clean, doctor, export, open, run};
use crate::environment;
use crate::error::Result;
use crate::kernel::{cargo, instrument, launcher, recipe};
use crate::programs::Example;
use crate::repository::Repository;

/// The options of the programs that verbs start, from the programs' own folders: mistakes show before anything is
/// compiled.
#[path = "../../cifar-lab/examples/predict/options.rs"]
#[allow(dead_code)]
mod predict;
#[path = "../../cifar-lab/examples/runs/options.rs"]
#[allow(dead_code)]
mod runs;

/// Rust notebooks on CIFAR-10: sets up what is missing and opens JupyterLab, unless a command says otherwise
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab")]
#[command(after_help = "Examples:
  cargo lab                                  open JupyterLab on the notebooks
  cargo lab run 00                           execute notebooks/00_*.ipynb
  cargo lab run 00 --set epochs=2            change a parameter
  cargo lab export 00                        turn the notebook into a program
  cargo lab test                             run all checks
  cargo lab runs                             list all training runs
  cargo lab predict redneuronal.pth cat.jpg  classify a picture
  cargo lab bench --quick                    measure speed next to plain candle and PyTorch
  cargo lab doctor                           show what is missing")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Options for JupyterLab, after `--`: cargo lab -- --no-browser
    #[arg(last = true, value_name = "OPTION")]
    jupyter: Vec<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Execute notebooks headless in the real kernel, and keep the results in runs/
    Run(run::Options),
    /// Run all checks: format, lints, tests, notebooks, kernel
    Test(checks::Options),
    /// Turn a notebook into a plain Rust program, and compile it
    Export(export::Options),
    /// Pack tests, benchmark and notebook 00 for a machine that has a GPU but not Rust; needs the CUDA toolkit, but no
    /// GPU
    Bundle,
    /// Show what is installed, what is missing and how to get it
    Doctor,
    /// Remove what setup has made for this clone, but not runs/ and CIFAR-10
    Clean(clean::Options),
    /// Measure training and inference next to plain candle and PyTorch
    Bench(bench::Options),
    /// List all training runs in runs/, and plot their test accuracy
    Runs(runs::Options),
    /// Say what a saved network sees in images
    Predict(predict::Options),
    /// Set up what is missing and stop
    Setup,
    /// Run a kernel in a folder of its own; Jupyter calls this
    #[command(hide = true)]
    Kernel {
        #[arg(long)]
        evcxr: PathBuf,
        connection_file: PathBuf,
    },
    /// Clean up after a kernel
    #[command(hide = true)]
    Guard { folder: PathBuf },
}

/// Does what the arguments say.
pub fn main() -> Result<ExitCode> {
    if let Some((name, arguments)) = cargo::called_as() {
        return cargo::stand_in(name, &arguments);
    }
    if let Some((rustc, arguments, folder)) = instrument::called_by_cargo() {
        match recipe::wrap_rustc(&rustc, &arguments, &folder)? {}
    }
    let code = |good: bool| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // The options have been checked; the program parses them again.
    let program = |name| {
        let own: Vec<OsString> = std::env::args_os().skip(2).collect();
        Example { package: "cifar-lab", name }.run(&Repository::current()?, &own)
    };
    let arguments = Arguments::parse();
    match arguments.verb {
        None => open::open(&Repository::current()?, &arguments.jupyter),
        Some(Verb::Run(options)) => run::run(&Repository::current()?, &options).map(code),
        Some(Verb::Test(options)) => checks::run(&Repository::current()?, &options).map(code),
        Some(Verb::Export(options)) => export::run(&Repository::current()?, &options).map(|()| ExitCode::SUCCESS),
        Some(Verb::Bundle) => bundle::bundle(&Repository::current()?).map(|()| ExitCode::SUCCESS),
        Some(Verb::Doctor) => doctor::examine(&Repository::current()?).map(code),
        Some(Verb::Clean(options)) => clean::clean(&Repository::current()?, &options).map(|()| ExitCode::SUCCESS),
        Some(Verb::Bench(options)) => bench::bench(&Repository::current()?, &options).map(|()| ExitCode::SUCCESS),
        Some(Verb::Runs(_)) => program("runs"),
        Some(Verb::Predict(_)) => program("predict"),
        Some(Verb::Setup) => environment::set_up(&Repository::current()?).map(|_| ExitCode::SUCCESS),
        Some(Verb::Kernel { evcxr, connection_file }) => launcher::launch(&evcxr, &connection_file),
        Some(Verb::Guard { folder }) => launcher::guard(&folder).map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn write_back_and_set_exclude_each_other() {
        assert!(Arguments::try_parse_from(["lab", "run", "00", "--write-back", "--set", "a=1"]).is_err());
        assert!(Arguments::try_parse_from(["lab", "run"]).is_err());
        assert!(Arguments::try_parse_from(["lab", "run", "00", "01", "--set", "a=1", "--set", "b=2"]).is_ok());
    }
}
