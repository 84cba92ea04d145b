//! Programs of the other crates: what needs candle is theirs, and this starts it through cargo.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::kernel::settings;
use crate::repository::Repository;
use crate::steps;

/// What cargo builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A binary of cifar-lab.
    Binary(&'static str),
    /// An example of a package.
    Example(&'static str, &'static str),
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Binary(name) | Self::Example(_, name) => name,
        }
    }

    /// What selects it on cargo's command line.
    fn selection(self) -> [&'static str; 4] {
        match self {
            Self::Binary(name) => ["--package", "cifar-lab", "--bin", name],
            Self::Example(package, name) => ["--package", package, "--example", name],
        }
    }

    /// Compiles it, optimised, where that is still to be done, and returns its path.
    ///
    /// # Errors
    /// Where cargo can't be started, or it does not compile.
    pub fn build(self, repository: &Repository) -> Result<PathBuf> {
        let mut command = Command::new("cargo");
        command.args(["build", "--release", "--quiet", "--message-format=json-render-diagnostics"]);
        command.args(self.selection()).current_dir(repository.root()).stderr(Stdio::inherit());
        settings::forget_cargo_run(&mut command, repository);
        let is_new = !repository.root().join("target/release").join(self.name()).exists();
        let step = is_new.then(|| steps::begin(&format!("Compiling {}", self.name()), "3 minutes on 2 cores, once"));
        let output = command.output().map_err(|source| Error::Start {
            program: "cargo".to_string(),
            source,
            advice: "Install Rust from rustup.rs, or with conda: rust and rust-src.",
        })?;
        step.into_iter().for_each(steps::Step::end);
        let messages = String::from_utf8_lossy(&output.stdout);
        let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let program = messages.find_map(|message| {
            let own = message["target"]["name"] == self.name();
            message["executable"].as_str().filter(|_| own).map(PathBuf::from)
        });
        program.filter(|_| output.status.success()).ok_or_else(|| Error::Step {
            step: format!("compiling {}", self.name()),
            reason: format!("cargo ended with {}, see above", output.status),
            advice: "`cargo lab doctor` says what is missing.".to_string(),
        })
    }

    /// Builds it and becomes it, with these arguments.
    ///
    /// # Errors
    /// As [`Self::build`], and where it can't be started.
    pub fn run(self, repository: &Repository, arguments: &[OsString]) -> Result<ExitCode> {
        let mut command = Command::new(self.build(repository)?);
        settings::forget_cargo_run(&mut command, repository);
        Err(Error::Start {
            program: self.name().to_string(),
            source: command.args(arguments).exec(),
            advice: "It was compiled just before; is the disk full?",
        })
    }
}
