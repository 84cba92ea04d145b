//! Finds where to resume: the folder of the last run with the same name, and the newest checkpoint in it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::keeper::PLACE;
use super::place::Place;
use super::plan::Plan;
use super::shared::Shared;
use crate::checkpoint::{CheckpointFolder, Newest};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::paths::{show_path, training_folders};
use crate::run_folder::run_folder;
use crate::run_records::{RecordLock, RunRecord, RunState};

/// How long to wait for a run in this process to finish its current step and stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look meanwhile whether the cell is to stop.
const LOOK: Duration = Duration::from_secs(1);

/// The runs in this process, by folder, so that a cell executed again can take over its earlier run.
static TRAININGS: Mutex<Vec<(PathBuf, Weak<Shared>)>> = Mutex::new(Vec::new());

/// Registers `shared` under its folder.
pub(super) fn register(shared: &Arc<Shared>) {
    let Some(folder) = &shared.plan.folder else { return };
    let mut trainings = TRAININGS.lock().unwrap_or_else(PoisonError::into_inner);
    trainings.retain(|(known, training)| known != folder && training.strong_count() > 0);
    trainings.push((folder.clone(), Arc::downgrade(shared)));
}

/// Chooses the folder of a resumable run, and the checkpoint to resume from if there is one. Returns messages for the
/// user.
pub(super) fn choose(plan: &mut Plan) -> Result<Vec<String>> {
    let records = if plan.fresh { Vec::new() } else { records(plan)? };
    // Why the last run can't go on: its folder, whether it still runs, the reason.
    let mut unlike: Option<(String, bool, String)> = None;
    let note = |unlike: &mut Option<_>, record: &RunRecord, reason: String| {
        let runs = record.state == RunState::Running;
        let reason = if runs { reason + "; it is still running" } else { reason };
        unlike.get_or_insert_with(|| (show_path(&record.folder), runs, reason));
    };
    for record in records {
        let differences = differences(plan, &record);
        if !differences.is_empty() {
            note(&mut unlike, &record, differences.join("; "));
            continue;
        }
        // In a folder of the user's choice, a finished run has nothing left to do, and gives what it has learned.
        let finished = record.state == RunState::Finished;
        if finished && plan.folder.is_none() {
            break;
        }
        match resume(plan, &record)? {
            Ok(mut messages) => {
                let Place { epoch, step, .. } = plan.from;
                let step = if step == 0 { String::new() } else { format!(", step {step}") };
                let shown = show_path(&record.folder);
                // A loop of one's own may have ended before its last epoch; a checkpoint of that moment may be missing.
                let recorded = record.rows.last().map_or(0, |row| row.epoch);
                plan.finished = epoch >= plan.epochs || (finished && epoch >= recorded);
                messages.push(match plan.finished {
                    true => format!("{shown} is finished: loading its weights"),
                    false => format!("resuming {shown} from epoch {}{step}", epoch + 1),
                });
                plan.folder = Some(record.folder);
                check_parameters(plan)?;
                return Ok(messages);
            }
            // An earlier one may be.
            Err(reason) => note(&mut unlike, &record, reason),
        }
    }
    check_parameters(plan)?;
    match (&plan.folder, unlike) {
        // Whether there is something to lose is seen when it starts.
        (Some(folder), Some((shown, runs, reason))) if runs || !CheckpointFolder::of(folder).is_empty() => {
            let rest = if runs { "stop it first" } else { "add .fresh() to delete it" };
            let reason = format!("the training there can't be resumed ({reason}): choose another folder, or {rest}");
            Err(Error::Setting { name: "folder", value: shown, reason })
        }
        (Some(_), _) => Ok(Vec::new()),
        (None, unlike) => {
            plan.folder = Some(run_folder(&plan.name)?);
            let message =
                |(shown, _, reason)| format!("starting a new training run, because {shown} can't be resumed: {reason}");
            Ok(unlike.map(message).into_iter().collect())
        }
    }
}

/// The record in the plan's folder; without a folder, those of the runs with this name, the last one first.
fn records(plan: &Plan) -> Result<Vec<RunRecord>> {
    let Some(folder) = &plan.folder else {
        let folders = training_folders(&plan.name).into_iter();
        let mut records: Vec<RunRecord> = folders.filter_map(|folder| RunRecord::read(folder).ok()).collect();
        records.retain(|record| record.name == plan.name);
        records.sort_by_cached_key(|record| std::cmp::Reverse((record.started.clone(), record.folder.clone())));
        return Ok(records);
    };
    match RunRecord::read(folder) {
        Ok(record) => Ok(vec![record]),
        // A record that can't be read must not cost the checkpoints beside it.
        Err(error) if !CheckpointFolder::of(folder).is_empty() => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// Two runs that update the same parameters would spoil each other's.
fn check_parameters(plan: &Plan) -> Result<()> {
    let Some(parameters) = &plan.parameters else { return Ok(()) };
    let trainings = TRAININGS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut others = trainings.iter().filter_map(|(folder, training)| Some((folder, training.upgrade()?)));
    let same = |training: &Shared| training.plan.parameters.as_ref().is_some_and(|other| other.is_same(parameters));
    match others.find(|(_, training)| same(training) && training.is_alive()) {
        None => Ok(()),
        Some((folder, _)) => Err(Error::Setting {
            name: "parameters",
            value: format!("those of {}", show_path(folder)),
            reason: "that run is still training them: stop it first, or build a new network".into(),
        }),
    }
}

/// Sets the plan up to resume the recorded run, and returns messages about skipped checkpoints; or says why it can't be
/// resumed.
fn resume(plan: &mut Plan, record: &RunRecord) -> Result<Result<Vec<String>, String>> {
    let known = {
        let trainings = TRAININGS.lock().unwrap_or_else(PoisonError::into_inner);
        trainings.iter().find(|(known, _)| *known == record.folder).and_then(|(_, training)| training.upgrade())
    };
    // One that could not go on here is not to be stopped.
    if let Some(training) = known.as_ref().filter(|training| training.is_alive())
        && let Err(reason) = plan.fits(&training.plan)
    {
        return Ok(Err(reason));
    }
    // Without locks, a run of this process looks as if its process had died.
    if !known.map_or(Ok(false), |training| take_over(&training, &record.folder))? && record.state == RunState::Running {
        return Ok(Err("another notebook or program has it".into()));
    }
    // From here on nobody else changes what is read.
    let Some(lock) = RecordLock::take(&record.folder)? else {
        return Ok(Err("another notebook or program has it".into()));
    };
    let Newest { checkpoint, damaged } = CheckpointFolder::of(&record.folder).newest()?;
    let messages = damaged.iter().map(|(_, error)| format!("skipped: {error}")).collect::<Vec<_>>();
    let Some(checkpoint) = checkpoint else {
        return Ok(Err(match messages.is_empty() {
            true => "it has no checkpoint".into(),
            false => messages.join("; "),
        }));
    };
    let place = checkpoint.note(PLACE).and_then(|text| serde_json::from_str::<Place>(text).ok());
    let Some(place) = place else {
        return Ok(Err("its checkpoints were written by another version of cifar-lab".into()));
    };
    if place.steps != plan.steps {
        return Ok(Err(changed("steps in an epoch", &place.steps, &plan.steps)));
    }
    if let Some(Err(error)) = plan.parameters.as_ref().map(|parameters| checkpoint.check(parameters)) {
        return Ok(Err(format!("it trains another network: {error}")));
    }
    // They would be taken for newer ones, and kept in place of good ones.
    damaged.iter().for_each(|(path, _)| drop(std::fs::remove_file(path)));
    (plan.from, plan.checkpoint, plan.lock) = (place, Some(checkpoint), Some(lock));
    Ok(Ok(messages))
}

/// Stops a run of this process, so that it can resume here.
fn take_over(training: &Shared, folder: &Path) -> Result<bool> {
    let patience = Instant::now() + PATIENCE;
    while !training.stop(Instant::now() + LOOK) {
        if interrupt::is_requested() {
            return Err(Error::Interrupted(format!("the training in {} is still stopping", show_path(folder))));
        }
        if Instant::now() >= patience {
            return Err(Error::Setting {
                name: "folder",
                value: show_path(folder),
                reason: format!(
                    "the training there did not stop within {} s; run the cell again, or restart the kernel",
                    PATIENCE.as_secs()
                ),
            });
        }
    }
    Ok(true)
}

/// How the plan differs from the recorded run.
fn differences(plan: &Plan, record: &RunRecord) -> Vec<String> {
    if record.identity.is_null() {
        return vec!["it was started without .resumable(…), or by an older version of cifar-lab".into()];
    }
    let mut differences = Vec::new();
    if record.epochs != plan.epochs {
        differences.push(changed("epochs", &record.epochs, &plan.epochs));
    }
    if record.data != plan.data {
        differences.push(changed("the data", &record.data, &plan.data));
    }
    for (before, now) in [(&record.settings, &plan.settings), (&record.identity, &plan.identity)] {
        // What is known of the loader is in both, as a user may put something else of the same name into the settings.
        let more: Vec<String> =
            changes(before, now).into_iter().filter(|change| !differences.contains(change)).collect();
        differences.extend(more);
    }
    differences
}

/// What changed between two JSON objects.
fn changes(record: &Value, plan: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    // As read back from JSON, which has no NaN.
    let settings = serde_json::from_str(&plan.to_string()).unwrap_or(Value::Null);
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let mut names: Vec<String> = keys(record);
    let new: Vec<String> = keys(&settings);
    names.extend(new.into_iter().filter(|name| record.get(name).is_none()));
    // The identity has what matters of it: the number of threads, for one, does not.
    names.retain(|name| name != "device");
    for name in names {
        let (before, now) = (record.get(&name), settings.get(&name));
        if before != now {
            let text = |value: Option<&Value>| value.map_or("not set".to_string(), Value::to_string);
            differences.push(changed(&name, &text(before), &text(now)));
        }
    }
    differences
}

fn changed(what: &str, before: &impl std::fmt::Display, now: &impl std::fmt::Display) -> String {
    format!("{what} was {before} and is {now}")
}
