//! Building and starting programs of the other crates. Programs that need candle can't be part of `lab`, which must
//! compile in seconds, so they are examples of their crates.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::cuda::CudaBuild;
use crate::error::{ASK_THE_DOCTOR, CHECK_THE_DISK, Error, INSTALL_RUST, Result};
use crate::kernel::settings;
use crate::repository::Repository;
use crate::steps;

/// The target folder for programs for a GPU, whose libcifar_lab.so has the same name as the CPU's.
const CUDA_TARGET: &str = "target/cuda";

/// The tests that compute on a GPU.
pub const CUDA_TESTS: [&str; 5] = ["cuda", "cuda_precision", "pytorch", "cuda_training", "cuda_errors"];

/// cargo, in the repository's folder.
pub fn cargo(repository: &Repository, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(repository.root());
    settings::forget_cargo_run(&mut command, repository);
    command
}

/// cargo for both crates that have CUDA code, with their `feature` (`cuda` or `cudnn`). Its arguments are `before`, what
/// selects crates and feature, and `after`. One command for both, since cargo would otherwise compile shared crates twice.
pub fn cargo_with_cuda(
    repository: &Repository,
    cuda: &CudaBuild,
    feature: &str,
    before: &[&str],
    after: &[&str],
) -> Command {
    let features = format!("candle-cnn/{feature},cifar-lab/{feature}");
    let crates = ["--package", "candle-cnn", "--package", "cifar-lab", "--features", &features];
    let mut command = cargo(repository, &[before, &crates, after].concat());
    cuda.apply(&mut command);
    command.env("CARGO_TARGET_DIR", repository.root().join(CUDA_TARGET));
    command
}

/// Runs a cargo command that builds `what`, and returns the programs by their names.
pub fn build(command: &mut Command, what: &str, advice: impl Into<String>) -> Result<BTreeMap<String, PathBuf>> {
    command.args(["--quiet", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().map_err(Error::start("cargo", INSTALL_RUST))?;
    if !output.status.success() {
        let reason = format!("cargo ended with {}, see above", output.status);
        return Err(Error::step(format!("compiling {what}"), reason, advice));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = |message: Value| {
        Some((message["target"]["name"].as_str()?.to_string(), PathBuf::from(message["executable"].as_str()?)))
    };
    Ok(messages.filter_map(program).collect())
}

/// An example of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The package.
    pub package: &'static str,
    /// The example.
    pub name: &'static str,
}

impl Example {
    /// cargo's arguments to compile it.
    fn arguments(self, cuda: Option<&CudaBuild>) -> Vec<&'static str> {
        let mut arguments = vec!["build", "--release", "--package", self.package, "--example", self.name];
        arguments.extend(cuda.into_iter().flat_map(|cuda| ["--features", cuda.feature()]));
        arguments
    }

    /// Compiles it, optimized, if needed, and returns its path; with `cuda` for a GPU.
    pub fn build(self, repository: &Repository, cuda: Option<&CudaBuild>) -> Result<PathBuf> {
        let mut command = cargo(repository, &self.arguments(cuda));
        let (target, takes) = match cuda {
            None => ("target", "3 minutes on 2 cores, once"),
            Some(cuda) => {
                cuda.apply(&mut command);
                command.env("CARGO_TARGET_DIR", repository.root().join(CUDA_TARGET));
                (CUDA_TARGET, "15 minutes on 2 cores, once")
            }
        };
        let is_new = !repository.root().join(target).join("release/examples").join(self.name).exists();
        let step = is_new.then(|| steps::begin(&format!("Compiling {}", self.name), takes));
        let programs = build(&mut command, self.name, ASK_THE_DOCTOR)?;
        step.into_iter().for_each(steps::Step::end);
        let missing = || Error::step(format!("compiling {}", self.name), "cargo built no such program", ASK_THE_DOCTOR);
        programs.get(self.name).cloned().ok_or_else(missing)
    }

    /// Builds it for the CPU and becomes it. (It runs for seconds, and a build for a GPU takes a quarter of an hour.)
    pub fn run(self, repository: &Repository, arguments: &[OsString]) -> Result<ExitCode> {
        let mut command = Command::new(self.build(repository, None)?);
        settings::forget_cargo_run(&mut command, repository);
        Err(Error::start(self.name, CHECK_THE_DISK)(command.args(arguments).exec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_for_a_gpu_turns_on_its_feature() {
        let arguments = |cuda| Example { package: "candle-cnn", name: "bench" }.arguments(cuda);
        let cuda = CudaBuild { toolkit: None, capability: None };
        assert!(!arguments(None).contains(&"--features"));
        assert_eq!(arguments(Some(&cuda)), [arguments(None), vec!["--features", "cuda"]].concat());
    }
}
