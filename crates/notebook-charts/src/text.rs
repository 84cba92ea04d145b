//! Text in pictures: escaping, width and line breaks.

/// `text` on one line of an SVG document: line breaks and control characters, which XML forbids, become spaces.
pub(crate) fn one_line(text: &str) -> String {
    let allowed = |c: char| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}');
    text.chars().map(|c| if allowed(c) { c } else { ' ' }).collect()
}

/// `text` escaped for XML and HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The estimated width in pixels of `text` in sans-serif of `size` pixels.
///
/// The browser chooses the font; the widths are those of DejaVu Sans, the widest common one, so that text fits in any.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '\'' | '|' | '.' | ',' | ':' | ';' | ' ' | 'I' => 0.32,
            'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '/' | '!' | '"' => 0.4,
            'm' | 'w' | 'M' | 'W' | '%' | '@' | '→' | '…' => 0.95,
            'A'..='Z' => 0.7,
            c if c.is_ascii() => 0.62,
            // Ideographs and pictographs are as wide as they are high.
            c if c as u32 >= 0x2E80 => 1.05,
            _ => 0.65,
        })
        .sum();
    em * size
}

/// The width in pixels of the widest of `texts`.
pub(crate) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    texts.into_iter().map(|text| width(text, size)).fold(0.0, f64::max)
}

/// `text`, cut off with `…` if it is wider than `room` pixels.
pub(crate) fn shorten(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_string();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if width(&kept, size) + width("…", size) > room {
            kept.pop();
            break;
        }
    }
    format!("{}…", kept.trim_end())
}

/// `text` in lines of at most `room` pixels, broken at spaces; longer words are shortened.
pub(crate) fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shorten(word, size, room);
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= room => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_room() {
        assert_eq!(shorten("ship", 12.0, 100.0), "ship");
        let short = shorten("a rather long class name", 12.0, 80.0);
        assert!(short.ends_with('…') && width(&short, 12.0) <= 80.0, "{short}");
        for line in wrap("one two three four five six seven", 12.0, 60.0) {
            assert!(width(&line, 12.0) <= 60.0, "{line}");
        }
        assert_eq!(one_line("a\nb\u{1b}c"), "a b c");
        assert_eq!(escape("<a & 'b'>"), "&lt;a &amp; &#39;b&#39;&gt;");
    }
}
