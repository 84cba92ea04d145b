//! What a cell writes to stdout to show something: the output format that evcxr reads, and, for outputs that change, the one of
//! `cargo lab`'s kernel (its `front/output.rs`).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Prints contents for evcxr, all at once, so that no other thread prints in between.
pub(crate) fn show(contents: &[(&str, &str)]) {
    // If stdout is closed, nobody is left to see it.
    let _ = std::io::stdout().lock().write_all(protocol(contents).as_bytes());
}

/// Shows contents in the place that this cell has given to `id`.
pub(crate) fn show_in_place(id: u64, contents: &[(&str, &str)]) {
    let payload = format!("{id}\n{}", protocol(contents));
    let mut output = std::io::stdout().lock();
    let _ = write!(output, "\x1elive {}\n{payload}", payload.len()).and_then(|()| output.flush());
}

/// Whether this thread runs a cell whose output goes to a kernel that understands [`show_in_place`].
pub(crate) fn can_show_in_place() -> bool {
    let thread = format!("{:?}", std::thread::current().id());
    std::env::var("CIFAR_LAB_CELL_THREAD").is_ok_and(|id| id == thread)
        && std::env::var_os("CIFAR_LAB_FRONT").is_some_and(|front| is_stdout(&Path::new(&front).join("stdout")))
}

#[cfg(unix)]
fn is_stdout(pipe: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    file(pipe).is_some_and(|pipe| file(Path::new("/dev/stdout")) == Some(pipe))
}

#[cfg(not(unix))]
fn is_stdout(_: &Path) -> bool {
    false
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
