//! The pickle of a state dict, byte for byte as Python's pickler writes it in protocol 2: each text and tuple is given
//! a number in the order in which they come, and what came before is called up by its number.

use crate::error::{Error, Result};
use crate::{DType, StateDict};

/// As many entries as Python's pickler sets in one go.
const BATCH: usize = 1000;

#[derive(Default)]
struct Pickler {
    out: Vec<u8>,
    kept: u32,
    ordered_dict: Option<u32>,
    rebuild: Option<u32>,
    storage: Option<u32>,
    cpu: Option<u32>,
    classes: [Option<u32>; DType::ALL.len()],
}

/// The pickle of an `OrderedDict` of these tensors, with the position as each storage's key.
pub(crate) fn state_dict(state: &StateDict) -> Result<Vec<u8>> {
    let mut to = Pickler::default();
    to.out.extend([0x80, 2]);
    to.empty_ordered_dict();
    let entries: Vec<_> = state.iter().enumerate().collect();
    for batch in entries.chunks(BATCH) {
        if batch.len() > 1 {
            to.out.push(b'(');
        }
        for &(key, (name, tensor)) in batch {
            to.text(name)?;
            to.tensor(tensor.dtype(), tensor.shape(), key, tensor.data().len())?;
        }
        to.out.push(if batch.len() > 1 { b'u' } else { b's' });
    }
    to.out.push(b'.');
    Ok(to.out)
}

impl Pickler {
    /// Gives what was just written its number.
    fn keep(&mut self) -> u32 {
        let index = self.kept;
        self.kept += 1;
        self.numbered(b'q', b'r', index);
        index
    }

    fn numbered(&mut self, short: u8, long: u8, index: u32) {
        match u8::try_from(index) {
            Ok(index) => self.out.extend([short, index]),
            Err(_) => {
                self.out.push(long);
                self.out.extend(index.to_le_bytes());
            }
        }
    }

    /// Calls up what has a number, or writes it and gives it one.
    fn once(&mut self, known: Option<u32>, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<Option<u32>> {
        match known {
            Some(index) => self.numbered(b'h', b'j', index),
            None => {
                write(self)?;
                return Ok(Some(self.keep()));
            }
        }
        Ok(known)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        self.out.extend(format!("c{module}\n{name}\n").as_bytes());
        Ok(())
    }

    fn raw_text(&mut self, text: &str) -> Result<()> {
        let length = u32::try_from(text.len()).map_err(|_| Error::TooLargeToWrite)?;
        self.out.push(b'X');
        self.out.extend(length.to_le_bytes());
        self.out.extend(text.as_bytes());
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.raw_text(text)?;
        self.keep();
        Ok(())
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
            // As few bytes as hold it, and one more where the last would look like a sign.
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
        self.keep();
    }

    fn empty_ordered_dict(&mut self) {
        let known = self.ordered_dict;
        // Writing a name cannot fail.
        self.ordered_dict = self.once(known, |to| to.global("collections", "OrderedDict")).unwrap_or(known);
        self.out.extend(b")R");
        self.keep();
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize], key: usize, bytes: usize) -> Result<()> {
        let known = self.rebuild;
        self.rebuild = self.once(known, |to| to.global("torch._utils", "_rebuild_tensor_v2"))?;
        self.out.extend(b"((");
        let known = self.storage;
        self.storage = self.once(known, |to| to.raw_text("storage"))?;
        let class = dtype as usize;
        let known = self.classes[class];
        self.classes[class] = self.once(known, |to| to.global("torch", dtype.storage_class()))?;
        self.text(&key.to_string())?;
        let known = self.cpu;
        self.cpu = self.once(known, |to| to.raw_text("cpu"))?;
        self.integer(bytes / dtype.size());
        self.out.push(b't');
        self.keep();
        self.out.push(b'Q');
        self.integer(0);
        self.integers(shape);
        let mut strides = vec![1; shape.len()];
        for dimension in (1..shape.len()).rev() {
            // PyTorch counts a size of 0 as 1 here.
            let stride = usize::checked_mul(strides[dimension], shape[dimension].max(1));
            strides[dimension - 1] = stride.ok_or(Error::TooLargeToWrite)?;
        }
        self.integers(&strides);
        // requires_grad, and the hooks of the backward pass.
        self.out.push(0x89);
        self.empty_ordered_dict();
        self.out.push(b't');
        self.keep();
        self.out.push(b'R');
        self.keep();
        Ok(())
    }
}
