//! Text in a picture: how wide it will be, where to break it, and how numbers are written.

/// `text` as it may stand in one line of an SVG document: line breaks and control characters, which XML forbids,
/// become spaces.
pub fn one_line(text: &str) -> String {
    let allowed = |c: char| !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}');
    text.chars().map(|c| if allowed(c) { c } else { ' ' }).collect()
}

/// `text` with the characters that mean something in XML and HTML escaped.
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

/// The width in pixels of `text` set in sans-serif of `size` pixels.
///
/// The browser chooses the font, so this is an estimate: the widths are DejaVu Sans's, the widest of the usual
/// sans-serif fonts, so that what fits here fits elsewhere.
pub fn width(text: &str, size: f64) -> f64 {
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
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    texts.into_iter().map(|text| width(text, size)).fold(0.0, f64::max)
}

/// `text`, or as much of its beginning as fits into `room` pixels, closed by `…`.
pub fn shorten(text: &str, size: f64, room: f64) -> String {
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

/// `text` in lines of at most `room` pixels, broken at spaces; a longer word is shortened.
pub fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
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

/// A whole number with commas between groups of three digits.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes, in units of 1,000: `512 bytes`, `122.9 kB`, `170.1 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// `value` with `decimals` places, grouped in thousands.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) { "−" } else { "" };
    let whole = whole.parse().map_or_else(|_| whole.to_string(), grouped);
    format!("{sign}{whole}{rest}")
}

/// A measured value with about four digits that count.
pub fn measured(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN".to_string() } else { format!("{value}").replace("inf", "∞") };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        return format!("{value:.2e}").replace('-', "−");
    }
    fixed(value, decimals(value))
}

/// The decimals of `value` that count, at most four: those that are not zero in about four digits.
fn decimals(value: f64) -> usize {
    let most = match value.abs() {
        m if m < 1.0 => 4,
        m if m < 1000.0 => 3,
        _ => 0,
    };
    let text = format!("{value:.most$}");
    text.split_once('.').map_or(0, |(_, decimals)| decimals.trim_end_matches('0').len())
}

/// Values that stand below one another: as [`measured`], with equally many decimals.
pub fn measured_alike(values: &[f64]) -> Vec<String> {
    let plain = |value: &&f64| **value == 0.0 || (1e-3..1e7).contains(&value.abs());
    let most = values.iter().filter(plain).map(|value| decimals(*value)).max().unwrap_or(0);
    values.iter().map(|value| if plain(&value) { fixed(*value, most) } else { measured(*value) }).collect()
}

/// A share between 0 and 1 in per cent, with one decimal.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", fixed(100.0 * share, 1)) } else { measured(share) }
}

/// The label of a tick at `value` on an axis whose ticks are `step` apart: as many decimals as the step has.
pub fn tick(value: f64, step: f64) -> String {
    // A tick at zero is computed as a sum and may miss it by rounding.
    let value = if value.abs() < step.abs() * 1e-6 { 0.0 } else { value };
    let decimals = (-step.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    if value != 0.0 && (value.abs() >= 1e7 || decimals > 5) {
        let digits = (value.abs().log10().floor() - step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{value:.digits$e}").replace('-', "−");
    }
    fixed(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!([bytes(999), bytes(1234), bytes(170_052_171)], ["999 bytes", "1.2 kB", "170.1 MB"]);
        assert_eq!(measured(1234.5), "1,234");
        assert_eq!(measured(0.12345), "0.1235");
        assert_eq!(measured(-2.5), "−2.5");
        assert_eq!(measured(20.0), "20");
        assert_eq!(measured_alike(&[1.4, 2.05, -0.2, f64::NAN]), ["1.40", "2.05", "−0.20", "NaN"]);
        assert_eq!(measured(1e-5), "1.00e−5");
        assert_eq!(measured(f64::NAN), "NaN");
        assert_eq!(percent(0.7654), "76.5 %");
        assert_eq!(tick(-0.000_000_1, 0.5), "0.0");
        assert_eq!(tick(0.25, 0.05), "0.25");
        assert_eq!(tick(5000.0, 1000.0), "5,000");
        assert_eq!(tick(2e-7, 1e-7), "2e−7");
    }

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
