//! Coordinates access to a network's parameters: training updates them, and other threads read them between two of its
//! steps.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The threads that are updating the parameters.
    updating: Vec<ThreadId>,
    waiting: usize,
    reading: usize,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` once no other thread is in the middle of a step, and holds off the next step meanwhile.
    pub(crate) fn read<R>(&self, read: impl FnOnce() -> R) -> R {
        /// The reading, and how many updates of this thread it interrupts.
        struct Reading<'a>(&'a Turns, usize);
        impl Drop for Reading<'_> {
            fn drop(&mut self) {
                let mut state = self.0.lock();
                state.reading -= 1;
                self.0.changed.notify_all();
                while self.1 > 0 && state.reading > 0 {
                    state = self.0.wait(state);
                }
                state.updating.extend(std::iter::repeat_n(thread::current().id(), self.1));
                drop(state);
                self.0.changed.notify_all();
            }
        }
        let me = thread::current().id();
        let mut state = self.lock();
        // A training that reads, to save a checkpoint, is in no step; else two would wait for each other.
        let updates = state.updating.len();
        state.updating.retain(|thread| *thread != me);
        let own = updates - state.updating.len();
        self.changed.notify_all();
        state.waiting += 1;
        while !state.updating.is_empty() {
            state = self.wait(state);
        }
        state.waiting -= 1;
        state.reading += 1;
        drop(state);
        let _reading = Reading(self, own);
        read()
    }
}

/// A training loop's hold on its [`Parameters`](crate::parameters::Parameters), from
/// [`Parameters::update`](crate::parameters::Parameters::update): while it exists, other threads can read them only in
/// a [pause](Self::pause).
#[derive(Debug)]
pub struct Updating {
    turns: Arc<Turns>,
    thread: ThreadId,
}

impl Updating {
    pub(crate) fn new(turns: &Arc<Turns>) -> Self {
        let thread = thread::current().id();
        let mut state = turns.lock();
        while state.reading > 0 {
            state = turns.wait(state);
        }
        state.updating.push(thread);
        Self { turns: turns.clone(), thread }
    }

    /// Whether another thread is waiting for a [pause](Self::pause).
    pub fn is_awaited(&self) -> bool {
        self.turns.lock().waiting > 0
    }

    /// Lets other threads read while `pause` runs, then waits until they are done. On a GPU, finish all training work
    /// first.
    pub fn pause<R>(&self, pause: impl FnOnce() -> R) -> R {
        self.release();
        let result = pause();
        let mut state = self.turns.lock();
        while state.reading > 0 || state.waiting > 0 && state.updating.is_empty() {
            state = self.turns.wait(state);
        }
        state.updating.push(self.thread);
        result
    }

    fn release(&self) {
        let mut state = self.turns.lock();
        if let Some(place) = state.updating.iter().position(|thread| *thread == self.thread) {
            state.updating.swap_remove(place);
        }
        drop(state);
        self.turns.changed.notify_all();
    }
}

impl Drop for Updating {
    fn drop(&mut self) {
        self.release();
    }
}
