//! How a cell ended, told by the cell itself.
//!
//! evcxr answers "ok" to a panic and to an error that left the cell through `?`. What its cells print is no sign either:
//! a panic may have been caught, and a note on standard error is no error. So this program also stands between cargo
//! and rustc ([`wrap_rustc`]) and adds to the library that a cell becomes what writes its end into a file in the
//! kernel's folder, which [`take`] reads. It adds behind lines and behind the last one and moves none, for messages
//! name lines. A library of another form than evcxr 0.22's is compiled as it is, and reported as [`Ended::Unclear`].
//!
//! The same addition takes evcxr's pipe from standard input while a cell runs: a cell that read it waited for ever and
//! took evcxr's next command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, INSTALL_RUST, Result};

/// The variable that names the file; where it is set, cargo calls this program with rustc's path in front.
pub const REPORT: &str = "CIFAR_LAB_REPORT";

/// The package that evcxr writes cells into.
const CELL: &str = "ctx";
/// How the function that evcxr calls for a cell begins.
pub const FUNCTION: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_";
/// How the module that is added begins.
pub const ADDED: &str = "#[allow(warnings)] mod cifar_lab_report {";

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It reached its end, or has only items and nothing that runs.
    Well,
    /// A panic ended it.
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// An error left it through `?`.
    Stopped {
        /// Where the `?` stands.
        file: String,
        /// Its line there, counted from 1.
        line: usize,
        /// The error.
        message: String,
    },
    /// The kernel's file says nothing that can be relied on; why.
    Unclear(String),
}

/// The file in a kernel's `folder` that says how its last cell ended.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("cell-report.txt")
}

/// Reads how the kernel's last cell ended, and removes the report. Nothing where no cell was compiled since.
pub fn take(path: &Path) -> Option<Ended> {
    let report = fs::read(path).ok()?;
    let removed = fs::remove_file(path);
    let report = String::from_utf8_lossy(&report);
    let (head, message) = report.split_once('\n').unwrap_or((&report, ""));
    let message = message.to_string();
    let (kind, place) = head.split_once(' ').unwrap_or((head, ""));
    Some(match (kind, place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)))) {
        // The next cell would be judged by it.
        _ if removed.is_err() => Ended::Unclear(format!("{} can't be removed", path.display())),
        ("ended", _) => Ended::Well,
        ("panicked", _) => Ended::Panicked { message },
        ("stopped", Some((file, line))) => Ended::Stopped { file: file.to_string(), line, message },
        ("compiled", _) => Ended::Unclear("it was compiled, and reported no end".to_string()),
        ("unclear", _) => Ended::Unclear(message),
        _ => Ended::Unclear(format!("{} holds {report:?}", path.display())),
    })
}

/// Whether cargo called this program in front of rustc: rustc's path and arguments, and where reports go.
pub fn called_by_cargo() -> Option<(OsString, Vec<OsString>, PathBuf)> {
    let report = std::env::var_os(REPORT)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next().filter(|first| names_rustc(first))?;
    Some((rustc, arguments.collect(), report.into()))
}

/// evcxr names rustc by its path and rust-analyzer, which evcxr asks for types, by its name; no verb is either.
fn names_rustc(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"rustc") || Path::new(argument).is_absolute()
}

/// Becomes `rustc`; where it is to compile a cell, its source is added to before.
pub fn wrap_rustc(rustc: &OsStr, arguments: &[OsString], report: &Path) -> Result<std::convert::Infallible> {
    if let Some(source) = cell_source(arguments) {
        let said = match add_to(source, report) {
            Ok(true) => "compiled".to_string(),
            Ok(false) => "ended".to_string(),
            Err(reason) => format!("unclear\n{reason}"),
        };
        // Without the file the cell counts as not compiled, and at a kernel's start that is noticed.
        let _ = fs::write(report, said);
    }
    let source = Command::new(rustc).args(arguments).exec();
    Err(Error::start(rustc.to_string_lossy(), INSTALL_RUST)(source))
}

/// The source of the cell that rustc is to compile with these arguments; `cargo check` runs nothing.
fn cell_source(arguments: &[OsString]) -> Option<&Path> {
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    let is_cell = pairs.any(|(name, value)| name == "--crate-name" && value == CELL);
    let links = arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix("--emit="));
    let links = links.flat_map(|kinds| kinds.split(',')).any(|kind| kind == "link");
    let source = arguments.iter().map(Path::new).find(|path| path.ends_with("src/lib.rs"))?;
    (is_cell && links).then_some(source)
}

/// Adds to the cell's source; returns whether something runs in it.
fn add_to(source: &Path, report: &Path) -> Result<bool, String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let Some(added) = instrument(&text, report)? else { return Ok(false) };
    fs::write(source, added).map_err(|error| format!("{}: {error}", source.display()))?;
    Ok(true)
}

/// Lines of the error type that evcxr makes for `?`, and what they become; `FORMAT` is `:efmt`'s.
const ERROR_TYPE: [(&str, &str); 4] = [
    (
        "            struct EvcxrUserCodeError {}\n",
        "            struct EvcxrUserCodeError {told: ::std::string::String}\n",
    ),
    ("                fn from(error: T) -> Self {\n", "                #[track_caller] fn from(error: T) -> Self {\n"),
    (
        "                    eprintln!(\"FORMAT\", error);\n",
        "                    let told = ::std::format!(\"FORMAT\", error); ::std::eprintln!(\"{told}\"); \
         let told = ::std::format!(\"stopped {}:{}\\n{told}\", ::std::panic::Location::caller().file(), \
         ::std::panic::Location::caller().line());\n",
    ),
    ("                    EvcxrUserCodeError {}\n", "                    EvcxrUserCodeError {told}\n"),
];
/// `:efmt` knows these.
const FORMATS: [&str; 3] = ["{}", "{:?}", "{:#?}"];

/// How what runs ends where an error may leave it, without and with `.await`; what is put between the two parts.
const QUESTION_MARK_ENDS: [(&str, &str); 2] = [("Ok(())})()", ";\n"), ("Ok::<(), EvcxrUserCodeError>(())\n})", ";\n")];
const TELL_STOPPED: &str = ".unwrap_or_else(|error| crate::cifar_lab_report::tell(&error.told))";

/// How evcxr catches a panic, with variables and without any; what is put between the two parts.
const CATCHES: [(&str, &str); 2] = [
    ("}))", " { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}\n"),
    ("})", ".is_err() {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}\n"),
];
/// What it prints then.
const CAUGHT: &str = "EVCXR_PANIC_NOTIFICATION";
const TELL_PANICKED: &str = ".inspect_err(crate::cifar_lab_report::panicked)";

/// How the function ends for a cell of items alone.
const RUNS_NOTHING: &str = "mut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n";

/// How every other function ends; what is put before that.
const END: &str = "evcxr_variable_store\n}\n";
const TELL_END: &str = "crate::cifar_lab_report::tell(\"ended\"); ";

/// The lines of which one opens the function, without and with variables; behind it standard input is replaced.
const OPENINGS: [&str; 2] =
    ["evcxr_variable_store: *mut u8) -> *mut u8 {", "let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};"];
const TAKE_INPUT: &str = " let _cifar_lab_input = crate::cifar_lab_report::Input::take();";
/// Its functions ask evcxr for a line and read the answer from the pipe.
const ASKS_EVCXR: &str = "evcxr_input";

/// The module that is added. It uses the standard library alone and none of the crate's names. PATH stands for the
/// report's file, as a literal.
const MODULE: &str = r#"
    use ::std::io::{Read as _, Write as _};
    use ::std::os::fd::{AsFd as _, AsRawFd as _};
    unsafe extern "C" { fn dup2(from: i32, to: i32) -> i32; }
    static TOLD: ::std::sync::atomic::AtomicBool = ::std::sync::atomic::AtomicBool::new(false);
    pub fn tell(what: &str) {
        // What comes first is how it ended: behind a caught panic the function goes on.
        if !TOLD.swap(true, ::std::sync::atomic::Ordering::Relaxed) {
            if let ::std::result::Result::Err(error) = ::std::fs::write(PATH, what) { ::std::eprintln!("{}: {error}", PATH); }
        }
    }
    pub fn panicked(payload: &::std::boxed::Box<dyn ::std::any::Any + ::std::marker::Send>) {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<::std::string::String>().map(|text| text.as_str()));
        // As the panic hook has it.
        tell(&::std::format!("panicked\n{}", text.unwrap_or("Box<dyn Any>")));
    }
    pub struct Input { evcxr: ::std::os::fd::OwnedFd, cell: ::std::io::PipeReader }
    impl Input {
        pub fn take() -> ::std::option::Option<Self> {
            let (cell, mut line) = ::std::io::pipe().ok()?;
            // An empty line, as evcxr_input reads where nobody types; whether it is still there shows who read.
            line.write_all(b"\n").ok()?;
            let evcxr = ::std::io::stdin().as_fd().try_clone_to_owned().ok()?;
            (unsafe { dup2(cell.as_raw_fd(), 0) } == 0).then(|| Self { evcxr, cell })
        }
    }
    impl ::std::ops::Drop for Input {
        fn drop(&mut self) {
            unsafe { dup2(self.evcxr.as_raw_fd(), 0) };
            if !::std::matches!(self.cell.read(&mut [0]), ::std::result::Result::Ok(1)) {
                ::std::eprintln!("note: a cell has no standard input; what read it got one empty line. Put values into a `let`, best in the cell tagged `parameters`.");
            }
        }
    }
}
"#;

/// A cell's library with what reports its end, every line in its place; nothing where it runs nothing.
fn instrument(text: &str, report: &Path) -> Result<Option<String>, String> {
    let wrong = |what: &str| format!("the code that evcxr made of the cell {what}");
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
        // A cell without `?` may end like one with it.
        (None, _) if !items.contains("struct EvcxrUserCodeError") => items.to_string(),
        _ => return Err(wrong("treats `?` in another way")),
    };
    let opening = OPENINGS.into_iter().find_map(|line| Some(body.find(&format!("{line}\n"))? + line.len()));
    let opening = opening.ok_or_else(|| wrong("begins in another way"))?;
    if !text.contains(ASKS_EVCXR) {
        body.insert_str(opening, TAKE_INPUT);
    }
    let module = MODULE.replace("PATH", &format!("{:?}", report.to_string_lossy()));
    Ok(Some(format!("{items}{body}{TELL_END}{END}{ADDED}{module}")))
}

/// Where `first`, followed by `second`, begins and ends in a function's `body`, if it is evcxr's: up to the function's
/// end only variables are stored.
fn last(body: &str, (first, second): (&str, &str)) -> Option<(usize, usize)> {
    let begin = body.rfind(&[first, second].concat())?;
    let rest = &body[begin + first.len() + second.len()..];
    (rest.is_empty() || rest.starts_with("evcxr_variable_store.put_variable::<"))
        .then_some((begin, begin + first.len()))
}

/// `items` with evcxr's error type holding what is to be told; nothing where it has none of the known form.
fn with_error_told(items: &str) -> Option<String> {
    // Behind it stands evcxr's variable store alone, and before it the cells' own items.
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
        let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};\nlet a = 1;\n";
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
             println!(\"x\");\n                    EvcxrUserCodeError {{}}\n                }}\n            }}\n        \n"
        )
    }

    /// What was added to the cell made of `parts`, each addition with the line that it is in; nothing may be taken
    /// away, and no line moved.
    fn added(parts: &[&str]) -> Result<Vec<String>, String> {
        let (items, function) = parts.split_at(1);
        let text = format!("{HEAD}{}{FUNCTION}3(\n{}{END}", items[0], function.concat());
        let Some(added) = instrument(&text, Path::new("/a b/report"))? else { return Ok(Vec::new()) };
        let (body, module) = added.split_once(ADDED).unwrap();
        assert!(module.contains("::std::fs::write(\"/a b/report\", what)"), "{module}");
        assert_eq!(body.lines().count(), text.lines().count(), "{body}");
        let pairs = body.lines().zip(text.lines()).filter(|(new, old)| new != old);
        Ok(pairs.map(|(new, _)| new.trim().to_string()).collect())
    }

    #[test]
    fn each_form_of_a_cell_reports_panics_errors_and_its_end() {
        let (panicked, stopped) = ("panicked", "tell(&error.told)");
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
                &["Input::take", panicked, "ended"],
            ),
            (
                "variables",
                &[none, STORE, CATCH, work, VARIABLES, MATCHED, VARIABLES],
                &["Input::take", panicked, "ended"],
            ),
            (
                "`?`",
                &[&error, STORE, CATCH, TRY, work, VARIABLES, TRIED, MATCHED],
                &["Input::take", stopped, panicked, "ended"],
            ),
            ("await", &[none, STORE, CATCH, BLOCK_ON, work, "});\n", MATCHED], &["Input::take", panicked, "ended"]),
            (
                "await and `?`",
                &[&error, STORE, CATCH, BLOCK_ON, work, BLOCKED, MATCHED, VARIABLES],
                &["Input::take", stopped, panicked, "ended"],
            ),
            ("no catch", &[none, STORE, work, VARIABLES], &["Input::take", "ended"]),
            (
                "no catch and `?`",
                &[&error, STORE, TRY, work, TRIED, VARIABLES, VARIABLES],
                &["Input::take", stopped, "ended"],
            ),
            ("no catch, await and `?`", &[&error, STORE, BLOCK_ON, work, BLOCKED], &["Input::take", stopped, "ended"]),
        ];
        for (name, parts, expected) in forms {
            let found = added(parts).unwrap_or_else(|error| panic!("{name}: {error}"));
            let own: Vec<&String> = found.iter().filter(|line| line.contains("cifar_lab_report::")).collect();
            assert!(own.iter().zip(expected).all(|(line, mark)| line.contains(mark)), "{name}: {own:?}");
            assert_eq!(own.len(), expected.len(), "{name}: {own:?}");
            assert_eq!(found.len() - own.len(), if parts[0].is_empty() { 0 } else { 4 }, "{name}: the error type");
        }
    }

    #[test]
    fn what_a_cell_holds_is_not_taken_for_evcxrs() {
        // A cell's own text may look like what stands around it.
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
    fn evcxr_input_keeps_evcxrs_pipe() {
        let found = added(&["use evcxr_input::get_string;\n", STORE, CATCH, "get_string(\"?\");\n", MATCHED]).unwrap();
        assert!(!found.iter().any(|line| line.contains("Input::take")), "{found:?}");
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
        let end = Path::new("report");
        assert!(instrument("fn main() {}\n", end).unwrap_err().contains("no function"));
        assert!(instrument(&format!("{FUNCTION}1() {{}}\n"), end).unwrap_err().contains("ends in another way"));
        assert_eq!(instrument(&format!("{HEAD}{FUNCTION}1(\n{RUNS_NOTHING}"), end), Ok(None));
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
    fn a_report_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        assert_eq!(take(&path), None);
        let stopped = Ended::Stopped { file: "/a b:c/x.rs".to_string(), line: 7, message: "no\nand why".to_string() };
        for (text, ended) in [
            ("ended", Ended::Well),
            ("panicked\nno", Ended::Panicked { message: "no".to_string() }),
            ("stopped /a b:c/x.rs:7\nno\nand why", stopped),
            ("unclear\nit has", Ended::Unclear("it has".to_string())),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(take(&path), Some(ended));
            assert_eq!(take(&path), None);
        }
        for text in ["compiled", "", "stopped x\nno", "stopped"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(take(&path), Some(Ended::Unclear(_))), "{text}");
        }
    }
}
