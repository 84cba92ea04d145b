//! The last few checkpoints of one training run, in their own folder.

use candle_cnn::parameters::Parameters;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::resume::{Checkpoint, ResumableOptimizer, save_checkpoint};
use crate::error::{Error, Result};

/// How many to keep: if the newest is damaged, there are two older ones.
const KEPT: usize = 3;

/// The name of the folder within the run's folder.
const FOLDER: &str = "checkpoints";

/// What [`CheckpointFolder::newest`] finds.
#[derive(Debug)]
pub(crate) struct Newest {
    pub checkpoint: Option<Checkpoint>,
    /// The damaged ones after it.
    pub damaged: Vec<(PathBuf, Error)>,
}

/// The folder with one run's checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointFolder(PathBuf);

impl CheckpointFolder {
    /// The checkpoints of the run in `folder`.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.join(FOLDER))
    }

    /// Saves the checkpoint after `steps` training steps and deletes surplus old ones. On a full disk, old ones are
    /// deleted to make room, except the newest.
    ///
    /// # Errors
    /// As [`save_checkpoint`]; the newest earlier checkpoint is kept.
    pub(crate) fn save(
        &self,
        steps: usize,
        parameters: &Parameters,
        optimizer: &impl ResumableOptimizer,
        epochs_done: usize,
        notes: &[(&str, &str)],
    ) -> Result<()> {
        let path = self.0.join(format!("step-{steps:08}.safetensors"));
        let save = || save_checkpoint(parameters, &path, optimizer, epochs_done, notes);
        loop {
            match (save(), self.newest_first().as_slice()) {
                (Err(Error::File { source, .. }), [_, .., oldest])
                    if is_full(&source) && std::fs::remove_file(oldest).is_ok() => {}
                (saved, _) => break saved?,
            }
        }
        // One that can't be deleted takes up space, but does no harm.
        self.newest_first().into_iter().skip(KEPT).for_each(|path| drop(std::fs::remove_file(path)));
        Ok(())
    }

    /// The newest checkpoint that is not damaged, and the damaged ones after it.
    ///
    /// # Errors
    /// [`Error::File`] if one can't be read, which says nothing about what it holds.
    pub(crate) fn newest(&self) -> Result<Newest> {
        let mut damaged = Vec::new();
        for path in self.newest_first() {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Newest { checkpoint: Some(checkpoint), damaged }),
                Err(error @ Error::Weights { .. }) => damaged.push((path, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Newest { checkpoint: None, damaged })
    }

    /// Whether there are no checkpoints.
    pub(crate) fn is_empty(&self) -> bool {
        self.newest_first().is_empty()
    }

    /// Deletes all checkpoints.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        self.newest_first().into_iter().try_for_each(std::fs::remove_file)
    }

    /// Deletes what killed processes left behind of unfinished saves. Only for the one who holds the run's lock.
    pub(crate) fn remove_unfinished(&self) {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let unfinished = files.filter(|file| file.file_name().to_string_lossy().starts_with(".tmp"));
        unfinished.for_each(|file| drop(std::fs::remove_file(file.path())));
    }

    fn newest_first(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<(usize, PathBuf)> = files.filter_map(|path| Some((steps(&path)?, path))).collect();
        files.sort_by_key(|(steps, _)| std::cmp::Reverse(*steps));
        files.into_iter().map(|(_, path)| path).collect()
    }
}

/// Whether a write failed for lack of disk space.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The number of steps in a checkpoint's file name.
fn steps(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic_file::fault::{FAULT, Fault};
    use candle_cnn::optim::{SGD, SgdConfig};
    use candle_core::{Device, Tensor};
    use candle_nn::Optimizer;
    use rand::Rng;

    /// A small network whose parameters are all `value`, and an optimizer with momentum.
    fn network(value: f32) -> Result<(Parameters, SGD)> {
        let parameters = Parameters::new(0);
        candle_nn::linear(3, 2, parameters.var_builder(&Device::Cpu).pp("fc"))?;
        let mut sgd = SGD::new(parameters.trainable(), SgdConfig { momentum: 0.9, ..SgdConfig::default() })?;
        let weight = parameters.get("fc.weight").expect("a weight");
        sgd.backward_step(&weight.sqr()?.sum_all()?)?;
        for (_, var) in parameters.named() {
            var.set(&Tensor::full(value, var.shape(), &Device::Cpu)?)?;
        }
        Ok((parameters, sgd))
    }

    fn save(folder: &CheckpointFolder, steps: usize) -> Result<()> {
        let (parameters, sgd) = network(steps as f32)?;
        folder.save(steps, &parameters, &sgd, steps / 10, &[("place", "here")])
    }

    /// The value that all weights have after restoring the newest checkpoint.
    fn newest(folder: &CheckpointFolder) -> Result<Option<f32>> {
        let Some(checkpoint) = folder.newest()?.checkpoint else { return Ok(None) };
        assert_eq!(checkpoint.note("place"), Some("here"));
        let (parameters, mut sgd) = network(-1.0)?;
        checkpoint.restore(&parameters, &mut sgd)?;
        let values = parameters.state_dict()?["fc.weight"].flatten_all()?.to_vec1::<f32>()?;
        assert!(values.iter().all(|&value| value == values[0]), "{values:?}");
        assert_eq!(sgd.state()?.len(), 1);
        Ok(Some(values[0]))
    }

    #[test]
    fn the_last_three_are_kept() -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of(root.path());
        assert_eq!(newest(&folder)?, None);
        [1, 2, 30, 200, 1000].into_iter().try_for_each(|steps| save(&folder, steps))?;
        assert_eq!((newest(&folder)?, folder.newest_first().len()), (Some(1000.), 3));
        folder.clear().unwrap();
        assert_eq!(newest(&folder)?, None);
        Ok(())
    }

    #[test]
    fn a_save_that_fails_anywhere_leaves_the_one_before() -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of(root.path());
        save(&folder, 1)?;
        let bytes = std::fs::metadata(&folder.newest_first()[0]).unwrap().len() as usize;
        for fault in (0..bytes).map(Fault::Write).chain([Fault::Sync, Fault::Rename]) {
            FAULT.set(Some(fault));
            assert!(save(&folder, 2).is_err(), "{fault:?}");
            FAULT.set(None);
            assert_eq!((newest(&folder)?, folder.newest_first().len()), (Some(1.), 1), "{fault:?}");
        }
        save(&folder, 2)?;
        assert_eq!(newest(&folder)?, Some(2.));
        // On a full disk the oldest is deleted, but never the last one left.
        FAULT.set(Some(Fault::Write(100)));
        assert!(save(&folder, 3).is_err());
        assert!(save(&folder, 3).is_err());
        FAULT.set(None);
        assert_eq!((newest(&folder)?, folder.newest_first().len()), (Some(2.), 1));
        Ok(())
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() -> Result<()> {
        let root = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::of(root.path());
        save(&folder, 1)?;
        save(&folder, 2)?;
        let path = &folder.newest_first()[0];
        let whole = std::fs::read(path).unwrap();
        let mut random = candle_cnn::random::stream(0, "flipped bits", &[]);
        let mut passed_over = 0;
        for _ in 0..1_000 {
            let (byte, bit) = (random.random_range(0..whole.len()), random.random_range(0..8));
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            std::fs::write(path, damaged).unwrap();
            // The checkpoint before it, or if the bit has no meaning, the same values.
            match newest(&folder)? {
                Some(1.) => passed_over += 1,
                found => assert_eq!(found, Some(2.), "byte {byte}, bit {bit}"),
            }
        }
        // A few bits have no meaning, in the spaces at the end of the header.
        assert!(passed_over > 950, "{passed_over}");
        Ok(())
    }
}
