//! Whether a cell failed, and where.
//!
//! Jupyter's status does not tell: evcxr answers "ok" to a panic and to an error that left the cell through `?`, and
//! says so on standard error only. What it prints was read in evcxr 0.22's sources: a panic prints what Rust's default
//! hook prints, from the library `ctx/src/lib.rs` that the cell became; a failed `?` prints the error by itself.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::notebook::source::{question_marks, without_colours};

/// How a cell failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened: "does not compile", "panicked".
    pub what: String,
    /// The line in the cell, counted from 1, where it is known.
    pub line: Option<usize>,
    /// The error, a few lines at most.
    pub message: String,
}

impl Failure {
    /// The same, and whether the cell had passed once before.
    pub fn when(self, again: bool) -> Self {
        let what = if again { format!("{} when executed a second time", self.what) } else { self.what };
        Self { what, ..self }
    }
}

/// Where a compile error's report names the line on which the statement begins: `command_3:2:5`.
static REPORT: LazyLock<Regex> = LazyLock::new(|| regex(r"command_\d+:(\d+):\d+"));
/// A line of the cell in such a report: ` 2 │ let y: u32 = "a";`.
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*(\d+) │"));
/// What Rust's panic hook prints; newer versions add the thread's number.
static PANIC: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?m)^thread '[^']*'(?: \(\d+\))? panicked at (.+):(\d+):\d+:\n"));
/// Lines of a backtrace, which candle's errors carry too.
static FRAME: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s+(\d+: |at )"));
/// evcxr prints this where a later cell gives a variable another type; that is allowed.
static REDEFINED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^The type of the variable \w+ was redefined, so was lost\.$"));

fn regex(pattern: &str) -> Regex {
    // Constant patterns; a wrong one fails the first test.
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// How the cell with this `source` failed, if it did. `status` is Jupyter's, `outputs` the cell's; `compiled` is the
/// library's source that the cell became, in which a panic names its line.
pub fn diagnose(source: &str, status: &str, outputs: &[Value], compiled: Option<&str>) -> Option<Failure> {
    let errors: Vec<&Value> = outputs.iter().filter(|output| output["output_type"] == "error").collect();
    if let Some(first) = errors.first() {
        return Some(from_error_output(first, errors.len()));
    }
    let printed: String =
        outputs.iter().filter(|output| output["name"] == "stderr").map(|output| text(&output["text"])).collect();
    if let Some(failure) = from_panic(source, &printed, compiled) {
        return Some(failure);
    }
    let places = question_marks(source);
    let message = first_lines(&printed);
    if !places.is_empty() && !printed.is_empty() && !printed.lines().all(|line| REDEFINED.is_match(line)) {
        let line = Some(places[0]).filter(|first| places.iter().all(|place| place == first));
        return Some(Failure { what: "stopped at a `?`".to_string(), line, message });
    }
    (status != "ok").then(|| Failure {
        what: "failed".to_string(),
        line: None,
        message: format!("the kernel answered {status:?} and said nothing more"),
    })
}

/// A text of a notebook: one string, or a list of lines.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn from_error_output(error: &Value, count: usize) -> Failure {
    let value = without_colours(error["evalue"].as_str().unwrap_or("no message"));
    let traceback: Vec<&str> = error["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let report = without_colours(&traceback.join("\n"));
    let line = marked_line(&report).or_else(|| REPORT.captures(&report)?[1].parse().ok());
    let what = if value.contains("Subprocess terminated") {
        "ended the kernel's process: all variables are lost"
    } else if line.is_some() || report.contains("error") {
        "does not compile"
    } else {
        "failed"
    };
    let more = if count > 1 { format!("\n({} more errors)", count - 1) } else { String::new() };
    // The report shows the lines with their marks; without one the message has to do.
    let message = if line.is_some() { report.trim_end().to_string() } else { value.trim().to_string() };
    Failure { what: what.to_string(), line, message: message + &more }
}

/// The first line of the cell under which a report has a mark.
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

fn from_panic(source: &str, printed: &str, compiled: Option<&str>) -> Option<Failure> {
    let captures = PANIC.captures(printed)?;
    let (file, number) = (&captures[1], captures[2].parse::<usize>().unwrap_or(0));
    let rest = &printed[captures.get(0)?.end()..];
    let message: Vec<&str> = rest
        .lines()
        .take_while(|line| *line != "stack backtrace:" && !line.starts_with("note: run with `RUST_BACKTRACE"))
        .collect();
    let in_the_cell = file.ends_with("ctx/src/lib.rs") || file == "src/lib.rs";
    let line = compiled
        .filter(|_| in_the_cell)
        .and_then(|compiled| compiled.lines().nth(number.checked_sub(1)?))
        .and_then(|generated| line_of(source, generated));
    let place = if in_the_cell { String::new() } else { format!("\nat {file}:{number}") };
    Some(Failure { what: "panicked".to_string(), line, message: message.join("\n").trim().to_string() + &place })
}

/// The line of the cell that a generated line came from: evcxr keeps the text of statements, and may set code of its
/// own before or after them. Nothing where two lines fit.
fn line_of(source: &str, generated: &str) -> Option<usize> {
    let fits = |line: &str| {
        let line = line.trim();
        !line.is_empty() && (generated.contains(line) || line.contains(generated.trim()))
    };
    // A line that is part of another (`}`) fits often; the longest is the one.
    let fitting: Vec<(usize, usize)> = source
        .lines()
        .enumerate()
        .filter(|(_, line)| fits(line))
        .map(|(index, line)| (line.trim().len(), index + 1))
        .collect();
    let longest = fitting.iter().map(|(length, _)| *length).max()?;
    let mut best = fitting.iter().filter(|(length, _)| *length == longest);
    match (best.next(), best.next()) {
        (Some((_, line)), None) => Some(*line),
        _ => None,
    }
}

/// An error's own lines: without the backtrace behind it, five at most.
fn first_lines(printed: &str) -> String {
    let own = printed.lines().filter(|line| !FRAME.is_match(line) && !REDEFINED.is_match(line));
    let lines: Vec<&str> = own.filter(|line| !line.trim().is_empty()).take(5).collect();
    if lines.is_empty() { "the error has no text".to_string() } else { lines.join("\n") }
}

/// Whether a line belongs to a backtrace.
pub fn is_backtrace(line: &str) -> bool {
    FRAME.is_match(line) || line == "stack backtrace:" || line.starts_with("note: Some details are omitted")
}

/// What a dying program said last, five lines at most; without crates that were compiled and backtraces.
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

    #[test]
    fn a_panic_is_found_though_the_kernel_says_ok() {
        let source = "let a = vec![1, 2];\nlet i = 5;\na[i];";
        let printed = "\nthread '<unnamed>' (11925) panicked at ctx/src/lib.rs:3:2:\nindex out of bounds: the len is 2\n\
            stack backtrace:\n   0: __rustc::rust_begin_unwind\n";
        let compiled = "mod x {}\nlet a = vec![1, 2];\n(a[i];).evcxr_display();\n";
        let failure = diagnose(source, "ok", &stderr(printed), Some(compiled)).unwrap();
        assert_eq!(failure.what, "panicked");
        assert_eq!(failure.line, Some(3));
        assert_eq!(failure.message, "index out of bounds: the len is 2");
    }

    #[test]
    fn a_panic_in_a_crate_names_its_place() {
        let printed =
            "thread 'main' panicked at /cargo/candle-core/src/x.rs:10:5:\nboom\nnote: run with `RUST_BACKTRACE=1`\n";
        let failure = diagnose("go()", "ok", &stderr(printed), None).unwrap();
        assert_eq!((failure.line, failure.message.as_str()), (None, "boom\nat /cargo/candle-core/src/x.rs:10"));
    }

    #[test]
    fn a_failed_question_mark_is_found_though_the_kernel_says_ok() {
        let source = "// does it fit?\nlet t = a.matmul(&b)?;\nprintln!(\"ok?\");";
        let printed = "shape mismatch in matmul, lhs: [2, 3], rhs: [2, 3]\n   0: candle_core::error::Error::bt\n";
        let failure = diagnose(source, "ok", &stderr(printed), None).unwrap();
        assert_eq!(failure.line, Some(2));
        assert_eq!(failure.message, "shape mismatch in matmul, lhs: [2, 3], rhs: [2, 3]");
        let two = diagnose("a()?;\nb()?;", "ok", &stderr("no\n"), None).unwrap();
        assert_eq!(two.line, None, "either line may have failed");
        let mute = diagnose("a()?;", "ok", &stderr("\n"), None).unwrap();
        assert_eq!(mute.message, "the error has no text");
    }

    #[test]
    fn what_is_no_failure_is_none() {
        assert_eq!(diagnose("println!(\"hi\")", "ok", &[], None), None);
        assert_eq!(diagnose("eprintln!(\"a note\")", "ok", &stderr("a note\n"), None), None);
        let redefined = "The type of the variable x was redefined, so was lost.\n";
        assert_eq!(diagnose("let x = f()?;", "ok", &stderr(redefined), None), None);
        let stdout = json!({"output_type": "stream", "name": "stdout", "text": "thread 'x' panicked at a:1:1:\n"});
        assert_eq!(diagnose("say()", "ok", &[stdout], None), None);
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
        let failure = diagnose("let a = 1;\nlet x: u32 = \"a\";", "error", &[error.clone(), error], None).unwrap();
        assert_eq!((failure.what.as_str(), failure.line), ("does not compile", Some(2)));
        assert!(failure.message.starts_with("[E0308] Error: mismatched types"), "{}", failure.message);
        assert!(failure.message.ends_with("(1 more errors)"));
    }

    #[test]
    fn a_dead_process_and_a_mute_error_are_found() {
        let error = json!({"output_type": "error", "ename": "Error", "traceback": [],
            "evalue": "Subprocess terminated with status: signal: 11 (SIGSEGV)"});
        assert!(diagnose("crash()", "error", &[error], None).unwrap().what.contains("variables are lost"));
        assert!(diagnose("x", "error", &[], None).is_some());
        let without_marks =
            json!({"output_type": "error", "evalue": "no", "traceback": ["[E0001] Error: no", "╭─[ command_8:3:1 ]"]});
        assert_eq!(diagnose("x", "error", &[without_marks], None).unwrap().line, Some(3));
    }
}
