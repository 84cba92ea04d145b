//! The memory that reading a file may take.

use crate::error::{Error, Result};

/// What reading may take beside twice the file's length, in bytes. The description of a tensor takes ten times the bytes
/// that it has in the file, and a view may show one number as often as it likes: what people save stays far below.
#[allow(unexpected_cfgs)]
pub const MEMORY_FLOOR: usize = if cfg!(fuzzing) { 1 << 24 } else { 1 << 30 };

/// Counts the bytes taken on account of a file.
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

    /// Makes room for `more` items in `items`. While it moves, old and new memory are both counted.
    pub(crate) fn reserve<T>(&mut self, items: &mut Vec<T>, more: usize) -> Result<()> {
        let wanted = items.len().saturating_add(more);
        if wanted > items.capacity() {
            let old = items.capacity();
            // Twice the old, so that pushing one by one takes linear time.
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
