//! How records of runs show themselves: as a table and as a figure.

use notebook_charts::{Curves, Figure, Series, Table, View, numbers};
use std::collections::BTreeSet;

use super::plot::{points, titled};
use super::show::Show;
use crate::error::Result;
use crate::paths::show_path;
use crate::run_records::{EPOCHS_FILE, RunRecord, RunRecords, RunState};

/// The most columns of settings in a table; more would not fit on a screen.
const MOST_SETTINGS: usize = 5;

impl RunRecords {
    /// A row for each run: its name, the settings in which the runs differ, its epochs, its latest figures, and how it ended.
    /// If the runs used different data sets, each row names its own.
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
        for run in self.list() {
            let mut row = vec![run.name.clone()];
            row.extend(settings.iter().map(|name| run.setting(name).unwrap_or_else(|| "–".into())));
            if data.is_none() {
                row.push(run.data.clone());
            }
            let done = run.rows.last().map_or(0, |row| row.epoch);
            let loss = run.rows.last().map_or("–".into(), |row| format!("{:.3}", row.train_loss));
            let accuracy = run.test_accuracy().map_or("–".into(), numbers::percent);
            let seconds: f64 = run.rows.iter().map(|row| row.seconds).sum();
            let time = std::time::Duration::try_from_secs_f64(seconds).map_or("–".into(), numbers::duration);
            row.extend([format!("{done} of {}", run.epochs), loss, accuracy, time, run.state.to_string()]);
            table = table.row(row);
        }
        let damaged = |run: &RunRecord| match run.damaged_rows {
            0 => None,
            1 => Some(format!("{}: a row of {} is damaged", run.name, show_path(run.folder.join(EPOCHS_FILE)))),
            n => Some(format!("{}: {n} rows of {} are damaged", run.name, show_path(run.folder.join(EPOCHS_FILE)))),
        };
        let left_out = self.list().iter().filter_map(damaged).chain(self.unreadable.iter().cloned());
        left_out.fold(table, |table, reason| table.footer([format!("left out: {reason}")]))
    }

    /// Accuracy on the test images by epoch, a line for each run. A run without an epoch appears only in the legend.
    ///
    /// # Errors
    /// If no run has evaluated an epoch yet.
    pub fn figure(&self) -> Result<Figure> {
        let data = self.data();
        let title = titled("Test accuracy of all runs", data.unwrap_or_default());
        let curves = Curves::new(title).x_label("epoch").y_label("test accuracy");
        let curves = self.list().iter().fold(curves.y_percent(), |curves, run| {
            let points = points(&run.rows, |row| row.test_accuracy);
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

    /// The data set of all runs; `None` if they differ.
    fn data(&self) -> Option<&str> {
        let first = self.list().first().map_or("", |run| run.data.as_str());
        self.list().iter().all(|run| run.data == first).then_some(first)
    }

    /// The settings in which the runs differ, the most frequent first.
    fn differing_settings(&self) -> Vec<String> {
        let objects = || self.list().iter().filter_map(|run| run.settings.as_object());
        let names: BTreeSet<&String> = objects().flat_map(|settings| settings.keys()).collect();
        let differs = |name: &&String| self.list().iter().any(|run| run.setting(name) != self.list()[0].setting(name));
        let mut names: Vec<&String> = names.into_iter().filter(differs).collect();
        // A stable sort: ties stay in alphabetical order.
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
    use crate::error::Error;
    use crate::loader::DataLoader;
    use crate::run_records::{EpochRecord, TRAINING_FILE};
    use crate::training::{Run, Trainer};
    use candle_core::Device;
    use serde_json::{Value, json};
    use std::path::Path;

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
