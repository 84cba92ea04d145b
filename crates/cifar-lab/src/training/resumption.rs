//! Finds where to resume: the folder of the last run with the same name, and the newest checkpoint in it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::keeper::{OPTIMIZER, PLACE};
use super::place::Place;
use super::plan::Plan;
use super::shared::Shared;
use crate::checkpoint::CheckpointFolder;
use crate::error::{Error, Result};
use crate::paths::{show_path, training_folders};
use crate::run_folder::run_folder;
use crate::run_records::{RunRecord, RunState};

/// How long to wait for a run in this process to finish its current step and stop.
const PATIENCE: Duration = Duration::from_secs(60);

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
///
/// `optimizer` is the optimizer's settings, if already known.
pub(super) fn choose(plan: &mut Plan, optimizer: Option<&str>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    if !plan.fresh
        && let Some(record) = last_record(plan)
        && record.state != RunState::Finished
    {
        let folder = record.folder.clone();
        let shown = show_path(&folder);
        match go_on(plan, &record, optimizer)? {
            Found::GoesOn(mut damaged) => {
                words.append(&mut damaged);
                let Place { epoch, step, .. } = plan.from;
                let step = if step == 0 { String::new() } else { format!(", step {step}") };
                words.push(format!("resuming {shown} from epoch {}{step}", epoch + 1));
                plan.folder = Some(folder);
                return Ok(words);
            }
            Found::Differs(differences) => {
                if plan.folder.is_some() {
                    return Err(Error::Setting {
                        name: "folder",
                        value: shown,
                        reason: format!(
                            "the unfinished training there can't be resumed ({differences}): choose another folder, or \
                             add .fresh() to discard it"
                        ),
                    });
                }
                words.push(format!("starting a new training run, because {shown} can't be resumed: {differences}"));
            }
            Found::Nothing(mut damaged) => words.append(&mut damaged),
        }
    }
    if plan.folder.is_none() {
        plan.folder = Some(run_folder(&plan.name)?);
    }
    Ok(words)
}

/// The record in the plan's folder; without a folder, that of the last run with this name.
fn last_record(plan: &Plan) -> Option<RunRecord> {
    match &plan.folder {
        Some(folder) => RunRecord::read(folder).ok(),
        None => {
            let records = training_folders(&plan.name).into_iter().filter_map(|folder| RunRecord::read(folder).ok());
            records.filter(|record| record.name == plan.name).max_by(|a, b| {
                let key = |record: &RunRecord| (record.started.clone(), record.folder.clone());
                key(a).cmp(&key(b))
            })
        }
    }
}

enum Found {
    /// The plan is set up to resume; with messages about skipped checkpoints.
    GoesOn(Vec<String>),
    /// Why the recorded run can't be resumed.
    Differs(String),
    /// There is no usable checkpoint; with messages about skipped ones.
    Nothing(Vec<String>),
}

fn go_on(plan: &mut Plan, record: &RunRecord, optimizer: Option<&str>) -> Result<Found> {
    let differences = differences(plan, record);
    if !differences.is_empty() {
        return Ok(Found::Differs(differences.join("; ")));
    }
    if record.state == RunState::Running && !take_over(&record.folder)? {
        return Ok(Found::Differs("it is running in another notebook or program".into()));
    }
    let (checkpoint, passed_over) = CheckpointFolder::of(&record.folder).newest();
    let passed_over: Vec<String> = passed_over.into_iter().map(|reason| format!("skipped: {reason}")).collect();
    let Some(checkpoint) = checkpoint else { return Ok(Found::Nothing(passed_over)) };
    let place = checkpoint.note(PLACE).and_then(|text| serde_json::from_str::<Place>(text).ok());
    let Some(place) = place else {
        return Ok(Found::Differs("its checkpoints were written by another version of cifar-lab".into()));
    };
    if place.steps != plan.steps {
        return Ok(Found::Differs(changed("steps in an epoch", &place.steps, &plan.steps)));
    }
    let before = checkpoint.note(OPTIMIZER).unwrap_or_default();
    if let Some(now) = optimizer.filter(|now| *now != before) {
        return Ok(Found::Differs(changed("the optimizer", &before, &now)));
    }
    if let Some(Err(error)) = plan.parameters.as_ref().map(|parameters| checkpoint.check(parameters)) {
        return Ok(Found::Differs(format!("it trains another network: {error}")));
    }
    (plan.from, plan.checkpoint) = (place, Some(checkpoint));
    Ok(Found::GoesOn(passed_over))
}

/// Stops the run in `folder` if it belongs to this process, so that it can resume here; `false` if it doesn't.
fn take_over(folder: &Path) -> Result<bool> {
    let training = {
        let trainings = TRAININGS.lock().unwrap_or_else(PoisonError::into_inner);
        trainings.iter().find(|(known, _)| known == folder).and_then(|(_, training)| training.upgrade())
    };
    let Some(training) = training else { return Ok(false) };
    if training.stop(Instant::now() + PATIENCE) {
        return Ok(true);
    }
    Err(Error::Setting {
        name: "folder",
        value: show_path(folder),
        reason: format!("the training there did not stop within {} s; restart the kernel", PATIENCE.as_secs()),
    })
}

/// How the plan differs from the recorded run.
fn differences(plan: &Plan, record: &RunRecord) -> Vec<String> {
    let mut differences = Vec::new();
    if record.epochs != plan.epochs {
        differences.push(changed("epochs", &record.epochs, &plan.epochs));
    }
    if record.data != plan.data {
        differences.push(changed("the data", &record.data, &plan.data));
    }
    // As read back from JSON: numbers may change in their last digit.
    let settings = serde_json::from_str(&plan.settings.to_string()).unwrap_or(Value::Null);
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let mut names: Vec<String> = keys(&record.settings);
    let new: Vec<String> = keys(&settings);
    names.extend(new.into_iter().filter(|name| record.settings.get(name).is_none()));
    for name in names {
        let (before, now) = (record.settings.get(&name), settings.get(&name));
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
