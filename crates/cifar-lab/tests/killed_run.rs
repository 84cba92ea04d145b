//! A sweep of three trainings, each in a process of its own, one of which is killed: the others stand, and the table
//! says what became of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cifar_lab::prelude::*;
use cifar_lab::training::Training;

/// Where the child process trains; only that process has it.
const FOLDER: &str = "KILLED_RUN_FOLDER";

/// Not a test but the child's program: 3 epochs, or endlessly many where its folder is called `endless`.
#[test]
#[ignore = "the child process of the test below"]
fn child() -> Result<()> {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return Ok(()) };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let epochs = if name == "endless" { 1_000_000 } else { 3 };
    let data = Cifar10::stand_in(0, 8, 8);
    let parameters = Parameters::new(0);
    let config = NetConfig { channels: vec![4, 8], dense: vec![16], ..NetConfig::default() };
    let net = Net::new(&config, parameters.var_builder(&Device::Cpu))?;
    let sgd = SGD::new(parameters.trainable(), SgdConfig::default())?;
    let training: Training = Trainer::new(net, sgd, &DataLoader::new(&data.train, &Device::Cpu))
        .test(&DataLoader::new(&data.test, &Device::Cpu))
        .epochs(epochs)
        .name(&name)
        .folder(&folder)
        .start()?;
    training.wait()
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored"]).env(FOLDER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_run_is_said_to_have_died_and_the_others_stand() -> Result<()> {
    let sweep = tempfile::tempdir().unwrap();
    let folder = |name: &str| sweep.path().join(name);
    let mut children = ["first", "endless", "last"].map(|name| start(&folder(name)));
    let patience = Instant::now() + Duration::from_secs(120);
    let has_rows = || RunRecord::read(folder("endless")).is_ok_and(|run| run.rows.len() > 1);
    while !has_rows() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(RunRecord::read(folder("endless"))?.state, RunState::Running);
    children[1].kill().unwrap(); // SIGKILL: it cannot note its end.
    for child in &mut children {
        child.wait().unwrap();
    }
    let runs = RunRecords::read(sweep.path())?;
    let state = |name: &str| runs.list().iter().find(|run| run.name == name).map(|run| run.state.clone());
    assert_eq!(state("first"), Some(RunState::Finished));
    assert_eq!(state("last"), Some(RunState::Finished));
    assert_eq!(state("endless"), Some(RunState::Died));
    let table = runs.table().to_string();
    let line = table.lines().find(|line| line.starts_with("endless")).unwrap_or_default();
    assert!(line.ends_with("died") && line.contains(" of 1000000"), "{table}");
    assert!(runs.list().iter().all(|run| run.test_accuracy().is_some()), "{table}");
    Ok(())
}
