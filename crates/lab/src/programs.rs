//! Programs of the other crates: what needs candle is theirs, and this starts it through cargo.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use serde_json::Value;

use crate::cuda::CudaBuild;
use crate::error::{Error, Result};
use crate::kernel::settings;
use crate::repository::Repository;
use crate::steps;

/// Where programs for a GPU are built, since libcifar_lab.so has the same name in both builds.
pub const CUDA_TARGET: &str = "target/cuda";

/// Makes cargo say what [`run_cargo`] reads.
pub const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// Runs cargo with [`MESSAGES`]: the programs that it has built, by their names, and how it ended.
///
/// # Errors
/// Where it can't be started.
pub fn run_cargo(command: &mut Command) -> Result<(BTreeMap<String, PathBuf>, ExitStatus)> {
    let output = command.output().map_err(|source| Error::Start {
        program: "cargo".to_string(),
        source,
        advice: "Install Rust from rustup.rs, or with conda: rust and rust-src.",
    })?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = |message: Value| {
        Some((message["target"]["name"].as_str()?.to_string(), PathBuf::from(message["executable"].as_str()?)))
    };
    Ok((messages.filter_map(program).collect(), output.status))
}

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

    /// The command that compiles it.
    fn cargo(self, cuda: Option<&CudaBuild>) -> Command {
        let mut command = Command::new("cargo");
        command.args(["build", "--release", "--quiet", MESSAGES]);
        command.args(self.selection());
        if let Some(cuda) = cuda {
            command.args(["--features", cuda.feature()]);
        }
        command
    }

    /// Where cargo puts it.
    fn path(self, target: &Path) -> PathBuf {
        match self {
            Self::Binary(name) => target.join("release").join(name),
            Self::Example(_, name) => target.join("release/examples").join(name),
        }
    }

    /// Compiles it, optimised, where that is still to be done, and returns its path; with `cuda` for a GPU.
    ///
    /// # Errors
    /// Where cargo can't be started, or it does not compile.
    pub fn build(self, repository: &Repository, cuda: Option<&CudaBuild>) -> Result<PathBuf> {
        let mut command = self.cargo(cuda);
        command.current_dir(repository.root()).stderr(Stdio::inherit());
        settings::forget_cargo_run(&mut command, repository);
        let (target, takes) = match cuda {
            None => ("target", "3 minutes on 2 cores, once"),
            Some(cuda) => {
                cuda.apply(&mut command);
                command.env("CARGO_TARGET_DIR", repository.root().join(CUDA_TARGET));
                (CUDA_TARGET, "15 minutes on 2 cores, once")
            }
        };
        let is_new = !self.path(&repository.root().join(target)).exists();
        let step = is_new.then(|| steps::begin(&format!("Compiling {}", self.name()), takes));
        let (mut programs, status) = run_cargo(&mut command)?;
        step.into_iter().for_each(steps::Step::end);
        programs.remove(self.name()).filter(|_| status.success()).ok_or_else(|| Error::Step {
            step: format!("compiling {}", self.name()),
            reason: format!("cargo ended with {status}, see above"),
            advice: "`cargo lab doctor` says what is missing.".to_string(),
        })
    }

    /// Builds it for the CPU and becomes it, with these arguments: what is run so takes seconds, and a build for a GPU a
    /// quarter of an hour.
    ///
    /// # Errors
    /// As [`Self::build`], and where it can't be started.
    pub fn run(self, repository: &Repository, arguments: &[OsString]) -> Result<ExitCode> {
        let mut command = Command::new(self.build(repository, None)?);
        settings::forget_cargo_run(&mut command, repository);
        Err(Error::Start {
            program: self.name().to_string(),
            source: command.args(arguments).exec(),
            advice: "It was compiled just before; is the disk full?",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_for_a_gpu_turns_on_its_feature() {
        let arguments = |cuda| {
            let command = Program::Example("candle-cnn", "bench").cargo(cuda);
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let cuda = CudaBuild { toolkit: None, capability: None };
        assert!(!arguments(None).contains(&"--features".to_string()));
        assert_eq!(arguments(Some(&cuda)), [arguments(None), vec!["--features".into(), "cuda".into()]].concat());
    }
}
