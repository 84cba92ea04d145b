//! Whether a cell failed, and at which line.
//!
//! The kernel's [`front`](crate::kernel::front) says both, in the error output.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::notebook::RAISES;

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

/// An executed cell.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Whether it is meant to fail.
    pub raises: bool,
    /// Jupyter's status.
    pub status: &'a str,
    pub outputs: &'a [Value],
}

/// The line on which the statement with a compile error begins: `command_3:2:5`.
static REPORT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"command_\d+:(\d+):\d+").expect("valid"));
/// A line of the cell in the report of a compile error: ` 2 │ let y: u32 = "a";`.
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*(\d+) │").expect("valid"));
/// The first line of any other error.
static PLACED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w+ in line (\d+): ").expect("valid"));

impl Cell<'_> {
    /// How the cell failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        let failure = |what: &str, message| Failure { what: what.to_string(), line: None, message };
        let errors: Vec<&Value> = self.outputs.iter().filter(|output| output["output_type"] == "error").collect();
        let raised = match errors.first() {
            Some(first) => Some(from_error_output(first, errors.len())),
            None => (self.status != "ok")
                .then(|| failure("failed", format!("the kernel answered {:?} without a message", self.status))),
        };
        match (self.raises, raised) {
            (false, raised) => raised,
            (true, Some(_)) => None,
            (true, None) => {
                let message =
                    format!("it is tagged `{RAISES}`, so it is meant to fail; remove the tag if it should pass");
                Some(failure("did not fail", message))
            }
        }
    }
}

fn from_error_output(error: &Value, count: usize) -> Failure {
    let value = without_colors(error["evalue"].as_str().unwrap_or("no message"));
    let traceback: Vec<&str> = error["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let report = without_colors(&traceback.join("\n"));
    let placed = |captures: regex::Captures<'_>| captures[1].parse().ok();
    let line = PLACED.captures(&report).and_then(placed);
    let what = match error["ename"].as_str() {
        Some("Error") if line.is_some() => "stopped at a `?`",
        Some("Panic") => "panicked",
        Some("CompileError") => "does not compile",
        Some("Interrupted") => "was interrupted",
        Some("ProcessEnded") => "ended the kernel's process: all variables are lost",
        _ => "failed",
    };
    let (line, message) = match line {
        Some(line) => (Some(line), value.trim().to_string()),
        // The report shows the marked lines.
        None => match marked_line(&report).or_else(|| REPORT.captures(&report).and_then(placed)) {
            Some(line) => (Some(line), report.trim_end().to_string()),
            None => (None, value.trim().to_string()),
        },
    };
    let more = if count > 1 { format!("\n({} more errors)", count - 1) } else { String::new() };
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

/// `text` without color codes.
pub fn without_colors(text: &str) -> String {
    static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;]*[A-Za-z]").expect("valid"));
    CODE.replace_all(text, "").into_owned()
}

/// The last lines of a dying program, up to five, without backtraces and names of compiled crates.
pub fn last_words(log: &[String]) -> String {
    let end = log.iter().position(|line| line == "Stack backtrace:").unwrap_or(log.len());
    let is_chatter = |line: &&String| {
        line.trim().is_empty()
            || line.trim_start().starts_with("Compiling ")
            || line.starts_with("Loading startup configuration")
    };
    let words: Vec<&str> = log[..end].iter().filter(|line| !is_chatter(line)).map(String::as_str).collect();
    words[words.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure(raises: bool, status: &str, outputs: &[Value]) -> Option<Failure> {
        Cell { raises, status, outputs }.failure()
    }

    fn error(name: &str, message: &str, traceback: &[&str]) -> Value {
        json!({"output_type": "error", "ename": name, "evalue": message, "traceback": traceback})
    }

    #[test]
    fn a_panic_and_a_failed_question_mark_name_their_line_and_their_error() {
        let shown = ["\u{1b}[31mPanic\u{1b}[39m in line 3: out of bounds", "   3 │ a[i];"];
        let panicked = failure(false, "error", &[error("Panic", "out of bounds", &shown)]).unwrap();
        let message = "out of bounds".to_string();
        assert_eq!(panicked, Failure { what: "panicked".to_string(), line: Some(3), message });
        let elsewhere = failure(false, "error", &[error("Error", "no", &["Error: no", "at x.rs:10"])]).unwrap();
        assert_eq!((elsewhere.what.as_str(), elsewhere.line), ("failed", None));
    }

    #[test]
    fn what_a_cell_prints_is_no_failure() {
        let printed = json!({"output_type": "stream", "name": "stderr", "text": "thread 'x' panicked at a:1:1:\nno\n"});
        assert_eq!(failure(false, "ok", &[printed]), None);
    }

    #[test]
    fn a_cell_that_is_there_to_fail_must_fail() {
        assert_eq!(failure(true, "error", &[error("Panic", "no", &[])]), None);
        let passed = failure(true, "ok", &[]).unwrap();
        assert_eq!(passed.what, "did not fail");
        assert!(passed.message.contains("`raises-exception`"), "{}", passed.message);
    }

    #[test]
    fn colors_go() {
        assert_eq!(without_colors("\u{1b}[38;5;246m│\u{1b}[0m x"), "│ x");
    }

    #[test]
    fn a_compile_error_names_its_line() {
        let shown = [
            "\u{1b}[31m[E0308] Error:\u{1b}[0m mismatched types",
            "   ╭─[ command_8:1:1 ]",
            "   │",
            " 1 │ let a = 1;",
            " 2 │ let x: u32 = \"a\";",
            "   │        ─┬─   ─┬─",
        ];
        let one = error("CompileError", "mismatched types", &shown);
        let failure = failure(false, "error", &[one.clone(), one]).unwrap();
        assert_eq!((failure.what.as_str(), failure.line), ("does not compile", Some(2)));
        assert!(failure.message.starts_with("[E0308] Error: mismatched types"), "{}", failure.message);
        assert!(failure.message.ends_with("(1 more errors)"));
    }

    #[test]
    fn a_dead_process_and_a_mute_error_are_found() {
        let ended = error("ProcessEnded", "Subprocess terminated with status: signal: 11 (SIGSEGV)", &[]);
        assert!(failure(false, "error", &[ended]).unwrap().what.contains("variables are lost"));
        assert!(failure(false, "error", &[]).unwrap().message.contains("without a message"));
        let without_marks = error("CompileError", "no", &["[E0001] Error: no", "╭─[ command_8:3:1 ]"]);
        assert_eq!(failure(false, "error", &[without_marks]).unwrap().line, Some(3));
    }
}
