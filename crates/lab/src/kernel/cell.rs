//! The part of the kernel that runs in evcxr's process with the cells: it leads a cell's output to the front, and tells how
//! the cell ended.
//!
//! Setup compiles this file as a library of its own, `cifar_lab_cell`, from the standard library alone; `instrument` adds
//! calls of it to each cell, and has cells use its [`VariableStore`]. Its statics are shared by all cells of a process.
//!
//! While a cell runs, standard output and standard error lead to the front's named pipes. Otherwise they are evcxr's, which
//! reads its own protocol there. Standard input is evcxr's pipe too: a cell that read from it would wait forever, or swallow
//! evcxr's next command. So a cell gets one empty line instead.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};

/// The variable that names the folder with the front's pipes. Without it, output stays where it is.
pub const FRONT: &str = "CIFAR_LAB_FRONT";
/// The file in that folder without which a cell is evcxr's own, by which it tries whether it can compile.
pub const ASKED: &str = "asked";
/// The variable with the user's own RUST_BACKTRACE, which evcxr overrides.
pub const BACKTRACE: &str = "CIFAR_LAB_BACKTRACE";
/// The variable with the thread that runs cells, for the crates that cells use.
const THREAD: &str = "CIFAR_LAB_CELL_THREAD";

unsafe extern "C" {
    fn dup2(from: RawFd, to: RawFd) -> RawFd;
    #[cfg(target_os = "linux")]
    fn prctl(option: i32, ...) -> i32;
}

static START: Once = Once::new();
static PIPES: Mutex<Option<[File; 2]>> = Mutex::new(None);
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
/// The panics of the running cell's thread: place and message.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

struct Running {
    thread: ThreadId,
    number: u64,
    redirected: Option<Redirected>,
}

struct Redirected {
    /// evcxr's standard input, output and error.
    evcxr: [OwnedFd; 3],
    input: PipeReader,
}

/// Called when a cell begins.
pub fn begin() {
    begin_with(redirect_to);
}

/// Called in place of [`begin`] when a cell may ask evcxr for something, which needs evcxr's input and output.
pub fn begin_asking() {
    begin_with(|_| Ok(None));
}

fn begin_with(redirection: impl FnOnce(&[File; 2]) -> std::io::Result<Option<Redirected>>) {
    START.call_once(start);
    if std::env::var_os(FRONT).is_some_and(|front| !Path::new(&front).join(ASKED).exists()) {
        return;
    }
    let pipes = lock(&PIPES);
    let Some(pipes) = pipes.as_ref() else { return };
    let Ok(redirected) = redirection(pipes) else { return };
    lock(&PANICS).clear();
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    *lock(&RUNNING) = Some(Running { thread: thread::current().id(), number, redirected });
    send(&pipes[0], "began", &number.to_string());
}

/// Leads standard output and standard error to the front, and standard input to an empty line, as evcxr_input returns if
/// nobody types. If it is gone afterwards, the cell has read it.
fn redirect_to(pipes: &[File; 2]) -> std::io::Result<Option<Redirected>> {
    std::io::stdout().flush()?;
    let (input, mut line) = std::io::pipe()?;
    line.write_all(b"\n")?;
    // Closed in programs that the cell starts, which evcxr would wait for otherwise.
    let own = |of: &dyn AsFd| of.as_fd().try_clone_to_owned();
    let evcxr = [own(&std::io::stdin())?, own(&std::io::stdout())?, own(&std::io::stderr())?];
    redirect([input.as_raw_fd(), pipes[0].as_raw_fd(), pipes[1].as_raw_fd()]);
    Ok(Some(Redirected { evcxr, input }))
}

/// Called when a cell has ended well. After another end it does nothing.
pub fn ended() {
    finish("ended", "", 0);
}

/// Called when an error has left the cell through `?`, at `place`.
pub fn stopped(place: &str, message: &str) {
    if !finish("stopped", &format!("{place}\n{message}"), 0) {
        eprintln!("{message}");
    }
    // Makes evcxr forget the cell's new variables. Its own `From::from` would have printed this to the front.
    println!("EVCXR_ERROR_OCCURRED");
}

/// Called with the payload of the panic that has ended the cell.
pub fn panicked(payload: &Box<dyn Any + Send>) {
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    // As the panic hook does.
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "Box<dyn Any>".to_string());
    // Others may have been caught. A hook of the cell's own notes nothing.
    let place = match lock(&PANICS).last() {
        Some((place, message)) if message.starts_with(&text) => (place.clone(), message.clone()),
        _ => (String::new(), text),
    };
    finish("panicked", &format!("{}\n{}", place.0, place.1), 1);
}

/// Allows huge pages again, which evcxr's allocator does without.
fn allow_huge_pages() {
    #[cfg(target_os = "linux")]
    {
        /// From Linux's <linux/prctl.h>. Its four arguments are `unsigned long`.
        const PR_SET_THP_DISABLE: i32 = 41;
        // SAFETY: prctl takes numbers only here, and changes how pages are backed, not what they hold.
        unsafe { prctl(PR_SET_THP_DISABLE, 0_usize, 0_usize, 0_usize, 0_usize) };
    }
}

fn start() {
    allow_huge_pages();
    let set = |name, value: Option<String>| match value {
        // SAFETY: evcxr's process has only this thread before the first cell has run.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    };
    set("RUST_BACKTRACE", std::env::var(BACKTRACE).ok());
    set(THREAD, Some(format!("{:?}", thread::current().id())));
    let Some(front) = std::env::var_os(FRONT) else { return };
    // Reading too, so that opening doesn't wait for a reader.
    let open = |name| OpenOptions::new().read(true).write(true).open(Path::new(&front).join(name)).ok();
    if let (Some(output), Some(error)) = (open("stdout"), open("stderr")) {
        *lock(&PIPES) = Some([output, error]);
        std::panic::set_hook(Box::new(note));
    }
}

/// The panic hook: notes a panic of the cell's thread, whose end tells of it, and prints those of other threads.
fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
    let mut message = info.payload_as_str().unwrap_or("Box<dyn Any>").to_string();
    if std::env::var(BACKTRACE).is_ok_and(|asked| asked != "0") {
        message += &format!("\n{}", std::backtrace::Backtrace::force_capture());
    }
    let is_cell = lock(&RUNNING).as_ref().is_some_and(|running| running.thread == thread::current().id());
    if is_cell {
        lock(&PANICS).push((place, message));
    } else {
        eprintln!("thread {:?} panicked at {place}:\n{message}", thread::current().name().unwrap_or("<unnamed>"));
    }
}

/// Tells the front how the cell ended, and gives evcxr its output back; whether the cell was still running. The last `told`
/// panics are part of that.
fn finish(kind: &str, payload: &str, told: usize) -> bool {
    // Not in an `if let`, which would hold the lock that `eprintln!` needs in the panic hook.
    let running = lock(&RUNNING).take();
    let Some(running) = running else { return false };
    let pipes = lock(&PIPES);
    let Some([output, errors]) = pipes.as_ref() else { return false };
    let mut panics = std::mem::take(&mut *lock(&PANICS));
    panics.truncate(panics.len().saturating_sub(told));
    for (place, message) in panics {
        eprintln!("a panic at {place}, caught:\n{message}");
    }
    let mut redirected = running.redirected;
    if let Some(Redirected { input, .. }) = &mut redirected
        && !matches!(input.read(&mut [0]), Ok(1))
    {
        eprintln!(
            "note: a cell has no standard input; it has read one empty line instead. Write the value into a `let`, best in \
             the cell tagged `parameters`."
        );
    }
    send(output, kind, payload);
    send(errors, "ended", &running.number.to_string());
    if let Some(Redirected { evcxr, .. }) = redirected {
        redirect(evcxr.each_ref().map(|fd| fd.as_raw_fd()));
    }
    true
}

/// Sends an event through a pipe, between two texts.
fn send(mut pipe: &File, kind: &str, payload: &str) {
    // No other thread prints to standard output meanwhile.
    let mut output = std::io::stdout().lock();
    let _ = output.flush();
    let _ = pipe.write_all(format!("\x1e{kind} {}\n{payload}", payload.len()).as_bytes());
}

fn redirect(descriptors: [RawFd; 3]) {
    for (to, from) in (0..).zip(descriptors) {
        // SAFETY: both are open: the caller has the files, and 0 to 2 are never closed.
        unsafe { dup2(from, to) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The variables between cells, as in the module `evcxr_internal_runtime` that evcxr writes into each cell. A cell that is
/// compiled unchanged takes this store for its own: the field is the same. Generic is only what must be, as each cell
/// compiles that again for the type of each variable.
pub struct VariableStore {
    variables: HashMap<String, Box<dyn Any>>,
}

/// Called by the first cell with variables.
pub fn create_variable_store() -> *mut VariableStore {
    Box::into_raw(Box::new(VariableStore { variables: HashMap::new() }))
}

impl VariableStore {
    /// Keeps a variable.
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    /// Whether the variable has this type, if there is one.
    pub fn check_variable<T: 'static>(&self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>())
    }

    /// Gives a variable to the cell, which has checked its type.
    pub fn take_variable<T: 'static>(&mut self, name: &str) -> T {
        let value = self.take(name, TypeId::of::<T>());
        // SAFETY: `take` has found a T in a box, and has given the box up.
        *unsafe { Box::from_raw(value.cast::<T>()) }
    }

    /// What cells share under this name; the first that asks creates it.
    pub fn lazy_arc<T: 'static>(&mut self, name: &str, create: impl FnOnce() -> T) -> Arc<T> {
        let value = self.variables.entry(name.to_owned()).or_insert_with(|| Box::new(Arc::new(create())));
        value.downcast_ref::<Arc<T>>().unwrap_or_else(|| panic!("lazy_arc {name} changed type")).clone()
    }

    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        self.variables.insert(name.to_owned(), value);
    }

    fn check(&self, name: &str, wanted: TypeId) -> bool {
        let same = self.variables.get(name).is_none_or(|value| value.as_ref().type_id() == wanted);
        if !same {
            eprintln!("The type of the variable {name} was redefined, so was lost.");
            println!("EVCXR_VARIABLE_CHANGED_TYPE:{name}");
        }
        same
    }

    fn take(&mut self, name: &str, wanted: TypeId) -> *mut () {
        match self.variables.remove(name) {
            Some(value) if value.as_ref().type_id() == wanted => Box::into_raw(value).cast(),
            Some(_) => panic!("Variable changed type"),
            None => panic!("Variable '{name}' has gone missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_pass_from_cell_to_cell() {
        // SAFETY: the pointer was made from a box, and nobody else has it.
        let mut store = unsafe { Box::from_raw(create_variable_store()) };
        let shared = Arc::new(());
        store.put_variable("text", String::from("old"));
        store.put_variable("text", String::from("new"));
        store.put_variable("nothing", ());
        store.put_variable("counted", shared.clone());
        assert!(store.check_variable::<String>("text") && store.check_variable::<u8>("none of this name"));
        assert!(!store.check_variable::<Vec<u8>>("text"));
        assert_eq!(store.take_variable::<String>("text"), "new");
        store.take_variable::<()>("nothing");
        assert_eq!(Arc::strong_count(&store.take_variable::<Arc<()>>("counted")), 2);
        assert_eq!(Arc::strong_count(&shared), 1);
        assert_eq!(*store.lazy_arc("runtime", || 1), *store.lazy_arc("runtime", || 2));
        store.put_variable("text", 1u8);
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.take_variable::<String>("text")));
        assert!(taken.is_err());
    }
}
