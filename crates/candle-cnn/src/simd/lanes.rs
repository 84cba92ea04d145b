//! Buffers of sixteen-lane blocks, aligned to cache lines and kept between steps.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Lanes of a block: channels that are computed side by side.
pub(crate) const LANES: usize = 16;

/// Sixteen values in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Lane(pub [f32; LANES]);

impl Lane {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// Bytes of returned buffers that are kept at most; what lies above is given back to the system.
const KEPT_BYTES: usize = 256 << 20;

#[derive(Default)]
struct Pool {
    free: Vec<Vec<Lane>>,
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), bytes: 0 });

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
        let mut pool = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The smallest that fits, but none so large that it would be missed elsewhere.
        let fits = |v: &Vec<Lane>| v.len() >= len && v.len() <= 2 * len;
        let best = pool.free.iter().enumerate().filter(|(_, v)| fits(v)).min_by_key(|(_, v)| v.len());
        match best.map(|(i, _)| i) {
            Some(i) => {
                let found = pool.free.swap_remove(i);
                pool.bytes -= size_of_val(found.as_slice());
                Self { memory: found, len }
            }
            None => {
                drop(pool);
                Self { memory: vec![Lane::ZERO; len], len }
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let bytes = size_of_val(memory.as_slice());
        let mut pool = POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if bytes > 0 && pool.bytes + bytes <= KEPT_BYTES {
            pool.bytes += bytes;
            pool.free.push(memory);
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
    }
}
