//! How cargo has called rustc for a cell. The next cell with the same manifest is compiled by the same call: cargo would first
//! look at each of 250 crates, which takes a quarter of the time.
//!
//! A recipe is a [`known`](super::known) answer, so it ends when a source in the repository is edited; and it is only for
//! manifests whose other dependencies can't be edited.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::error::{Error, INSTALL_RUST, Result};
use crate::kernel::instrument;
use crate::kernel::known::Question;

/// In the kernel's folder: the last call of rustc for a cell.
const CALL: &str = "call.json";

/// What the names of the variables begin with that cargo sets for a crate's code and macros. The others are the kernel's own, and
/// may hold secrets.
const OF_THE_CRATE: [&str; 4] = ["CARGO_CRATE_NAME", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];

/// Becomes rustc, called by cargo for the kernel in `folder`.
pub fn wrap_rustc(rustc: &OsStr, arguments: &[OsString], folder: &Path) -> Result<Infallible> {
    if instrument::cell_source(arguments).is_some() {
        note(rustc, arguments, folder);
    }
    let check = std::env::var_os(instrument::CHECK).is_some();
    let source = instrument::rustc(rustc, arguments, Path::new("."), folder, check).exec();
    Err(Error::start(rustc.to_string_lossy(), INSTALL_RUST)(source))
}

/// Notes how cargo calls rustc for a cell. What isn't Unicode is not noted, and cargo called again.
fn note(rustc: &OsStr, arguments: &[OsString], folder: &Path) {
    let texts = |list: &[OsString]| list.iter().map(|one| one.to_str().map(str::to_string)).collect::<Option<Vec<_>>>();
    let variables: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| OF_THE_CRATE.iter().any(|start| name.starts_with(start)))
        .collect();
    if let (Some(rustc), Some(arguments), Ok(directory)) = (rustc.to_str(), texts(arguments), std::env::current_dir()) {
        let call = json!({"rustc": rustc, "arguments": arguments, "directory": directory, "variables": variables});
        // Without it, cargo is called again.
        let _ = fs::write(folder.join(CALL), call.to_string());
    }
}

/// How cells with one manifest are compiled.
pub struct Recipe {
    folder: PathBuf,
    question: Option<Question>,
}

impl Recipe {
    /// The recipe that replaces cargo, called with `arguments` for the kernel in `folder`, whose cell has this manifest.
    /// There is none if a dependency lies outside the repository, as nobody notices when that is edited.
    pub fn new(folder: &Path, arguments: &[OsString], manifest: &str) -> Self {
        let crates = repository_crates(folder);
        let is_watched = |line: &str| crates.as_ref().is_some_and(|crates| line.contains(crates));
        let dependencies = manifest.split_once("[dependencies]").map_or("", |(_, list)| list);
        let lasts = dependencies.lines().all(|line| !line.contains("path") || is_watched(line));
        let question = lasts.then(|| Question::new(folder, arguments, &["recipe", manifest]));
        Self { folder: folder.to_path_buf(), question }
    }

    /// Forgets what was noted, before cargo is called.
    pub fn forget_call(&self) {
        let _ = fs::remove_file(self.folder.join(CALL));
    }

    /// Remembers what was noted since then, and the messages that cargo has `printed`.
    pub fn remember(&self, printed: &str) -> Result<()> {
        let Some(question) = self.question.as_ref().filter(|question| !question.is_remembered()) else { return Ok(()) };
        let call = fs::read_to_string(self.folder.join(CALL)).ok();
        let call: Option<Value> = call.and_then(|call| serde_json::from_str(&call).ok());
        let (Some(call), Some(artifact)) = (call, artifact(printed)) else { return Ok(()) };
        question.remember(&json!({"call": call, "artifact": artifact}).to_string(), &[])
    }

    /// Compiles the cell, or only checks it, and prints what cargo would; returns whether it compiles, or `None` if there
    /// is no recipe.
    pub fn follow(&self, check: bool) -> Result<Option<bool>> {
        let recipe = self.question.as_ref().and_then(Question::answer);
        let Some(recipe) = recipe.and_then(|recipe| serde_json::from_str::<Value>(&recipe).ok()) else {
            return Ok(None);
        };
        let (call, artifact) = (&recipe["call"], &recipe["artifact"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let arguments: Vec<OsString> =
            call["arguments"].as_array().into_iter().flatten().map(|one| text(one).into()).collect();
        let out = arguments.iter().position(|argument| argument == "--out-dir").and_then(|at| arguments.get(at + 1));
        let (Some(out), Some(library)) = (out, artifact["filenames"][0].as_str().map(Path::new)) else {
            return Ok(None);
        };
        let directory = PathBuf::from(text(&call["directory"]));
        let mut command = instrument::rustc(text(&call["rustc"]).as_ref(), &arguments, &directory, &self.folder, check);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.envs(call["variables"].as_object().into_iter().flatten().map(|(name, value)| (name, text(value))));
        let good = compile(command, artifact)?;
        if good && !check {
            let made = Path::new(out).join(library.file_name().unwrap_or_default());
            put(&made, library).map_err(Error::file("link", library))?;
            println!("{artifact}");
        }
        println!("{}", json!({"reason": "build-finished", "success": good}));
        Ok(Some(good))
    }
}

/// Where the repository's crates are, with a slash, by the manifest of `keep` (see [`super::settings`]) in the kernel's folder.
fn repository_crates(folder: &Path) -> Option<String> {
    let manifest = fs::read_to_string(folder.join("keep/Cargo.toml")).ok()?;
    let (_, path) = manifest.split_once("path = \"")?;
    path.split_once("cifar-lab\"").map(|(crates, _)| crates.to_string())
}

/// Links a cell's library to where cargo puts it, and evcxr looks for it.
pub fn put(made: &Path, library: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(library);
    fs::hard_link(made, library)
}

/// The message among cargo's that says what was built for a cell.
pub fn artifact(messages: &str) -> Option<Value> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .into_iter()
        .find(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == instrument::CELL)
}

/// Runs rustc and prints its messages as cargo does; returns whether it ended well.
fn compile(mut command: Command, artifact: &Value) -> Result<bool> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().map_err(Error::start(&program, INSTALL_RUST))?;
    let said = child.stderr.take().map(BufReader::new);
    for line in said.into_iter().flat_map(|said| said.lines()) {
        let line = line.map_err(Error::start(&program, INSTALL_RUST))?;
        match message(&line, artifact) {
            Some(message) => println!("{message}"),
            None if line.starts_with('{') => {}
            None => writeln!(std::io::stderr(), "{line}").unwrap_or_default(),
        }
    }
    Ok(child.wait().map_err(Error::start(&program, INSTALL_RUST))?.success())
}

/// What cargo makes of a line with a diagnostic; `None` for other lines.
fn message(line: &str, artifact: &Value) -> Option<Value> {
    let message: Value = serde_json::from_str(line).ok()?;
    (message["$message_type"] == "diagnostic").then(|| {
        json!({
            "reason": "compiler-message",
            "package_id": artifact["package_id"],
            "manifest_path": artifact["manifest_path"],
            "target": artifact["target"],
            "message": message,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::instrument::Compiled;
    use crate::kernel::known;
    use crate::repository::Repository;
    use std::os::unix::fs::PermissionsExt;
    use std::time::SystemTime;

    const MANIFEST: &str = "[package]\n[dependencies]\n";

    /// A kernel's folder with the answers of `prepared`, if that is given.
    fn kernel(root: &Path, name: &str, prepared: Option<&Path>) -> PathBuf {
        let folder = root.join(name);
        fs::create_dir_all(folder.join("ctx/src")).unwrap();
        fs::create_dir_all(folder.join("out")).unwrap();
        if let Some(prepared) = prepared {
            let repository = Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
            let later = SystemTime::now() + std::time::Duration::from_secs(3600);
            known::take(prepared, &folder, &repository, later).unwrap();
        }
        folder
    }

    #[test]
    fn a_cell_is_compiled_as_cargo_did_before() {
        let temporary = tempfile::tempdir().unwrap();
        let rustc = temporary.path().join("rustc");
        let script = "#!/bin/sh\n[ -n \"$ADDED\" ] || exit 3\n\
            for one in \"$@\"; do case $one in --out-dir) next=1;; *) [ -n \"$next\" ] && out=$one; next=;; esac; done\n\
            echo made > \"$out/libctx.so\"\n\
            echo '{\"$message_type\":\"artifact\"}' >&2\necho '{\"$message_type\":\"diagnostic\",\"level\":\"error\"}' >&2\n";
        fs::write(&rustc, script).unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();

        let prepared = kernel(temporary.path(), "prepared", None);
        let recipe = Recipe::new(&prepared, &["build".into()], MANIFEST);
        assert!(recipe.follow(false).unwrap().is_none(), "nothing is known");
        let call = json!({
            "rustc": rustc,
            "arguments": ["--crate-name", "ctx", "ctx/src/lib.rs", "--emit=dep-info,link", "--out-dir", prepared.join("out")],
            "directory": prepared,
            "variables": {"ADDED": "1"},
        });
        fs::write(prepared.join(CALL), call.to_string()).unwrap();
        let library = prepared.join("libctx.so");
        let artifact = json!({"reason": "compiler-artifact", "target": {"name": "ctx"}, "filenames": [library]});
        recipe.remember(&format!("no JSON\n{artifact}\n")).unwrap();

        let folder = kernel(temporary.path(), "kernel", Some(&prepared));
        let follow = |manifest: &str| Recipe::new(&folder, &["build".into()], manifest).follow(false).unwrap();
        fs::write(folder.join("ctx/src/lib.rs"), "no cell of evcxr's").unwrap();
        assert_eq!(follow(MANIFEST), Some(true));
        let Compiled::Unchanged(reason) = instrument::compiled(&folder) else { panic!("its source was not looked at") };
        assert!(reason.contains("has no function"), "{reason}");
        assert_eq!(fs::read_to_string(folder.join("libctx.so")).unwrap(), "made\n");
        assert_eq!(follow("[dependencies]\nother = \"1\"\n"), None, "other dependencies");
    }

    #[test]
    fn dependencies_that_someone_may_edit_are_left_to_cargo() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = kernel(temporary.path(), "kernel", None);
        fs::create_dir(folder.join("keep")).unwrap();
        fs::write(folder.join("keep/Cargo.toml"), "cifar-lab = { path = \"/lab/crates/cifar-lab\" }\n").unwrap();
        let has = |line: &str| Recipe::new(&folder, &[], &format!("[dependencies]\n{line}\n")).question.is_some();
        assert!(has("cifar-lab = { path = \"/lab/crates/cifar-lab\" }") && has("rand = \"0.9\""));
        assert!(!has("own = { path = \"/home/own\" }"));
    }

    #[test]
    fn diagnostics_are_wrapped_as_cargo_does() {
        let artifact = json!({"package_id": "p", "manifest_path": "m", "target": {"name": "ctx"}, "filenames": []});
        let said = message(r#"{"$message_type":"diagnostic","level":"error"}"#, &artifact).unwrap();
        assert_eq!(said["reason"], "compiler-message");
        assert_eq!(said["message"]["level"], "error");
        assert_eq!((&said["package_id"], &said["target"]["name"]), (&json!("p"), &json!("ctx")));
        assert!(message(r#"{"$message_type":"artifact"}"#, &artifact).is_none());
        assert!(message("error: linking failed", &artifact).is_none());
    }
}
