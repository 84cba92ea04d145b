//! Buffers of sixteen-lane blocks, aligned to cache lines and kept between steps.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Lanes of a block: channels that are computed side by side.
pub(crate) const LANES: usize = 16;

/// Sixteen values in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Lane(pub [f32; LANES]);

impl Lane {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// Bytes of returned buffers that are kept at most, more than a step of ResNet-18 needs at 512 images; what lies above is given
/// back to the allocator, which hands it out as zeros, written by one thread.
const KEPT_BYTES: usize = 1 << 30;

/// Returned buffers. Each thread returns to and takes from a shard of its own, so that threads don't wait for one
/// another; where that has none that fits, it looks at the others as far as they are free.
static SHARDS: [Shard; SHARD_COUNT] = [const { Shard(Mutex::new(Vec::new())) }; SHARD_COUNT];

/// In cache lines of its own: a processor fetches them in pairs.
#[repr(align(128))]
struct Shard(Mutex<Vec<Vec<Lane>>>);

/// Bytes of the buffers in all shards.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// More threads than this share.
const SHARD_COUNT: usize = 64;

/// This thread's shard: rayon's threads are numbered, and others share the last one.
fn own_shard() -> usize {
    rayon::current_thread_index().map_or(SHARD_COUNT - 1, |index| index % (SHARD_COUNT - 1))
}

/// Takes the smallest buffer that fits `len`, but none so large that it would be missed elsewhere.
fn take(free: &mut Vec<Vec<Lane>>, len: usize) -> Option<Vec<Lane>> {
    let fits = |v: &Vec<Lane>| v.len() >= len && v.len() <= 2 * len;
    let best = free.iter().enumerate().filter(|(_, v)| fits(v)).min_by_key(|(_, v)| v.len());
    let found = best.map(|(i, _)| i).map(|i| free.swap_remove(i))?;
    KEPT.fetch_sub(size_of_val(found.as_slice()), Ordering::Relaxed);
    Some(found)
}

/// A buffer whose memory comes from earlier ones where one fits: fresh memory costs a page fault every 4 KiB, more
/// than the arithmetic on it. Its content is whatever was there before.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<Lane>,
    len: usize,
}

impl Buffer {
    /// `len` blocks of arbitrary content.
    pub(crate) fn new(len: usize) -> Self {
        let own = own_shard();
        let found = take(&mut SHARDS[own].0.lock().unwrap_or_else(PoisonError::into_inner), len);
        let found = found.or_else(|| {
            let others = (own + 1..own + SHARD_COUNT).map(|shard| &SHARDS[shard % SHARD_COUNT]);
            others.into_iter().find_map(|shard| take(&mut *shard.0.try_lock().ok()?, len))
        });
        Self { memory: found.unwrap_or_else(|| vec![Lane::ZERO; len]), len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let bytes = size_of_val(memory.as_slice());
        if bytes == 0 {
            return;
        }
        if KEPT.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT_BYTES {
            SHARDS[own_shard()].0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        } else {
            KEPT.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Deref for Buffer {
    type Target = [Lane];
    fn deref(&self) -> &[Lane] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [Lane] {
        &mut self.memory[..self.len]
    }
}

/// Gives all returned buffers back to the allocator.
pub(crate) fn release() {
    for shard in &SHARDS {
        let kept = std::mem::take(&mut *shard.0.lock().unwrap_or_else(PoisonError::into_inner));
        KEPT.fetch_sub(kept.iter().map(|memory| size_of_val(memory.as_slice())).sum(), Ordering::Relaxed);
    }
}

/// The values of blocks, one after another.
pub(crate) fn floats(lanes: &[Lane]) -> &[f32] {
    // SAFETY: a `Lane` is an array of so many `f32` and nothing else: `repr(C)`, with a size that its alignment divides.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * LANES) }
}

/// The values of blocks, one after another, for writing.
pub(crate) fn floats_mut(lanes: &mut [Lane]) -> &mut [f32] {
    // SAFETY: as in `floats`.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * LANES) }
}

/// One value for each of `count` channels as blocks, zeros behind the last.
pub(crate) fn lanes(count: usize, f: impl Fn(usize) -> f64) -> Vec<Lane> {
    let value = |c: usize| if c < count { f(c) as f32 } else { 0.0 };
    (0..count.div_ceil(LANES)).map(|b| Lane(std::array::from_fn(|i| value(b * LANES + i)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        // A size that no other test uses, so that no other thread takes it.
        let len = 12_347;
        let first = Buffer::new(len);
        let address = floats(&first).as_ptr().addr();
        assert_eq!((address % 64, first.len()), (0, len));
        drop(first);
        let second = Buffer::new(len - 100);
        assert_eq!((floats(&second).as_ptr().addr(), second.len()), (address, len - 100));
        drop(second);
        release();
        assert!(SHARDS[own_shard()].0.lock().unwrap().iter().all(|memory| memory.len() != len));
    }
}
