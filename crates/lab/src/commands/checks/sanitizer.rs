//! The CPU tests of candle-cnn under AddressSanitizer, which detects unsafe code that reads or writes out of bounds.

use std::path::Path;

use super::tally::Tally;
use crate::machine::output;
use crate::repository::Repository;

/// The target folder: nothing compiled without the sanitizer can be shared.
const TARGET: &str = "target/sanitizer";

/// Runs the tests; returns whether all passed, or there is no AddressSanitizer here.
pub fn check(repository: &Repository, tally: &mut Tally) -> bool {
    let Some(host) = host_with_sanitizer() else {
        println!("skipped: this Rust has no AddressSanitizer; rustup's has, on Linux and macOS");
        return true;
    };
    let arguments = ["test", "--package", "candle-cnn", "--tests", "--target", &host, "--target-dir", TARGET];
    tally.cargo(repository, &arguments, |command| {
        command
            // Lets the stable compiler accept an unstable flag.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
    })
}

/// The platform of rustc, if it comes with AddressSanitizer.
fn host_with_sanitizer() -> Option<String> {
    let host = output("rustc", &["-vV"])?.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_string))?;
    let libraries = output("rustc", &["--print", "target-libdir"])?;
    let mut names = Path::new(&libraries).read_dir().ok()?.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().contains("_rt.asan")).then_some(host)
}
