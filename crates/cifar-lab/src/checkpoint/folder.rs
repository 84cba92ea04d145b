//! The checkpoints of one training, in a folder of their own: the last few of them.

use candle_cnn::parameters::Parameters;
use std::path::{Path, PathBuf};

use super::resume::{Checkpoint, ResumableOptimizer, save_checkpoint};
use crate::error::Result;

/// How many are kept: if the newest is damaged, there are two before it.
const KEPT: usize = 3;

/// The folder's name in a training's folder.
const FOLDER: &str = "checkpoints";

/// The checkpoints of the training whose folder this is made from.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointFolder(PathBuf);

impl CheckpointFolder {
    /// Those of the training in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.join(FOLDER))
    }

    /// Adds the checkpoint after `steps` steps of the training, and removes those that are too many.
    ///
    /// # Errors
    /// As [`save_checkpoint`]; the earlier ones are still there.
    pub(crate) fn save(
        &self,
        steps: usize,
        parameters: &Parameters,
        optimizer: &impl ResumableOptimizer,
        epochs_done: usize,
        notes: &[(&str, &str)],
    ) -> Result<()> {
        let path = self.0.join(format!("step-{steps:08}.safetensors"));
        save_checkpoint(parameters, path, optimizer, epochs_done, notes)?;
        // What can't be removed takes room, but does no harm.
        self.newest_first().into_iter().skip(KEPT).for_each(|path| drop(std::fs::remove_file(path)));
        Ok(())
    }

    /// The newest checkpoint that can be read, and why those after it can't.
    pub(crate) fn newest(&self) -> (Option<Checkpoint>, Vec<String>) {
        let mut damaged = Vec::new();
        for path in self.newest_first() {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return (Some(checkpoint), damaged),
                Err(error) => damaged.push(error.to_string()),
            }
        }
        (None, damaged)
    }

    /// Removes all.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        self.newest_first().into_iter().try_for_each(std::fs::remove_file)
    }

    fn newest_first(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<(usize, PathBuf)> = files.filter_map(|path| Some((steps(&path)?, path))).collect();
        files.sort_by_key(|(steps, _)| std::cmp::Reverse(*steps));
        files.into_iter().map(|(_, path)| path).collect()
    }
}

/// The number of steps in a checkpoint's name.
fn steps(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}
