//! Errors: what went wrong, with which value, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use crate::cuda::Reason as CudaReason;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Advice if cargo or rustc can't be started.
pub const INSTALL_RUST: &str = "Install Rust from rustup.rs, or with conda (packages rust and rust-src).";
/// Advice if a step fails, perhaps because something it needs is missing.
pub const ASK_THE_DOCTOR: &str = "Run `cargo lab doctor` to see what is missing.";
/// Advice if a program of the environment can't be started.
pub const DELETE_VENV: &str = "Delete .venv and try again: it will be set up from scratch.";
/// Advice if a program that cargo has just built can't be started.
pub const CHECK_THE_DISK: &str = "It has just been compiled: is the disk full?";
/// Advice if a part of the kernel can't be started.
pub const REINSTALL: &str = "Run `cargo lab` to install it again.";

/// What went wrong. A message has one or two lines, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, copied or removed.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// "read", "write", …
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program could not be started.
    #[error("can't start {program}: {source}\n{advice}")]
    Start { program: String, source: io::Error, advice: &'static str },
    /// A kernel can't be reached, or can't reach evcxr.
    #[error(
        "can't connect Jupyter and evcxr: {0}\nRestart the kernel; if it happens again, `cargo lab doctor` may say why."
    )]
    Connection(String),
    /// The command was run outside the repository.
    #[error("{} is not in the repository: neither it nor any folder above it has environment.yml and crates/cifar-lab", .0.display())]
    OutsideRepository(PathBuf),
    /// No variable says where caches go.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set one of them to say where prepared kernels are kept")]
    NoCacheFolder,
    /// evcxr can't use the folder of prepared kernels.
    #[error(
        "prepared kernels would be kept in {}, but evcxr can't use a path with a space, a colon or bytes that aren't UTF-8: set \
         XDG_CACHE_HOME to a path without them",
        path.display()
    )]
    CacheFolder { path: PathBuf },
    /// Sources were edited during setup.
    #[error("the crates changed while the kernel was prepared from them: run the same command again")]
    SourcesChanged,
    /// No notebook matches what was asked for.
    #[error("no notebook is called {asked}; available: {}", known.join(", "))]
    NoSuchNotebook { asked: String, known: Vec<String> },
    /// More than one notebook matches what was asked for.
    #[error("{asked} matches more than one notebook: {}; type more of the name", fitting.join(", "))]
    AmbiguousNotebook { asked: String, fitting: Vec<String> },
    /// `--resume` with a folder that holds no run of the notebook.
    #[error("there is no run of {notebook} in {}: name a folder in runs/, such as 20261124-101500-{notebook}", run.display())]
    NoSuchRun { run: PathBuf, notebook: String },
    /// `--resume` with a run that has not ended.
    #[error("the run in {} is still going on: wait for its end, or stop it with Ctrl-C", folder.display())]
    RunGoesOn { folder: PathBuf },
    /// A file is no Rust notebook.
    #[error("can't run {}: {reason}", path.display())]
    BadNotebook { path: PathBuf, reason: String },
    /// `--set` without a name and a value.
    #[error("expected name=value, for example --set epochs=2")]
    BadSetting,
    /// `--set` on a notebook without a cell tagged `parameters`.
    #[error("{notebook} has no cell tagged `parameters`, so it has nothing to set")]
    NoParameters { notebook: String },
    /// `--set` with a name that the parameters cell lacks.
    #[error("{notebook} has no parameter called {name}; its parameters are {}", known.join(", "))]
    UnknownParameter { notebook: String, name: String, known: Vec<String> },
    /// `--set` with a value that the parameter's type can't hold.
    #[error("can't set {name} to {value:?}: it is of type {kind}, expected {expected}")]
    IllTypedParameter { name: String, value: String, kind: String, expected: String },
    /// `metadata.cifar_lab` of a notebook is malformed.
    #[error("{}: metadata.cifar_lab.{field}: {reason}", path.display())]
    BadExpectation { path: PathBuf, field: &'static str, reason: String },
    /// environment.yml does not have the form that both conda and this command read.
    #[error("{}: {reason}", path.display())]
    BadEnvironment { path: PathBuf, reason: String },
    /// No Python was found.
    #[error(
        "JupyterLab needs Python {least} or later, and there is none on PATH{found}\n\
         Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python; or python.org) and try again."
    )]
    NoPython { least: String, found: String },
    /// Python lacks the modules that a virtual environment needs.
    #[error(
        "{} can't create virtual environments: it lacks the module {module}\n\
         Install it (Debian, Ubuntu: apt install python3-venv) and try again.",
        python.display()
    )]
    NoVenv { python: PathBuf, module: String },
    /// The Python given for a comparison has no PyTorch.
    #[error("{} can't import torch, or isn't Python; run `pip install torch` there, or omit --python", .0.display())]
    NoPyTorch(PathBuf),
    /// No C linker was found.
    #[error(
        "no C linker: Rust needs `cc` on PATH to link each cell\n\
         Install one (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install; conda: c-compiler)."
    )]
    NoLinker,
    /// A step failed.
    #[error("{step} failed: {reason}\n{advice}")]
    Step { step: String, reason: String, advice: String },
    /// The program that talks to the kernel ended before it had finished.
    #[error("the notebook client stopped early: {0}\nRun `cargo lab doctor`, or delete .venv to have it set up again.")]
    Client(String),
    /// Outputs contain a path of this machine, which must not be committed.
    #[error("{notebook}: the outputs were not written back, because cell {cell} shows {path}, a path of this machine")]
    PrivatePath {
        notebook: String,
        /// Counted from 1.
        cell: usize,
        path: String,
    },
    /// A program would take the place of another.
    #[error("{} holds another crate, which the program would overwrite: name another folder with --out", folder.display())]
    NotAnExport { folder: PathBuf },
    /// A cell can't become part of a program.
    #[error("{notebook}: cell {number}{problem}")]
    Cell {
        notebook: String,
        /// Counted from 1.
        number: usize,
        problem: String,
    },
    /// CUDA code can't be compiled on this machine.
    #[error("can't compile with CUDA: {0}")]
    NoCuda(CudaReason),
}

impl Error {
    /// For `map_err`: what couldn't be done with which file.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err`: which program couldn't be started, and what to do.
    pub fn start(program: impl Into<String>, advice: &'static str) -> impl FnOnce(io::Error) -> Error {
        let program = program.into();
        move |source| Error::Start { program, source, advice }
    }

    /// The step that failed, why, and what to do.
    pub fn step(step: impl Into<String>, reason: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::Step { step: step.into(), reason: reason.into(), advice: advice.into() }
    }
}
