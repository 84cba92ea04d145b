//! Tests of the kernel's front: what JupyterLab does and `cargo lab run` does not.

use std::process::Command;

use super::kernel::Test;
use super::laboratory::Laboratory;
use crate::kernel::installation::kernelspecs;
use crate::kernel::settings;

pub const TESTS: [Test; 1] = [("interrupts, errors, restarts and endless output, as in JupyterLab", as_in_jupyterlab)];

/// Runs `tests/front.py`, which has a check for each and can run one alone.
fn as_in_jupyterlab(laboratory: &Laboratory) -> Result<String, String> {
    let script = laboratory.repository.root().join("crates/lab/tests/front.py");
    let mut command = Command::new(laboratory.installation.python());
    command.arg(script).arg(kernelspecs(&laboratory.installation.environment)).arg(laboratory.repository.notebooks());
    // Else each kernel would compile the crates again.
    settings::forget_cargo_run(&mut command, &laboratory.repository);
    let output = command.output().map_err(|error| format!("Python: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(format!("{} checks", printed.lines().count())),
        false => Err(printed + &String::from_utf8_lossy(&output.stderr)),
    }
}
