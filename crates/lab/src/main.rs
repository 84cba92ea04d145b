//! `cargo lab`: sets up, opens, runs and checks the notebooks. It knows files and programs only, neither candle nor
//! cifar-lab, so that it is built in seconds.
//!
//! From the top down; each imports only what stands below it:
//!
//! - [`cli`]: verbs and options.
//! - [`commands`]: what each verb does.
//! - [`environment`]: set-up: Python packages, evcxr, kernelspec, prepared kernel folder.
//! - [`execution`]: notebooks executed headless.
//! - [`kernel`]: the launcher that Jupyter starts, and the kernels' folders.
//! - [`programs`]: programs of the other crates.
//! - [`notebook`]: reading and changing `.ipynb` files, the parameters cell.
//! - [`repository`]: where things are.
//! - [`steps`]: announcing what takes time.
//! - [`atomic_file`]: files that are written whole or not at all.
//! - [`error`]: everything that can go wrong.
//! - [`cuda`]: the CUDA toolkit, driver and GPU of this machine.
//! - [`machine`]: its processor and memory, and what its programs say.
//! - [`fingerprint`]: the hash that names prepared folders.
//! - [`listing`]: numbers that a program and a notebook print.

#[path = "../../cifar-lab/src/atomic_file.rs"]
mod atomic_file;
mod cli;
mod commands;
mod cuda;
mod environment;
mod error;
mod execution;
mod fingerprint;
mod kernel;
mod listing;
mod machine;
mod notebook;
mod programs;
mod repository;
mod steps;

fn main() -> std::process::ExitCode {
    match cli::main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
