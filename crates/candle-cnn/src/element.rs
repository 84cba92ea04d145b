//! Element types that the CPU code computes in, and the values of a CPU tensor as a slice.

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, WithDType};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;

/// `f32` (the fast type) and `f64` (for references and finite differences).
pub(crate) trait Element: WithDType {
    fn sqrt(self) -> Self;
    fn is_nan(self) -> bool;
    const NEG_INFINITY: Self;
}

macro_rules! element {
    ($t:ty) => {
        impl Element for $t {
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;
        }
    };
}
element!(f32);
element!(f64);

/// A contiguous CPU tensor's values, held open for reading.
pub(crate) struct Values<G, T> {
    storage: G,
    start: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<G: Deref<Target = Storage>, T: Element> Deref for Values<G, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Storage::Cpu(storage) = &*self.storage else { unreachable!("`values` has refused other devices") };
        let values = T::cpu_storage_as_slice(storage).expect("`values` has refused other types");
        &values[self.start..self.start + self.len]
    }
}

/// The values of `tensor`, which is contiguous (possibly with an offset), on the CPU and of type `T`.
pub(crate) fn values<T: Element>(tensor: &Tensor) -> Result<Values<impl Deref<Target = Storage> + '_, T>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("internal: a contiguous tensor was expected, strides are {:?}", layout.stride())
    };
    match &*storage {
        Storage::Cpu(cpu) => {
            T::cpu_storage_as_slice(cpu)?;
        }
        _ => candle_core::bail!("internal: a tensor on the CPU was expected"),
    }
    Ok(Values { storage, start, len: end - start, element: PhantomData })
}

/// Memory for values to be computed. `vec![0.0; len]` would write zeros on one thread while the others wait, for as long as
/// an addition takes. Made on the thread that called the operation: glibc has little room for the threads of a pool.
pub(crate) struct Fresh<T> {
    memory: Vec<T>,
    len: usize,
}

impl<T: Element> Fresh<T> {
    pub(crate) fn new(len: usize) -> Self {
        Self { memory: Vec::with_capacity(len), len }
    }

    /// The values that `fill` computes in parallel, `chunk` at a time, from each chunk's number. Each chunk is zeros at first.
    pub(crate) fn filled(mut self, chunk: usize, fill: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
        let fresh = &mut self.memory.spare_capacity_mut()[..self.len];
        fresh.par_chunks_mut(chunk).enumerate().for_each(|(i, fresh)| {
            fresh.fill(MaybeUninit::new(T::zero()));
            // SAFETY: all of `fresh` has just been written.
            fill(i, unsafe { &mut *(std::ptr::from_mut(fresh) as *mut [T]) });
        });
        // SAFETY: the first `len` values of `memory` are the chunks, each of which has been written.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}

/// A CPU tensor that owns `data`, outside of any graph.
pub(crate) fn tensor<T: Element>(data: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// A CPU vector of `values`, rounded to `T`.
pub(crate) fn vector<T: Element>(values: impl Iterator<Item = f64>) -> Result<Tensor> {
    let values: Vec<T> = values.map(T::from_f64).collect();
    let len = values.len();
    tensor(values, &[len])
}

/// `len` values that `fill` computes, as [`Fresh::filled`] does.
pub(crate) fn filled<T: Element>(len: usize, chunk: usize, fill: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    Fresh::new(len).filled(chunk, fill)
}

/// The values of a CPU vector, or `count` times `default`.
pub(crate) fn vector_or<T: Element>(vector: Option<&Tensor>, count: usize, default: f64) -> Result<Vec<f64>> {
    match vector {
        Some(vector) => Ok(values::<T>(&vector.contiguous()?)?.iter().map(|v| v.to_f64()).collect()),
        None => Ok(vec![default; count]),
    }
}

/// `data` as candle's storage.
pub(crate) fn storage<T: Element>(data: Vec<T>) -> CpuStorage {
    T::to_cpu_storage_owned(data)
}
