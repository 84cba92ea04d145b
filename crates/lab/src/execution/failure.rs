//! Whether a cell failed, and at which line.
//!
//! Jupyter's status reveals compile errors and lost processes, and the cell's own report ([`Ended`]) everything else. What
//! the cell printed is only searched for the place of the panic that ended it.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::error::Error;
use crate::kernel::report::{self, Ended};
use crate::kernel::settings::EVCXR_VERSION;
use crate::notebook::{RAISES, text};

/// How a cell failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// "does not compile", "panicked", …
    pub what: String,
    /// The line in the cell, counted from 1, if known.
    pub line: Option<usize>,
    /// The error, in a few lines.
    pub message: String,
}

impl Failure {
    /// Adds that the cell had already passed once, if `again`.
    pub fn when(self, again: bool) -> Self {
        let what = if again { format!("{} when executed a second time", self.what) } else { self.what };
        Self { what, ..self }
    }
}

/// An executed cell, without its report.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    pub source: &'a str,
    /// Whether it is meant to fail.
    pub raises: bool,
    /// The source of its library.
    pub compiled: &'a str,
    /// Jupyter's status.
    pub status: &'a str,
    pub outputs: &'a [Value],
}

/// The line on which the statement with a compile error begins: `command_3:2:5`.
static REPORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"command_\d+:(\d+):\d+").expect("valid"));
/// A line of the cell in the report of a compile error: ` 2 │ let y: u32 = "a";`.
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*(\d+) │").expect("valid"));
/// What Rust's panic hook prints, in newer versions with the thread's number.
static PANIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^thread '[^']*'(?: \(\d+\))? panicked at (.+):(\d+):\d+:\n").expect("valid"));
/// Lines of a backtrace, which candle's errors have too.
static FRAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s+(\d+: |at )").expect("valid"));

impl Cell<'_> {
    /// How the cell failed, if it did. `ended` is its report, which a cell of commands only doesn't have.
    pub fn failure(&self, ended: Option<Ended>) -> Option<Failure> {
        let failure = |what: &str, line, message| Failure { what: what.to_string(), line, message };
        let errors: Vec<&Value> = self.outputs.iter().filter(|output| output["output_type"] == "error").collect();
        let raised = match (errors.first(), ended) {
            (Some(first), _) => Some(from_error_output(first, errors.len())),
            // Even if the cell is meant to fail.
            (None, Some(Ended::Unclear(reason))) => {
                return Some(failure("did not report its end", None, no_report(reason).to_string()));
            }
            (None, Some(Ended::Panicked { message })) => {
                let (line, place) = self.place_of_panic(&message);
                Some(failure("panicked", line, message.trim().to_string() + &place))
            }
            (None, Some(Ended::Stopped { file, line, message })) => {
                let (line, place) = self.place(&file, line);
                Some(failure("stopped at a `?`", line, first_lines(&message) + &place))
            }
            (None, None | Some(Ended::Well)) => (self.status != "ok")
                .then(|| failure("failed", None, format!("the kernel answered {:?} without a message", self.status))),
        };
        match (self.raises, raised) {
            (false, raised) => raised,
            (true, Some(_)) => None,
            (true, None) => {
                let message =
                    format!("it is tagged `{RAISES}`, so it is meant to fail; remove the tag if it should pass");
                Some(failure("did not fail", None, message))
            }
        }
    }

    /// The line in the cell of the panic with this message, or its place elsewhere; neither if the panic hook was replaced.
    fn place_of_panic(&self, message: &str) -> (Option<usize>, String) {
        let stderr = self.outputs.iter().filter(|output| output["name"] == "stderr");
        let printed: String = stderr.map(|output| text(&output["text"])).collect();
        // Other panics may have been caught, or be another thread's.
        let own = |at: &regex::Captures<'_>| printed[at.get(0).map_or(0, |whole| whole.end())..].starts_with(message);
        let last = PANIC.captures_iter(&printed).filter(own).last();
        let place = last.and_then(|at| Some(self.place(&at[1], at[2].parse().ok()?)));
        place.unwrap_or_default()
    }

    /// The line in the cell for a place in the compiled code, or the place elsewhere.
    fn place(&self, file: &str, number: usize) -> (Option<usize>, String) {
        if file.ends_with("ctx/src/lib.rs") || file == "src/lib.rs" {
            (self.line_of(number), String::new())
        } else {
            (None, format!("\nat {file}:{number}"))
        }
    }

    /// The cell's line that became this line of the library. evcxr keeps the text of items and statements, and begins each on
    /// a line of its own. `None` if the text occurs more than once and its line is ambiguous.
    fn line_of(&self, number: usize) -> Option<usize> {
        let line = self.compiled.lines().nth(number.checked_sub(1)?)?;
        let text = line.trim();
        if text.is_empty() {
            return None;
        }
        let in_source: Vec<usize> = self.source.match_indices(text).map(|(at, _)| at).collect();
        let at = if in_source.len() == 1 && self.compiled.matches(text).count() == 1 {
            in_source[0]
        } else {
            // Statements stay in order. If an item contains the same text, the source has more of them.
            let line_at = line.as_ptr() as usize - self.compiled.as_ptr() as usize;
            let begin = self.compiled.rfind(report::FUNCTION)?;
            let end = self.compiled.rfind(report::ADDED).unwrap_or(self.compiled.len());
            let in_function: Vec<usize> =
                self.compiled.get(begin..end)?.match_indices(text).map(|(at, _)| begin + at).collect();
            let place = in_function.iter().position(|at| (line_at..line_at + line.len()).contains(at))?;
            *in_source.get(place).filter(|_| in_function.len() == in_source.len())?
        };
        Some(self.source[..at].matches('\n').count() + 1)
    }
}

/// The error for a kernel that doesn't report how cells end.
pub fn no_report(reason: String) -> Error {
    Error::NoReport { reason, supported: EVCXR_VERSION }
}

fn from_error_output(error: &Value, count: usize) -> Failure {
    let value = without_colors(error["evalue"].as_str().unwrap_or("no message"));
    let traceback: Vec<&str> = error["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let report = without_colors(&traceback.join("\n"));
    let line = marked_line(&report).or_else(|| REPORT.captures(&report)?[1].parse().ok());
    let what = if value.contains("Subprocess terminated") {
        "ended the kernel's process: all variables are lost"
    } else if line.is_some() || report.contains("error") {
        "does not compile"
    } else {
        "failed"
    };
    let more = if count > 1 { format!("\n({} more errors)", count - 1) } else { String::new() };
    // The report shows the marked lines; without it, the message has to do.
    let message = if line.is_some() { report.trim_end().to_string() } else { value.trim().to_string() };
    Failure { what: what.to_string(), line, message: message + &more }
}

/// The first line of the cell that is marked in a report.
fn marked_line(report: &str) -> Option<usize> {
    let mut number = None;
    for line in report.lines() {
        if let Some(captures) = NUMBERED.captures(line) {
            number = captures[1].parse().ok();
        } else if number.is_some() && line.contains(['┬', '─', '^']) {
            return number;
        }
    }
    None
}

/// The first lines of an error, up to five, without its backtrace.
fn first_lines(printed: &str) -> String {
    let own = printed.lines().filter(|line| !FRAME.is_match(line) && !line.trim().is_empty());
    let lines: Vec<&str> = own.take(5).collect();
    if lines.is_empty() { "the error has no message".to_string() } else { lines.join("\n") }
}

/// `text` without color codes.
pub fn without_colors(text: &str) -> String {
    static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;]*[A-Za-z]").expect("valid"));
    CODE.replace_all(text, "").into_owned()
}

/// Whether a line belongs to a backtrace.
pub fn is_backtrace(line: &str) -> bool {
    FRAME.is_match(line) || line == "stack backtrace:" || line.starts_with("note: Some details are omitted")
}

/// The last lines of a dying program, up to five, without backtraces and names of compiled crates.
pub fn last_words(log: &[String]) -> String {
    let end = log.iter().position(|line| line == "Stack backtrace:").unwrap_or(log.len());
    let is_chatter = |line: &&String| {
        line.trim().is_empty()
            || line.trim_start().starts_with("Compiling ")
            || line.starts_with("No configuration file")
    };
    let words: Vec<&str> = log[..end].iter().filter(|line| !is_chatter(line)).map(String::as_str).collect();
    words[words.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stderr(text: &str) -> Vec<Value> {
        vec![json!({"output_type": "stream", "name": "stderr", "text": text})]
    }

    fn cell<'a>(source: &'a str, outputs: &'a [Value]) -> Cell<'a> {
        Cell { source, raises: false, compiled: "", status: "ok", outputs }
    }

    fn panicked(message: &str) -> Option<Ended> {
        Some(Ended::Panicked { message: message.to_string() })
    }

    fn stopped(file: &str, line: usize, message: &str) -> Option<Ended> {
        Some(Ended::Stopped { file: file.to_string(), line, message: message.to_string() })
    }

    /// A library whose function holds these lines from line 5 on.
    fn library(items: &str, lines: &str) -> String {
        format!("{items}\n{}7(\nx) {{\n{lines}\n}}\n{}\n", report::FUNCTION, report::ADDED)
    }

    #[test]
    fn of_several_panics_the_one_that_ended_the_cell_is_placed() {
        let source = "let a = vec![1, 2];\nlet i = 5;\na[i];\nquiet(|| b[i]);";
        let hook =
            |line, message| format!("\nthread '<unnamed>' (1) panicked at ctx/src/lib.rs:{line}:2:\n{message}\n");
        let printed = hook(8, "caught") + &hook(7, "index out of bounds: the len is 2") + &hook(8, "of a thread");
        let outputs = stderr(&(printed + "stack backtrace:\n   0: __rustc::rust_begin_unwind\n"));
        let compiled = library("mod x {}", "let a = vec![1, 2];\nlet i = 5;\na[i];\nquiet(|| b[i]);");
        let cell = Cell { compiled: &compiled, ..cell(source, &outputs) };
        let failure = cell.failure(panicked("index out of bounds: the len is 2")).unwrap();
        let message = "index out of bounds: the len is 2".to_string();
        assert_eq!(failure, Failure { what: "panicked".to_string(), line: Some(3), message });
        assert_eq!(cell.failure(panicked("said by no hook")).unwrap().line, None);
        assert_eq!(cell.failure(Some(Ended::Well)), None, "all three were handled");
    }

    #[test]
    fn a_panic_in_a_crate_names_its_place() {
        let outputs = stderr(
            "thread 'main' panicked at /cargo/candle-core/src/x.rs:10:5:\nboom\nnote: run with `RUST_BACKTRACE=1`\n",
        );
        let failure = cell("go()", &outputs).failure(panicked("boom")).unwrap();
        assert_eq!((failure.line, failure.message.as_str()), (None, "boom\nat /cargo/candle-core/src/x.rs:10"));
    }

    #[test]
    fn a_failed_question_mark_names_its_line_and_its_error() {
        let source = "// does it fit?\nlet s = \"?\"; let t = a.matmul(&b)?;\nprintln!(\"ok?\");";
        let compiled = library("", "let s = \"?\";\nlet t = a.matmul(&b)?;\nprintln!(\"ok?\");");
        let outputs = stderr("step 1\nshape mismatch\n");
        let cell = Cell { compiled: &compiled, ..cell(source, &outputs) };
        let error = "shape mismatch in matmul, lhs: [2, 3], rhs: [2, 3]\n   0: candle_core::error::Error::bt\n";
        let failure = cell.failure(stopped("ctx/src/lib.rs", 6, error)).unwrap();
        assert_eq!((failure.what.as_str(), failure.line), ("stopped at a `?`", Some(2)));
        assert_eq!(failure.message, "shape mismatch in matmul, lhs: [2, 3], rhs: [2, 3]");
        assert_eq!(cell.failure(stopped("ctx/src/lib.rs", 6, "")).unwrap().message, "the error has no message");
    }

    #[test]
    fn equal_lines_are_told_apart_by_their_order() {
        let line = |source: &str, items: &str, statements: &str, number| {
            Cell { compiled: &library(items, statements), ..cell(source, &[]) }.line_of(number)
        };
        assert_eq!(line("go()?;\nwait();\ngo()?;", "", "go()?;\nwait();\ngo()?;", 7), Some(3));
        assert_eq!(line("let a = f()?; let b = f()?;\nf()?;", "", "let a = f()?;\nlet b = f()?;\nf()?;", 6), Some(1));
        // The first is in an item of the same cell.
        assert_eq!(line("fn f() {\ngo()?;\n}\ngo()?;", "fn f() { go()?; }", "go()?;", 5), None);
        assert_eq!(line("fn f() { one() }\ntwo();", "fn f() { one() }", "two();", 1), Some(1));
        // An item of an earlier cell is not this one's.
        assert_eq!(line("f()", "fn f() { panic!() }", "f()", 1), None);
    }

    #[test]
    fn what_a_cell_prints_is_no_failure() {
        let source = "let m: i32 = dbg!(\"6\".parse::<i32>()?);";
        for printed in ["[ctx/src/lib.rs:106:14] \"6\".parse::<i32>()? = 6\n", "thread 'x' panicked at a:1:1:\nno\n"] {
            let outputs = stderr(printed);
            assert_eq!(cell(source, &outputs).failure(Some(Ended::Well)), None);
        }
        assert_eq!(cell(":help", &[]).failure(None), None);
    }

    #[test]
    fn a_cell_that_is_there_to_fail_must_fail() {
        let raises = Cell { raises: true, ..cell("1 + 1", &[]) };
        assert_eq!(raises.failure(panicked("no")), None);
        assert_eq!(raises.failure(stopped("ctx/src/lib.rs", 1, "no")), None);
        let error = [json!({"output_type": "error", "evalue": "mismatched types", "traceback": []})];
        assert_eq!(Cell { status: "error", outputs: &error, ..raises }.failure(None), None);
        for ended in [Some(Ended::Well), None] {
            let failure = raises.failure(ended).unwrap();
            assert_eq!(failure.what, "did not fail");
            assert!(failure.message.contains("`raises-exception`"), "{}", failure.message);
        }
    }

    #[test]
    fn a_cell_without_a_clear_end_fails_whatever_its_tags() {
        for raises in [false, true] {
            let unclear = Some(Ended::Unclear("it ends in another way".to_string()));
            let failure = Cell { raises, ..cell("1", &[]) }.failure(unclear).unwrap();
            assert!(failure.message.contains("it ends in another way\nevcxr_jupyter 0.22"), "{}", failure.message);
        }
    }

    #[test]
    fn colors_go() {
        assert_eq!(without_colors("\u{1b}[38;5;246m│\u{1b}[0m x"), "│ x");
    }

    #[test]
    fn a_compile_error_names_its_line() {
        let error = json!({"output_type": "error", "ename": "Error", "evalue": "mismatched types", "traceback": [
            "\u{1b}[31m[E0308] Error:\u{1b}[0m mismatched types",
            "   \u{1b}[38;5;246m╭─[\u{1b}[0m command_8:1:1 \u{1b}[38;5;246m]\u{1b}[0m",
            "   │",
            " 1 │ let a = 1;",
            " 2 │ let x: u32 = \"a\";",
            "   │        ─┬─   ─┬─",
        ]});
        let failure = Cell { status: "error", ..cell("let a = 1;\nlet x: u32 = \"a\";", &[error.clone(), error]) }
            .failure(None)
            .unwrap();
        assert_eq!((failure.what.as_str(), failure.line), ("does not compile", Some(2)));
        assert!(failure.message.starts_with("[E0308] Error: mismatched types"), "{}", failure.message);
        assert!(failure.message.ends_with("(1 more errors)"));
    }

    #[test]
    fn a_dead_process_and_a_mute_error_are_found() {
        let failed = |outputs: &[Value]| Cell { status: "error", ..cell("x", outputs) }.failure(None).unwrap();
        let error = json!({"output_type": "error", "ename": "Error", "traceback": [],
            "evalue": "Subprocess terminated with status: signal: 11 (SIGSEGV)"});
        assert!(failed(&[error]).what.contains("variables are lost"));
        assert!(failed(&[]).message.contains("without a message"));
        let without_marks =
            json!({"output_type": "error", "evalue": "no", "traceback": ["[E0001] Error: no", "╭─[ command_8:3:1 ]"]});
        assert_eq!(failed(&[without_marks]).line, Some(3));
    }
}
