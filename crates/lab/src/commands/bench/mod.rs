//! `cargo lab bench`: the speed of training and inference next to plain candle and PyTorch, or in the notebook kernel. The
//! programs that measure are examples of candle-cnn and cifar-lab.
//!
//! - [`kernel`]: the kernel compared with a compiled program.
//! - [`report`]: what is printed, and saved as Markdown.

mod kernel;
mod report;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cuda::{Build, Places, find_gpus};
use crate::environment::{self, packages::Environment};
use crate::error::{CHECK_THE_DISK, Error, Result};
use crate::kernel::settings;
use crate::machine::output;
use crate::programs::Example;
use crate::repository::Repository;
use report::{Report, failed};

/// The notebooks' network.
const NET: &str = "net";

/// What to measure.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Python with PyTorch [default: the environment's, or python3]
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Only batch 32 and a few rounds, for a first impression
    #[arg(long)]
    quick: bool,
    /// The network: net, the notebooks'; resnet18 or vgg11; or record, that of the CIFAR-10 record [default: net]
    #[arg(long, value_name = "NAME", conflicts_with = "kernel", value_parser = [NET, "resnet18", "vgg11", "record"])]
    network: Option<String>,
    /// Compare the notebook kernel with a compiled program instead
    #[arg(long, conflicts_with = "python")]
    kernel: bool,
    /// Also save the tables as Markdown
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Options {
    /// The command that repeats the measurement, without the path of Python, which differs on every machine.
    fn command(&self) -> String {
        let mut command = "cargo lab bench".to_string();
        if let Some(network) = &self.network {
            command += &format!(" --network {network}");
        }
        for (given, option) in
            [(self.kernel, " --kernel"), (self.quick, " --quick"), (self.python.is_some(), " --python PYTHON")]
        {
            command += if given { option } else { "" };
        }
        command
    }
}

/// Measures, prints, and saves.
pub fn bench(repository: &Repository, options: &Options) -> Result<()> {
    let mut report = Report::begin(repository, &options.command());
    if options.kernel {
        kernel::beside_a_program(repository, options.quick, &mut report)?;
    } else {
        beside_others(repository, options, &mut report)?;
    }
    match &options.save {
        Some(path) => report.save(path),
        None => Ok(()),
    }
}

fn beside_others(repository: &Repository, options: &Options, report: &mut Report) -> Result<()> {
    let pytorch = find_pytorch(repository, options.python.as_deref())?;
    let build = Build::of_machine();
    report.say(&format!("Measured on {build}."));
    if build.cuda().is_some() {
        let gpus = find_gpus(&Places::of_process());
        gpus.iter().for_each(|gpu| report.say(&format!("{}, driver {}.", gpu.name, gpu.driver)));
    }
    let program = Example { package: "candle-cnn", name: "bench" }.build(repository, build.cuda())?;
    let mut command = Command::new(program);
    if options.quick {
        command.args(["--rounds", "3", "--batches", "32"]);
    }
    if let Some(network) = &options.network {
        command.args(["--network", network]);
        if network != NET {
            // Their tensors are large, and notebooks keep freed memory too. All contenders inherit this.
            settings::keep_freed_memory(&mut command);
        }
    }
    match &pytorch {
        Some((python, version)) => {
            command.arg("--python").arg(python);
            report.say(&format!("PyTorch {version}."));
        }
        None => report.say("Without PyTorch."),
    }
    println!(
        "It takes about {} on 2 cores; close other programs.",
        if options.quick { "a minute" } else { "10 minutes" }
    );
    settings::forget_cargo_run(&mut command, repository);
    settings::add_libraries(&mut command, repository, build.cuda());
    let process = command.stdout(Stdio::piped()).spawn();
    let mut process = process.map_err(Error::start("the benchmark", CHECK_THE_DISK))?;
    if let Some(lines) = process.stdout.take() {
        for line in BufReader::new(lines).lines() {
            report.say(&line.map_err(Error::file("read from", "the benchmark"))?);
        }
    }
    let status = process.wait().map_err(Error::file("wait for", "the benchmark"))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{status}, see above"))) }
}

/// A Python with PyTorch, and PyTorch's version: the one `asked` for, the environment's, or the one on PATH.
fn find_pytorch(repository: &Repository, asked: Option<&Path>) -> Result<Option<(PathBuf, String)>> {
    let version = |python: &Path| output(&python.to_string_lossy(), &["-c", "import torch; print(torch.__version__)"]);
    if let Some(python) = asked {
        return match version(python) {
            Some(version) => Ok(Some((python.to_path_buf(), version))),
            None => Err(Error::NoPyTorch(python.to_path_buf())),
        };
    }
    let wanted = Environment::read(&repository.root().join("environment.yml"))?;
    let own = environment::place(repository, &wanted).join("bin/python");
    let found = [own, PathBuf::from("python3")].into_iter().find_map(|python| Some((version(&python)?, python)));
    if found.is_none() {
        println!(
            "There is no PyTorch to compare with. Run `pip install torch` in any Python, and name it with --python."
        );
    }
    Ok(found.map(|(version, python)| (python, version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_no_path() {
        let options = Options { python: Some("/home/me/torch/bin/python".into()), quick: true, ..Options::default() };
        assert_eq!(options.command(), "cargo lab bench --quick --python PYTHON");
    }
}
