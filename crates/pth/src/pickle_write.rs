//! The pickle of a state dict, byte for byte as Python's pickler writes it in protocol 2: each new object gets the next
//! memo index, and what was written before is recalled by its index.

use std::collections::HashMap;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The most entries that Python's pickler sets at once.
const BATCH: usize = 1000;

#[derive(Default)]
struct Pickler {
    out: Vec<u8>,
    /// The next memo index.
    next: u32,
    /// The memo index of each name that is written only once.
    known: HashMap<&'static str, u32>,
}

/// The pickle of an `OrderedDict` of these tensors; a tensor's position is its storage's key.
pub(crate) fn state_dict<'t>(tensors: impl Iterator<Item = (&'t str, &'t Tensor<'t>)>) -> Result<Vec<u8>> {
    let mut to = Pickler::default();
    to.out.extend([0x80, 2]);
    to.empty_ordered_dict();
    let entries: Vec<_> = tensors.enumerate().collect();
    for batch in entries.chunks(BATCH) {
        if batch.len() > 1 {
            to.out.push(b'(');
        }
        for &(key, (name, tensor)) in batch {
            to.text(name);
            to.tensor(tensor.dtype(), tensor.shape(), key, tensor.data().len())?;
        }
        to.out.push(if batch.len() > 1 { b'u' } else { b's' });
    }
    to.out.push(b'.');
    Ok(to.out)
}

impl Pickler {
    /// Gives what was just written the next memo index.
    fn memoize(&mut self) -> u32 {
        let index = self.next;
        self.next += 1;
        self.indexed(b'q', b'r', index);
        index
    }

    fn indexed(&mut self, short: u8, long: u8, index: u32) {
        match u8::try_from(index) {
            Ok(index) => self.out.extend([short, index]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(index.to_le_bytes());
            }
        }
    }

    /// Recalls `name`, or writes and memoizes it.
    fn once(&mut self, name: &'static str, write: impl FnOnce(&mut Self)) {
        if let Some(&index) = self.known.get(name) {
            return self.indexed(b'h', b'j', index);
        }
        write(self);
        let index = self.memoize();
        self.known.insert(name, index);
    }

    fn global(&mut self, module: &str, name: &'static str) {
        self.once(name, |to| to.out.extend(format!("c{module}\n{name}\n").as_bytes()));
    }

    fn constant(&mut self, text: &'static str) {
        self.once(text, |to| to.raw_text(text));
    }

    fn text(&mut self, text: &str) {
        self.raw_text(text);
        self.memoize();
    }

    fn raw_text(&mut self, text: &str) {
        self.out.push(b'X');
        // A text of 4 GiB makes a pickle that the archive refuses.
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    fn integer(&mut self, value: usize) {
        if let Ok(value) = u8::try_from(value) {
            self.out.extend([b'K', value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.out.push(b'M');
            self.out.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.out.push(b'J');
            self.out.extend(value.to_le_bytes());
        } else {
            // The fewest bytes that hold it, and a zero where the last would read as a minus sign.
            let bytes = (value as u64).to_le_bytes();
            let length = 8 - value.leading_zeros() as usize / 8;
            let sign = usize::from(bytes[length - 1] >= 0x80);
            self.out.extend([0x8a, (length + sign) as u8]);
            self.out.extend(&bytes[..length]);
            self.out.extend(&[0][..sign]);
        }
    }

    /// A tuple of integers.
    fn integers(&mut self, values: &[usize]) {
        if values.is_empty() {
            self.out.push(b')');
            return;
        }
        if values.len() > 3 {
            self.out.push(b'(');
        }
        values.iter().for_each(|&value| self.integer(value));
        // TUPLE1 to TUPLE3, or TUPLE from the mark on.
        self.out.push(if values.len() > 3 { b't' } else { 0x84 + values.len() as u8 });
        self.memoize();
    }

    fn empty_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend(b")R");
        self.memoize();
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize], key: usize, bytes: usize) -> Result<()> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.out.extend(b"((");
        self.constant("storage");
        self.global("torch", dtype.storage_class());
        self.text(&key.to_string());
        self.constant("cpu");
        self.integer(bytes / dtype.size());
        self.out.push(b't');
        self.memoize();
        self.out.push(b'Q');
        // The offset.
        self.integer(0);
        self.integers(shape);
        let mut strides = vec![1; shape.len()];
        for dimension in (1..shape.len()).rev() {
            // PyTorch counts a size of 0 as 1 here.
            let stride = usize::checked_mul(strides[dimension], shape[dimension].max(1));
            strides[dimension - 1] = stride.ok_or(Error::TooLargeToWrite)?;
        }
        self.integers(&strides);
        // requires_grad, then the hooks of the backward pass.
        self.out.push(0x89);
        self.empty_ordered_dict();
        self.out.push(b't');
        self.memoize();
        self.out.push(b'R');
        self.memoize();
        Ok(())
    }
}
