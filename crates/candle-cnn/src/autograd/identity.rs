//! Detects tensors that candle can't tell apart.
//!
//! candle keeps gradients by tensor id, a number from a counter. If candle is linked into a process twice, there are
//! two counters, two tensors may have the same id, and `backward()` silently adds up their gradients. Notebooks are
//! such processes: each cell is a library of its own. With one counter these checks never fail, whatever the number of
//! threads:
//!
//! - an id belongs to one tensor, so it is never seen at two addresses;
//! - an operation's inputs are numbered before its output.

use candle_core::{DType, Device, Result, Tensor, TensorId};
use std::cell::RefCell;
use std::hash::{Hash, Hasher};

use crate::error::Error;

/// Ids remembered by each thread, the last one for each remainder: far more than the tensors of one training step.
const REMEMBERED: usize = 4096;

/// A tensor that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Met {
    id: u64,
    /// The tensor's address; when it is dropped, its id is never used again.
    address: usize,
    dims: Vec<usize>,
}

impl Met {
    fn new(tensor: &Tensor) -> Self {
        Self { id: number(tensor.id()), address: std::ptr::from_ref(&**tensor).addr(), dims: tensor.dims().to_vec() }
    }
}

/// The tensors seen recently, by the remainder of their ids.
#[derive(Debug, Default)]
struct Memory(Vec<Option<Met>>);

impl Memory {
    /// Remembers `tensor`; rejects it if its id belongs to another one.
    fn meet(&mut self, operation: &'static str, tensor: Met) -> std::result::Result<(), Error> {
        self.0.resize(REMEMBERED, None);
        let place = &mut self.0[(tensor.id % REMEMBERED as u64) as usize];
        match place {
            Some(known) if known.id == tensor.id && known.address != tensor.address => {
                let (id, found, other) = (tensor.id, tensor.dims, known.dims.clone());
                Err(Error::OneIdTwoTensors { operation, id, found, other })
            }
            Some(known) if *known == tensor => Ok(()),
            _ => {
                *place = Some(tensor);
                Ok(())
            }
        }
    }
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The number inside an id, which candle only exposes to hashers.
fn number(id: TensorId) -> u64 {
    struct Bytes(u64);
    impl Hasher for Bytes {
        fn write(&mut self, bytes: &[u8]) {
            let mut whole = [0; 8];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            self.0 = u64::from_ne_bytes(whole);
        }
        fn finish(&self) -> u64 {
            self.0
        }
    }
    let mut bytes = Bytes(0);
    id.hash(&mut bytes);
    bytes.finish()
}

/// Rejects inputs made by another copy of candle than `output`.
pub(crate) fn check_operation(operation: &'static str, inputs: &[&Tensor], output: &Tensor) -> Result<()> {
    let output = Met::new(output);
    MEMORY.with_borrow_mut(|memory| {
        for input in inputs {
            let input = Met::new(input);
            if input.id >= output.id {
                return Err(Error::IdNotGivenOut { operation, id: input.id, found: input.dims }.into());
            }
            memory.meet(operation, input)?;
        }
        Ok(memory.meet(operation, output)?)
    })
}

/// Rejects parameters made by another copy of candle than the optimizer's.
pub(crate) fn check_parameters<'a>(
    optimizer: &'static str,
    parameters: impl Iterator<Item = &'a Tensor>,
) -> Result<()> {
    let parameters: Vec<&Tensor> = parameters.collect();
    check_operation(optimizer, &parameters, &Tensor::zeros((), DType::U8, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn met(id: u64, address: usize) -> Met {
        Met { id, address, dims: vec![address] }
    }

    #[test]
    fn an_id_stands_for_one_tensor() {
        let mut memory = Memory::default();
        for _ in 0..2 {
            memory.meet("relu", met(7, 100)).unwrap();
            memory.meet("relu", met(8, 200)).unwrap();
        }
        let error = memory.meet("relu", met(7, 300)).unwrap_err();
        assert_eq!(error, Error::OneIdTwoTensors { operation: "relu", id: 7, found: vec![300], other: vec![100] });
        // What was met long ago is forgotten, not taken for another.
        memory.meet("relu", met(7 + REMEMBERED as u64, 400)).unwrap();
        memory.meet("relu", met(7, 300)).unwrap();
    }

    #[test]
    fn numbers_count_up() -> Result<()> {
        let numbers: Vec<u64> =
            (0..3).map(|_| Ok(number(Tensor::zeros(1, DType::F32, &Device::Cpu)?.id()))).collect::<Result<_>>()?;
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        Ok(())
    }

    #[test]
    fn what_was_numbered_later_was_numbered_elsewhere() -> Result<()> {
        let (before, after) = (Var::zeros(2, DType::F32, &Device::Cpu)?, Var::zeros(3, DType::F32, &Device::Cpu)?);
        check_operation("linear", &[&before], &after)?;
        let error = check_operation("linear", &[&after], &before).unwrap_err().to_string();
        assert!(error.contains("linear: a tensor of shape [3]") && error.contains("linked twice"), "{error}");
        Ok(())
    }
}
