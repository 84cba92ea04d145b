//! Announces steps that take time: what is done, how long it usually takes, how long it took.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A step under way.
#[must_use]
pub struct Step {
    started: Instant,
}

/// Announces a step, and the time it usually takes.
pub fn begin(what: &str, usual: &str) -> Step {
    println!("→ {what} (usually {usual})");
    Step { started: Instant::now() }
}

impl Step {
    /// Prints how long it took.
    pub fn end(self) {
        println!("  done in {}", seconds(self.started.elapsed()));
    }
}

/// A duration for people: `0.4 s`, `12 s`, `2 min 5 s`, `1 h 2 min`.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// Runs a program silently. If it fails, the error has the line of its output that says most, and `advice`.
pub fn run(step: &str, command: &mut Command, advice: &'static str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().map_err(Error::start(name(command), advice))?;
    if output.status.success() {
        return Ok(());
    }
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(Error::step(step, telling_line(&said, &output.status.to_string()), advice))
}

/// Runs a program and returns what it prints. If it fails, the error has all of its standard error, or how it ended if
/// there is none (because it goes to the terminal, for example), and `advice`.
pub fn output(step: &str, command: &mut Command, advice: &'static str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(Error::start(name(command), advice))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| Error::step(step, error.to_string(), advice));
    }
    let reason = match String::from_utf8_lossy(&output.stderr).trim() {
        "" => format!("the program ended with {}", output.status),
        said => said.to_string(),
    };
    Err(Error::step(step, reason, advice))
}

/// Runs a program whose output goes to the terminal.
pub fn show(step: &str, command: &mut Command, advice: &'static str) -> Result<()> {
    let status = command.status().map_err(Error::start(name(command), advice))?;
    if status.success() { Ok(()) } else { Err(Error::step(step, format!("it ended with {status}, see above"), advice)) }
}

fn name(command: &Command) -> std::borrow::Cow<'_, str> {
    command.get_program().to_string_lossy()
}

/// The last line that mentions an error, or else the last line, or `otherwise`.
fn telling_line(said: &str, otherwise: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.to_lowercase().contains("error"));
    error.or_else(|| lines().next_back()).unwrap_or(otherwise).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in [(400, "0.4 s"), (12_300, "12 s"), (125_000, "2 min 5 s"), (3_725_000, "1 h 2 min")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_failed_program_tells_its_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo working; echo ERROR: no matching distribution; echo bye; exit 3"]);
        let error = run("installing", &mut command, "Try again.").unwrap_err().to_string();
        assert_eq!(error, "installing failed: ERROR: no matching distribution\nTry again.");
        assert!(run("sleeping", &mut Command::new("no-such-program"), "").is_err());
    }

    #[test]
    fn what_a_program_prints_is_returned_or_why_it_failed() {
        let shell = |script: &str, stderr: Stdio| {
            output("asking", Command::new("sh").args(["-c", script]).stderr(stderr), "Try again.")
                .map_err(|error| error.to_string())
        };
        assert_eq!(shell("echo a; echo noise >&2; echo b", Stdio::piped()).unwrap(), "a\nb\n");
        let error = shell("echo a; echo one >&2; echo two >&2; exit 3", Stdio::piped()).unwrap_err();
        assert_eq!(error, "asking failed: one\ntwo\nTry again.");
        let error = shell("echo a; echo one >&2; exit 3", Stdio::null()).unwrap_err();
        assert_eq!(error, "asking failed: the program ended with exit status: 3\nTry again.");
        assert!(shell("printf '\\377'", Stdio::piped()).unwrap_err().contains("utf-8"));
    }
}
