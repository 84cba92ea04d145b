//! Everything that can go wrong, with the value at fault and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::cuda::Reason as CudaReason;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do where cargo or rustc can't be started.
pub const INSTALL_RUST: &str = "Install Rust from rustup.rs, or with conda: rust and rust-src.";
/// What to do where something that a step needs may be missing.
pub const ASK_THE_DOCTOR: &str = "`cargo lab doctor` says what is missing.";
/// What to do where a program of the environment can't be started.
pub const DELETE_VENV: &str = "Delete .venv; the next run sets it up again.";
/// What to do where a program that cargo has just built can't be started.
pub const CHECK_THE_DISK: &str = "It was compiled just now; is the disk full?";
/// What to do where a part of the kernel can't be started.
pub const REINSTALL: &str = "`cargo lab` installs it again.";

/// What went wrong. Each message is one or two lines and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, copied or removed.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was tried: "read", "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("can't start {program}: {source}\n{advice}")]
    Start {
        /// The program.
        program: String,
        /// What the operating system says.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The command was called outside of the repository.
    #[error("{} is not inside the repository: no folder above it holds environment.yml and crates/cifar-lab", .0.display())]
    OutsideRepository(PathBuf),
    /// Neither XDG_CACHE_HOME nor HOME says where caches go.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set one of them, prepared kernels are kept there")]
    NoCacheFolder,
    /// No notebook matches what was asked for.
    #[error("no notebook is called {asked}; there {} {}", if known.len() == 1 { "is" } else { "are" }, list(known))]
    NoSuchNotebook {
        /// What was asked for.
        asked: String,
        /// The names of those that exist.
        known: Vec<String>,
    },
    /// More than one notebook matches what was asked for.
    #[error("{asked} fits more than one notebook: {}; write more of the name", list(fitting))]
    AmbiguousNotebook {
        /// What was asked for.
        asked: String,
        /// The names that fit.
        fitting: Vec<String>,
    },
    /// A file is not a notebook that can be run.
    #[error("{} is not a notebook that can be run: {reason}", path.display())]
    BadNotebook {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `--set` without a name and a value.
    #[error("--set wants name=value, for example --set epochs=2, not {0:?}")]
    BadSetting(String),
    /// `--set` on a notebook without a cell tagged `parameters`.
    #[error("{notebook} has no cell tagged `parameters`, so nothing can be set in it")]
    NoParameters {
        /// The notebook.
        notebook: String,
    },
    /// `--set` with a name that the parameters cell lacks.
    #[error("{notebook} has no parameter called {name}; it has {}", list(known))]
    UnknownParameter {
        /// The notebook.
        notebook: String,
        /// The name that was given.
        name: String,
        /// The parameters that there are, with their types.
        known: Vec<String>,
    },
    /// `--set` with a value that the parameter's type can't hold.
    #[error("{name} = {value:?}: {name} is {kind}, so it wants {wanted}")]
    IllTypedParameter {
        /// The parameter.
        name: String,
        /// The value that was given.
        value: String,
        /// The declared type.
        kind: String,
        /// What the type takes.
        wanted: String,
    },
    /// `metadata.cifar_lab` of a notebook is malformed.
    #[error("{}: metadata.cifar_lab.{field}: {reason}", path.display())]
    BadExpectation {
        /// The notebook.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// environment.yml does not have the form that both conda and this command read.
    #[error("{}: {reason}", path.display())]
    BadEnvironment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No Python was found.
    #[error(
        "Python {wanted} or later is needed, for JupyterLab, and none was found on PATH{found}\n\
         Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python; or python.org) and run this again."
    )]
    NoPython {
        /// The least version.
        wanted: String,
        /// What was found instead, or nothing.
        found: String,
    },
    /// Python lacks the modules that a virtual environment needs.
    #[error(
        "{} can't make virtual environments (its module {module} is missing)\n\
         Debian, Ubuntu: apt install python3-venv; then run this again.",
        python.display()
    )]
    NoVenv {
        /// The Python.
        python: PathBuf,
        /// The module that is missing.
        module: String,
    },
    /// The Python that a comparison was to be made with has no PyTorch.
    #[error("{} can't import PyTorch, or is no Python; `pip install torch` there, or leave --python out", .0.display())]
    NoPyTorch(PathBuf),
    /// No C linker was found.
    #[error(
        "no C linker: `cc` is not on PATH, and Rust needs it to link each cell\n\
         Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install; conda: c-compiler."
    )]
    NoLinker,
    /// A step of the set-up failed.
    #[error("{step} failed: {reason}\n{advice}")]
    Step {
        /// The step.
        step: String,
        /// The last that the program said.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The program that talks to the kernel ended without having finished.
    #[error(
        "the notebook client stopped early: {0}\nRun `cargo lab doctor`; deleting .venv makes the next run set it up anew."
    )]
    Client(String),
    /// The kernel can't be asked how a cell ended.
    #[error(
        "the kernel does not report how cells end: {reason}\n\
         That works with evcxr_jupyter {supported}; `cargo lab doctor` names the one that was found."
    )]
    NoReport {
        /// What the kernel did instead.
        reason: String,
        /// The version with which it works.
        supported: &'static str,
    },
    /// Outputs hold a path of this machine, so they must not be written back.
    #[error("{notebook}: cell {cell} prints {path}, a path of this machine; outputs were not written back")]
    PrivatePath {
        /// The notebook.
        notebook: String,
        /// The code cell, counted from 1.
        cell: usize,
        /// The path.
        path: String,
    },
    /// A cell can't become a part of a program.
    #[error("{notebook}: cell {number} {problem}")]
    Cell {
        /// The notebook.
        notebook: String,
        /// The code cell, counted from 1.
        number: usize,
        /// Why.
        problem: String,
    },
    /// Something can't be compiled with CUDA on this machine.
    #[error("can't compile with CUDA: {0}")]
    NoCuda(CudaReason),
}

impl Error {
    /// For `map_err`: what was tried on which file.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err`: the program that could not be started, and what to do.
    pub fn start(program: impl Into<String>, advice: &'static str) -> impl FnOnce(io::Error) -> Error {
        let program = program.into();
        move |source| Error::Start { program, source, advice }
    }

    /// The step that failed, why, and what to do.
    pub fn step(step: impl Into<String>, reason: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::Step { step: step.into(), reason: reason.into(), advice: advice.into() }
    }
}

/// "a, b and c".
fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_string(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_at_most_two_lines() {
        let errors = [
            Error::NoSuchNotebook { asked: "07".into(), known: vec!["00_pipeline".into()] },
            Error::NoPython { wanted: "3.10".into(), found: String::new() },
            Error::NoLinker,
            Error::UnknownParameter {
                notebook: "00".into(),
                name: "epoch".into(),
                known: vec!["epochs: usize".into()],
            },
        ];
        for error in errors {
            assert!(error.to_string().lines().count() <= 2, "{error}");
        }
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(list(&[]), "none");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
