//! Coordinates access to networks' parameters: a training updates them, and other threads read them between two of its
//! steps.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// One for the process, because [`read_between_steps`] doesn't know whose parameters it reads.
static STATE: Mutex<State> = Mutex::new(State { updating: Vec::new(), waiting: Vec::new(), reading: Vec::new() });
/// Signaled whenever [`STATE`] changes.
static CHANGED: Condvar = Condvar::new();

/// The identity of one network's parameters; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner(Arc<()>);

impl Owner {
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Whose parameters are read; `None` if it may be anyone's.
type Read = Option<Owner>;

struct State {
    /// The threads that are in the middle of a step, and whose parameters it updates.
    updating: Vec<(ThreadId, Owner)>,
    waiting: Vec<Read>,
    reading: Vec<Read>,
}

impl State {
    fn is_updated(&self, read: &Read) -> bool {
        self.updating.iter().any(|(_, owner)| concerns(read, owner))
    }
}

fn concerns(read: &Read, owner: &Owner) -> bool {
    read.as_ref().is_none_or(|read| read.is(owner))
}

fn take_out(reads: &mut Vec<Read>, read: &Read) {
    let same = |other: &Read| match (other, read) {
        (Some(other), Some(read)) => other.is(read),
        (other, read) => other.is_none() && read.is_none(),
    };
    if let Some(place) = reads.iter().position(same) {
        reads.swap_remove(place);
    }
}

fn lock() -> MutexGuard<'static, State> {
    // The state is consistent after every statement.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(state: MutexGuard<'static, State>) -> MutexGuard<'static, State> {
    CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Runs `read` while no thread is in the middle of a training step, and holds off the next steps meanwhile: for code that
/// reads parameters without knowing whose they are. Only needed on a GPU, where nothing else orders a training's work
/// and that of another thread; finish the work before `read` returns. A training's own thread reads at once.
///
/// ```
/// use candle_cnn::parameters::{Parameters, read_between_steps};
///
/// let updating = Parameters::new(0).update();
/// std::thread::scope(|scope| {
///     let reader = scope.spawn(|| read_between_steps(|| "between two steps"));
///     while !updating.is_awaited() {
///         std::thread::yield_now();
///     }
///     updating.pause(|| ());
///     assert_eq!(reader.join().unwrap(), "between two steps");
/// });
/// assert_eq!(read_between_steps(|| "at once"), "at once");
/// ```
pub fn read_between_steps<R>(read: impl FnOnce() -> R) -> R {
    let me = thread::current().id();
    if lock().updating.iter().any(|(thread, _)| *thread == me) {
        return read();
    }
    self::read(None, read)
}

/// Runs `read` while no other thread is in the middle of a step on the parameters of `of`, and holds off the next step
/// meanwhile.
pub(crate) fn read_of<R>(of: &Owner, read: impl FnOnce() -> R) -> R {
    self::read(Some(of.clone()), read)
}

fn read<R>(of: Read, read: impl FnOnce() -> R) -> R {
    /// The reading, and the updates of this thread that it interrupts.
    struct Reading(Read, Vec<(ThreadId, Owner)>);
    impl Drop for Reading {
        fn drop(&mut self) {
            let mut state = lock();
            take_out(&mut state.reading, &self.0);
            CHANGED.notify_all();
            while self.1.iter().any(|(_, owner)| state.reading.iter().any(|read| concerns(read, owner))) {
                state = wait(state);
            }
            state.updating.append(&mut self.1);
        }
    }
    let me = thread::current().id();
    let mut state = lock();
    // A training that reads, to save a checkpoint, is in no step; else two would wait for each other.
    let own = state.updating.extract_if(.., |(thread, _)| *thread == me).collect();
    CHANGED.notify_all();
    state.waiting.push(of.clone());
    while state.is_updated(&of) {
        state = wait(state);
    }
    take_out(&mut state.waiting, &of);
    state.reading.push(of.clone());
    drop(state);
    let _reading = Reading(of, own);
    read()
}

/// A training loop's hold on its [`Parameters`](crate::parameters::Parameters), from
/// [`Parameters::update`](crate::parameters::Parameters::update): while it exists, other threads can read them only in
/// a [pause](Self::pause).
#[derive(Debug)]
pub struct Updating {
    owner: Owner,
    thread: ThreadId,
}

impl Updating {
    pub(crate) fn new(owner: &Owner) -> Self {
        let updating = Self { owner: owner.clone(), thread: thread::current().id() };
        updating.begin(|state| state.reading.iter().any(|read| concerns(read, owner)));
        updating
    }

    /// Waits as long as `others_read`, then updates.
    fn begin(&self, others_read: impl Fn(&State) -> bool) {
        let mut state = lock();
        while others_read(&state) {
            state = wait(state);
        }
        state.updating.push((self.thread, self.owner.clone()));
    }

    /// Whether another thread is waiting for a [pause](Self::pause).
    pub fn is_awaited(&self) -> bool {
        lock().waiting.iter().any(|read| concerns(read, &self.owner))
    }

    /// Lets other threads read while `pause` runs, then waits until they are done. On a GPU, finish all training work
    /// first.
    pub fn pause<R>(&self, pause: impl FnOnce() -> R) -> R {
        self.release();
        let result = pause();
        // Those that wait for other trainings' steps too come first, or they might never find all of them paused.
        self.begin(|state| state.reading.iter().chain(&state.waiting).any(|read| concerns(read, &self.owner)));
        result
    }

    fn release(&self) {
        let mut state = lock();
        let own = |(thread, owner): &(ThreadId, Owner)| *thread == self.thread && owner.is(&self.owner);
        if let Some(place) = state.updating.iter().position(own) {
            state.updating.swap_remove(place);
        }
        drop(state);
        CHANGED.notify_all();
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        self.release();
    }
}
