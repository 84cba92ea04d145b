//! What Jupyter starts in place of evcxr_jupyter, and the guard that cleans up after it.
//!
//! Three processes make a kernel. The *launcher* makes the folder, starts the other two and waits. *evcxr* leads a
//! process group of its own, so that the process with the variables, and a rustc at work, end with it. The *guard*
//! waits on a pipe that only the launcher holds: however the launcher ends, by itself or by a signal that nobody can
//! catch, the pipe closes, and the guard ends evcxr's group and removes the folder.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::cuda::{Build, Reason};
use crate::error::{Error, REINSTALL, Result};
use crate::kernel::folder::{self, Filled, KernelFolders, Key, LiveFolder};
use crate::kernel::settings;
use crate::machine;
use crate::repository::Repository;

/// The variable that names a kernel's folder; `cargo lab run` sets it to find the folder again.
pub const KERNEL_ID: &str = "CIFAR_LAB_KERNEL_ID";

/// Runs a kernel until it ends and returns its exit code. `connection_file` is Jupyter's, `evcxr` the kernel proper.
///
/// # Errors
/// Where the folder can't be made or evcxr can't be started.
pub fn launch(evcxr: &Path, connection_file: &Path) -> Result<ExitCode> {
    // A notebook outside of a repository gets a plain kernel, still in a folder of its own.
    let repository = Repository::current().ok();
    let folders = KernelFolders::of_user()?;
    let id = std::env::var(KERNEL_ID).unwrap_or_else(|_| format!("process-{}", std::process::id()));
    let live = folders.create(&id)?;
    let mut guard = start_guard(live.path())?;
    // A kernel compiled with CUDA does not start where the driver is missing, so this looks first, at each start.
    let build = Build::of_machine();
    if let Build::Cpu(reason) = &build
        && *reason != Reason::NoDriver
    {
        eprintln!("Cells are compiled for {build}.");
    }
    if let Some(repository) = &repository {
        let filled = folders.fill(&live, repository, &Key::of(repository, &build)?)?;
        match filled {
            Filled::Warm => {}
            Filled::Changed => {
                eprintln!("The crates changed since the kernel was prepared: its first cell compiles them.")
            }
            Filled::Cold => {
                eprintln!("No prepared kernel: the first cell compiles all (minutes). `cargo lab` prepares one.")
            }
        }
    }
    let mut command = Command::new(evcxr);
    command.arg("--control_file").arg(connection_file).process_group(0);
    let launcher = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    settings::apply(&mut command, live.path(), repository.as_ref(), &build, &launcher);
    let mut child = command.spawn().map_err(Error::start(evcxr.to_string_lossy(), REINSTALL))?;
    if let Some(pipe) = &mut guard.stdin {
        writeln!(pipe, "{}", child.id()).map_err(Error::file("write to", "the kernel's guard"))?;
    }
    end_with_the_parent();
    let status = child.wait().map_err(Error::file("wait for", evcxr))?;
    // As a shell has it: 128 and the signal's number.
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Ends this launcher, and through the guard the kernel, when the program that started it is gone without having shut
/// the kernel down; Jupyter's own kernels watch their parent in the same way.
fn end_with_the_parent() {
    let parent = rustix::process::getppid();
    std::thread::spawn(move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(Duration::from_secs(1));
        }
        std::process::exit(1);
    });
}

fn start_guard(live: &Path) -> Result<Child> {
    let own = machine::own_program().map_err(Error::file("find", "this program"))?;
    Command::new(&own)
        .arg("guard")
        .arg(live)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Jupyter kills the launcher's group; the guard must outlive that.
        .process_group(0)
        .spawn()
        .map_err(Error::start(own.to_string_lossy(), REINSTALL))
}

/// Waits until standard input closes, then ends the process group whose leader was named there, and removes `live`.
///
/// # Errors
/// Where `live` is not a kernel's folder.
pub fn guard(live: &Path) -> Result<()> {
    let held = LiveFolder::join(live)?;
    let mut said = String::new();
    // An error reads like an end: the launcher is gone.
    let _ = std::io::stdin().read_to_string(&mut said);
    if let Some(leader) = said.trim().parse().ok().and_then(Pid::from_raw) {
        end_group(leader);
    }
    let path: PathBuf = held.path().to_path_buf();
    folder::remove(&path);
    Ok(())
}

fn end_group(leader: Pid) {
    let _ = kill_process_group(leader, Signal::KILL);
    // Gone in milliseconds; the bound is for a process stuck in the kernel.
    let patience = Instant::now() + Duration::from_secs(5);
    while test_kill_process_group(leader).is_ok() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
}
