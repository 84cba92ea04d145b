//! What a training leaves in its folder: `training.json` (what was to be, and how it ended) and `epochs.jsonl` (a row
//! for each epoch).
//!
//! While a training runs it holds a lock on `epochs.jsonl`. The system releases it when the process ends, however it
//! ends, so that a record without an end and without a lock is that of a training whose process died.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::curves::EpochRecord;
use super::progress::Status;
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::run_folder::repository;

/// What was to be trained, and how it ended.
pub(crate) const TRAINING_FILE: &str = "training.json";
/// A row for each epoch.
pub(crate) const EPOCHS_FILE: &str = "epochs.jsonl";
/// Where `cargo lab run` says what repeats the run.
const COMMAND_VARIABLE: &str = "CIFAR_LAB_COMMAND";

/// What `training.json` holds. A field that an older record lacks is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TrainingFile {
    pub name: String,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    pub data: String,
    pub settings: Value,
    /// This crate's version.
    pub version: String,
    /// The commit that was checked out, with `-dirty` where files differ from it; empty without git.
    pub commit: String,
    /// The command that repeats it; empty where it was started in JupyterLab.
    pub command: String,
    /// In UTC, as `2026-11-24T10:15:00Z`.
    pub started: String,
    /// In UTC; empty until it has ended.
    pub ended: String,
    /// `finished`, `stopped` or `failed`; empty until it has ended.
    pub state: String,
    /// Why it failed.
    pub message: String,
}

/// The side that writes; it holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct RecordWriter {
    folder: PathBuf,
    file: TrainingFile,
    rows: File,
}

impl RecordWriter {
    /// Makes the folder and begins the record. Rows that are there already are kept where `goes_on`.
    pub(super) fn begin(folder: &Path, file: TrainingFile, goes_on: bool) -> Result<Self> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File { action: "writing", path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join(EPOCHS_FILE);
        let rows = File::options().append(true).create(true).open(&path).map_err(failed(&path))?;
        // Only another training's lock is an obstacle: a file system without locks is none.
        if matches!(rows.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
            return Err(Error::Setting {
                name: "folder",
                value: folder.display().to_string(),
                reason: "another training writes its records there; stop it, or take another folder".into(),
            });
        }
        if !goes_on {
            rows.set_len(0).map_err(failed(&path))?;
        }
        let command = std::env::var(COMMAND_VARIABLE).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_string();
        let file = TrainingFile { version, commit: commit(), command, started: now(), ..file };
        let writer = Self { folder: folder.to_path_buf(), file, rows };
        writer.write()?;
        Ok(writer)
    }

    pub(super) fn add_row(&mut self, row: &EpochRecord) -> Result<()> {
        let path = self.folder.join(EPOCHS_FILE);
        let failed = |source| Error::File { action: "writing", path, source };
        let row = serde_json::to_string(row).map_err(std::io::Error::from).and_then(|row| {
            // In one call, so that a kill leaves whole rows but perhaps the last.
            self.rows.write_all(format!("{row}\n").as_bytes())
        });
        row.map_err(failed)
    }

    /// Notes how it ended.
    pub(super) fn end(mut self, status: &Status) -> Result<()> {
        let (state, message) = match status {
            Status::Finished => ("finished", ""),
            Status::Stopped => ("stopped", ""),
            Status::Failed(message) => ("failed", message.as_str()),
            Status::Running | Status::Paused => return Ok(()),
        };
        (self.file.state, self.file.message, self.file.ended) = (state.to_string(), message.to_string(), now());
        self.write()
    }

    fn write(&self) -> Result<()> {
        let path = self.folder.join(TRAINING_FILE);
        let failed = |source| Error::File { action: "writing", path: path.clone(), source };
        let text = serde_json::to_string_pretty(&self.file).map_err(|error| failed(error.into()))?;
        write_atomically(&path, format!("{text}\n").as_bytes()).map_err(failed)
    }
}

/// The record of the training in `folder`, and its rows. The last row may have been cut off by the end of the process;
/// it is then left out.
pub(crate) fn read(folder: &Path) -> Result<(TrainingFile, Vec<EpochRecord>)> {
    let path = folder.join(TRAINING_FILE);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { action: "reading", path, source }
    };
    let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
    let file = serde_json::from_str(&text).map_err(|error| failed(&path)(error.into()))?;
    let path = folder.join(EPOCHS_FILE);
    let rows = match File::open(&path) {
        Ok(rows) => rows,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((file, Vec::new())),
        Err(error) => return Err(failed(&path)(error)),
    };
    let lines = BufReader::new(rows).lines().collect::<std::io::Result<Vec<_>>>().map_err(failed(&path))?;
    let mut epochs = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(row) => epochs.push(row),
            Err(_) if index + 1 == lines.len() => {}
            Err(error) => return Err(failed(&path)(error.into())),
        }
    }
    Ok((file, epochs))
}

/// Whether a training holds its lock on the rows in `folder`.
pub(crate) fn is_running(folder: &Path) -> bool {
    // A shared lock, so that two readers are not in each other's way.
    let locked = File::open(folder.join(EPOCHS_FILE)).map(|rows| rows.try_lock_shared());
    matches!(locked, Ok(Err(std::fs::TryLockError::WouldBlock)))
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The commit checked out in the repository; empty where git does not say.
fn commit() -> String {
    let mut git = Command::new("git");
    // --exclude takes all tags away: the hash alone says which commit it is.
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).current_dir(repository());
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.and_then(|text| String::from_utf8(text).ok()).map(|text| text.trim().to_string()).unwrap_or_default()
}
