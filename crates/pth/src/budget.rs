//! Limits the memory that reading a file may take.

use crate::error::{Error, Result};

/// The bytes of memory that reading may take on top of twice the file's length. A tensor's description takes ten times
/// its bytes in the file, and a view may repeat one number any number of times; real checkpoints stay far below.
#[allow(unexpected_cfgs)]
pub const MEMORY_FLOOR: usize = if cfg!(fuzzing) { 1 << 24 } else { 1 << 30 };

/// Counts the bytes allocated for a file.
pub(crate) struct Budget {
    limit: usize,
    left: usize,
}

impl Budget {
    /// The budget for a file of `length` bytes.
    pub(crate) fn for_length(length: usize) -> Self {
        Self::new(length.saturating_mul(2).saturating_add(MEMORY_FLOOR))
    }

    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, left: limit }
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(Error::Memory { limit: self.limit })?;
        Ok(())
    }

    /// Makes room for `more` items. During reallocation both the old and the new memory count.
    pub(crate) fn reserve<T>(&mut self, items: &mut Vec<T>, more: usize) -> Result<()> {
        let wanted = items.len().saturating_add(more);
        if wanted > items.capacity() {
            let old = items.capacity();
            // Doubling keeps repeated pushes linear.
            let new = wanted.max(old.saturating_mul(2)).max(4);
            self.take(new.saturating_mul(size_of::<T>()))?;
            items.reserve_exact(new - items.len());
            self.left += old * size_of::<T>();
        }
        Ok(())
    }

    pub(crate) fn push<T>(&mut self, items: &mut Vec<T>, item: T) -> Result<()> {
        self.reserve(items, 1)?;
        items.push(item);
        Ok(())
    }
}
