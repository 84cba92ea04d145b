//! The plan of a training run: what is known before it starts.

use candle_cnn::parameters::Parameters;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::place::Place;
use crate::checkpoint::{Checkpoint, CheckpointFolder};
use crate::error::{Error, Result};
use crate::paths::show_path;
use crate::run_records::{RecordLock, RecordWriter, TrainingFile};

/// A file of this name in the run's folder stops training: the only way to stop it while a cell waits for it.
pub(super) const STOP_FILE: &str = "stop";

/// The weights after the best epoch so far, in the run's folder.
pub(super) const BEST_WEIGHTS: &str = "best.safetensors";

/// The plan of a training run: its name, its length, where its records go. [`Trainer`](super::Trainer) builds it.
#[derive(Debug)]
pub(super) struct Plan {
    pub name: String,
    pub epochs: usize,
    pub steps: usize,
    pub data: String,
    pub settings: Value,
    /// What else must be the same for the run to be resumed.
    pub identity: Value,
    pub folder: Option<PathBuf>,
    /// The network's parameters, if the run is resumable.
    pub parameters: Option<Parameters>,
    /// Whether to start over even if there is a run to resume.
    pub fresh: bool,
    /// Whether nothing is left to do, even if it ended before its last epoch.
    pub finished: bool,
    /// Where to start; by default, at the beginning.
    pub from: Place,
    /// The checkpoint to resume from.
    pub checkpoint: Option<Checkpoint>,
    /// The lock on the folder, if it was taken to choose it.
    pub lock: Option<RecordLock>,
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
            identity: Value::Null,
            folder: None,
            parameters: None,
            fresh: false,
            finished: false,
            from: Place::default(),
            checkpoint: None,
            lock: None,
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
                reason: "the loader has no batches: it has no images, or with `drop_last` fewer than one batch".into(),
            });
        }
        Ok(())
    }

    /// Whether this run could go on where `other` is, or why not.
    pub fn fits(&self, other: &Plan) -> std::result::Result<(), String> {
        let tensors = |plan: &Plan| -> BTreeMap<String, Vec<usize>> {
            let named = plan.parameters.iter().flat_map(Parameters::named);
            named.map(|(name, var)| (name, var.dims().to_vec())).collect()
        };
        match self.steps == other.steps {
            false => Err(format!("an epoch had {} steps and has {}", other.steps, self.steps)),
            true if tensors(self) == tensors(other) => Ok(()),
            true => Err("it trains another network".into()),
        }
    }

    /// Checks the plan and starts its record, if it has a folder.
    ///
    /// # Errors
    /// [`Error::Setting`] if another run writes there, or has checkpoints there that starting over would delete.
    pub fn start(&mut self) -> Result<Option<RecordWriter>> {
        self.check()?;
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        let refused =
            |reason: &str| Error::Setting { name: "folder", value: show_path(&folder), reason: reason.to_string() };
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => RecordLock::take(&folder)?.ok_or_else(|| {
                refused("another training is writing its record there; stop it, or use another folder")
            })?,
        };
        let checkpoints = CheckpointFolder::of(&folder);
        let goes_on = self.checkpoint.is_some();
        if !goes_on && !checkpoints.is_empty() {
            if !self.fresh {
                return Err(refused(
                    "it has another training's checkpoints: use another folder, or .fresh() to delete them",
                ));
            }
            // Before the record changes: the new run must never find the old one's checkpoints.
            checkpoints.clear().map_err(|source| Error::File { action: "clearing", path: folder.clone(), source })?;
        }
        checkpoints.remove_unfinished();
        if !goes_on {
            let _ = std::fs::remove_file(folder.join(BEST_WEIGHTS));
        }
        // A leftover stop file would end training at its first step.
        let _ = std::fs::remove_file(folder.join(STOP_FILE));
        RecordWriter::begin(lock, self.file(), goes_on).map(Some)
    }

    /// The plan as the record stores it.
    pub fn file(&self) -> TrainingFile {
        TrainingFile {
            name: self.name.clone(),
            epochs: self.epochs,
            steps_per_epoch: self.steps,
            data: self.data.clone(),
            settings: self.settings.clone(),
            identity: self.identity.clone(),
            ..TrainingFile::default()
        }
    }
}
