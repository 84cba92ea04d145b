//! How a cell ended, as Jupyter's error output.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::kernel::instrument::FUNCTION;

/// A cell's error: its kind, its message, and what Jupyter shows, line by line.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub name: String,
    pub message: String,
    pub shown: Vec<String>,
}

/// The kinds of failure, as Jupyter's `ename`.
pub const PANIC: &str = "Panic";
pub const ERROR: &str = "Error";
pub const COMPILE_ERROR: &str = "CompileError";
pub const INTERRUPTED: &str = "Interrupted";
pub const PROCESS_ENDED: &str = "ProcessEnded";

/// What an interrupted operation's error begins with.
const INTERRUPT: &str = "interrupted: ";

impl Failure {
    pub fn new(name: &str, message: &str) -> Self {
        Self { name: name.to_string(), message: message.to_string(), shown: vec![red(name) + ": " + message] }
    }

    /// For an event "panicked" or "stopped" of a cell with this source, compiled as `compiled`. `None` for other events.
    pub fn of_event(kind: &str, payload: &str, source: &str, compiled: &str) -> Option<Self> {
        let (place, message) = payload.split_once('\n')?;
        let (name, message) = match (kind, message.strip_prefix(INTERRUPT)) {
            ("panicked", _) => (PANIC, message),
            ("stopped", Some(message)) => (INTERRUPTED, message),
            ("stopped", None) => (ERROR, message),
            _ => return None,
        };
        let (file, number) = place.rsplit_once(':').unwrap_or((place, ""));
        let own = file.ends_with("ctx/src/lib.rs") || file == "src/lib.rs";
        let line = number.parse().ok().filter(|_| own).and_then(|number| line_of(source, compiled, number));
        let head = match line {
            Some(line) => format!("{} in line {line}: ", red(name)),
            None => format!("{}: ", red(name)),
        };
        let mut shown = vec![head + message];
        match line {
            Some(line) => shown.push(format!("{line:>4} │ {}", source.lines().nth(line - 1).unwrap_or_default())),
            None if !own && !place.is_empty() => shown.push(format!("at {place}")),
            None => {}
        }
        Some(Self { name: name.to_string(), message: message.to_string(), shown })
    }

    /// For an error output of evcxr's own.
    pub fn of_evcxr(content: &Value) -> Self {
        let message = recolor(content["evalue"].as_str().unwrap_or_default());
        let lines = content["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let shown: Vec<String> = lines.map(recolor).collect();
        let ended = message.contains("Subprocess terminated");
        let compiled = shown.len() > 1 || shown.iter().any(|line| line.contains('\u{1b}'));
        let name = if ended {
            PROCESS_ENDED
        } else if compiled {
            COMPILE_ERROR
        } else {
            ERROR
        };
        Self { name: name.to_string(), message, shown }
    }

    /// The content of the error output, and of the reply after it.
    pub fn content(&self) -> Value {
        json!({"ename": self.name, "evalue": self.message, "traceback": self.shown})
    }
}

fn red(text: &str) -> String {
    format!("\u{1b}[31m{text}\u{1b}[39m")
}

/// `text` with colors that Jupyter adapts to its theme: evcxr's shades of gray and violet can't be read on one of the two.
/// Each change of color stands once, where evcxr colors every letter.
fn recolor(text: &str) -> String {
    static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("\u{1b}\\[([0-9;]*)m").expect("valid"));
    const NONE: &str = "39";
    let (mut out, mut shown, mut wanted, mut at) = (String::new(), NONE, NONE, 0);
    let mut take = |out: &mut String, part: &str, wanted: &'static str| {
        // A blank looks the same in every color.
        if shown != wanted && !part.trim().is_empty() {
            *out += &format!("\u{1b}[{wanted}m");
            shown = wanted;
        }
        *out += part;
    };
    for code in CODE.captures_iter(text) {
        let whole = code.get(0).map_or(at..at, |whole| whole.range());
        take(&mut out, &text[at..whole.start], wanted);
        at = whole.end;
        wanted = match code[1].strip_prefix("38;5;").map(str::parse::<u8>) {
            Some(Ok(shade)) if shade < 232 => "35",
            None if code[1].ends_with("31") || code[1].ends_with("91") => "31",
            _ => NONE,
        };
    }
    take(&mut out, &text[at..], wanted);
    if shown != NONE { out + "\u{1b}[39m" } else { out }
}

/// The cell's line that became this line of the library. evcxr keeps the text of items and statements, and begins each on a
/// line of its own. `None` if the text occurs more than once and its line is ambiguous.
fn line_of(source: &str, compiled: &str, number: usize) -> Option<usize> {
    let line = compiled.lines().nth(number.checked_sub(1)?)?;
    let text = line.trim();
    if text.is_empty() {
        return None;
    }
    let in_source: Vec<usize> = source.match_indices(text).map(|(at, _)| at).collect();
    let at = if in_source.len() == 1 && compiled.matches(text).count() == 1 {
        in_source[0]
    } else {
        // Statements stay in order. If an item contains the same text, the source has more of them.
        let line_at = line.as_ptr() as usize - compiled.as_ptr() as usize;
        let begin = compiled.rfind(FUNCTION)?;
        let in_function: Vec<usize> = compiled[begin..].match_indices(text).map(|(at, _)| begin + at).collect();
        let place = in_function.iter().position(|at| (line_at..line_at + line.len()).contains(at))?;
        *in_source.get(place).filter(|_| in_function.len() == in_source.len())?
    };
    Some(source[..at].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library whose function holds these lines from line 5 on.
    fn library(items: &str, lines: &str) -> String {
        format!("{items}\n{FUNCTION}7(\nx) {{\n{lines}\n}}\n")
    }

    #[test]
    fn a_panic_and_a_failed_question_mark_name_their_line() {
        let source = "// does it fit?\nlet s = \"?\"; let t = a.matmul(&b)?;\nprintln!(\"ok?\");";
        let compiled = library("", "let s = \"?\";\nlet t = a.matmul(&b)?;\nprintln!(\"ok?\");");
        let failure = |kind: &str, payload: &str| Failure::of_event(kind, payload, source, &compiled);
        let stopped = failure("stopped", "ctx/src/lib.rs:6\nshape mismatch\nin matmul").unwrap();
        assert_eq!((stopped.name.as_str(), stopped.message.as_str()), (ERROR, "shape mismatch\nin matmul"));
        assert_eq!(stopped.shown[0], "\u{1b}[31mError\u{1b}[39m in line 2: shape mismatch\nin matmul");
        assert_eq!(stopped.shown[1], "   2 │ let s = \"?\"; let t = a.matmul(&b)?;");
        let elsewhere = failure("panicked", "/cargo/candle-core/src/x.rs:10\nboom").unwrap();
        assert_eq!(elsewhere.shown, ["\u{1b}[31mPanic\u{1b}[39m: boom", "at /cargo/candle-core/src/x.rs:10"]);
        assert_eq!(failure("panicked", "\nsaid by no hook").unwrap().shown.len(), 1);
        let interrupted = failure("stopped", "ctx/src/lib.rs:6\ninterrupted: it goes on").unwrap();
        assert_eq!((interrupted.name.as_str(), interrupted.message.as_str()), (INTERRUPTED, "it goes on"));
        assert_eq!(failure("ended", ""), None);
    }

    #[test]
    fn equal_lines_are_told_apart_by_their_order() {
        let line =
            |source: &str, items: &str, statements: &str, number| line_of(source, &library(items, statements), number);
        assert_eq!(line("go()?;\nwait();\ngo()?;", "", "go()?;\nwait();\ngo()?;", 7), Some(3));
        assert_eq!(line("let a = f()?; let b = f()?;\nf()?;", "", "let a = f()?;\nlet b = f()?;\nf()?;", 6), Some(1));
        // The first is in an item of the same cell.
        assert_eq!(line("fn f() {\ngo()?;\n}\ngo()?;", "fn f() { go()?; }", "go()?;", 5), None);
        assert_eq!(line("fn f() { one() }\ntwo();", "fn f() { one() }", "two();", 1), Some(1));
        // An item of an earlier cell is not this one's.
        assert_eq!(line("f()", "fn f() { panic!() }", "f()", 1), None);
    }

    #[test]
    fn evcxrs_errors_get_their_kind_and_readable_colors() {
        let failure =
            |evalue: &str, traceback: &[&str]| Failure::of_evcxr(&json!({"evalue": evalue, "traceback": traceback}));
        let letters = "\u{1b}[38;5;249m1 │\u{1b}[0m \u{1b}[38;5;54mx\u{1b}[0m\u{1b}[38;5;54my\u{1b}[0m;";
        let compile = failure("mismatched types", &["\u{1b}[31m[E0308]\u{1b}[0m", letters]);
        assert_eq!(compile.name, COMPILE_ERROR);
        assert_eq!(compile.shown, ["\u{1b}[31m[E0308]\u{1b}[39m", "1 │ \u{1b}[35mxy\u{1b}[39m;"]);
        assert_eq!(failure("Subprocess terminated with status: signal: 9", &["x"]).name, PROCESS_ENDED);
        assert_eq!(failure("Unrecognised command :x", &["Unrecognised command :x"]).name, ERROR);
    }
}
