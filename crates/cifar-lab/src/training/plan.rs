//! The plan of a training run: what is known before it starts.

use candle_cnn::parameters::Parameters;
use serde_json::Value;
use std::path::PathBuf;

use super::place::Place;
use crate::checkpoint::{Checkpoint, CheckpointFolder};
use crate::error::{Error, Result};
use crate::run_records::{RecordWriter, TrainingFile};

/// A file of this name in the run's folder stops training: the only way to stop it while a cell waits for it.
pub(super) const STOP_FILE: &str = "stop";

/// The plan of a training run: its name, its length, where its records go. [`Trainer`](super::Trainer) builds it.
#[derive(Debug)]
pub(super) struct Plan {
    pub name: String,
    pub epochs: usize,
    pub steps: usize,
    pub data: String,
    pub settings: Value,
    pub folder: Option<PathBuf>,
    /// The network's parameters, if the run is resumable.
    pub parameters: Option<Parameters>,
    /// Whether to start over even if there is a run to resume.
    pub fresh: bool,
    /// Where to start; by default, at the beginning.
    pub from: Place,
    /// The checkpoint to resume from.
    pub checkpoint: Option<Checkpoint>,
}

impl Plan {
    /// A run called `name` of `epochs` epochs with `steps` steps each.
    pub fn new(name: &str, epochs: usize, steps: usize) -> Self {
        Self {
            name: name.to_string(),
            epochs,
            steps,
            data: String::new(),
            settings: Value::Null,
            folder: None,
            parameters: None,
            fresh: false,
            from: Place::default(),
            checkpoint: None,
        }
    }

    /// Rejects impossible numbers.
    pub fn check(&self) -> Result<()> {
        if self.epochs == 0 {
            let reason = "a training needs at least 1".to_string();
            return Err(Error::Setting { name: "epochs", value: "0".into(), reason });
        }
        if self.steps == 0 {
            return Err(Error::Setting {
                name: "steps",
                value: "0".into(),
                reason: "the loader has no batches: fewer images than one batch, and drop_last?".into(),
            });
        }
        Ok(())
    }

    /// Checks the plan and starts its record, if it has a folder.
    pub fn start(&self) -> Result<Option<RecordWriter>> {
        self.check()?;
        let Some(folder) = &self.folder else { return Ok(None) };
        // A leftover stop file would end training at its first step.
        let _ = std::fs::remove_file(folder.join(STOP_FILE));
        let goes_on = self.checkpoint.is_some();
        let record = RecordWriter::begin(folder, self.file(), goes_on)?;
        if !goes_on {
            let checkpoints = CheckpointFolder::of(folder);
            checkpoints.clear().map_err(|source| Error::File { action: "clearing", path: folder.clone(), source })?;
        }
        Ok(Some(record))
    }

    /// The plan as the record stores it.
    pub fn file(&self) -> TrainingFile {
        TrainingFile {
            name: self.name.clone(),
            epochs: self.epochs,
            steps_per_epoch: self.steps,
            data: self.data.clone(),
            settings: self.settings.clone(),
            ..TrainingFile::default()
        }
    }
}
