//! The files of a record: `training.json` (the plan, and how training ended) and `epochs.jsonl` (a row for each epoch).
//!
//! Rows are only appended. A kill, a full disk or a bad disk damages one row at most: a writer starts after the last
//! complete line, and a reader skips lines that are not rows. A row is written before the epoch's checkpoint; a run
//! that resumes from an older checkpoint repeats an epoch, and the later row counts.
//!
//! A run in progress holds a lock on `epochs.jsonl`, which the system releases however the process ends. So a record
//! without an end and without a lock belongs to a run whose process died.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::history::EpochRecord;
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::paths::{repository, show_path};

/// The plan, and how training ended.
pub(crate) const TRAINING_FILE: &str = "training.json";
/// A row for each epoch.
pub(crate) const EPOCHS_FILE: &str = "epochs.jsonl";
/// Set by `cargo lab run` to the command that repeats the run.
const COMMAND_VARIABLE: &str = "CIFAR_LAB_COMMAND";

/// The contents of `training.json`. Fields missing from older records are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TrainingFile {
    pub name: String,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    pub data: String,
    pub settings: Value,
    /// What else must be the same for the run to be resumed.
    pub identity: Value,
    /// This crate's version.
    pub version: String,
    /// The commit that was checked out, with `-dirty` if there were changes; empty without git.
    pub commit: String,
    /// The command that repeats it; empty if it was started in JupyterLab.
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

/// The lock on a record, which its training run holds until it ends.
#[derive(Debug)]
pub(crate) struct RecordLock {
    folder: PathBuf,
    rows: File,
    /// Why the file system gave no lock.
    missing: Option<std::io::Error>,
}

impl RecordLock {
    /// Creates the folder and locks its record; `None` if another run holds the lock. Some network file systems have no
    /// locks; there it goes on without one, and has a [`warning`](Self::warning).
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>> {
        Self::take_with(folder, File::try_lock)
    }

    fn take_with(folder: &Path, lock: impl FnOnce(&File) -> Result<(), TryLockError>) -> Result<Option<Self>> {
        std::fs::create_dir_all(folder).map_err(writing(folder))?;
        let path = folder.join(EPOCHS_FILE);
        let rows = File::options().append(true).create(true).open(&path).map_err(writing(&path))?;
        let missing = match lock(&rows) {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => Some(error),
        };
        Ok(Some(Self { folder: folder.to_path_buf(), rows, missing }))
    }

    /// As on a file system without locks.
    #[cfg(test)]
    pub(crate) fn take_without_locks(folder: &Path) -> Result<Option<Self>> {
        Self::take_with(folder, |_| Err(TryLockError::Error(std::io::ErrorKind::Unsupported.into())))
    }

    /// What to tell the user if the file system has no locks.
    pub(crate) fn warning(&self) -> Option<String> {
        let error = self.missing.as_ref()?;
        Some(format!(
            "can't lock {} ({error}): nothing keeps another notebook or program from resuming this run while it is \
             running, which would spoil both, so don't start it twice, and lists of runs say that it died; a local \
             folder has locks",
            show_path(self.folder.join(EPOCHS_FILE))
        ))
    }
}

impl Drop for RecordLock {
    fn drop(&mut self) {
        // Closing may not be enough: a child process being spawned keeps the file open until it executes.
        let _ = self.rows.unlock();
    }
}

fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { action: "writing", path, source }
}

/// Writes a record.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    lock: RecordLock,
    file: TrainingFile,
    /// The length of the complete lines in bytes.
    whole: u64,
    /// Rows that could not be written yet.
    unwritten: String,
}

impl RecordWriter {
    /// Starts the record in the locked folder; keeps existing rows if `goes_on`.
    pub(crate) fn begin(lock: RecordLock, file: TrainingFile, goes_on: bool) -> Result<Self> {
        let path = lock.folder.join(EPOCHS_FILE);
        let whole = if goes_on { whole_lines(&path).map_err(writing(&path))? } else { 0 };
        lock.rows.set_len(whole).map_err(writing(&path))?;
        let command = std::env::var(COMMAND_VARIABLE).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_string();
        let file = TrainingFile { version, commit: commit(), command, started: now(), ..file };
        let writer = Self { lock, file, whole, unwritten: String::new() };
        writer.write()?;
        Ok(writer)
    }

    /// Adds a row, after those that could not be written before.
    pub(crate) fn add_row(&mut self, row: &EpochRecord) -> Result<()> {
        let row = serde_json::to_string(row).map_err(|error| self.failed(error.into()))?;
        self.unwritten += &(row + "\n");
        self.write_rows()
    }

    fn failed(&self, source: std::io::Error) -> Error {
        writing(&self.lock.folder.join(EPOCHS_FILE))(source)
    }

    fn write_rows(&mut self) -> Result<()> {
        if let Err(error) = self.lock.rows.write_all(self.unwritten.as_bytes()) {
            // Half a row would corrupt the next one. If this fails too, the reader skips both.
            let _ = self.lock.rows.set_len(self.whole);
            return Err(self.failed(error));
        }
        // So that a power cut doesn't cost it. An error has nothing to add: the row is in the file.
        let _ = self.lock.rows.sync_data();
        self.whole += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }

    /// What to tell the user if the record is not locked.
    pub(crate) fn warning(&self) -> Option<String> {
        self.lock.warning()
    }

    /// Records how training ended: `finished`, `stopped` or `failed`, and why.
    pub(crate) fn end(mut self, state: &str, message: &str) -> Result<()> {
        // There may be room again; if not, the checkpoints' history still has the rows.
        let _ = self.write_rows();
        (self.file.state, self.file.message, self.file.ended) = (state.to_string(), message.to_string(), now());
        self.write()
    }

    fn write(&self) -> Result<()> {
        let path = self.lock.folder.join(TRAINING_FILE);
        let text = serde_json::to_string_pretty(&self.file).map_err(|error| writing(&path)(error.into()))?;
        write_atomically(&path, format!("{text}\n").as_bytes()).map_err(writing(&path))
    }
}

/// The length of the complete lines in the file at `path`, in bytes.
fn whole_lines(path: &Path) -> std::io::Result<u64> {
    let text = std::fs::read(path)?;
    Ok(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end as u64 + 1))
}

/// The record of a training run.
pub(crate) struct Record {
    pub file: TrainingFile,
    /// The last row of each epoch, in order.
    pub rows: Vec<EpochRecord>,
    /// The number of lines that are not rows, except an unfinished last one: it is being written, or the process died.
    pub damaged: usize,
}

/// Reads the record of the run in `folder`.
pub(crate) fn read(folder: &Path) -> Result<Record> {
    let path = folder.join(TRAINING_FILE);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { action: "reading", path, source }
    };
    let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
    let file = serde_json::from_str(&text).map_err(|error| failed(&path)(error.into()))?;
    let path = folder.join(EPOCHS_FILE);
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        text => text.map_err(failed(&path))?,
    };
    let mut record = Record { file, rows: Vec::new(), damaged: 0 };
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match serde_json::from_slice::<EpochRecord>(line) {
            Ok(row) => {
                // A run that resumed from an older checkpoint repeated these epochs.
                record.rows.retain(|earlier| earlier.epoch < row.epoch);
                record.rows.push(row);
            }
            Err(_) => record.damaged += usize::from(line.ends_with(b"\n")),
        }
    }
    Ok(record)
}

/// Whether a run holds the lock on the rows in `folder`.
pub(crate) fn is_running(folder: &Path) -> bool {
    let Ok(rows) = File::open(folder.join(EPOCHS_FILE)) else { return false };
    // A shared lock, so that readers don't block each other.
    let locked = rows.try_lock_shared();
    // A child process being spawned may keep the file open a little longer.
    let _ = rows.unlock();
    matches!(locked, Err(TryLockError::WouldBlock))
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The commit checked out in the repository; empty without git.
fn commit() -> String {
    let mut git = Command::new("git");
    // --exclude ignores all tags, so that the output is a hash.
    git.args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).current_dir(repository());
    let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.and_then(|text| String::from_utf8(text).ok()).map(|text| text.trim().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize) -> EpochRecord {
        EpochRecord {
            epoch,
            train_loss: 1.0 / epoch as f64,
            train_accuracy: 0.5,
            test_loss: None,
            test_accuracy: None,
            learning_rate: Some(0.1),
            seconds: 1.0,
            images_per_second: 100.0,
        }
    }

    fn begin(folder: &Path, goes_on: bool) -> RecordWriter {
        let lock = RecordLock::take(folder).unwrap().expect("no other run");
        RecordWriter::begin(lock, TrainingFile::default(), goes_on).unwrap()
    }

    fn epochs(folder: &Path) -> (Vec<usize>, usize) {
        let record = read(folder).unwrap();
        (record.rows.iter().map(|row| row.epoch).collect(), record.damaged)
    }

    #[test]
    fn a_row_that_was_cut_anywhere_costs_that_row_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EPOCHS_FILE);
        let mut writer = begin(folder.path(), false);
        (1..=3).for_each(|epoch| writer.add_row(&row(epoch)).unwrap());
        drop(writer);
        let whole = std::fs::read(&path).unwrap();
        let second = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
        for length in second..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            // Without its newline, the last row is still a row.
            let read = if length + 1 == whole.len() { vec![1, 2, 3] } else { vec![1, 2] };
            assert_eq!(epochs(folder.path()), (read, 0), "cut at {length}");
            // The process was killed, and the training resumes after its second epoch.
            let mut writer = begin(folder.path(), true);
            (3..=4).for_each(|epoch| writer.add_row(&row(epoch)).unwrap());
            drop(writer);
            assert_eq!(epochs(folder.path()), (vec![1, 2, 3, 4], 0), "cut at {length}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_row_that_found_no_room_is_written_with_the_next_one_or_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = begin(folder.path(), false);
        writer.add_row(&row(1)).unwrap();
        // The disk is full for a while.
        let full = File::options().append(true).open("/dev/full").unwrap();
        let rows = std::mem::replace(&mut writer.lock.rows, full);
        assert!(writer.add_row(&row(2)).unwrap_err().to_string().contains("writing"));
        writer.lock.rows = rows;
        writer.add_row(&row(3)).unwrap();
        assert_eq!(epochs(folder.path()), (vec![1, 2, 3], 0));
        let full = File::options().append(true).open("/dev/full").unwrap();
        let rows = std::mem::replace(&mut writer.lock.rows, full);
        writer.add_row(&row(4)).unwrap_err();
        writer.lock.rows = rows;
        writer.end("finished", "").unwrap();
        assert_eq!(epochs(folder.path()), (vec![1, 2, 3, 4], 0));
    }

    #[test]
    fn a_damaged_row_is_passed_over_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EPOCHS_FILE);
        let mut writer = begin(folder.path(), false);
        (1..=3).for_each(|epoch| writer.add_row(&row(epoch)).unwrap());
        drop(writer);
        let mut bytes = std::fs::read(&path).unwrap();
        // A byte that is not text, as from a bad disk; then two rows joined into one.
        bytes[5] = 0xff;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(epochs(folder.path()), (vec![2, 3], 1));
        let at = bytes.iter().rposition(|&byte| byte == b'{').unwrap();
        bytes.remove(at - 1);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(epochs(folder.path()), (vec![], 2));
    }

    #[test]
    fn of_an_epoch_that_was_done_again_the_later_row_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = begin(folder.path(), false);
        (1..=4).for_each(|epoch| writer.add_row(&row(epoch)).unwrap());
        drop(writer);
        // The last checkpoint was the second epoch's.
        let mut writer = begin(folder.path(), true);
        writer.add_row(&EpochRecord { train_accuracy: 0.75, ..row(3) }).unwrap();
        assert_eq!(epochs(folder.path()), (vec![1, 2, 3], 0));
        assert_eq!(read(folder.path()).unwrap().rows[2].train_accuracy, 0.75);
    }
}
