//! A cell's Rust text, read just as far as this command needs: strings and comments told from code.

use std::sync::LazyLock;

use regex::Regex;

/// The lines, counted from 1, on which an error can leave the code through the operator `?`.
pub fn question_marks(source: &str) -> Vec<usize> {
    let code = blank_strings_and_comments(source);
    let mut lines = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices('?') {
            // `?Sized` follows a colon or a plus; the operator follows an expression, maybe on the line before.
            let before = line[..at].trim_end().chars().next_back();
            if !matches!(before, Some(':' | '+' | '<' | ',')) {
                lines.push(index + 1);
            }
        }
    }
    lines
}

/// `source` with the insides of strings, characters and comments blanked; every line and column stays in its place.
fn blank_strings_and_comments(source: &str) -> String {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r##"(?s)//[^\n]*|/\*.*?\*/|r#+".*?"#+|r"[^"]*"|"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\[^\n]{1,8}?)'"##;
        // A constant pattern; a wrong one fails the first test.
        Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
    });
    let blank = |captures: &regex::Captures<'_>| {
        captures[0].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>()
    };
    TOKEN.replace_all(source, blank).into_owned()
}

/// `text` without the terminal's colour codes.
pub fn without_colours(text: &str) -> String {
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("\u{1b}\\[[0-9;]*[A-Za-z]").unwrap_or_else(|error| panic!("{error}")));
    CODE.replace_all(text, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operators_count() {
        let source = "// why?\nlet a = b?;\nlet s = \"?\"; let c = '?'; /* ?\n? */\nfn f<T: ?Sized>(x: &T) {}\n\
            let r = r#\"? \" ?\"#;\nx\n    .y()?\n    .z();\nlet 'a: {}; let q = d?.e?;";
        assert_eq!(question_marks(source), [2, 8, 10, 10]);
    }

    #[test]
    fn colours_go() {
        assert_eq!(without_colours("\u{1b}[38;5;246m│\u{1b}[0m x"), "│ x");
    }
}
