//! Test of a training that survives its kernel.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Signal, kill_process};

use super::kernel::{Test, cells, processes_of};
use super::laboratory::{Laboratory, passed, printed};
use crate::execution::{Outcome, Request};
use crate::notebook::Notebook;

pub const TESTS: [Test; 1] = [("a training in a kernel that is killed goes on, to the bit", killed_training)];

/// The variable with the number of kills, 1 without it.
const KILLS: &str = "CIFAR_LAB_KERNEL_KILLS";
/// Enough that the training lasts for some seconds.
const EPOCHS: u32 = 300;
/// Together, the kills come before the training is done.
const LAST_KILL: Duration = Duration::from_secs(3);

/// All processes of the kernel get SIGKILL at once, but for its guard, as from a system without memory.
fn killed_training(laboratory: &Laboratory) -> Result<String, String> {
    if !cfg!(target_os = "linux") {
        return Ok("skipped: it needs /proc".to_string());
    }
    let kills = std::env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(1u32).max(1);
    let runs = tempfile::tempdir().map_err(|error| error.to_string())?;
    let run = |folder: &str, killed_after| trained(laboratory, &runs.path().join(folder), killed_after);
    let wanted = run("undisturbed", None)?.ok_or("the undisturbed training did not end")?;
    let mut moments = Vec::new();
    for _ in 0..kills {
        let moment = LAST_KILL.mul_f64(random()) / kills;
        if run("killed", Some(moment))?.is_some() {
            return Err(format!(
                "the training was done before its kernel was killed, {} ms after its start",
                moment.as_millis()
            ));
        }
        moments.push(moment.as_millis().to_string());
    }
    let found = run("killed", None)?.ok_or("the last training did not end")?;
    let weights = |printed: &str| printed.lines().find(|line| line.starts_with("weights ")).map(str::to_string);
    let remark = format!("killed {} ms after each start", moments.join(", "));
    match (weights(&wanted), weights(&found)) {
        _ if !found.contains("resuming ") => Err(format!("{remark}, and then begun anew:\n{found}")),
        (Some(wanted), Some(found)) if wanted == found => Ok(remark),
        (wanted, found) => Err(format!("{remark}: {found:?} instead of {wanted:?}")),
    }
}

/// What the training in `folder` prints; `None` if its kernel was killed, as it is this long after the training's start.
fn trained(laboratory: &Laboratory, folder: &Path, killed_after: Option<Duration>) -> Result<Option<String>, String> {
    let started: PathBuf = folder.with_extension("started");
    let _ = std::fs::remove_file(&started);
    let text = include_str!("../../../tests/cells/killed_training.rs")
        .replace("FOLDER", &format!("{folder:?}"))
        .replace("EPOCHS", &EPOCHS.to_string())
        .replace("STARTED", &format!("{started:?}"));
    let notebook = Notebook::from_cells(cells(&text));
    let request = Request::new(notebook.clone(), "killed_training", laboratory.folder.join("killed_training"));
    let id = request.kernel_id.clone();
    let execution = std::thread::scope(|scope| {
        let running = scope.spawn(|| laboratory.execute_as(&request));
        if let Some(moment) = killed_after {
            let patience = Instant::now() + Duration::from_secs(120);
            while !started.exists() && !running.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(moment);
            for pid in processes_of(&id, "") {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        running.join().unwrap_or(Err("its thread panicked".to_string()))
    })?;
    match &execution.outcome {
        Outcome::Failed { failure, .. } if killed_after.is_some() && failure.what.contains("lost its kernel") => {
            Ok(None)
        }
        _ => Ok(Some(printed(passed("killed_training", &notebook, &execution)?)?)),
    }
}

/// A number in [0, 1) that nobody chose.
fn random() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(now.subsec_micros() % 1000) / 1000.0
}
