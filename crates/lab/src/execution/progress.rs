//! What the terminal shows while a notebook runs: each cell's number and first line, its output, and its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::failure::without_colors;
use crate::steps::seconds;

/// A cell's first line is cut here, so that it fits into one line of the terminal.
const WIDTH: usize = 90;

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    /// The crate that is being compiled, in a line that is overwritten; nothing without a terminal.
    Crates,
    /// Every cell and its output.
    Cells,
}

/// The progress of one notebook.
pub struct Progress {
    cells: usize,
    shown: Shown,
    started: Instant,
}

impl Progress {
    /// For a notebook with this number of code cells.
    pub fn new(cells: usize, shown: Shown) -> Self {
        Self { cells, shown, started: Instant::now() }
    }

    fn say(&self, line: &str) {
        if self.shown == Shown::Cells {
            println!("{line}");
        }
    }

    /// The kernel answers.
    pub fn ready(&self, took: Duration) {
        self.say(&format!("  kernel ready after {}", seconds(took)));
    }

    /// A cell begins.
    pub fn cell(&self, number: usize, source: &str) {
        let elapsed = self.started.elapsed().as_secs();
        let width = self.cells.to_string().len();
        let place = format!("[{number:width$}/{}] {:2}:{:02}", self.cells, elapsed / 60, elapsed % 60);
        self.say(&format!("{place}  {}", first_line(source)));
    }

    /// The cell printed.
    pub fn printed(&self, stream: &str, text: &str) {
        let bar = if stream == "stderr" { "!" } else { "│" };
        // Backtraces through the kernel help nobody; the executed copy has them.
        let is_noise = |line: &str| stream == "stderr" && line.trim().is_empty();
        for line in text.lines().filter(|line| !is_noise(line)) {
            self.say(&format!("    {bar} {line}"));
        }
    }

    /// The cell showed something.
    pub fn shown(&self, types: &[String]) {
        self.say(&format!("    │ [shows {}]", types.join(", ")));
    }

    /// The kernel compiles a crate.
    pub fn log(&self, line: &str) {
        if let Some(name) = without_colors(line).trim().strip_prefix("Compiling ") {
            self.say(&format!("    compiling {name}"));
            if self.shown == Shown::Crates && std::io::stdout().is_terminal() {
                // Overwrites a longer name.
                print!("\r  compiling {name:<60}\r");
                let _ = std::io::stdout().flush();
            }
        }
    }

    /// The cell ended.
    pub fn end(&self, took: Duration) {
        self.say(&format!("    {}", seconds(took)));
    }

    /// The cell was executed once more.
    pub fn again(&self, took: Duration) {
        self.say(&format!("    {} again", seconds(took)));
    }
}

fn first_line(source: &str) -> String {
    let line = source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim_end();
    if line.chars().count() <= WIDTH {
        return line.to_string();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_short_and_not_empty() {
        assert_eq!(first_line("\n\nlet a = 1;\nlet b = 2;"), "let a = 1;");
        assert_eq!(first_line(&"é".repeat(200)).chars().count(), WIDTH);
    }
}
