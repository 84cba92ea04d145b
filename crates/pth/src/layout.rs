//! How a tensor's elements lie in its storage.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::dtype::DType;
use crate::error::{Error, Result, excerpt};

/// PyTorch's own limit.
pub(crate) const MOST_DIMENSIONS: usize = 64;

/// The number of elements, or `None` on overflow. A dimension of size 0 makes it 0.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

/// The number of bytes, or `None` on overflow.
pub(crate) fn byte_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    element_count(shape)?.checked_mul(dtype.size())
}

/// A tensor's layout in its storage.
pub(crate) struct Layout<'s> {
    pub(crate) dtype: DType,
    pub(crate) shape: &'s [usize],
    /// In elements, one per dimension.
    pub(crate) strides: &'s [usize],
    /// The index of the first element.
    pub(crate) offset: usize,
    pub(crate) big_endian: bool,
}

impl Layout<'_> {
    /// The elements in row-major order, little-endian: borrowed if the storage has them so, else a copy. Borrowed ones
    /// count toward the budget too, because many tensors of a hostile file may share the same bytes.
    pub(crate) fn gather<'a>(&self, name: &[u8], storage: &'a [u8], budget: &mut Budget) -> Result<Cow<'a, [u8]>> {
        let size = self.dtype.size();
        let outside = || Error::OutsideStorage {
            tensor: excerpt(name),
            shape: self.shape.to_vec(),
            strides: self.strides.to_vec(),
            offset: self.offset,
            length: storage.len() / size,
        };
        debug_assert!(self.shape.len() == self.strides.len() && self.shape.len() <= MOST_DIMENSIONS);
        let count = element_count(self.shape).ok_or_else(outside)?;
        if count == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let last = self.shape.iter().zip(self.strides).try_fold(self.offset, |last, (&length, &stride)| {
            (length - 1).checked_mul(stride).and_then(|step| last.checked_add(step))
        });
        if last.is_none_or(|last| last >= storage.len() / size) {
            return Err(outside());
        }
        let bytes = count.checked_mul(size).ok_or_else(outside)?;
        budget.take(bytes)?;
        if self.is_contiguous() && (!self.big_endian || size == 1) {
            // In bounds: the last element of a contiguous tensor is offset + count − 1, checked above.
            return Ok(Cow::Borrowed(&storage[self.offset * size..][..count * size]));
        }
        let mut data = Vec::with_capacity(bytes);
        let mut index = [0; MOST_DIMENSIONS];
        let mut at = self.offset;
        for _ in 0..count {
            let element = &storage[at * size..][..size];
            if self.big_endian {
                data.extend(element.iter().rev());
            } else {
                data.extend_from_slice(element);
            }
            // Counts up like an odometer, the last dimension fastest.
            for dimension in (0..self.shape.len()).rev() {
                index[dimension] += 1;
                if index[dimension] < self.shape[dimension] {
                    at += self.strides[dimension];
                    break;
                }
                at -= self.strides[dimension] * (self.shape[dimension] - 1);
                index[dimension] = 0;
            }
        }
        Ok(Cow::Owned(data))
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(self.strides).rev().all(|(&length, &stride)| {
            // The stride of a dimension of size 1 is never used.
            let fits = length == 1 || stride == expected;
            expected *= length;
            fits
        })
    }
}
