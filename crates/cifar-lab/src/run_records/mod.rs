//! The records that training runs write to their folders: of one run, or of all runs below a folder.

mod files;
mod history;

use serde_json::Value;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) use files::{EPOCHS_FILE, RecordLock, RecordWriter, TRAINING_FILE, TrainingFile};
pub use history::{EpochRecord, History, StepRecord};

/// How deep a record may be below the folder: `runs/RUN/training.json`, `runs/NOTEBOOK/SWEEP/RUN/training.json`.
const DEPTH: usize = 3;

/// How a training run ended, if it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its loop has ended by itself.
    Finished,
    /// It was stopped.
    Stopped,
    /// It failed, with this message.
    Failed(String),
    /// It is still running.
    Running,
    /// Its process ended without recording why: it was killed, or the machine went down.
    Died,
}

impl Display for RunState {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(message) => write!(f, "failed: {message}"),
            Self::Running => f.write_str("running"),
            Self::Died => f.write_str("died"),
        }
    }
}

/// The record of one training run, read from its folder.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let folder = tempfile::tempdir().unwrap();
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 10).train, &Device::Cpu);
/// let training = Trainer::with_loop(&loader, |_run| Ok(())).name("nothing learned").folder(&folder);
/// training.settings(json!({ "learning_rate": 0.1 })).start()?.wait()?;
/// let run = RunRecord::read(&folder)?;
/// assert_eq!((run.name.as_str(), &run.state), ("nothing learned", &RunState::Finished));
/// assert_eq!((run.number("learning_rate"), run.setting("batch_size")), (Some(0.1), Some("32".to_string())));
/// assert_eq!(run.test_accuracy(), None); // It finished no epoch.
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// The data set trained on.
    pub data: String,
    /// Its settings: a JSON object.
    pub settings: Value,
    /// What else must be the same for the run to be resumed.
    pub(crate) identity: Value,
    /// The planned number of epochs.
    pub epochs: usize,
    /// When it started, in UTC (`2026-11-24T10:15:00Z`).
    pub started: String,
    /// The commit that was checked out, with `-dirty` if there were changes; empty if unknown.
    pub commit: String,
    /// The command that repeats it; empty if there is none.
    pub command: String,
    /// How it ended, if it has.
    pub state: RunState,
    /// A row for each finished epoch.
    pub rows: Vec<EpochRecord>,
    /// The number of damaged rows, which are left out.
    pub damaged_rows: usize,
}

impl RunRecord {
    /// Reads the record in `folder`.
    ///
    /// # Errors
    /// [`Error::File`] if it can't be read, or `training.json` is damaged; damaged rows are left out and counted.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // Checked before reading the file: a run that ends in between has recorded its end by then.
        let running = files::is_running(folder);
        let files::Record { file, rows, damaged } = files::read(folder)?;
        let state = match file.state.as_str() {
            "finished" => RunState::Finished,
            "stopped" => RunState::Stopped,
            "failed" => RunState::Failed(file.message),
            _ if running => RunState::Running,
            _ => RunState::Died,
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            name: file.name,
            data: file.data,
            settings: file.settings,
            identity: file.identity,
            epochs: file.epochs,
            started: file.started,
            commit: file.commit,
            command: file.command,
            state,
            rows,
            damaged_rows: damaged,
        })
    }

    /// The setting called `name` as text; `None` if there is none.
    pub fn setting(&self, name: &str) -> Option<String> {
        match self.settings.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The setting called `name` as a number; `None` if it isn't one.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.settings.get(name)?.as_f64()
    }

    /// Accuracy on the test images after the last epoch, in [0, 1]; `None` if there is none.
    pub fn test_accuracy(&self) -> Option<f64> {
        self.rows.last()?.test_accuracy
    }

    /// Its rows as a history, for curves.
    pub fn history(&self) -> History {
        History { data: self.data.clone(), steps: Vec::new(), epochs: self.rows.clone() }
    }
}

/// All runs below a folder, the earliest first. As a cell's last expression, it shows a table.
///
/// ```
/// use cifar_lab::prelude::*;
///
/// let folder = tempfile::tempdir().unwrap();
/// let loader = DataLoader::new(&Cifar10::stand_in(0, 32, 10).train, &Device::Cpu);
/// for rate in [0.01, 0.1] {
///     let body = move |_run: &mut Run| if rate > 0.05 { panic!("too fast") } else { Ok(()) };
///     let trainer = Trainer::with_loop(&loader, body).name(format!("rate {rate}"));
///     trainer.folder(folder.path().join(rate.to_string())).start()?.wait().ok();
/// }
/// let runs = RunRecords::read(&folder)?;
/// assert_eq!(runs.list().len(), 2);
/// assert!(runs.table().to_string().contains("failed: panicked: too fast"));
/// assert_eq!(runs.only(|run| run.state == RunState::Finished).list()[0].name, "rate 0.01");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunRecords {
    runs: Vec<RunRecord>,
    /// The records that couldn't be read, and why.
    pub(crate) unreadable: Vec<String>,
}

impl RunRecords {
    /// Reads every record in `folder` and up to three levels below it. Records that can't be read are listed below the
    /// table and don't affect the others.
    ///
    /// # Errors
    /// [`Error::File`] if `folder` itself can't be read.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::read_dir(folder).map_err(|source| Error::File {
            action: "reading runs in",
            path: folder.to_path_buf(),
            source,
        })?;
        let mut found = Self::default();
        found.look_into(folder, DEPTH);
        found.runs.sort_by(|a, b| (&a.started, &a.folder).cmp(&(&b.started, &b.folder)));
        Ok(found)
    }

    fn look_into(&mut self, folder: &Path, depth: usize) {
        if folder.join(TRAINING_FILE).is_file() {
            match RunRecord::read(folder) {
                Ok(run) => self.runs.push(run),
                Err(error) => self.unreadable.push(error.to_string()),
            }
        }
        if depth == 0 {
            return;
        }
        // A folder that can't be read contains no run of ours.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.look_into(&entry.path(), depth - 1);
            }
        }
    }

    /// The runs for which `keep` returns true.
    pub fn only(&self, keep: impl Fn(&RunRecord) -> bool) -> Self {
        let mut kept = self.clone();
        kept.runs.retain(keep);
        kept
    }

    /// The runs, the earliest first.
    pub fn list(&self) -> &[RunRecord] {
        &self.runs
    }
}
