//! What Jupyter starts in place of evcxr_jupyter, and the guard that cleans up after it.
//!
//! A kernel consists of three processes. The *launcher* creates the folder, starts the other two, and is the kernel's
//! [`front`]. *evcxr* leads its own process group, so that its child with the variables can be killed with it; cargo leads
//! another while it compiles a cell. The *guard* reads from a pipe that only the launcher holds. However the launcher ends,
//! even by SIGKILL, the pipe closes; the guard then kills both groups and removes the folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::sync::mpsc::UnboundedSender;

use crate::cuda::{Build, Reason};
use crate::error::{Error, REINSTALL, Result};
use crate::kernel::folder::{self, Filled, KernelFolders, Key, LiveFolder};
use crate::kernel::front::{self, Connection, Event};
use crate::kernel::{cargo, cell, settings};
use crate::machine;
use crate::repository::Repository;

/// The variable that names a kernel's folder. `cargo lab run` sets it, so that it knows the folder.
pub const KERNEL_ID: &str = "CIFAR_LAB_KERNEL_ID";

/// Runs a kernel until it ends, and returns its exit code. `connection_file` comes from Jupyter.
pub fn launch(evcxr: &Path, connection_file: &Path) -> Result<ExitCode> {
    let connection = Connection::read(connection_file).map_err(Error::file("read", connection_file))?;
    let folders = KernelFolders::of_user()?;
    let id = std::env::var(KERNEL_ID).unwrap_or_else(|_| format!("process-{}", std::process::id()));
    let live = folders.create(&id)?;
    let guard = start_guard(live.path())?;
    end_with_the_parent();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(Error::file("start", "the kernel's front"))?;
    let code = runtime.block_on(async {
        let (front, events, received) = front::open(live.path(), &connection).await?;
        let evcxr = evcxr.to_path_buf();
        // The front answers meanwhile.
        std::thread::spawn(move || {
            let code = run_evcxr(&evcxr, &folders, &live, guard, &events);
            let _ = events.send(Event::Gone(code));
        });
        front.run(received).await
    });
    // Threads that still read must not hold the kernel up.
    runtime.shutdown_background();
    code.map(ExitCode::from)
}

/// Prints a line, unless the terminal has been closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Fills the folder, runs evcxr in it and returns its exit code.
fn run_evcxr(
    evcxr: &Path,
    folders: &KernelFolders,
    live: &LiveFolder,
    mut guard: Child,
    events: &UnboundedSender<Event>,
) -> Result<u8> {
    // A notebook outside the repository gets a plain kernel, also in its own folder.
    let repository = Repository::current().ok();
    // A kernel compiled with CUDA doesn't start without the driver, which may have gone since setup.
    let build = Build::of_machine();
    if let Build::Cpu(reason) = &build
        && *reason != Reason::NoDriver
    {
        say(&format!("Cells are compiled for {build}."));
    }
    if let Some(repository) = &repository {
        let filling = folders.begin_to_fill(live, repository, &Key::of(repository, &build)?)?;
        match filling.filled() {
            Filled::Warm => {}
            Filled::Changed => {
                say("The crates have changed since the kernel was prepared; the first cell will compile them.")
            }
            Filled::Cold => say(
                "No kernel is prepared; the first cell will compile everything, for minutes. `cargo lab` prepares one.",
            ),
        }
        let events = events.clone();
        std::thread::spawn(move || {
            if let Err(error) = filling.finish() {
                let _ = events.send(Event::Gone(Err(error)));
            }
        });
    }
    let own_file = live.path().join("connection.json");
    let own = Connection::write_new(&own_file).map_err(Error::file("write", &own_file))?;
    let mut command = Command::new(evcxr);
    command.arg("--control_file").arg(&own_file).process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    let launcher = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    settings::apply(&mut command, live.path(), repository.as_ref(), &build, &launcher)?;
    command.env(cell::FRONT, live.path());
    let mut child = command.spawn().map_err(Error::start(evcxr.to_string_lossy(), REINSTALL))?;
    if let Some(pipe) = &mut guard.stdin {
        writeln!(pipe, "{}", child.id()).map_err(Error::file("write to", "the kernel's guard"))?;
    }
    let _ = events.send(Event::Started(own));
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        let _ = events.send(Event::Log(line.unwrap_or_default()));
    }
    let status = child.wait().map_err(Error::file("wait for", evcxr))?;
    // A shell's convention: 128 plus the signal's number.
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // The guard lives until the launcher ends.
    std::mem::forget(guard);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Ends this launcher, and thereby the kernel, if its parent dies without having shut the kernel down. Jupyter's own kernels
/// watch their parent too.
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
        // Jupyter kills the launcher's group, which the guard must survive.
        .process_group(0)
        .spawn()
        .map_err(Error::start(own.to_string_lossy(), REINSTALL))
}

/// Waits until standard input closes, then kills the process group whose leader was named there, and removes `live`.
pub fn guard(live: &Path) -> Result<()> {
    let held = LiveFolder::join(live)?;
    let mut said = String::new();
    // An error means the same as an end: the launcher is gone.
    let _ = std::io::stdin().read_to_string(&mut said);
    if let Some(leader) = said.trim().parse().ok().and_then(Pid::from_raw) {
        end_group(leader);
    }
    cargo::end_compiler(live);
    let path: PathBuf = held.path().to_path_buf();
    folder::remove(&path);
    Ok(())
}

fn end_group(leader: Pid) {
    let _ = kill_process_group(leader, Signal::KILL);
    // It takes milliseconds, unless a process is stuck in a system call.
    let patience = Instant::now() + Duration::from_secs(5);
    while test_kill_process_group(leader).is_ok() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
}
