//! Finding Python, creating `.venv`, installing packages into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::packages::Environment;
use crate::error::{Error, Result};
use crate::kernel::settings;
use crate::machine::parse_version;
use crate::steps;

/// Names of Python on PATH.
const NAMES: [&str; 7] = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];

/// Prints the version, and the first module that `python -m venv` needs and this Python lacks.
const PROBE: &str = "import sys, importlib.util as u\n\
    print('%d.%d' % sys.version_info[:2], *[m for m in ('venv', 'ensurepip') if u.find_spec(m) is None][:1])";

/// A Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    pub program: PathBuf,
    /// (major, minor).
    pub version: (u32, u32),
    /// The module that it lacks for creating virtual environments.
    pub missing_module: Option<String>,
}

/// Asks `program` about itself; `None` if it can't be started or isn't Python 3.
pub fn probe(program: &Path) -> Option<Python> {
    let mut command = Command::new(program);
    settings::isolate_python(&mut command);
    let output = command.args(["-c", PROBE]).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut words = text.split_whitespace();
    let version = parse_version(words.next()?)?;
    Some(Python { program: program.to_path_buf(), version, missing_module: words.next().map(str::to_string) })
}

/// The first Python on PATH that is recent enough and can create virtual environments, or the most useful error.
pub fn find(least: (u32, u32)) -> Result<Python> {
    let mut too_old = String::new();
    let mut no_venv = None;
    for python in NAMES.iter().filter_map(|name| probe(Path::new(name))) {
        if python.version < least {
            too_old = format!(" (only {}.{})", python.version.0, python.version.1);
        } else if let Some(module) = &python.missing_module {
            no_venv = no_venv.or(Some((python.program.clone(), module.clone())));
        } else {
            return Ok(python);
        }
    }
    match no_venv {
        Some((python, module)) => Err(Error::NoVenv { python, module }),
        None => Err(Error::NoPython { least: format!("{}.{}", least.0, least.1), found: too_old }),
    }
}

/// The file in a virtual environment that lists the requirements installed into it, after Python's version: an upgrade of the
/// system's Python leaves the packages with the old one.
const STAMP: &str = "cifar-lab-packages.txt";

/// What the stamp of an environment with this Python says.
fn stamp(python: &Python, wanted: &Environment) -> String {
    let (major, minor) = python.version;
    format!("python {major}.{minor}\n{}\n", wanted.requirements().join("\n"))
}

/// Whether `venv` works and has all packages.
pub fn is_ready(venv: &Path, wanted: &Environment) -> bool {
    let installed = fs::read_to_string(venv.join(STAMP)).unwrap_or_default();
    probe(&venv.join("bin/python")).is_some_and(|python| stamp(&python, wanted) == installed)
}

/// Whether this Python finds pip: not if the creation of its environment was interrupted, nor after an upgrade of the system's Python.
fn has_pip(program: &Path) -> bool {
    let mut command = Command::new(program);
    settings::isolate_python(&mut command);
    command.args(["-c", "import pip"]).output().is_ok_and(|output| output.status.success())
}

/// Creates `venv` if need be, and installs the packages that are missing.
pub fn install(venv: &Path, wanted: &Environment) -> Result<()> {
    let python = find(wanted.python())?;
    let program = venv.join("bin/python");
    if probe(&program).is_none_or(|there| there.version < wanted.python()) || !has_pip(&program) {
        let step = steps::begin("Python environment .venv", "10 s");
        let mut command = Command::new(&python.program);
        settings::isolate_python(&mut command);
        command.args(["-m", "venv", "--clear"]).arg(venv);
        steps::run("creating .venv", &mut command, "If the disk is full, free some space and try again.")?;
        step.end();
    }
    let step = steps::begin("Python packages (JupyterLab and the notebook client)", "1 minute");
    let mut command = Command::new(&program);
    settings::isolate_python(&mut command);
    command.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]).args(wanted.requirements());
    steps::run(
        "installing Python packages",
        &mut command,
        "Check the network, which pip needs this once, and run the same command again: it will continue where it stopped.",
    )?;
    // The environment may have another Python than PATH.
    if let Some(installed) = probe(&program) {
        let path = venv.join(STAMP);
        fs::write(&path, stamp(&installed, wanted)).map_err(Error::file("write", &path))?;
    }
    step.end();
    Ok(())
}
