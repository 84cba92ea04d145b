//! The CPU tests of candle-cnn under AddressSanitizer, which notices what unsafe code reads and writes out of bounds.

use std::path::Path;

use super::tally::Tally;
use crate::machine::output;
use crate::repository::Repository;

/// Where what is compiled with it goes, apart from everything else.
const TARGET: &str = "target/sanitizer";

/// Runs the tests; returns whether all passed, or there is no AddressSanitizer here.
pub fn check(repository: &Repository, tally: &mut Tally) -> bool {
    let Some(host) = host_with_sanitizer() else {
        println!("skipped: this machine's Rust has no AddressSanitizer (it has one on Linux and macOS, from rustup)");
        return true;
    };
    let arguments = ["test", "--package", "candle-cnn", "--tests", "--target", &host, "--target-dir", TARGET];
    tally.cargo(repository, &arguments, |command| {
        command
            // The stable compiler has the sanitizers too, but wants to be asked for what isn't stable.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
    })
}

/// The platform that rustc compiles for, if its libraries hold the sanitizer's.
fn host_with_sanitizer() -> Option<String> {
    let host = output("rustc", &["-vV"])?.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_string))?;
    let libraries = output("rustc", &["--print", "target-libdir"])?;
    let mut names = Path::new(&libraries).read_dir().ok()?.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().contains("_rt.asan")).then_some(host)
}
