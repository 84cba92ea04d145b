//! All runs below a folder, read from what trainings left there: as a list, as a table, as a picture.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::display::{Figure, Show, Table, View};
use crate::error::{Error, Result};
use crate::plot::{Curves, Series};
use crate::run_folder::show_path;
use crate::training::record::{self, EPOCHS_FILE, Record, TRAINING_FILE};
use crate::training::{EpochRecord, History, duration_text};

/// How deep below the folder a record may lie: `runs/RUN/training.json`, `runs/NOTEBOOK/SWEEP/RUN/training.json`.
const DEPTH: usize = 3;
/// A table gets at most so many columns of settings; beyond it no longer fits on a screen.
const MOST_SETTINGS: usize = 5;

/// What became of a training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// All its epochs are done.
    Finished,
    /// Somebody stopped it.
    Stopped,
    /// It ended with an error; the message says why.
    Failed(String),
    /// Its process is at it.
    Running,
    /// Its process ended without noting an end: it was killed, or the machine went down.
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

/// One training, as its folder has it.
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
/// assert_eq!(run.test_accuracy(), None); // It did not do an epoch.
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
    /// The settings noted for it: a JSON object.
    pub settings: Value,
    /// The number of epochs it was to have.
    pub epochs: usize,
    /// When it started, in UTC (`2026-11-24T10:15:00Z`).
    pub started: String,
    /// The commit that was checked out, with `-dirty` where files differed from it; empty where unknown.
    pub commit: String,
    /// The command that repeats it; empty where there is none.
    pub command: String,
    /// What became of it.
    pub state: RunState,
    /// A row for each epoch that it has done.
    pub rows: Vec<EpochRecord>,
    /// How many further rows are damaged, and left out.
    pub damaged_rows: usize,
}

impl RunRecord {
    /// Reads the record in `folder`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, or `training.json` is damaged; a damaged row is left out and counted.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // Asked before the file is read: a training that ends in between has noted its end by then.
        let running = record::is_running(folder);
        let Record { file, rows, damaged } = record::read(folder)?;
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
            epochs: file.epochs,
            started: file.started,
            commit: file.commit,
            command: file.command,
            state,
            rows,
            damaged_rows: damaged,
        })
    }

    /// The setting called `name` as text; `None` where none was noted.
    pub fn setting(&self, name: &str) -> Option<String> {
        match self.settings.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// The setting called `name` as a number; `None` where it is none.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.settings.get(name)?.as_f64()
    }

    /// Accuracy on the test images after its last epoch, in [0, 1]; `None` where it has none.
    pub fn test_accuracy(&self) -> Option<f64> {
        self.rows.last()?.test_accuracy
    }

    /// What it recorded, for curves.
    pub fn history(&self) -> History {
        History { data: self.data.clone(), steps: Vec::new(), epochs: self.rows.clone() }
    }
}

/// All runs below a folder, the earliest first. As a cell's last line it shows its table.
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
    /// What could not be read, and why.
    unreadable: Vec<String>,
}

impl RunRecords {
    /// Reads every record in `folder` and up to three folders below it. One that cannot be read is named below the
    /// table and does not stand in the way of the others.
    ///
    /// # Errors
    /// [`Error::File`] where `folder` itself cannot be read.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        std::fs::read_dir(folder).map_err(|source| Error::File {
            action: "reading the runs in",
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
        // A folder that cannot be entered holds no run of ours.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.look_into(&entry.path(), depth - 1);
            }
        }
    }

    /// Only the runs that `keep` says yes to.
    pub fn only(&self, keep: impl Fn(&RunRecord) -> bool) -> Self {
        let mut kept = self.clone();
        kept.runs.retain(keep);
        kept
    }

    /// The runs, the earliest first.
    pub fn list(&self) -> &[RunRecord] {
        &self.runs
    }

    /// A row for each run: its name, the settings in which the runs differ, how far it came, its last figures, how it
    /// ended. Where the runs are of several data sets, or of one that isn't CIFAR-10, each row names it.
    pub fn table(&self) -> Table {
        let settings = self.differing_settings();
        let data = self.data();
        let mut header = vec!["run"];
        header.extend(settings.iter().map(String::as_str));
        if data.is_none() {
            header.push("data");
        }
        header.extend(["epochs", "training loss", "test accuracy", "time", "state"]);
        let mut table = Table::new(header);
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            table = table.caption(data);
        }
        for run in &self.runs {
            let mut row = vec![run.name.clone()];
            row.extend(settings.iter().map(|name| run.setting(name).unwrap_or_else(|| "–".into())));
            if data.is_none() {
                row.push(run.data.clone());
            }
            let done = run.rows.last().map_or(0, |row| row.epoch);
            let loss = run.rows.last().map_or("–".into(), |row| format!("{:.3}", row.train_loss));
            let accuracy = run.test_accuracy().map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
            let seconds: f64 = run.rows.iter().map(|row| row.seconds).sum();
            let time = std::time::Duration::try_from_secs_f64(seconds).map_or("–".into(), duration_text);
            row.extend([format!("{done} of {}", run.epochs), loss, accuracy, time, run.state.to_string()]);
            table = table.row(row);
        }
        let damaged = |run: &RunRecord| match run.damaged_rows {
            0 => None,
            1 => Some(format!("{}: a row of {} is damaged", run.name, show_path(&run.folder.join(EPOCHS_FILE)))),
            n => Some(format!("{}: {n} rows of {} are damaged", run.name, show_path(&run.folder.join(EPOCHS_FILE)))),
        };
        let left_out = self.runs.iter().filter_map(damaged).chain(self.unreadable.iter().cloned());
        left_out.fold(table, |table, reason| table.footer([format!("left out: {reason}")]))
    }

    /// Accuracy on the test images by epoch, a line for each run. A run without an epoch keeps its place in the legend.
    ///
    /// # Errors
    /// Where no run has evaluated an epoch yet.
    pub fn figure(&self) -> Result<Figure> {
        let data = self.data();
        let of = data.filter(|data| !data.is_empty()).map_or(String::new(), |data| format!(": {data}"));
        let curves = Curves::new(format!("Test accuracy of all runs{of}")).x_label("epoch").y_label("test accuracy");
        let curves = self.runs.iter().fold(curves.y_percent(), |curves, run| {
            let points = run.rows.iter().filter_map(|row| Some((row.epoch as f64, row.test_accuracy?)));
            let ended = match &run.state {
                RunState::Finished => String::new(),
                RunState::Failed(_) => " (failed)".into(),
                other => format!(" ({other})"),
            };
            let of = if data.is_none() { format!(", {}", run.data) } else { String::new() };
            curves.series(Series::new(format!("{}{of}{ended}", run.name), points))
        });
        Ok(curves.draw()?)
    }

    /// The data set that all runs are of; `None` where they are of several.
    fn data(&self) -> Option<&str> {
        let first = self.runs.first().map_or("", |run| run.data.as_str());
        self.runs.iter().all(|run| run.data == first).then_some(first)
    }

    /// The settings in which the runs differ, those first that most of the runs note.
    fn differing_settings(&self) -> Vec<String> {
        let objects = || self.runs.iter().filter_map(|run| run.settings.as_object());
        let names: BTreeSet<&String> = objects().flat_map(|settings| settings.keys()).collect();
        let differs = |name: &&String| self.runs.iter().any(|run| run.setting(name) != self.runs[0].setting(name));
        let mut names: Vec<&String> = names.into_iter().filter(differs).collect();
        // Stable, so that those of equal rank stay in the order of the alphabet.
        names.sort_by_key(|name| std::cmp::Reverse(objects().filter(|settings| settings.contains_key(*name)).count()));
        names.into_iter().take(MOST_SETTINGS).cloned().collect()
    }
}

impl Show for RunRecords {
    fn view(&self) -> View {
        self.table().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Cifar10;
    use crate::loader::DataLoader;
    use crate::training::{Run, Trainer};
    use candle_core::Device;
    use serde_json::json;

    fn record(folder: &Path, training: Value, rows: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(TRAINING_FILE), training.to_string()).unwrap();
        std::fs::write(folder.join("epochs.jsonl"), rows).unwrap();
    }

    fn row(epoch: usize, accuracy: f64) -> String {
        let row = EpochRecord {
            epoch,
            train_loss: 1.0,
            train_accuracy: 0.5,
            test_loss: Some(1.0),
            test_accuracy: Some(accuracy),
            learning_rate: None,
            seconds: 2.0,
            images_per_second: 100.0,
        };
        serde_json::to_string(&row).unwrap() + "\n"
    }

    #[test]
    fn a_row_cut_off_by_a_kill_is_left_out_and_others_stand() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let whole = row(1, 0.25);
        record(
            &folder.path().join("killed"),
            json!({"name": "killed", "epochs": 3}),
            &format!("{whole}{}", &whole[..20]),
        );
        record(&folder.path().join("a/b/deep"), json!({"name": "deep", "epochs": 1, "state": "finished"}), &whole);
        record(&folder.path().join("broken"), json!("not an object"), "");
        let runs = RunRecords::read(folder.path())?;
        let states: Vec<_> = runs.list().iter().map(|run| (run.name.as_str(), &run.state, run.rows.len())).collect();
        assert_eq!(states, [("deep", &RunState::Finished, 1), ("killed", &RunState::Died, 1)]);
        let table = runs.table().to_string();
        assert!(table.contains("1 of 3") && table.contains("left out: reading") && table.contains("broken"), "{table}");
        assert!(runs.figure()?.svg().contains("killed (died)"));
        Ok(())
    }

    #[test]
    fn a_row_that_is_broken_in_the_middle_is_left_out_with_a_word() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), json!({"name": "x"}), &format!("garbage\n{}", row(2, 0.5)));
        let run = RunRecord::read(folder.path())?;
        assert_eq!((run.rows.len(), run.damaged_rows), (1, 1));
        let table = RunRecords::read(folder.path())?.table().to_string();
        assert!(table.contains("left out: x: a row of ") && table.contains("epochs.jsonl is damaged"), "{table}");
        Ok(())
    }

    #[test]
    fn only_settings_that_differ_get_columns_and_data_sets_are_never_mixed_up() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        for (name, rate, data) in [("a", 0.1, "CIFAR-10"), ("b", 0.2, "the stand-in")] {
            let settings = json!({"learning_rate": rate, "batch_size": 32});
            let training = json!({"name": name, "settings": settings, "data": data, "started": name});
            record(&folder.path().join(name), training, &row(1, rate));
        }
        let runs = RunRecords::read(folder.path())?;
        let table = runs.table().to_string();
        assert!(table.contains("learning_rate") && !table.contains("batch_size") && table.contains("the stand-in"));
        assert!(runs.figure()?.svg().contains("b, the stand-in (died)"));
        let one = runs.only(|run| run.name == "a").table().to_string();
        assert!(one.starts_with("CIFAR-10\n") && !one.contains("learning_rate"), "{one}");
        Ok(())
    }

    #[test]
    fn a_training_is_running_until_it_is_not() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let loader = DataLoader::new(&Cifar10::stand_in(0, 10, 0).train, &Device::Cpu);
        let trainer = |wait: Option<std::sync::mpsc::Receiver<()>>| {
            let body = move |_run: &mut Run| {
                wait.map(|wait| wait.recv());
                Ok(())
            };
            Trainer::with_loop(&loader, body).folder(&folder)
        };
        let training = trainer(Some(wait)).start()?;
        assert_eq!(RunRecord::read(&folder)?.state, RunState::Running);
        assert!(matches!(trainer(None).start(), Err(Error::Setting { name: "folder", .. })));
        drop(send);
        training.wait()?;
        assert_eq!(RunRecord::read(&folder)?.state, RunState::Finished);
        trainer(None).start()?.wait()
    }
}
