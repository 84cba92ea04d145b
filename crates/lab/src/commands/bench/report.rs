//! The report on a measurement: Markdown with machine, date and command.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::error::{ASK_THE_DOCTOR, Error, Result};
use crate::machine::{self, output};
use crate::repository::Repository;

/// A report. Its lines are also printed as they come.
pub struct Report(String);

impl Report {
    /// Starts with command, date, commit and machine.
    pub fn begin(repository: &Repository, command: &str) -> Self {
        let mut report = Self(String::new());
        let date = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
        let root = repository.root().to_string_lossy();
        let commit = output("git", &["-C", &root, "describe", "--always", "--dirty", "--exclude=*"]);
        let commit = commit.map_or(String::new(), |commit| format!(", commit {commit}"));
        report.say(&format!("`{command}`, {date}{commit}."));
        let processor = machine::processor().unwrap_or_else(|| "unknown processor".to_string());
        let memory = machine::memory_gb().map_or(String::new(), |gb| format!(", {gb:.0} GB of memory"));
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        report.say(&format!("{processor}, {} cores{memory}, {system}.", machine::cores()));
        report
    }

    /// Adds a line.
    pub fn say(&mut self, line: &str) {
        println!("{line}");
        self.0 += line;
        self.0.push('\n');
    }

    /// Writes it to a file.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.0).map_err(Error::file("write", path))
    }
}

/// The step that a program or a cell that measures is part of.
pub const MEASURING: &str = "measuring";

/// The error if it failed.
pub fn failed(reason: impl Into<String>) -> Error {
    Error::step(MEASURING, reason, ASK_THE_DOCTOR)
}
