//! Prints a table of all runs, and draws them: what `cargo lab runs` starts.
//!
//! ```text
//! runs [FOLDER] [--name TEXT] [--plot FILE.svg]
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use cifar_lab::error::Result;
use cifar_lab::run_folder::runs_folder;
use cifar_lab::run_records::RunRecords;

const USAGE: &str = "usage: runs [FOLDER] [--name TEXT] [--plot FILE.svg]

A row for each training below FOLDER (runs/ of the repository, if none is given).
  --name TEXT       only those with TEXT in their name or folder
  --plot FILE.svg   also draws their test accuracies by epoch";

struct Arguments {
    folder: PathBuf,
    name: String,
    plot: Option<PathBuf>,
}

fn arguments() -> std::result::Result<Arguments, String> {
    let mut own = Arguments { folder: runs_folder(), name: String::new(), plot: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--name" => own.name = value()?,
            "--plot" => own.plot = Some(value()?.into()),
            option if option.starts_with('-') => return Err(format!("there is no {option}")),
            folder => own.folder = folder.into(),
        }
    }
    Ok(own)
}

fn show(arguments: &Arguments) -> Result<()> {
    if !arguments.folder.is_dir() {
        println!("no runs yet: {} is not there", arguments.folder.display());
        return Ok(());
    }
    let fits = |text: &str| text.contains(&arguments.name);
    let runs = RunRecords::read(&arguments.folder)?.only(|run| fits(&run.name) || fits(&run.folder.to_string_lossy()));
    println!("{}", runs.table());
    if let Some(path) = &arguments.plot {
        runs.figure()?.save(path)?;
        println!("\ndrawn: {}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match show(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
