//! `cargo lab`: sets up, opens, runs and checks the notebooks. It knows files and programs only, neither candle nor
//! cifar-lab, so that it is built in seconds.
//!
//! - [`cli`]: verbs and options.
//! - [`repository`]: where things are.
//! - [`environment`]: set-up: Python packages, evcxr, kernelspec, prepared kernel folder.
//! - [`kernel`]: the launcher that Jupyter starts, and the kernels' folders.
//! - [`notebook`]: reading and changing `.ipynb` files, the parameters cell.
//! - [`run`]: executing notebooks headless.
//! - [`cuda`]: the CUDA toolkit, driver and GPU of this machine.
//! - [`export`]: a notebook's cells as a plain Rust program.
//! - [`check`]: what notebooks and kernel are checked for.
//! - [`acceptance`]: `cargo lab test`.
//! - [`mod@bench`]: `cargo lab bench`.
//! - [`bundle`]: `cargo lab bundle`, for a GPU elsewhere.
//! - [`programs`]: programs of the other crates.
//! - [`doctor`]: what is found and what is missing.
//! - [`machine`]: its processor and memory.
//! - [`atomic_file`]: files that are written whole or not at all.
//! - [`fingerprint`]: the hash that names prepared folders.
//! - [`steps`]: announcing what takes time.
//! - [`error`]: everything that can go wrong.

mod acceptance;
mod atomic_file;
mod bench;
mod bundle;
mod check;
mod cli;
mod cuda;
mod doctor;
mod environment;
mod error;
mod export;
mod fingerprint;
mod kernel;
mod machine;
mod notebook;
mod programs;
mod repository;
mod run;
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
