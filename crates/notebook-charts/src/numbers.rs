//! Numbers as people read them.
//!
//! ```
//! use notebook_charts::numbers::{bytes, duration, grouped, measured, percent};
//! assert_eq!(grouped(981_130), "981,130");
//! assert_eq!(measured(0.123_456), "0.1235");
//! assert_eq!(percent(0.757), "75.7 %");
//! assert_eq!(bytes(3_924_520), "3.9 MB");
//! assert_eq!(duration(std::time::Duration::from_secs(75)), "1 min 15 s");
//! ```

use std::time::Duration;

/// A whole number with commas as thousands separators.
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

/// `value` with `decimals` places and thousands separators.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) { "−" } else { "" };
    let whole = whole.parse().map_or_else(|_| whole.to_string(), grouped);
    format!("{sign}{whole}{rest}")
}

/// A measured value with about four significant digits, and at most four decimals.
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

/// The decimals that `value` needs for about four significant digits, at most four; none for trailing zeros.
fn decimals(value: f64) -> usize {
    let most = match value.abs() {
        m if m < 1.0 => 4,
        m if m < 1000.0 => 3,
        _ => 0,
    };
    let text = format!("{value:.most$}");
    text.split_once('.').map_or(0, |(_, decimals)| decimals.trim_end_matches('0').len())
}

/// As [`measured`], for values below one another: with equally many decimals.
pub fn measured_alike(values: &[f64]) -> Vec<String> {
    let plain = |value: &&f64| **value == 0.0 || (1e-3..1e7).contains(&value.abs());
    let most = values.iter().filter(plain).map(|value| decimals(*value)).max().unwrap_or(0);
    values.iter().map(|value| if plain(&value) { fixed(*value, most) } else { measured(*value) }).collect()
}

/// A share between 0 and 1 as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{} %", fixed(100.0 * share, 1)) } else { measured(share) }
}

/// The label of a tick at `value` on an axis with ticks `step` apart: as many decimals as `step` has.
pub(crate) fn tick(value: f64, step: f64) -> String {
    // Rounding may put a tick slightly off zero.
    let value = if value.abs() < step.abs() * 1e-6 { 0.0 } else { value };
    let decimals = (-step.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    if value != 0.0 && (value.abs() >= 1e7 || decimals > 5) {
        let digits = (value.abs().log10().floor() - step.abs().log10().floor()).clamp(0.0, 6.0) as usize;
        return format!("{value:.digits$e}").replace('-', "−");
    }
    fixed(value, decimals)
}

/// Bytes in units of 1,000: `512 bytes`, `1.2 kB`, `162.2 MB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A duration to the second: `5 s`, `1 min 15 s`, `1 h 02 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
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
    fn bytes_and_durations_read_well() {
        assert_eq!([512, 1_234, 162_200_000].map(bytes), ["512 bytes", "1.2 kB", "162.2 MB"]);
        assert_eq!([5, 75, 3_725].map(|s| duration(Duration::from_secs(s))), ["5 s", "1 min 15 s", "1 h 02 min"]);
    }
}
