//! Prints a table of all runs, and plots them. `cargo lab runs` starts it.

mod options;

use std::process::ExitCode;

use cifar_lab::error::Result;
use cifar_lab::run_folder::runs_folder;
use cifar_lab::run_records::RunRecords;
use clap::Parser;
use options::Options;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn show(options: &Options) -> Result<()> {
    let folder = options.folder.clone().unwrap_or_else(runs_folder);
    if !folder.is_dir() {
        println!("no runs yet: {} does not exist", folder.display());
        return Ok(());
    }
    let fits = |text: &str| text.contains(&options.name);
    let runs = RunRecords::read(&folder)?.only(|run| fits(&run.name) || fits(&run.folder.to_string_lossy()));
    println!("{}", runs.table());
    if let Some(path) = &options.plot {
        runs.figure()?.save(path)?;
        println!("\nsaved {}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    match show(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
