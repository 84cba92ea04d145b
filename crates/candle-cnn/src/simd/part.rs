//! What the tasks of one kernel write to together.

use std::marker::PhantomData;

/// Values that several tasks write to at once, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    begin: *mut f32,
    len: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: only kernels write through `begin`, and `run`'s callers promise that no other task has the same places.
unsafe impl Send for Part<'_> {}
// SAFETY: the same.
unsafe impl Sync for Part<'_> {}

impl<'a> Part<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { begin: values.as_mut_ptr(), len: values.len(), values: PhantomData }
    }

    /// The values from place `at` on.
    pub(crate) fn from(self, at: usize) -> Self {
        assert!(at <= self.len, "place {at} of {}", self.len);
        // SAFETY: the assertion: the result lies inside of the values, or right behind them.
        Self { begin: unsafe { self.begin.add(at) }, len: self.len - at, ..self }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    pub(crate) fn as_mut_ptr(self) -> *mut f32 {
        self.begin
    }
}
