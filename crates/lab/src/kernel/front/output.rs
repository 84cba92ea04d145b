//! What a cell writes: text, outputs in evcxr's form, and events of the cell's process.
//!
//! An event is `\x1e`, its kind, a space, the payload's length in bytes, a line end and the payload. `\x1e` (ASCII's record
//! separator) doesn't occur in text.

use serde_json::{Map, Value};

/// The byte before an event.
const MARK: u8 = 0x1e;
/// An event's first line is shorter: a word, and a number of up to 20 digits.
const LONGEST_HEAD: usize = 64;
const BEGIN_CONTENT: &[u8] = b"EVCXR_BEGIN_CONTENT ";
const END_CONTENT: &[u8] = b"\nEVCXR_END_CONTENT\n";
/// An output may be large, but a cell that never ends one must not fill the memory.
const LARGEST_CONTENT: usize = 64 << 20;

/// A part of what a cell wrote.
#[derive(Debug, PartialEq)]
pub enum Piece {
    Text(String),
    /// One output, by MIME type.
    Output(Map<String, Value>),
    Event {
        kind: String,
        payload: String,
    },
}

/// Splits a stream into its pieces.
#[derive(Default)]
pub struct Splitter {
    rest: Vec<u8>,
    /// Whether `rest` begins within a line.
    in_line: bool,
    /// An output whose next MIME type may still come.
    output: Map<String, Value>,
}

impl Splitter {
    /// The pieces that are complete with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.rest.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while let Some((text, special)) = self.next_special() {
            self.take_text(text, &mut pieces);
            match special {
                Special::Event => {
                    let Some(length) = self.event(&mut pieces) else { return pieces };
                    self.rest.drain(..length);
                }
                Special::Output => {
                    let Some(length) = self.output(&mut pieces) else { return pieces };
                    self.rest.drain(..length);
                    self.in_line = false;
                }
            }
        }
        let held = self.beginning_of_special().max(incomplete_utf8(&self.rest));
        self.take_text(self.rest.len() - held, &mut pieces);
        pieces
    }

    /// Whether [`pause`](Self::pause) has nothing to show.
    pub fn holds_nothing(&self) -> bool {
        self.output.is_empty()
    }

    /// The output that has no more parts, if nothing followed it for a while.
    pub fn pause(&mut self) -> Option<Piece> {
        let between = self.rest.is_empty() || self.rest[0] == MARK;
        (between && !self.output.is_empty()).then(|| Piece::Output(std::mem::take(&mut self.output)))
    }

    /// Whatever is left, when nothing more will come.
    pub fn end(&mut self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self.pause().into_iter().collect();
        self.take_text(self.rest.len(), &mut pieces);
        *self = Self::default();
        pieces
    }

    fn take_text(&mut self, length: usize, pieces: &mut Vec<Piece>) {
        if length > 0 {
            self.finish_output(pieces);
            let text: Vec<u8> = self.rest.drain(..length).collect();
            self.in_line = text.last() != Some(&b'\n');
            pieces.push(Piece::Text(String::from_utf8_lossy(&text).into_owned()));
        }
    }

    fn finish_output(&mut self, pieces: &mut Vec<Piece>) {
        if !self.output.is_empty() {
            pieces.push(Piece::Output(std::mem::take(&mut self.output)));
        }
    }

    /// Where the next event or output begins.
    fn next_special(&self) -> Option<(usize, Special)> {
        let event = self.rest.iter().position(|&byte| byte == MARK);
        let before = &self.rest[..event.unwrap_or(self.rest.len())];
        let begins_line = |at: usize| if at == 0 { !self.in_line } else { self.rest[at - 1] == b'\n' };
        let lines = std::iter::once(0)
            .chain(before.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
        let output = lines.into_iter().find(|&at| begins_line(at) && self.rest[at..].starts_with(BEGIN_CONTENT));
        match (event, output) {
            (_, Some(at)) => Some((at, Special::Output)),
            (Some(at), None) => Some((at, Special::Event)),
            (None, None) => None,
        }
    }

    /// How many bytes at the end may be the beginning of an output's first line.
    fn beginning_of_special(&self) -> usize {
        let line = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let last = &self.rest[line..];
        let begins_line = line > 0 || !self.in_line;
        if begins_line && !last.is_empty() && BEGIN_CONTENT.starts_with(last) { last.len() } else { 0 }
    }

    /// The event at the beginning of `rest`, and its length; `None` if it is incomplete.
    fn event(&mut self, pieces: &mut Vec<Piece>) -> Option<usize> {
        let head_end = self.rest.iter().take(LONGEST_HEAD).position(|&byte| byte == b'\n');
        let head = head_end.and_then(|end| std::str::from_utf8(&self.rest[1..end]).ok());
        let parsed = head
            .and_then(|head| head.split_once(' '))
            .and_then(|(kind, length)| Some((kind.to_string(), length.parse::<usize>().ok()?)));
        match (head_end, parsed) {
            (Some(end), Some((kind, length))) => {
                let payload = self.rest.get(end + 1..(end + 1).checked_add(length)?)?;
                let payload = String::from_utf8_lossy(payload).into_owned();
                self.finish_output(pieces);
                pieces.push(Piece::Event { kind, payload });
                Some(end + 1 + length)
            }
            (None, _) if self.rest.len() < LONGEST_HEAD => None,
            _ => {
                pieces.push(Piece::Text("\u{1e}".to_string()));
                Some(1)
            }
        }
    }

    /// The part of an output at the beginning of `rest`, and its length; `None` if it is incomplete.
    fn output(&mut self, pieces: &mut Vec<Piece>) -> Option<usize> {
        let head_end = self.rest.iter().position(|&byte| byte == b'\n');
        let begin = BEGIN_CONTENT.len();
        // The content may be empty; then its line end is the head's.
        let end = head_end.and_then(|head_end| {
            self.rest[head_end..]
                .windows(END_CONTENT.len())
                .position(|window| window == END_CONTENT)
                .map(|at| head_end + at)
        });
        let (Some(head_end), Some(end)) = (head_end, end) else {
            if self.rest.len() < LARGEST_CONTENT {
                return None;
            }
            self.rest.clear();
            pieces.push(Piece::Text("(an output of more than 64 MiB was left out)\n".to_string()));
            return Some(0);
        };
        let mime = String::from_utf8_lossy(&self.rest[begin..head_end]).into_owned();
        let content = String::from_utf8_lossy(self.rest.get(head_end + 1..end).unwrap_or_default()).into_owned();
        if self.output.contains_key(&mime) {
            self.finish_output(pieces);
        }
        let content = if mime.contains("json") {
            serde_json::from_str(&content).unwrap_or(Value::from(content))
        } else {
            Value::from(content)
        };
        self.output.insert(mime, content);
        Some(end + END_CONTENT.len())
    }
}

enum Special {
    Event,
    Output,
}

/// How many bytes at the end are the beginning of a character.
fn incomplete_utf8(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        _ => {
            // Something earlier is no text; only the last bytes count.
            let tail = &bytes[bytes.len().saturating_sub(3)..];
            (1..=tail.len())
                .find(|&length| matches!(std::str::from_utf8(&tail[tail.len() - length..]), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none()))
                .unwrap_or(0)
        }
    }
}

/// Keeps the beginning and the end of a cell's text, so that endless printing fills neither the notebook nor the memory.
#[derive(Default)]
pub struct Bounds {
    passed: usize,
    tail: Vec<u8>,
    left_out: usize,
}

/// As much is passed on at once; a page of a notebook holds a few kilobytes.
const HEAD: usize = 256 << 10;
/// As much of the end is kept.
const TAIL: usize = 32 << 10;

impl Bounds {
    /// What of `text` to show now.
    pub fn pass(&mut self, text: &str) -> Option<String> {
        if self.passed + text.len() <= HEAD {
            self.passed += text.len();
            return Some(text.to_string());
        }
        let said = (self.passed < HEAD).then(|| {
            self.passed = HEAD;
            "\n(more output is held back; its end follows when the cell has ended)\n".to_string()
        });
        self.tail.extend_from_slice(text.as_bytes());
        // In larger steps, since each moves the tail.
        if self.tail.len() > 4 * TAIL {
            let extra = self.tail.len() - TAIL;
            self.left_out += extra;
            self.tail.drain(..extra);
        }
        said
    }

    /// What was held back, when the cell has ended.
    pub fn end(&mut self) -> Option<String> {
        if self.tail.is_empty() {
            return None;
        }
        let extra = self.tail.len().saturating_sub(TAIL);
        self.left_out += extra;
        // From the beginning of a line.
        let cut = if self.left_out == 0 {
            0
        } else {
            self.tail[extra..].iter().position(|&byte| byte == b'\n').map_or(extra, |at| extra + at + 1)
        };
        let left_out = self.left_out + cut - extra;
        let note = if left_out > 0 { format!("({left_out} bytes left out)\n") } else { String::new() };
        let tail = note + &String::from_utf8_lossy(&self.tail[cut..]);
        *self = Self::default();
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_string())
    }

    fn output(parts: &[(&str, &str)]) -> Piece {
        Piece::Output(parts.iter().map(|(mime, content)| (mime.to_string(), Value::from(*content))).collect())
    }

    /// Feeds `bytes` in chunks of `size`, and joins neighboring texts.
    fn split(bytes: &[u8], size: usize) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        let mut all: Vec<Piece> = Vec::new();
        let pieces: Vec<Piece> = bytes.chunks(size).flat_map(|chunk| splitter.feed(chunk)).collect();
        for piece in pieces.into_iter().chain(splitter.end()) {
            match (all.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
                (_, piece) => all.push(piece),
            }
        }
        all
    }

    #[test]
    fn text_outputs_and_events_are_told_apart_however_they_arrive() {
        let written = "a β\nEVCXR_BEGIN_CONTENT text/html\n<b>\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/plain\nx\ny\n\
            EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/plain\n\nEVCXR_END_CONTENT\nno EVCXR_BEGIN_CONTENT here\nend\u{1e}panicked 3\na\nb";
        let event = Piece::Event { kind: "panicked".to_string(), payload: "a\nb".to_string() };
        let expected = [
            text("a β\n"),
            output(&[("text/html", "<b>"), ("text/plain", "x\ny")]),
            output(&[("text/plain", "")]),
            text("no EVCXR_BEGIN_CONTENT here\nend"),
            event,
        ];
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(split(written.as_bytes(), size), expected, "{size}");
        }
    }

    #[test]
    fn a_stray_mark_and_broken_text_stay_text() {
        assert_eq!(split(b"a\x1eb\n", 1), [text("a\u{1e}b\n")]);
        assert_eq!(split(b"\xff\xfea", 1000), [text("\u{fffd}\u{fffd}a")]);
        assert_eq!(split(b"EVCXR_BEGIN", 2), [text("EVCXR_BEGIN")]);
    }

    #[test]
    fn an_output_is_shown_when_nothing_follows() {
        let mut splitter = Splitter::default();
        assert!(splitter.feed(b"EVCXR_BEGIN_CONTENT text/plain\nx\nEVCXR_END_CONTENT\n").is_empty());
        assert_eq!(splitter.pause(), Some(output(&[("text/plain", "x")])));
        assert_eq!(splitter.pause(), None);
    }

    #[test]
    fn of_endless_text_the_beginning_and_the_end_are_kept() {
        let mut bounds = Bounds::default();
        let mut shown = String::new();
        for line in 0..200_000 {
            shown += &bounds.pass(&format!("line {line}\n")).unwrap_or_default();
            assert!(bounds.tail.len() <= 4 * TAIL + 20);
        }
        let end = bounds.end().unwrap();
        assert!(
            shown.starts_with("line 0\n") && shown.ends_with("when the cell has ended)\n") && shown.len() < HEAD + 200
        );
        assert!(end.starts_with('(') && end.ends_with("line 199999\n") && end.len() < TAIL + 100, "{}", &end[..80]);
        assert!(end.lines().nth(1).unwrap().starts_with("line "));
        assert_eq!(bounds.end(), None);
    }
}
