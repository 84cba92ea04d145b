//! Adds calls of [`cell.rs`](cell) to each cell, takes out what that has compiled already, and compiles the cell as `:opt` says.
//!
//! evcxr answers "ok" even if a cell panics or returns an error through `?`. Therefore this program also acts as a wrapper
//! around rustc ([`rustc`]), which changes the library that evcxr has written for a cell. Line numbers stay as they are:
//! code is added to the ends of lines. Code that doesn't look like evcxr 0.22's is compiled unchanged; [`compiled`] tells the front.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Result;
use crate::fingerprint::Fingerprint;

/// The variable that names the kernel's folder. If it is set, the first argument of this program may be rustc's path.
pub const FOLDER: &str = "CIFAR_LAB_KERNEL_FOLDER";
/// The variable that asks to check a cell only.
pub const CHECK: &str = "CIFAR_LAB_CHECK";

/// The variable that names the file which exists while the running cell is asked to stop.
pub const INTERRUPT: &str = "CIFAR_LAB_INTERRUPT";

/// Where that file is in a kernel's folder.
pub fn stop_file(folder: &Path) -> PathBuf {
    folder.join("interrupt")
}

/// The package that evcxr writes cells into.
pub const CELL: &str = "ctx";
/// The start of the function that evcxr calls for a cell.
pub const FUNCTION: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_";

/// The library with the functions that cells call.
const LIBRARY: &str = "cifar_lab_cell";
const LIBRARY_SOURCE: &str = include_str!("cell.rs");

/// How the library of the kernel's last cell was compiled.
#[derive(Debug, PartialEq)]
pub enum Compiled {
    /// It was not compiled, or runs nothing.
    Nothing,
    /// It calls [`cell`](super::cell) when it begins and ends.
    WithCalls,
    /// Unchanged, for this reason.
    Unchanged(String),
}

/// How the last cell was compiled since [`forget`].
pub fn compiled(folder: &Path) -> Compiled {
    match fs::read_to_string(said_file(folder)) {
        Ok(said) if said == CALLS => Compiled::WithCalls,
        Ok(reason) if !reason.is_empty() => Compiled::Unchanged(reason),
        _ => Compiled::Nothing,
    }
}

/// Forgets how the last cell was compiled.
pub fn forget(folder: &Path) {
    let _ = fs::remove_file(said_file(folder));
}

/// The file that says how.
pub fn said_file(folder: &Path) -> PathBuf {
    folder.join("compiled.txt")
}

/// Has the last cell compiled as `said` says, a copy of that file.
pub fn remember(folder: &Path, said: &Path) {
    let _ = fs::copy(said, said_file(folder));
}

/// Its contents for a cell with calls.
const CALLS: &str = "with calls";

/// rustc's path and arguments, and the kernel's folder, if cargo has called this program as rustc's wrapper.
pub fn called_by_cargo() -> Option<(OsString, Vec<OsString>, PathBuf)> {
    let folder = std::env::var_os(FOLDER)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next().filter(|first| names_rustc(first))?;
    Some((rustc, arguments.collect(), folder.into()))
}

/// evcxr calls rustc by its path, and rust-analyzer, which evcxr asks for types, by its name. No verb looks like that.
fn names_rustc(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"rustc") || Path::new(argument).is_absolute()
}

/// `rustc` in `directory` with these arguments, after calls were added to the source if it is a cell's of the kernel in
/// `folder`. A `check` makes no library.
pub fn rustc(rustc: &OsStr, arguments: &[OsString], directory: &Path, folder: &Path, check: bool) -> Command {
    let mut command = Command::new(rustc);
    command.current_dir(directory);
    let Some(source) = cell_source(arguments) else {
        command.args(arguments);
        return command;
    };
    // A library would be slower.
    command.args(arguments.iter().map(|argument| {
        if check && argument == "--emit=dep-info,link" { OsStr::new("--emit=dep-info,metadata") } else { argument }
    }));
    command.arg("-C").arg(format!("opt-level={}", opt_level(folder)));
    if !check {
        let added = add_to(&directory.join(source)).and_then(|added| Ok((added, library(rustc, folder)?)));
        let said = match &added {
            Ok((true, _)) => CALLS,
            Ok((false, _)) => "",
            Err(reason) => reason,
        };
        let _ = fs::write(said_file(folder), said);
        if let Ok((_, library)) = added {
            command.arg("--extern").arg(format!("{LIBRARY}={}", library.display()));
        }
    }
    command
}

/// What `:opt` has set, which evcxr writes into the package's profile. There cargo would ignore it: the workspace's counts.
fn opt_level(folder: &Path) -> String {
    let manifest = fs::read_to_string(folder.join(CELL).join("Cargo.toml")).unwrap_or_default();
    let level = manifest.lines().find_map(|line| line.strip_prefix("opt-level = "));
    level.unwrap_or("0").trim_matches('"').to_string()
}

/// What the names of libraries begin with.
pub const LIBRARY_PREFIX: &str = std::env::consts::DLL_PREFIX;

/// The file name of a dynamic library.
pub fn library_name(of: &str) -> String {
    format!("{LIBRARY_PREFIX}{of}{}", std::env::consts::DLL_SUFFIX)
}

/// The source of the library, in the folder with the library.
fn library_source(folder: &Path) -> PathBuf {
    folder.join(format!("{LIBRARY}.rs"))
}

/// What [`take_library`] takes for a compiled library.
#[cfg(test)]
pub fn fake_library(folder: &Path) {
    fs::write(library_source(folder), LIBRARY_SOURCE).unwrap();
    fs::write(folder.join(library_name(LIBRARY)), "").unwrap();
}

/// Links the library from a prepared folder into a kernel's, unless it was compiled from another source; returns whether it is
/// there.
pub fn take_library(prepared: &Path, folder: &Path) -> bool {
    let same = fs::read_to_string(library_source(prepared)).is_ok_and(|source| source == LIBRARY_SOURCE);
    let name = library_name(LIBRARY);
    same && fs::hard_link(prepared.join(&name), folder.join(&name)).is_ok()
        && fs::hard_link(library_source(prepared), library_source(folder)).is_ok()
}

/// The compiled library, in a kernel's folder. The first cell that needs it compiles it, unless it was taken.
fn library(rustc: &OsStr, folder: &Path) -> Result<PathBuf, String> {
    let library = folder.join(library_name(LIBRARY));
    if library.exists() {
        return Ok(library);
    }
    let source = library_source(folder);
    fs::write(&source, LIBRARY_SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut command = Command::new(rustc);
    command.args([
        "--crate-type=dylib",
        "--edition=2024",
        "-Cprefer-dynamic",
        "-Copt-level=2",
        "--crate-name",
        LIBRARY,
        "-o",
    ]);
    let output =
        command.arg(&library).arg(&source).output().map_err(|error| format!("{}: {error}", rustc.to_string_lossy()))?;
    if output.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The source of the cell, if that is what rustc is to compile and link.
pub fn cell_source(arguments: &[OsString]) -> Option<&Path> {
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    let is_cell = pairs.any(|(name, value)| name == "--crate-name" && value == CELL);
    let links = arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix("--emit="));
    let links = links.flat_map(|kinds| kinds.split(',')).any(|kind| kind == "link");
    let source = arguments.iter().map(Path::new).find(|path| path.ends_with("src/lib.rs"))?;
    (is_cell && links).then_some(source)
}

/// Adds the calls to the cell's source; returns whether the cell runs anything that calls.
fn add_to(source: &Path) -> Result<bool, String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let Some(added) = instrument(&text)? else { return Ok(false) };
    fs::write(source, &added).map_err(|error| format!("{}: {error}", source.display()))?;
    Ok(added.contains(TELL_BEGIN) || added.contains(TELL_ASKING))
}

/// Lines of the error type that evcxr generates for `?`, and their replacements. `FORMAT` is set by `:efmt`.
const ERROR_TYPE: [(&str, &str); 5] = [
    (
        "            struct EvcxrUserCodeError {}\n",
        "            struct EvcxrUserCodeError {place: ::std::string::String, told: ::std::string::String}\n",
    ),
    ("                fn from(error: T) -> Self {\n", "                #[track_caller] fn from(error: T) -> Self {\n"),
    (
        "                    eprintln!(\"FORMAT\", error);\n",
        "                    let told = ::std::format!(\"FORMAT\", error); \
         let place = ::std::panic::Location::caller(); let place = ::std::format!(\"{}:{}\", place.file(), place.line());\n",
    ),
    ("                    println!(\"{}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);\n", "\n"),
    ("                    EvcxrUserCodeError {}\n", "                    EvcxrUserCodeError {place, told}\n"),
];
/// What `:efmt` accepts.
const FORMATS: [&str; 3] = ["{}", "{:?}", "{:#?}"];

/// The end of the code of a cell with `?`, without and with `.await`. [`TELL_STOPPED`] goes between the parts.
const QUESTION_MARK_ENDS: [(&str, &str); 2] = [("Ok(())})()", ";\n"), ("Ok::<(), EvcxrUserCodeError>(())\n})", ";\n")];
const TELL_STOPPED: &str = ".unwrap_or_else(|error| ::cifar_lab_cell::stopped(&error.place, &error.told))";

/// How evcxr catches a panic, with and without variables. [`TELL_PANICKED`] goes between the parts.
const CATCHES: [(&str, &str); 2] = [
    ("}))", " { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}\n"),
    ("})", ".is_err() {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}\n"),
];
/// What it then prints.
const CAUGHT: &str = "EVCXR_PANIC_NOTIFICATION";
const TELL_PANICKED: &str = ".inspect_err(::cifar_lab_cell::panicked)";

/// The end of the function for a cell of items only.
const RUNS_NOTHING: &str = "mut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n";

/// The end of any other function. [`TELL_END`] goes before it.
const END: &str = "evcxr_variable_store\n}\n";
const TELL_END: &str = "::cifar_lab_cell::ended(); ";

/// The line before the cell's code, without and with variables. [`TELL_BEGIN`] goes after it.
const OPENINGS: [&str; 2] =
    ["evcxr_variable_store: *mut u8) -> *mut u8 {", "if !vars_ok {return evcxr_variable_store;}}"];
const TELL_BEGIN: &str = " ::cifar_lab_cell::begin();";
/// [`TELL_BEGIN`] in a notebook that has imported [`ASKS_EVCXR`].
const TELL_ASKING: &str = " ::cifar_lab_cell::begin_asking();";
/// A crate whose functions speak to evcxr through standard input and output.
const ASKS_EVCXR: &str = "evcxr_input";

/// The start of the module with the store for variables, the last item that evcxr writes.
const STORE_START: &str = "mod evcxr_internal_runtime {\n";
/// The [`Fingerprint`] of that module as evcxr 0.22.0 has it.
const KNOWN_STORE: u64 = 0x4f45_5d5e_abad_05d1;
/// What replaces it: every cell would compile it again, which takes a tenth of the time.
const COMPILED_STORE: &str = "use ::cifar_lab_cell as evcxr_internal_runtime;";

/// A cell's library with the added code; `None` if it runs nothing.
fn instrument(text: &str) -> Result<Option<String>, String> {
    let wrong = |what: &str| format!("the code that evcxr generated for the cell {what}");
    let start = text.rfind(FUNCTION).ok_or_else(|| wrong("has no function run_user_code"))?;
    let (items, function) = text.split_at(start);
    if function.ends_with(RUNS_NOTHING) {
        return Ok(None);
    }
    let mut body = function.strip_suffix(END).ok_or_else(|| wrong("ends in another way"))?.to_string();
    let catch = CATCHES.into_iter().find_map(|form| last(&body, form));
    if let Some((_, end)) = catch {
        body.insert_str(end, TELL_PANICKED);
    } else if body.contains(CAUGHT) {
        return Err(wrong("catches panics in another way"));
    }
    let stop = QUESTION_MARK_ENDS.into_iter().find_map(|(result, semicolon)| match catch {
        Some((begin, _)) => {
            let result_end = begin.checked_sub(semicolon.len())?;
            body[..begin].ends_with(&[result, semicolon].concat()).then_some(result_end)
        }
        None => Some(last(&body, (result, semicolon))?.1),
    });
    let items = match (with_error_told(items), stop) {
        (Some(items), Some(end)) => {
            body.insert_str(end, TELL_STOPPED);
            items
        }
        // Without the error type there is no `?`, even if the end looks like it.
        (None, _) if !items.contains("struct EvcxrUserCodeError") => items.to_string(),
        _ => return Err(wrong("treats `?` in another way")),
    };
    let opening = OPENINGS.into_iter().find_map(|line| Some(body.find(&format!("{line}\n"))? + line.len()));
    let opening = opening.ok_or_else(|| wrong("begins in another way"))?;
    body.insert_str(opening, if text.contains(ASKS_EVCXR) { TELL_ASKING } else { TELL_BEGIN });
    let items = with_compiled_store(items, KNOWN_STORE);
    Ok(Some(format!("{items}{body}{TELL_END}{END}")))
}

/// `items` with [`COMPILED_STORE`] in place of a store with this fingerprint.
fn with_compiled_store(items: String, known: u64) -> String {
    match items.rfind(STORE_START).map(|start| items.split_at(start)) {
        Some((own, store)) if Fingerprint::of([store.as_bytes()]) == known => {
            format!("{own}{COMPILED_STORE}{}", "\n".repeat(store.matches('\n').count()))
        }
        _ => items,
    }
}

/// Where `first`, followed by `second`, last begins and ends in a function's `body`. It is evcxr's, and not the cell's, if
/// after it the function only stores variables.
fn last(body: &str, (first, second): (&str, &str)) -> Option<(usize, usize)> {
    let begin = body.rfind(&[first, second].concat())?;
    let rest = &body[begin + first.len() + second.len()..];
    (rest.is_empty() || rest.starts_with("evcxr_variable_store.put_variable::<"))
        .then_some((begin, begin + first.len()))
}

/// `items` with evcxr's error type changed to hold what to report; `None` if there is no error type of the known form.
fn with_error_told(items: &str) -> Option<String> {
    // After it comes only evcxr's variable store, and before it the cells' own items.
    let (before, own) = items.split_at(items.rfind(ERROR_TYPE[0].0)?);
    let known = |format: &&str| own.contains(&ERROR_TYPE[2].0.replace("FORMAT", format));
    let format = FORMATS.into_iter().find(known)?;
    let told = ERROR_TYPE.iter().try_fold(own.to_string(), |text, (old, new)| {
        let (old, new) = (old.replace("FORMAT", format), new.replace("FORMAT", format));
        text.contains(&old).then(|| text.replacen(&old, &new, 1))
    });
    Some(before.to_string() + &told?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#![allow(unused_imports, unused_mut, dead_code)]\nfn helper() {}\n";
    const PLAIN: &str = "evcxr_variable_store: *mut u8) -> *mut u8 {\n";
    const STORE: &str = "mut evcxr_variable_store: *mut S)\n  -> *mut S {\n\
        let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};\n{let mut vars_ok = true;\n\
        if !vars_ok {return evcxr_variable_store;}}\nlet a = 1;\n";
    const CATCH: &str = "match std::panic::catch_unwind(\n  std::panic::AssertUnwindSafe(||{\n";
    const MATCHED: &str = "})) { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}\n";
    const TRY: &str = "let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {\n";
    const TRIED: &str = "Ok(())})();\n";
    const BLOCK_ON: &str = "match\nmutex.lock() { Ok(guard) => guard }\n.block_on(async {\n";
    const BLOCKED: &str = "Ok::<(), EvcxrUserCodeError>(())\n});\n";
    const VARIABLES: &str = "evcxr_variable_store.put_variable::<Map<\n    u8>>(stringify!(a), a);\n";

    fn error_type(format: &str) -> String {
        format!(
            "\n            struct EvcxrUserCodeError {{}}\n            impl<T: X> From<T> for EvcxrUserCodeError {{\n                \
             fn from(error: T) -> Self {{\n                    eprintln!(\"{format}\", error);\n                    \
             println!(\"{{}}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);\n                    EvcxrUserCodeError {{}}\n                }}\n            }}\n        \n"
        )
    }

    /// The lines that changed in the cell made of `parts`. No line may have moved.
    fn added(parts: &[&str]) -> Result<Vec<String>, String> {
        let (items, function) = parts.split_at(1);
        let text = format!("{HEAD}{}{FUNCTION}3(\n{}{END}", items[0], function.concat());
        let Some(body) = instrument(&text)? else { return Ok(Vec::new()) };
        assert_eq!(body.lines().count(), text.lines().count(), "{body}");
        let pairs = body.lines().zip(text.lines()).filter(|(new, old)| new != old);
        Ok(pairs.map(|(new, _)| new.trim().to_string()).collect())
    }

    #[test]
    fn each_form_of_a_cell_reports_panics_errors_and_its_end() {
        let (panicked, stopped) = ("cell::panicked", "cell::stopped(&error.place, &error.told)");
        let (error, none) = (error_type("{}"), "");
        let work = "work();\n";
        let forms: [(&str, &[&str], &[&str]); 8] = [
            (
                "plain",
                &[
                    none,
                    PLAIN,
                    "if std::panic::catch_unwind(||{\n",
                    work,
                    "}).is_err() {\n    \
                println!(\"EVCXR_PANIC_NOTIFICATION\");\n}\n",
                ],
                &["cell::begin()", panicked, "cell::ended()"],
            ),
            (
                "variables",
                &[none, STORE, CATCH, work, VARIABLES, MATCHED, VARIABLES],
                &["cell::begin()", panicked, "cell::ended()"],
            ),
            (
                "`?`",
                &[&error, STORE, CATCH, TRY, work, VARIABLES, TRIED, MATCHED],
                &["cell::begin()", stopped, panicked, "cell::ended()"],
            ),
            (
                "await",
                &[none, STORE, CATCH, BLOCK_ON, work, "});\n", MATCHED],
                &["cell::begin()", panicked, "cell::ended()"],
            ),
            (
                "await and `?`",
                &[&error, STORE, CATCH, BLOCK_ON, work, BLOCKED, MATCHED, VARIABLES],
                &["cell::begin()", stopped, panicked, "cell::ended()"],
            ),
            ("no catch", &[none, STORE, work, VARIABLES], &["cell::begin()", "cell::ended()"]),
            (
                "no catch and `?`",
                &[&error, STORE, TRY, work, TRIED, VARIABLES, VARIABLES],
                &["cell::begin()", stopped, "cell::ended()"],
            ),
            (
                "no catch, await and `?`",
                &[&error, STORE, BLOCK_ON, work, BLOCKED],
                &["cell::begin()", stopped, "cell::ended()"],
            ),
        ];
        for (name, parts, expected) in forms {
            let found = added(parts).unwrap_or_else(|error| panic!("{name}: {error}"));
            let own: Vec<&String> = found.iter().filter(|line| line.contains("cifar_lab_cell::")).collect();
            assert!(own.iter().zip(expected).all(|(line, mark)| line.contains(mark)), "{name}: {own:?}");
            assert_eq!(own.len(), expected.len(), "{name}: {own:?}");
            assert_eq!(found.len() - own.len(), if parts[0].is_empty() { 0 } else { 5 }, "{name}: the error type");
        }
    }

    #[test]
    fn what_a_cell_holds_is_not_taken_for_evcxrs() {
        // A cell's own code may look like evcxr's.
        let own = "let f = (|| -> Result<(), String> {\nOk(())})();\n";
        assert!(added(&["", STORE, CATCH, own, MATCHED]).unwrap().iter().all(|line| !line.contains("told")));
        let items = format!("fn f() {{\n                    eprintln!(\"{{}}\", error);\n}}\n{}", error_type("{:#?}"));
        let found = added(&[&items, STORE, CATCH, TRY, own, TRIED, MATCHED]).unwrap();
        assert!(found.iter().any(|line| line.contains("format!(\"{:#?}\", error)")), "{found:?}");
        assert!(!found.iter().any(|line| line.contains("format!(\"{}\", error)")), "{found:?}");
        let in_text = format!("let s = r#\"{MATCHED}\"#;\n");
        assert!(added(&["", STORE, &in_text, VARIABLES]).is_err(), "taken for neither");
    }

    #[test]
    fn a_known_store_is_replaced() {
        let store = format!("{STORE_START}pub struct VariableStore;\n}}\n");
        let known = Fingerprint::of([store.as_bytes()]);
        let items = format!("fn own() {{}}\n{store}");
        let replaced = with_compiled_store(items.clone(), known);
        assert_eq!(replaced, format!("fn own() {{}}\n{COMPILED_STORE}\n\n\n"));
        assert_eq!(with_compiled_store(format!("{items}fn more() {{}}\n"), known), format!("{items}fn more() {{}}\n"));
        assert_eq!(with_compiled_store(items.clone(), known + 1), items);
    }

    #[test]
    fn evcxr_input_keeps_evcxrs_pipe() {
        let found = added(&["use evcxr_input::get_string;\n", STORE, CATCH, "get_string(\"?\");\n", MATCHED]).unwrap();
        assert!(found.iter().any(|line| line.contains("cell::begin_asking()")), "{found:?}");
    }

    #[test]
    fn unknown_code_is_refused_and_items_alone_need_nothing() {
        for (parts, reason) in [
            (
                &["", STORE, CATCH, "})) {\n  Err(p) => println!(\"EVCXR_PANIC_NOTIFICATION\"),\n}\n"][..],
                "catches panics",
            ),
            (&["", "store: *mut u8) {\n"], "begins in another way"),
            (&["struct EvcxrUserCodeError(u8);\n", STORE, CATCH, TRY, TRIED, MATCHED], "treats `?`"),
            (&["", STORE, CATCH, TRY, "1", MATCHED, "more();\n"], "catches panics"),
        ] {
            let error = added(parts).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(instrument("fn main() {}\n").unwrap_err().contains("no function"));
        assert!(instrument(&format!("{FUNCTION}1() {{}}\n")).unwrap_err().contains("ends in another way"));
        assert_eq!(instrument(&format!("{HEAD}{FUNCTION}1(\n{RUNS_NOTHING}")), Ok(None));
    }

    #[test]
    fn only_the_cell_that_is_to_run_is_added_to() {
        let line = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let build = "--crate-name ctx --edition=2024 ctx/src/lib.rs --crate-type cdylib --emit=dep-info,link -C x";
        assert_eq!(cell_source(&line(build)), Some(Path::new("ctx/src/lib.rs")));
        for other in ["-vV", &build.replace(",link", ",metadata"), &build.replace("ctx ", "keep ")] {
            assert_eq!(cell_source(&line(other)), None, "{other}");
        }
    }

    #[test]
    fn rustc_is_told_from_a_verb() {
        for (argument, expected) in [("/a/bin/rustc", true), ("rustc", true), ("kernel", false), ("-h", false)] {
            assert_eq!(names_rustc(OsStr::new(argument)), expected, "{argument}");
        }
    }

    #[test]
    fn a_cell_is_compiled_as_opt_says() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(opt_level(folder.path()), "0");
        fs::create_dir(folder.path().join(CELL)).unwrap();
        let manifest = "[profile.dev]\nopt-level = 2\ndebug = false\n";
        fs::write(folder.path().join(CELL).join("Cargo.toml"), manifest).unwrap();
        assert_eq!(opt_level(folder.path()), "2");
    }
}
