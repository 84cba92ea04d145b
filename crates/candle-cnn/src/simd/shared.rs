//! A pointer that the tasks of one kernel share.

/// A raw pointer that threads may share: each writes to a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: only handed to tasks that write to disjoint parts; said again where it is used.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(p: *mut f32) -> Self {
        Self(p)
    }
    pub(crate) fn get(self) -> *mut f32 {
        self.0
    }
}
