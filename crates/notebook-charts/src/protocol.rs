//! The output format that evcxr reads from a cell's stdout.

use std::fmt::Write as _;
use std::io::Write as _;

/// Prints contents for evcxr, all at once, so that no other thread prints in between.
pub(crate) fn show(contents: &[(&str, &str)]) {
    // If stdout is closed, nobody is left to see it.
    let _ = std::io::stdout().lock().write_all(protocol(contents).as_bytes());
}

/// Contents as evcxr reads them: each between a line with its MIME type and an end marker.
fn protocol(contents: &[(&str, &str)]) -> String {
    const END: &str = "EVCXR_END_CONTENT";
    let mut output = String::new();
    for (mime_type, content) in contents {
        let _ = writeln!(output, "EVCXR_BEGIN_CONTENT {mime_type}");
        for line in content.lines() {
            // A line equal to the end marker would end the content early.
            let _ = writeln!(output, "{}{line}", if line == END { " " } else { "" });
        }
        let _ = writeln!(output, "{END}");
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_ends_each_content_once() {
        let output = protocol(&[("image/svg+xml", "<svg/>"), ("text/plain", "a\nEVCXR_END_CONTENT\nb")]);
        let expected = "EVCXR_BEGIN_CONTENT image/svg+xml\n<svg/>\nEVCXR_END_CONTENT\n\
                        EVCXR_BEGIN_CONTENT text/plain\na\n EVCXR_END_CONTENT\nb\nEVCXR_END_CONTENT\n";
        assert_eq!(output, expected);
    }
}
