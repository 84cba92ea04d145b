//! Updates a parameter and an optimizer's state in one pass, in place.

use candle_core::{CpuStorage, DType, Device, InplaceOp1, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;
use std::cell::RefCell;

use crate::element::Element;
use crate::simd::alone;

/// Elements that one thread takes at a time: with a parameter, its gradient and two moments 256 KiB of `f32`.
const CHUNK: usize = 1 << 14;

pub(super) trait InPlace: Element {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl InPlace for f32 {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [f32]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
}

impl InPlace for f64 {
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [f64]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }
}

/// Whether [`update`] supports a parameter and its gradient: on the CPU, `f32` or `f64`, contiguous.
pub(super) fn serves(parameter: &Tensor, gradient: &Tensor) -> bool {
    matches!(parameter.device(), Device::Cpu)
        && matches!(parameter.dtype(), DType::F32 | DType::F64)
        && gradient.dtype() == parameter.dtype()
        && matches!(gradient.device(), Device::Cpu)
        && gradient.dims() == parameter.dims()
        && parameter.is_contiguous()
        && gradient.is_contiguous()
}

/// The contiguous part of a storage that a layout covers.
fn part<'a, T: InPlace>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [T]> {
    let found = storage_type(storage);
    let range = layout.contiguous_offsets();
    match (T::slice_mut(storage), range) {
        (Some(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => candle_core::bail!("internal: an update in place of a {found:?} tensor, or of a strided one"),
    }
}

fn storage_type(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Runs a closure on a tensor's values.
struct OnValues<F>(RefCell<F>);

impl<F: FnMut(&mut CpuStorage, &Layout) -> Result<()>> InplaceOp1 for OnValues<F> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        (self.0.borrow_mut())(storage, layout)
    }
}

/// Runs a closure on a parameter's values and its gradient's.
struct OnPair<F>(RefCell<F>);

impl<F: FnMut(&mut CpuStorage, &Layout, &CpuStorage, &Layout) -> Result<()>> InplaceOp2 for OnPair<F> {
    fn name(&self) -> &'static str {
        "optimizer step"
    }
    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        (self.0.borrow_mut())(s1, l1, s2, l2)
    }
}

/// `f(parameter, gradient, state)` on chunks of a parameter, its gradient and up to two state tensors of its shape
/// (an empty slice where there is none), in parallel.
pub(super) fn update<T: InPlace>(
    parameter: &Tensor,
    gradient: &Tensor,
    first: Option<&Tensor>,
    second: Option<&Tensor>,
    f: impl Fn(&mut [T], &[T], &mut [T], &mut [T]) + Sync,
) -> Result<()> {
    with_values::<T>(first, &mut |first| {
        with_values::<T>(second, &mut |second| {
            let (first, second) = (RefCell::new(&mut *first), RefCell::new(second));
            let op = OnPair(RefCell::new(|p: &mut CpuStorage, pl: &Layout, g: &CpuStorage, gl: &Layout| {
                let p = part::<T>(p, pl)?;
                let Some((start, end)) = gl.contiguous_offsets() else {
                    candle_core::bail!("internal: an update by a strided gradient")
                };
                let g = &T::cpu_storage_as_slice(g)?[start..end];
                let (mut first, mut second) = (first.borrow_mut(), second.borrow_mut());
                let (a, b): (&mut [T], &mut [T]) = (&mut first, &mut second);
                if p.len() <= CHUNK {
                    f(p, g, a, b);
                    return Ok(());
                }
                let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
                match (a.is_empty(), b.is_empty()) {
                    (true, _) => chunks.for_each(|(p, g)| f(p, g, &mut [], &mut [])),
                    (false, true) => chunks.zip(a.par_chunks_mut(CHUNK)).for_each(|((p, g), a)| f(p, g, a, &mut [])),
                    (false, false) => chunks
                        .zip(a.par_chunks_mut(CHUNK))
                        .zip(b.par_chunks_mut(CHUNK))
                        .for_each(|(((p, g), a), b)| f(p, g, a, b)),
                }
                Ok(())
            }));
            alone(|| parameter.inplace_op2(gradient, &op))
        })
    })
}

fn with_values<T: InPlace>(tensor: Option<&Tensor>, f: &mut dyn FnMut(&mut [T]) -> Result<()>) -> Result<()> {
    match tensor {
        None => f(&mut []),
        Some(tensor) => {
            tensor.inplace_op1(&OnValues(RefCell::new(|s: &mut CpuStorage, l: &Layout| f(part::<T>(s, l)?))))
        }
    }
}
