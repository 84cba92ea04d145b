//! How a cell ended, reported by the cell itself.
//!
//! evcxr answers "ok" even if a cell panics or returns an error through `?`, and what the cell prints proves nothing: a
//! panic may have been caught, and standard error holds notes too. Therefore this program also acts as a wrapper around
//! rustc ([`wrap_rustc`]). It adds code to each cell's library that writes how the cell ended into a file, which [`take`]
//! reads. The code goes to the ends of lines and of the file, so that line numbers in messages stay right. Code that doesn't
//! look like evcxr 0.22's is compiled unchanged, and the cell's end is [`Ended::Unclear`].
//!
//! The added code also replaces standard input while a cell runs. It is evcxr's pipe: a cell that read from it would wait
//! forever, or swallow evcxr's next command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, INSTALL_RUST, Result};

/// The variable that names the file. If it is set, the first argument of this program may be rustc's path.
pub const REPORT: &str = "CIFAR_LAB_REPORT";

/// The package that evcxr writes cells into.
const CELL: &str = "ctx";
/// The start of the function that evcxr calls for a cell.
pub const FUNCTION: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn run_user_code_";
/// The start of the added module.
pub const ADDED: &str = "#[allow(warnings)] mod cifar_lab_report {";

/// How a cell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ran to its end, or has items only.
    Well,
    /// It panicked.
    Panicked { message: String },
    /// An error left it through `?`.
    Stopped {
        /// The place of the `?`.
        file: String,
        /// Counted from 1.
        line: usize,
        message: String,
    },
    /// Unknown, for this reason.
    Unclear(String),
}

/// The report in a kernel's `folder`.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("cell-report.txt")
}

/// Reads the report on the kernel's last cell, and removes it. `None` if no cell has been compiled since the last call.
pub fn take(path: &Path) -> Option<Ended> {
    let report = fs::read(path).ok()?;
    let removed = fs::remove_file(path);
    let report = String::from_utf8_lossy(&report);
    let (head, message) = report.split_once('\n').unwrap_or((&report, ""));
    let message = message.to_string();
    let (kind, place) = head.split_once(' ').unwrap_or((head, ""));
    Some(match (kind, place.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)))) {
        // It would be taken for the next cell's.
        _ if removed.is_err() => Ended::Unclear(format!("{} can't be removed", path.display())),
        ("ended", _) => Ended::Well,
        ("panicked", _) => Ended::Panicked { message },
        ("stopped", Some((file, line))) => Ended::Stopped { file: file.to_string(), line, message },
        ("compiled", _) => Ended::Unclear("it was compiled, but did not report its end".to_string()),
        ("unclear", _) => Ended::Unclear(message),
        _ => Ended::Unclear(format!("{} holds {report:?}", path.display())),
    })
}

/// rustc's path and arguments, and the report's path, if cargo has called this program as rustc's wrapper.
pub fn called_by_cargo() -> Option<(OsString, Vec<OsString>, PathBuf)> {
    let report = std::env::var_os(REPORT)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next().filter(|first| names_rustc(first))?;
    Some((rustc, arguments.collect(), report.into()))
}

/// evcxr calls rustc by its path, and rust-analyzer, which evcxr asks for types, by its name. No verb looks like that.
fn names_rustc(argument: &OsStr) -> bool {
    argument.as_encoded_bytes().starts_with(b"rustc") || Path::new(argument).is_absolute()
}

/// Becomes `rustc`, after adding code to the source if it is a cell's.
pub fn wrap_rustc(rustc: &OsStr, arguments: &[OsString], report: &Path) -> Result<std::convert::Infallible> {
    if let Some(source) = cell_source(arguments) {
        let said = match add_to(source, report) {
            Ok(true) => "compiled".to_string(),
            Ok(false) => "ended".to_string(),
            Err(reason) => format!("unclear\n{reason}"),
        };
        // If this fails, the cell counts as not compiled, which is noticed when a kernel starts.
        let _ = fs::write(report, said);
    }
    let source = Command::new(rustc).args(arguments).exec();
    Err(Error::start(rustc.to_string_lossy(), INSTALL_RUST)(source))
}

/// The source of the cell, if that is what rustc is to compile and link.
fn cell_source(arguments: &[OsString]) -> Option<&Path> {
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    let is_cell = pairs.any(|(name, value)| name == "--crate-name" && value == CELL);
    let links = arguments.iter().filter_map(|argument| argument.to_str()?.strip_prefix("--emit="));
    let links = links.flat_map(|kinds| kinds.split(',')).any(|kind| kind == "link");
    let source = arguments.iter().map(Path::new).find(|path| path.ends_with("src/lib.rs"))?;
    (is_cell && links).then_some(source)
}

/// Adds code to the cell's source; returns whether the cell runs anything.
fn add_to(source: &Path, report: &Path) -> Result<bool, String> {
    let text = fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let Some(added) = instrument(&text, report)? else { return Ok(false) };
    fs::write(source, added).map_err(|error| format!("{}: {error}", source.display()))?;
    Ok(true)
}

/// Lines of the error type that evcxr generates for `?`, and their replacements. `FORMAT` is set by `:efmt`.
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
/// What `:efmt` accepts.
const FORMATS: [&str; 3] = ["{}", "{:?}", "{:#?}"];

/// The end of the code of a cell with `?`, without and with `.await`. [`TELL_STOPPED`] goes between the parts.
const QUESTION_MARK_ENDS: [(&str, &str); 2] = [("Ok(())})()", ";\n"), ("Ok::<(), EvcxrUserCodeError>(())\n})", ";\n")];
const TELL_STOPPED: &str = ".unwrap_or_else(|error| crate::cifar_lab_report::tell(&error.told))";

/// How evcxr catches a panic, with and without variables. [`TELL_PANICKED`] goes between the parts.
const CATCHES: [(&str, &str); 2] = [
    ("}))", " { \n  Ok(_) => {}\n  Err(_) => {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}}\n"),
    ("})", ".is_err() {\n    println!(\"EVCXR_PANIC_NOTIFICATION\");\n}\n"),
];
/// What it then prints.
const CAUGHT: &str = "EVCXR_PANIC_NOTIFICATION";
const TELL_PANICKED: &str = ".inspect_err(crate::cifar_lab_report::panicked)";

/// The end of the function for a cell of items only.
const RUNS_NOTHING: &str = "mut x: *mut std::os::raw::c_void) -> *mut std::os::raw::c_void {x}\n";

/// The end of any other function. [`TELL_END`] goes before it.
const END: &str = "evcxr_variable_store\n}\n";
const TELL_END: &str = "crate::cifar_lab_report::tell(\"ended\"); ";

/// The line that opens the function, without and with variables. [`TAKE_INPUT`] goes after it.
const OPENINGS: [&str; 2] =
    ["evcxr_variable_store: *mut u8) -> *mut u8 {", "let evcxr_variable_store = unsafe {&mut *evcxr_variable_store};"];
const TAKE_INPUT: &str = " let _cifar_lab_input = crate::cifar_lab_report::Input::take();";
/// A crate whose functions read from evcxr's pipe.
const ASKS_EVCXR: &str = "evcxr_input";

/// The added module. It uses only the standard library, and none of the crate's names. PATH is replaced by the report's path,
/// as a literal.
const MODULE: &str = r#"
    use ::std::io::{Read as _, Write as _};
    use ::std::os::fd::{AsFd as _, AsRawFd as _};
    unsafe extern "C" { fn dup2(from: i32, to: i32) -> i32; }
    static TOLD: ::std::sync::atomic::AtomicBool = ::std::sync::atomic::AtomicBool::new(false);
    pub fn tell(what: &str) {
        // The first call counts: after evcxr has caught a panic, the function continues.
        if !TOLD.swap(true, ::std::sync::atomic::Ordering::Relaxed) {
            if let ::std::result::Result::Err(error) = ::std::fs::write(PATH, what) { ::std::eprintln!("{}: {error}", PATH); }
        }
    }
    pub fn panicked(payload: &::std::boxed::Box<dyn ::std::any::Any + ::std::marker::Send>) {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<::std::string::String>().map(|text| text.as_str()));
        // As the panic hook does.
        tell(&::std::format!("panicked\n{}", text.unwrap_or("Box<dyn Any>")));
    }
    pub struct Input { evcxr: ::std::os::fd::OwnedFd, cell: ::std::io::PipeReader }
    impl Input {
        pub fn take() -> ::std::option::Option<Self> {
            let (cell, mut line) = ::std::io::pipe().ok()?;
            // An empty line, as evcxr_input returns if nobody types. If it is gone afterwards, the cell has read it.
            line.write_all(b"\n").ok()?;
            let evcxr = ::std::io::stdin().as_fd().try_clone_to_owned().ok()?;
            (unsafe { dup2(cell.as_raw_fd(), 0) } == 0).then(|| Self { evcxr, cell })
        }
    }
    impl ::std::ops::Drop for Input {
        fn drop(&mut self) {
            unsafe { dup2(self.evcxr.as_raw_fd(), 0) };
            if !::std::matches!(self.cell.read(&mut [0]), ::std::result::Result::Ok(1)) {
                ::std::eprintln!("note: a cell has no standard input; it has read one empty line instead. Write the value into a `let`, best in the cell tagged `parameters`.");
            }
        }
    }
}
"#;

/// A cell's library with the added code; `None` if it runs nothing.
fn instrument(text: &str, report: &Path) -> Result<Option<String>, String> {
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
    if !text.contains(ASKS_EVCXR) {
        body.insert_str(opening, TAKE_INPUT);
    }
    let module = MODULE.replace("PATH", &format!("{:?}", report.to_string_lossy()));
    Ok(Some(format!("{items}{body}{TELL_END}{END}{ADDED}{module}")))
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

    /// The lines that changed in the cell made of `parts`. No line may have moved.
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
