//! `cargo lab`: sets up, opens, runs and checks the notebooks. It depends on neither candle nor cifar-lab, so that it
//! compiles in half a minute.
//!
//! From top to bottom; each module imports only from those below it:
//!
//! - [`cli`]: the command line.
//! - [`commands`]: what each command does.
//! - [`environment`]: setup: Python packages, evcxr, kernelspec, prepared kernel folder.
//! - [`execution`]: executing notebooks headless.
//! - [`programs`]: building and starting programs of the other crates.
//! - [`kernel`]: the launcher that Jupyter starts, and the kernels' folders.
//! - [`notebook`]: reading and changing `.ipynb` files.
//! - [`repository`]: where things are.
//! - [`steps`]: announcing what takes time.
//! - [`atomic_file`]: files that are written completely or not at all.
//! - [`error`]: everything that can go wrong.
//! - [`cuda`]: this machine's CUDA toolkit, driver and GPU.
//! - [`machine`]: its processor and memory, and output of its programs.
//! - [`fingerprint`]: the hash in names of prepared folders.
//! - [`listing`]: numbers printed by programs and notebooks.

#[path = "../../notebook-charts/src/atomic_file.rs"]
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
