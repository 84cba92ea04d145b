//! Tests of the kernel: gradients across cells, errors, two kernels at once, cleaning up, starting, a training in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use super::laboratory::{Laboratory, passed, printed};
use crate::cuda::Build;
use crate::error::{ASK_THE_DOCTOR, Error, Result};
use crate::execution::failure::{Cell, Failure};
use crate::execution::{self, Execution, Outcome, Request};
use crate::kernel::folder::{self, Key};
use crate::kernel::settings;
use crate::listing;
use crate::notebook::{Notebook, RAISES};
use crate::programs;
use crate::repository::Repository;
use crate::steps::{self, seconds};

/// The largest difference allowed between parameters trained in cells and in a program.
const TOLERANCE: f64 = 1e-6;

/// The first cell of every notebook.
const FIRST: &str = ":dep cifar-lab = { path = \"../crates/cifar-lab\" }\nuse cifar_lab::prelude::*;";
/// What candle's documentation says to start with.
const PASTED: &str = ":dep candle-core = \"0.11.1\"";

/// A test: its name, and a function that returns a remark or the reason of a failure.
pub type Test = (&'static str, fn(&Laboratory) -> Result<String, String>);

pub const TESTS: [Test; 10] = [
    ("gradients and a training step across cells are those of a compiled program", across_cells),
    ("the same with :dep candle-core pasted in", across_cells_with_candle),
    ("a second candle in the kernel is noticed", second_candle),
    ("failures are reported, with their lines", failures_are_reported),
    ("handled failures pass, and a cell that is meant to fail must fail", endings_are_told_apart),
    ("executed twice, a cell is redrawn in its place, or reported", second_time),
    ("two kernels at once, nothing left behind", two_at_once),
    ("nothing left behind after kill -9", killed),
    ("a warm start compiles no crate and leaves the prepared folder as it was", warm_start),
    ("a training goes on while the kernel idles and other cells panic", training_goes_on),
];

/// The cells of a file in the percent format, without the comment before the first.
pub fn cells(text: &str) -> Vec<&str> {
    text.split("// %%\n").skip(1).collect()
}

/// A notebook of these cells; those that begin with `// raises` are tagged so.
fn with_tags(cells: &[&str]) -> Notebook {
    let mut notebook = Notebook::from_cells(cells.iter().copied());
    for (index, cell) in cells.iter().enumerate() {
        if cell.starts_with("// raises") {
            notebook.tag(index, RAISES);
        }
    }
    notebook
}

/// Some cells with known gradients, and those of the example `one_step` after them.
fn cells_with_gradients() -> Vec<&'static str> {
    let mut cells = cells(include_str!("../../../tests/cells/tensor_ids.rs"));
    cells.extend(&self::cells(include_str!("../../../tests/cells/one_step.rs"))[1..]);
    cells
}

fn across_cells(laboratory: &Laboratory) -> Result<String, String> {
    compare_with_program(laboratory, "across_cells", cells_with_gradients())
}

fn across_cells_with_candle(laboratory: &Laboratory) -> Result<String, String> {
    let mut cells = cells_with_gradients();
    cells.insert(1, PASTED);
    compare_with_program(laboratory, "across_cells_with_candle", cells)
}

/// Compares the output of cells with the known gradients, and the output of a compiled example with the same code.
fn compare_with_program(laboratory: &Laboratory, name: &str, cells: Vec<&str>) -> Result<String, String> {
    let program = run_example(&laboratory.repository, "one_step")?;
    let wanted = listing::parse(&("y 0 10\ny 1 20\ny 2 30\ny 3 40\n".to_string() + &program));
    let found = listing::parse(&laboratory.printed_by(name, &Notebook::from_cells(cells))?);
    let difference = listing::compare(&found, &wanted)?;
    let remark = format!("{} values, largest difference {difference:e}", wanted.len());
    if difference <= TOLERANCE { Ok(remark) } else { Err(remark) }
}

fn second_candle(laboratory: &Laboratory) -> Result<String, String> {
    let notebook = Notebook::from_cells(cells(include_str!("../../../tests/cells/second_candle.rs")));
    let execution = laboratory.execute("second_candle", &notebook)?;
    match &execution.outcome {
        Outcome::Failed { cell: 4, failure } if failure.message.contains("candle is linked twice") => {
            Ok(failure.message.lines().next().unwrap_or_default().to_string())
        }
        Outcome::Failed { cell, failure } => Err(execution::describe("second_candle", &notebook, *cell, failure)),
        other => Err(format!("the training went on: {other:?}")),
    }
}

/// Builds an example of cifar-lab, runs it and returns its output.
fn run_example(repository: &Repository, name: &str) -> Result<String, String> {
    // `cargo build --example` would choose other features than the tests, and compile everything again.
    let mut command = programs::cargo(repository, &["test", "--no-run", "--workspace"]);
    let said = |error: Error| error.to_string();
    let programs = programs::build(&mut command, name, ASK_THE_DOCTOR).map_err(said)?;
    let program = programs.get(name).ok_or(format!("cargo built no example {name}"))?;
    steps::output(&program.to_string_lossy(), &mut Command::new(program), ASK_THE_DOCTOR).map_err(said)
}

/// All bad cells but the last are tagged as meant to fail, so that execution goes on; the last crashes the process, which ends it.
fn failures_are_reported(laboratory: &Laboratory) -> Result<String, String> {
    // Each fails in its second line. Before that, a panic is caught, and a `?` meets no error.
    let bad = [
        (
            "let _ = std::panic::catch_unwind(|| panic!(\"caught\"));\nlet value = vec![1u8][good + 4];",
            "panicked",
            "the len is 1 but the index is 5",
        ),
        (
            "let text = \"five\"; let four: usize = dbg!(\"4\".parse::<usize>()?); // a number?\n\
             let number: usize = text.parse::<usize>()?;",
            "stopped at a `?`",
            "invalid digit",
        ),
        ("let fine = good;\nlet number: u32 = \"five\";", "does not compile", "mismatched types"),
    ];
    let mut cells = vec![FIRST, "let good: usize = 1;"];
    let begin = cells.len();
    cells.extend(bad.map(|(cell, ..)| cell));
    cells.extend(["std::process::abort()", "println!(\"must not run\");"]);
    let mut notebook = Notebook::from_cells(cells);
    for at in 0..bad.len() {
        notebook.tag(begin + at, RAISES);
    }
    let execution = laboratory.execute("failures", &notebook)?;
    let crash = begin + bad.len();
    match &execution.outcome {
        Outcome::Failed { cell, failure } if *cell == crash + 1 && failure.what.contains("variables are lost") => {}
        other => return Err(format!("the outcome was {other:?}")),
    }
    let copy = Notebook::read(&execution.copy).map_err(|error| error.to_string())?;
    if !copy.is_tagged(crash, "stopped-here") || copy.all_printed().contains("must not run") {
        return Err("the crash stopped nothing".to_string());
    }
    for (at, (_, what, message)) in bad.iter().enumerate() {
        let outputs = copy.cells()[begin + at]["outputs"].as_array().map_or(&[][..], Vec::as_slice);
        let failure = Cell { raises: false, status: "error", outputs }.failure();
        let right =
            |failure: &Failure| failure.line == Some(2) && failure.what == *what && failure.message.contains(message);
        if !failure.as_ref().is_some_and(right) {
            return Err(format!("{what}, {message:?}, was reported as {failure:?}"));
        }
    }
    Ok(String::new())
}

/// Each cell passes, or fails if it is tagged so, except the last: it is tagged, and passes.
fn endings_are_told_apart(laboratory: &Laboratory) -> Result<String, String> {
    let cells = cells(include_str!("../../../tests/cells/endings.rs"));
    let notebook = with_tags(&cells);
    let execution = laboratory.execute("endings", &notebook)?;
    match &execution.outcome {
        Outcome::Failed { cell, failure } if *cell == cells.len() && failure.what == "did not fail" => {}
        Outcome::Failed { cell, failure } => return Err(execution::describe("endings", &notebook, *cell, failure)),
        other => return Err(format!("the outcome was {other:?}")),
    }
    let printed = printed(&execution)?;
    let wanted = ["caught true", "joined true", "late passed", "inner true", "read \"\\n\"", "kept 6", "restarted"];
    match wanted.iter().find(|wanted| !printed.contains(*wanted)) {
        None => Ok(format!("{} cells", cells.len())),
        Some(missing) => Err(format!("no {missing:?} in\n{printed}")),
    }
}

/// Only the first outputs are kept. One is redrawn, after prints that are joined.
fn second_time(laboratory: &Laboratory) -> Result<String, String> {
    let redrawn = "for number in 0..3 {\nprintln!(\"{number}\");\nstd::thread::sleep(std::time::Duration::from_millis(300));\n}\n\
                   let live: LiveView = LiveView::open().ok_or(\"nothing can be redrawn\")?;\n\
                   live.show(&View::line(\"first\"));\nlive.show(&View::line(\"second\"));";
    let cells = [
        FIRST,
        redrawn,
        "let mut count: usize = 0;",
        "count += 1;\nprintln!(\"count {count}\");",
        "let words: Vec<String> = vec![\"a\".to_string()];",
        "drop(words);",
    ];
    let name = "twice";
    let request = Request {
        twice_below: Some(Duration::MAX),
        ..Request::new(Notebook::from_cells(cells), name, laboratory.folder.join(name))
    };
    let execution = laboratory.execute_as(&request)?;
    let reported = matches!(&execution.outcome, Outcome::Failed { cell: 6, failure }
        if failure.what == "does not compile when executed a second time");
    let printed = printed(&execution)?;
    let kept = printed.split_whitespace().eq(["0", "1", "2", "second", "count", "1"]);
    match reported && kept && execution.repeated == [1, 2, 3, 4, 5] {
        true => Ok(String::new()),
        false => Err(format!("{:?}, kept {printed:?}", execution.outcome)),
    }
}

fn two_at_once(laboratory: &Laboratory) -> Result<String, String> {
    // Each waits in its second cell for the other, so they do run at the same time.
    let meeting = tempfile::tempdir().map_err(|error| error.to_string())?;
    let notebook = |own: &str, other: &str| {
        let path = |name: &str| format!("{:?}", meeting.path().join(name));
        let wait = format!(
            "std::fs::write({}, \"\")?;\nlet begun: std::time::Instant = std::time::Instant::now();\n\
             while !std::path::Path::new({}).exists() && begun.elapsed().as_secs() < 120 {{\n\
             std::thread::sleep(std::time::Duration::from_millis(50));\n}}",
            path(own),
            path(other)
        );
        let say = format!("println!(\"{own} met {{}}\", std::path::Path::new({}).exists());", path(other));
        Notebook::from_cells([FIRST, wait.as_str(), say.as_str()])
    };
    let (one, other) = (notebook("one", "other"), notebook("other", "one"));
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| laboratory.printed_by("other", &other));
        (laboratory.printed_by("one", &one), other.join().unwrap_or(Err("its thread panicked".to_string())))
    });
    let (one, other) = (one?, other?);
    if one.contains("one met true") && other.contains("other met true") {
        Ok(String::new())
    } else {
        Err(format!("the outputs were {one:?} and {other:?}"))
    }
}

fn killed(laboratory: &Laboratory) -> Result<String, String> {
    if !cfg!(target_os = "linux") {
        return Ok("skipped: it needs /proc".to_string());
    }
    for victim in ["cifar-lab-kernel", "evcxr_jupyter"] {
        let name = format!("killed_{victim}");
        let folder = laboratory.folder.join(&name);
        let started = folder.join("started");
        let _ = std::fs::remove_file(&started);
        // Longer than the test takes, so that only the kill ends it.
        let wait =
            format!("std::fs::write({started:?}, \"\")?;\nstd::thread::sleep(std::time::Duration::from_secs(600));");
        let notebook = Notebook::from_cells([FIRST, wait.as_str()]);
        let request = Request::new(notebook, &name, folder);
        let kernel_folder = laboratory.installation.folders.live_path(&request.kernel_id);
        let id = request.kernel_id.clone();
        let execution = std::thread::scope(|scope| {
            let running = scope.spawn(|| laboratory.execute_as(&request));
            let patience = Instant::now() + Duration::from_secs(120);
            while !started.exists() && !running.is_finished() && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(50));
            }
            for pid in processes_of(&id, victim) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            running.join().unwrap_or(Err("its thread panicked".to_string()))
        })?;
        match &execution.outcome {
            Outcome::Failed { cell: 2, failure } if failure.what.contains("lost its kernel") => {}
            other => return Err(format!("{victim} killed: the outcome was {other:?}")),
        }
        let left = processes_of(&id, "");
        if kernel_folder.exists() || !left.is_empty() {
            return Err(format!("{victim} killed: {} processes and {} are left", left.len(), kernel_folder.display()));
        }
    }
    Ok("launcher and evcxr, one each".to_string())
}

/// The processes of the kernel called `id` whose program is called `program`, or all if that is empty.
pub fn processes_of(id: &str, program: &str) -> Vec<rustix::process::Pid> {
    let variable = format!("{}={id}", crate::kernel::launcher::KERNEL_ID);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
        // The guard, which is no victim, has the same program as the launcher.
        let fits = arguments[0].ends_with(program.as_bytes()) && arguments.get(1) != Some(&b"guard".as_slice());
        if fits && environment.split(|&byte| byte == 0).any(|own| own == variable.as_bytes()) {
            found.extend(pid.and_then(rustix::process::Pid::from_raw));
        }
    }
    found
}

/// Nothing that is compiled in the prepared folder is compiled again, and nothing in it changes, though a kernel's folder has
/// links to its files. (How long a start takes is only printed, since a busy machine must not fail a test.)
fn warm_start(laboratory: &Laboratory) -> Result<String, String> {
    let key = Key::of(&laboratory.repository, &Build::of_machine()).map_err(|error| error.to_string())?;
    let folders = &laboratory.installation.folders;
    let prepared = folders.prepared(&key).ok_or("no folder is prepared")?;
    // A first kernel after a checkout changes the folder's times.
    let first = folders.create("check").map_err(|error| error.to_string())?;
    folders.fill(&first, &laboratory.repository, &key).map_err(|error| error.to_string())?;
    folder::remove(first.path());
    let before = files(&prepared);
    let compiled = own_library(&before).ok_or("the prepared folder has no libcifar_lab")?;
    let mut used = None;
    let (_, remark) = execute_start(laboratory, &mut |folder| used = own_library(&files(folder)))?;
    let after = files(&prepared);
    let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
    if let Some(path) = before.keys().chain(after.keys()).find(differs) {
        return Err(format!("the kernel changed {} of the prepared folder", path.display()));
    }
    match used {
        Some(used) if used == compiled => Ok(remark),
        Some(_) => Err(format!("the crates were compiled again in the first cell: {remark}")),
        None => Err("the kernel's folder has no libcifar_lab".to_string()),
    }
}

/// The files in a folder, with what a write or a replacement changes: inode, size and time.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, u64, SystemTime)> {
    fn add(folder: &Path, at: &Path, files: &mut BTreeMap<PathBuf, (u64, u64, SystemTime)>) {
        for entry in std::fs::read_dir(folder.join(at)).into_iter().flatten().flatten() {
            let path = at.join(entry.file_name());
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                add(folder, &path, files);
            } else if let Ok(modified) = metadata.modified() {
                files.insert(path, (metadata.ino(), metadata.len(), modified));
            }
        }
    }
    let mut files = BTreeMap::new();
    add(folder, Path::new(""), &mut files);
    files
}

/// The library for notebooks, in a prepared folder or a kernel's.
fn own_library(files: &BTreeMap<PathBuf, (u64, u64, SystemTime)>) -> Option<SystemTime> {
    let name = format!("debug/deps/{}", settings::crate_library());
    files.iter().find_map(|(path, (_, _, modified))| path.ends_with(&name).then_some(*modified))
}

/// Executes some first cells, calls `look` with the kernel's folder after each, and says how long they took.
fn execute_start(laboratory: &Laboratory, look: &mut dyn FnMut(&Path)) -> Result<(Execution, String), String> {
    let build = |name: &str| {
        format!("let {name}: Net = Net::new(&NetConfig::default(), Parameters::new(1).var_builder(&Device::Cpu))?;")
    };
    let (first, second, third) = (build("first"), build("second"), build("third"));
    let notebook = Notebook::from_cells([FIRST, "let seed: u64 = 7;", first.as_str(), second.as_str(), third.as_str()]);
    let request = Request::new(notebook.clone(), "start", laboratory.folder.join("start"));
    let folder = laboratory.installation.folders.live_path(&request.kernel_id);
    let execution = laboratory.execute_with(&request, &mut |_| look(&folder))?;
    passed("start", &notebook, &execution)?;
    let each: Vec<String> = execution.cells[2..].iter().map(|took| seconds(*took)).collect();
    let remark = format!(
        "kernel {} + first cell {} = {}; first `let` {}; Net::new {}",
        seconds(execution.ready),
        seconds(execution.cells[0]),
        seconds(execution.ready + execution.cells[0]),
        seconds(execution.cells[1]),
        each.join(", ")
    );
    Ok((execution, remark))
}

fn training_goes_on(laboratory: &Laboratory) -> Result<String, String> {
    let notebook = with_tags(&cells(include_str!("../../../tests/cells/training_goes_on.rs")));
    let name = "training_goes_on";
    let request = Request::new(notebook.clone(), name, laboratory.folder.join(name));
    let execution = laboratory.execute_with(&request, &mut |cell| {
        if cell == 3 {
            std::thread::sleep(laboratory.idle);
        }
    })?;
    let printed = printed(passed(name, &notebook, &execution)?)?;
    let epochs = |when: &str| -> Result<u64, String> {
        let line = printed.lines().find_map(|line| line.strip_prefix(&format!("epochs {when} ")));
        line.and_then(|number| number.trim().parse().ok()).ok_or(format!("no number of epochs {when} in\n{printed}"))
    };
    let each = ["at its start", "after the idle time", "after the panics", "in the end"];
    let each = each.into_iter().map(epochs).collect::<Result<Vec<u64>, String>>()?;
    let remark = format!("idle for {}, epochs {each:?}", seconds(laboratory.idle));
    let stopped = printed.lines().any(|line| line.starts_with("training stopped"));
    if each.is_sorted_by(|one, next| one < next) && stopped { Ok(remark) } else { Err(format!("{remark}\n{printed}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_files_begin_as_notebooks_do() {
        for text in [
            include_str!("../../../tests/cells/killed_training.rs"),
            include_str!("../../../tests/cells/one_step.rs"),
            include_str!("../../../tests/cells/tensor_ids.rs"),
            include_str!("../../../tests/cells/training_goes_on.rs"),
        ] {
            assert_eq!(cells(text)[0].trim(), FIRST);
        }
    }
}
