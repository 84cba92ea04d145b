//! Verbs and options.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::commands::checks::{self, Stage};
use crate::commands::{bench, bundle, doctor, export, open, run};
use crate::cuda::CudaBuild;
use crate::environment;
use crate::error::{Error, Result};
use crate::kernel::{launcher, report};
use crate::notebook::parameters::Setting;
use crate::programs::Example;
use crate::repository::Repository;

/// The options of a program that a verb starts, from the program's own folder.
#[path = "../../cifar-lab/examples/predict/options.rs"]
#[allow(dead_code)]
mod predict;
/// The same.
#[path = "../../cifar-lab/examples/runs/options.rs"]
#[allow(dead_code)]
mod runs;

/// Without a verb: sets up what is missing and opens JupyterLab on the notebooks.
#[derive(Parser)]
#[command(
    name = "cargo lab",
    bin_name = "cargo lab",
    about = "Rust notebooks on CIFAR-10: set-up, JupyterLab, headless runs, checks"
)]
#[command(after_help = "Examples:
  cargo lab                                open JupyterLab on the notebooks
  cargo lab run 00                         execute notebooks/00_*.ipynb
  cargo lab run 00 --set epochs=2          with another value for a parameter
  cargo lab export 00                      the same cells as a program
  cargo lab test                           all checks
  cargo lab runs                           all trainings so far
  cargo lab predict runs/…/cnn.pth cat.jpg what a saved network sees
  cargo lab bench --quick                  speed beside plain candle and PyTorch
  cargo lab doctor                         what is found, what is missing")]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Options for JupyterLab, behind `--`: cargo lab -- --no-browser
    #[arg(last = true, value_name = "OPTION")]
    jupyter: Vec<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Execute notebooks headless in the real kernel, into runs/
    Run {
        /// A number (00), a name or a path; several are executed one after another
        #[arg(required = true, value_name = "NOTEBOOK")]
        notebooks: Vec<String>,
        /// Override a value of the cell tagged `parameters`; can be repeated
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// Execute each cell a second time in place, as learners do; fails where that fails
        #[arg(long, conflicts_with = "write_back")]
        twice: bool,
        /// After success, write the outputs into the notebook itself (for its authors)
        #[arg(long, conflicts_with = "settings")]
        write_back: bool,
    },
    /// Run all checks: format, lints, tests, notebooks, kernel
    Test {
        /// One stage instead of all checks
        #[arg(long, value_name = "STAGE")]
        only: Option<Stage>,
        /// Format, lints and unit tests of the crates that changed and of those that depend on them
        #[arg(long, conflicts_with_all = ["only", "filter"])]
        quick: bool,
        /// Of notebooks, kernel tests and exports, only those whose name contains this
        #[arg(long, value_name = "TEXT", default_value = "")]
        filter: String,
        /// How long the idle kernel's test leaves it alone
        #[arg(long, value_name = "SECONDS", default_value_t = 20)]
        idle_seconds: u64,
    },
    /// Turn a notebook's code cells into a plain Rust program, and compile it
    Export {
        /// A number (00), a name or a path
        notebook: String,
        /// Where the crate goes; target/export/ otherwise
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Override a value of the cell tagged `parameters`; can be repeated
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
        /// Compile it for NVIDIA GPUs; needs the CUDA toolkit, but no GPU
        #[arg(long)]
        cuda: bool,
        /// Write the crate and do not compile it
        #[arg(long)]
        no_build: bool,
    },
    /// Pack tests, benchmark and notebook 00 for a machine with a GPU and without Rust; needs the CUDA toolkit, but no GPU
    Bundle,
    /// Say what is found, what is missing and how to get it
    Doctor,
    /// Measure training and inference beside plain candle and PyTorch
    Bench {
        /// A Python that has PyTorch; the environment's is asked otherwise
        #[arg(long, value_name = "PYTHON")]
        python: Option<PathBuf>,
        /// Batch 32 and few rounds, for a first look
        #[arg(long)]
        quick: bool,
        /// The notebook kernel beside a compiled program instead
        #[arg(long, conflicts_with = "python")]
        kernel: bool,
        /// Write the tables into a Markdown file too
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// List all trainings in runs/, and plot their test accuracies
    Runs(runs::Options),
    /// Name what a saved network sees in pictures
    Predict(predict::Options),
    /// Measure how long a kernel takes to start, a few times
    #[command(hide = true)]
    MeasureStart {
        #[arg(default_value_t = 3)]
        times: usize,
    },
    /// Set up what is missing and stop
    #[command(hide = true)]
    Setup,
    /// What Jupyter starts: a kernel in a folder of its own
    #[command(hide = true)]
    Kernel {
        #[arg(long)]
        evcxr: PathBuf,
        connection_file: PathBuf,
    },
    /// What cleans up after a kernel
    #[command(hide = true)]
    Guard { folder: PathBuf },
}

/// Reads the arguments and does what they ask.
pub fn main() -> Result<ExitCode> {
    if let Some((rustc, arguments, report)) = report::called_by_cargo() {
        match report::wrap_rustc(&rustc, &arguments, &report)? {}
    }
    let code = |good: bool| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // Their options have been checked; the program reads them again.
    let program = |name| {
        let own: Vec<OsString> = std::env::args_os().skip(2).collect();
        Example { package: "cifar-lab", name }.run(&Repository::current()?, &own)
    };
    let arguments = Arguments::parse();
    match arguments.verb {
        None => open::open(&Repository::current()?, &arguments.jupyter),
        Some(Verb::Run { notebooks, settings, twice, write_back }) => {
            let settings: Vec<Setting> = settings.iter().map(|text| Setting::parse(text)).collect::<Result<_>>()?;
            run::run(&Repository::current()?, &notebooks, &settings, twice, write_back).map(code)
        }
        Some(Verb::Test { only, quick, filter, idle_seconds }) => {
            let options = checks::Options { only, quick, filter, idle: Duration::from_secs(idle_seconds) };
            checks::run(&Repository::current()?, &options).map(code)
        }
        Some(Verb::Export { notebook, out, settings, cuda, no_build }) => {
            let settings: Vec<Setting> = settings.iter().map(|text| Setting::parse(text)).collect::<Result<_>>()?;
            let cuda = cuda.then(CudaBuild::of_toolkit).transpose().map_err(Error::NoCuda)?;
            let options = export::Options { notebook, out, settings, cuda, build: !no_build };
            export::run(&Repository::current()?, &options).map(|()| ExitCode::SUCCESS)
        }
        Some(Verb::Bundle) => bundle::bundle(&Repository::current()?).map(|()| ExitCode::SUCCESS),
        Some(Verb::Doctor) => doctor::examine(&Repository::current()?).map(code),
        Some(Verb::Bench { python, quick, kernel, save }) => {
            let options = bench::Options { python, quick, kernel, save };
            bench::bench(&Repository::current()?, &options).map(|()| ExitCode::SUCCESS)
        }
        Some(Verb::Runs(_)) => program("runs"),
        Some(Verb::Predict(_)) => program("predict"),
        Some(Verb::MeasureStart { times }) => checks::kernel::measure_starts(&Repository::current()?, times).map(code),
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
