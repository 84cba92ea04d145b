//! What evcxr and its rust-analyzer get in place of cargo.
//!
//! - `cargo metadata` leaves out all crates but the notebook's dependencies and theirs, if a manifest lists them only those
//!   that cells can name. rust-analyzer reads every crate that it hears of, though cells name few: this takes 10 seconds and
//!   1.2 GB from each kernel.
//! - `cargo check`, with which evcxr asks for the errors of a cell, becomes a build that stops early. Otherwise it would compile
//!   every crate once more, for a minute.
//! - `cargo rustc -Z unstable-options --print`, as rust-analyzer asks, becomes `rustc --print`, without what cargo reads before.
//! - A notebook's first cell, and what evcxr asks before it, are answered from memory ([`known`]).
//! - A cell with the dependencies of one before it is compiled by rustc alone ([`recipe`]).
//!
//! Everything else goes to cargo.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use serde_json::Value;

use crate::error::{Error, INSTALL_RUST, Result};
use crate::kernel::gate;
use crate::kernel::instrument::{self, CELL, CHECK, FOLDER};
use crate::kernel::known::{self, Question};
use crate::kernel::recipe::{self, Recipe};

/// The variables with cargo's and rustc's own paths, not those of rustup's proxies, which take time to find the toolchain. All
/// cargos get the same rustc, since they share what they have asked it.
const CARGO: &str = "CIFAR_LAB_CARGO";
const RUSTC: &str = "CIFAR_LAB_RUSTC";
/// The variable with the user's CARGO_HOME. rust-analyzer prefers the cargo in CARGO_HOME, so that is set to a folder of ours.
const CARGO_HOME: &str = "CIFAR_LAB_CARGO_HOME";
/// In the kernel's folder: the id of the cargo that compiles the cell, whose group can be ended.
const PROCESS: &str = "cargo.pid";

/// The programs that are replaced, as symbolic links to this one.
const PROGRAMS: [&str; 2] = ["cargo", "rustup"];

/// The folder for CARGO_HOME, in a kernel's folder.
const HOME: &str = "cargo-home";

fn programs(folder: &Path) -> PathBuf {
    folder.join(HOME).join("bin")
}

/// Puts this program in cargo's place for `command`, which starts evcxr in `folder`.
/// `sysroot` is the toolchain's folder.
pub fn apply(command: &mut Command, folder: &Path, launcher: &Path, sysroot: Option<&Path>) -> Result<()> {
    let programs = programs(folder);
    fs::create_dir_all(&programs).map_err(Error::file("make", &programs))?;
    for name in PROGRAMS {
        let link = programs.join(name);
        if !link.is_symlink() {
            symlink(launcher, &link).map_err(Error::file("make", &link))?;
        }
    }
    for (variable, name) in [(CARGO, "cargo"), (RUSTC, "rustc")] {
        let own = sysroot.map(|sysroot| sysroot.join("bin").join(name)).filter(|own| own.is_file());
        command.env(variable, own.unwrap_or(name.into()));
    }
    if let Some(old) = std::env::var_os("CARGO_HOME") {
        command.env(CARGO_HOME, old);
    }
    command
        .env("CARGO_HOME", folder.join(HOME))
        .env("PATH", prepend(&programs, std::env::var_os("PATH").unwrap_or_default()));
    if let Some(library) = sysroot.and_then(|sysroot| standard_library_source(sysroot, folder)) {
        command.env("RUST_SRC_PATH", library);
    }
    Ok(())
}

fn prepend(folder: &Path, path: OsString) -> OsString {
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}

/// A folder with links to the parts of the standard library's source that cells name. The rest is larger: each vector
/// instruction of each processor has a function.
fn standard_library_source(sysroot: &Path, folder: &Path) -> Option<PathBuf> {
    let source = sysroot.join("lib/rustlib/src/rust/library");
    let own = folder.join("library");
    fs::create_dir_all(&own).ok()?;
    for part in ["core", "alloc", "std", "proc_macro"] {
        // Without rust-src, rust-analyzer says what is missing.
        source.join(part).is_dir().then_some(())?;
        let link = own.join(part);
        if !link.is_symlink() {
            symlink(source.join(part), link).ok()?;
        }
    }
    Some(own)
}

/// The name that this program was called by, and its arguments, if it stands in for a program.
pub fn called_as() -> Option<(&'static str, Vec<OsString>)> {
    let mut arguments = std::env::args_os();
    let called = PathBuf::from(arguments.next()?);
    let name = PROGRAMS.into_iter().find(|name| called.file_name().is_some_and(|called| called == *name))?;
    Some((name, arguments.collect()))
}

/// Does what the program would do.
pub fn stand_in(name: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let programs = programs(Path::new(&std::env::var_os(FOLDER).unwrap_or_default()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).filter(|folder| *folder != programs)).unwrap_or(path);
    let cargo = std::env::var_os(CARGO).unwrap_or("cargo".into());
    let rustc = std::env::var_os(RUSTC).unwrap_or("rustc".into());
    let verb = arguments.iter().position(|argument| !argument.as_encoded_bytes().starts_with(b"-"));
    let verb = verb.filter(|_| name == "cargo").map(|at| (at, arguments[at].to_str().unwrap_or_default()));
    let mut command = Command::new(if name == "cargo" { cargo.as_os_str() } else { name.as_ref() });
    command.args(arguments.iter().enumerate().map(|(at, argument)| match verb {
        Some((place, "check")) if place == at => OsStr::new("build"),
        _ => argument,
    }));
    if let Some((at, "rustc")) = verb
        && arguments[at + 1..].starts_with(&["-Z", "unstable-options", "--print"].map(OsString::from))
    {
        let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        command = Command::new(&rustc);
        command.args(flags.split('\u{1f}').filter(|flag| !flag.is_empty()));
        command.args(arguments[at + 1..].iter().filter(|argument| *argument != "--"));
    }
    command.env("PATH", path).env_remove("CARGO_HOME");
    if Path::new(&cargo).is_absolute() {
        // rustup's cargo sets it, so `cargo lab` has it and Jupyter may not; for another one, cargo would ask rustc all again.
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    if let Some(old) = std::env::var_os(CARGO_HOME) {
        command.env("CARGO_HOME", old);
    }
    let folder = std::env::var_os(FOLDER).map(PathBuf::from).unwrap_or_default();
    match verb {
        Some((_, "metadata")) => {
            command.env("RUSTC", rustc);
            return metadata(command, &folder, arguments);
        }
        Some((at, verb @ ("build" | "check"))) => {
            gate::pass(&folder);
            remember_process(&folder);
            let mut arguments = arguments.to_vec();
            arguments[at] = "build".into();
            let code = build(&mut command, &folder, &arguments, verb == "check");
            // Later its number may be another process's.
            let _ = fs::remove_file(folder.join(PROCESS));
            return code;
        }
        None if name == "rustup" && arguments == ["which", "cargo"] => {
            println!("{}", programs.join("cargo").display());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let source = command.exec();
    Err(Error::start(command.get_program().to_string_lossy(), INSTALL_RUST)(source))
}

/// Makes this process the leader of a group that [`end_compiler`] can end.
fn remember_process(folder: &Path) {
    if rustix::process::setpgid(None, None).is_ok() {
        let _ = fs::write(folder.join(PROCESS), std::process::id().to_string());
    }
}

/// Ends cargo and the rustc that it has started, if they are compiling a cell for the kernel in `folder`.
pub fn end_compiler(folder: &Path) {
    let id = fs::read_to_string(folder.join(PROCESS)).ok().and_then(|id| id.parse().ok());
    if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = fs::remove_file(folder.join(PROCESS));
    }
}

/// Builds the cell, or only checks it: from memory, by the call of rustc that is known, or by `command`, which is cargo.
fn build(command: &mut Command, folder: &Path, arguments: &[OsString], check: bool) -> Result<ExitCode> {
    let file = |name| fs::read_to_string(folder.join(CELL).join(name)).unwrap_or_default();
    let manifest = file("Cargo.toml");
    let question = Question::new(folder, arguments, &[&manifest, &file("src/lib.rs")]);
    if !check && let Some(code) = answer(&question, folder) {
        return Ok(code);
    }
    let recipe = Recipe::new(folder, arguments, &manifest);
    // What is prepared comes from cargo.
    if !known::is_preparing()
        && let Some(good) = recipe.follow(check)?
    {
        return Ok(if good { ExitCode::SUCCESS } else { FAILED.into() });
    }
    if check {
        command.env(CHECK, "1");
    }
    recipe.forget_call();
    let output = run(command)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    recipe.remember(&printed)?;
    if known::is_preparing() && !check {
        let said = instrument::said_file(folder);
        if let Some(library) = cell_library(&printed).filter(|_| output.status.success()) {
            question.remember(&printed, &[(BUILT, &library), (SAID, &said)])?;
        } else if output.status.code() == Some(FAILED.into()) {
            question.remember(&printed, &[(SAID, &said)])?;
        }
    }
    Ok(print(&output, &output.stdout))
}

/// Builds the cell from memory.
fn answer(question: &Question, folder: &Path) -> Option<ExitCode> {
    let printed = question.answer()?;
    let code = match cell_library(&printed) {
        Some(library) => recipe::put(&question.file(BUILT), &library).ok().map(|()| ExitCode::SUCCESS)?,
        None => FAILED.into(),
    };
    instrument::remember(folder, &question.file(SAID));
    print!("{printed}");
    Some(code)
}

/// Cargo's exit code where something doesn't compile. evcxr tries some cells in several forms.
const FAILED: u8 = 101;

/// In what is known of a build: the cell's library, and how it was compiled.
const BUILT: &str = "library";
const SAID: &str = "compiled.txt";

/// The library that cargo's messages say it has built for a cell.
fn cell_library(messages: &str) -> Option<PathBuf> {
    recipe::artifact(messages)?["filenames"][0].as_str().map(PathBuf::from)
}

fn metadata(mut command: Command, folder: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let manifest = fs::read_to_string(folder.join(CELL).join("Cargo.toml")).unwrap_or_default();
    let dependencies = manifest.split_once("[dependencies]").map_or("", |(_, list)| list.trim());
    let question = |dependencies: &str| Question::new(folder, arguments, &[dependencies]);
    if let Some(printed) = question(dependencies).answer() {
        print!("{printed}");
        return Ok(ExitCode::SUCCESS);
    }
    let output = run(&mut command)?;
    let Ok(pruned) = serde_json::from_slice(&output.stdout).map(|metadata| prune(metadata).to_string()) else {
        return Ok(print(&output, &output.stdout));
    };
    if known::is_preparing() && output.status.success() {
        question(dependencies).remember(&pruned, &[])?;
        // rust-analyzer reads the dependencies of the first cell at the start, when nobody waits. `--filter-platform` is its.
        if arguments.iter().any(|argument| argument == "--filter-platform") {
            question("").remember(&pruned, &[])?;
        }
    }
    Ok(print(&output, pruned.as_bytes()))
}

/// Runs cargo, whose errors are seen.
fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stderr(Stdio::inherit()).output().map_err(Error::start(program, INSTALL_RUST))
}

/// Prints what is seen of cargo's output; the exit code is cargo's.
fn print(output: &Output, seen: &[u8]) -> ExitCode {
    let _ = std::io::stdout().write_all(seen);
    ExitCode::from(u8::try_from(output.status.code().unwrap_or(1)).unwrap_or(1))
}

/// Leaves the workspace's package `ctx`, what it depends on, what that depends on, and no more.
fn prune(mut metadata: Value) -> Value {
    const DEPTH: usize = 2;
    let id = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    // Without the package `keep`.
    let mut kept: HashSet<String> = array(&metadata["packages"])
        .iter()
        .filter(|package| package["name"] == "ctx" || package["name"] == "evcxr_dummy_validate_dep")
        .map(|package| id(&package["id"]))
        .collect();
    if kept.is_empty() {
        return metadata;
    }
    let nodes = array(&metadata["resolve"]["nodes"]);
    let packages: HashMap<String, Value> =
        array(&metadata["packages"]).into_iter().map(|package| (id(&package["id"]), package)).collect();
    let package = |of: &Value| packages.get(of.as_str().unwrap_or_default()).unwrap_or(&Value::Null);
    let can_be_named = |node: &Value, dependency: &Value| {
        let list = package(&node["id"])["metadata"]["notebooks"]["named"].as_array();
        list.is_none_or(|list| list.contains(&package(&dependency["pkg"])["name"]))
    };
    for _ in 0..DEPTH {
        let next: Vec<String> = nodes
            .iter()
            .filter(|node| kept.contains(&id(&node["id"])))
            .flat_map(|node| array(&node["deps"]).into_iter().filter(|dependency| can_be_named(node, dependency)))
            // Not those for tests and build scripts.
            .filter(|dependency| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()))
            .map(|dependency| id(&dependency["pkg"]))
            .collect();
        kept.extend(next);
    }
    let retain = |list: &mut Value, of: fn(&Value) -> &Value| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|value| of(value).as_str().is_some_and(|id| kept.contains(id)));
        }
    };
    let itself: fn(&Value) -> &Value = |value| value;
    retain(&mut metadata["packages"], |package| &package["id"]);
    retain(&mut metadata["workspace_members"], itself);
    retain(&mut metadata["workspace_default_members"], itself);
    retain(&mut metadata["resolve"]["nodes"], |node| &node["id"]);
    for package in metadata["packages"].as_array_mut().into_iter().flatten() {
        if let Some(targets) = package["targets"].as_array_mut() {
            let is_library =
                |kind: &Value| ["lib", "rlib", "dylib", "cdylib", "proc-macro"].iter().any(|library| kind == library);
            targets.retain(|target| array(&target["kind"]).iter().any(is_library));
        }
    }
    for node in metadata["resolve"]["nodes"].as_array_mut().into_iter().flatten() {
        retain(&mut node["dependencies"], itself);
        retain(&mut node["deps"], |dependency| &dependency["pkg"]);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn far_and_unnamed_dependencies_and_other_members_are_pruned() {
        let package = |name: &str| {
            let named =
                if name == "cifar-lab" { json!({"notebooks": {"named": ["candle-core"]}}) } else { Value::Null };
            json!({"name": name, "id": name, "metadata": named, "targets": [{"kind": ["lib"]}, {"kind": ["example"]}]})
        };
        let node = |name: &str, deps: &[(&str, Value)]| {
            let deps: Vec<Value> =
                deps.iter().map(|(name, kind)| json!({"pkg": name, "dep_kinds": [{"kind": kind}]})).collect();
            let ids: Vec<&Value> = deps.iter().map(|dep| &dep["pkg"]).collect();
            json!({"id": name, "dependencies": ids, "deps": deps})
        };
        let all = ["ctx", "keep", "cifar-lab", "candle-core", "jiff", "gemm", "cc", "proptest"];
        let metadata = json!({
            "packages": all.map(package),
            "workspace_members": ["ctx", "keep"],
            "workspace_default_members": ["ctx", "keep"],
            "resolve": {"nodes": [
                node("ctx", &[("cifar-lab", Value::Null)]),
                node("keep", &[("cifar-lab", Value::Null)]),
                node("cifar-lab", &[("candle-core", Value::Null), ("jiff", Value::Null), ("cc", json!("build")), ("proptest", json!("dev"))]),
                node("candle-core", &[("gemm", Value::Null)]),
                node("jiff", &[]),
                node("gemm", &[]),
                node("cc", &[]),
                node("proptest", &[]),
            ]},
        });
        let pruned = prune(metadata);
        let names: Vec<&str> =
            pruned["packages"].as_array().unwrap().iter().filter_map(|package| package["name"].as_str()).collect();
        assert_eq!(names, ["ctx", "cifar-lab", "candle-core"]);
        assert_eq!(pruned["workspace_members"], json!(["ctx"]));
        assert_eq!(pruned["resolve"]["nodes"][2]["deps"], json!([]));
        assert_eq!(pruned["packages"][0]["targets"], json!([{"kind": ["lib"]}]));
        let other = json!({"packages": [package("std")]});
        assert_eq!(prune(other.clone()), other, "another workspace's");
    }
}
