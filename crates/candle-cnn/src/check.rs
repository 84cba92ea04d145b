//! Checks shared by the operations.

use candle_core::{DType, Device, Result, Tensor};

use crate::error::Error;

/// The device and type for an operation on `x`.
pub(crate) enum Backend {
    /// On the CPU, in `f32`.
    CpuF32,
    /// On the CPU, in `f64`.
    CpuF64,
    /// On an NVIDIA GPU, in `f32`.
    #[cfg(feature = "cuda")]
    CudaF32,
    /// Otherwise: candle's own operations.
    Candle,
}

pub(crate) fn backend(x: &Tensor) -> Backend {
    match (x.device(), x.dtype()) {
        (Device::Cpu, DType::F32) => Backend::CpuF32,
        (Device::Cpu, DType::F64) => Backend::CpuF64,
        #[cfg(feature = "cuda")]
        (Device::Cuda(_), DType::F32) if in_32_bits(x) => Backend::CudaF32,
        _ => Backend::Candle,
    }
}

/// Whether positions in one plane fit in 32 bits, as the kernels count them.
#[cfg(feature = "cuda")]
fn in_32_bits(x: &Tensor) -> bool {
    x.dims().iter().skip(2).product::<usize>() <= i32::MAX as usize
}

/// Runs candle's own operations on `x`; errors are reported under `operation`'s name.
pub(crate) fn by_candle(
    operation: &'static str,
    x: &Tensor,
    compute: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    compute().map_err(|error| {
        // A backtrace may follow.
        let reason = error.to_string().lines().next().unwrap_or_default().to_string();
        Error::Unsupported { operation, found: x.dtype(), reason }.into()
    })
}

/// The dimensions of a batch of images, none of them zero.
pub(crate) fn dims4(operation: &'static str, argument: &'static str, x: &Tensor) -> Result<[usize; 4]> {
    match *x.dims() {
        [n, c, h, w] if n * c * h * w > 0 => Ok([n, c, h, w]),
        _ => Err(shape(operation, argument, x, "[N, C, H, W], each at least 1")),
    }
}

pub(crate) fn shape(
    operation: &'static str,
    argument: &'static str,
    x: &Tensor,
    wanted: impl Into<String>,
) -> candle_core::Error {
    Error::Shape { operation, argument, found: x.dims().to_vec(), wanted: wanted.into() }.into()
}

/// Requires a floating-point type: images come as integers and must be normalized first.
pub(crate) fn float(operation: &'static str, argument: &'static str, x: &Tensor) -> Result<()> {
    if !x.dtype().is_float() {
        let wanted = "a floating-point type; convert it with to_dtype(DType::F32)".to_string();
        return Err(Error::DType { operation, argument, found: x.dtype(), wanted }.into());
    }
    Ok(())
}

/// An argument of exactly `wanted` dimensions, with the type and device of the input `x`.
pub(crate) fn argument(
    operation: &'static str,
    name: &'static str,
    found: &Tensor,
    wanted: &[usize],
    x: &Tensor,
) -> Result<()> {
    if found.dims() != wanted {
        return Err(shape(operation, name, found, format!("{wanted:?}")));
    }
    like(operation, name, found, x)
}

/// An argument with the type and device of the input `x`.
pub(crate) fn like(operation: &'static str, name: &'static str, found: &Tensor, x: &Tensor) -> Result<()> {
    if found.dtype() != x.dtype() {
        let wanted = format!("{:?} like the input", x.dtype());
        return Err(Error::DType { operation, argument: name, found: found.dtype(), wanted }.into());
    }
    same_device(operation, name, found, x)
}

/// An argument on the device of the input `x`.
pub(crate) fn same_device(operation: &'static str, name: &'static str, found: &Tensor, x: &Tensor) -> Result<()> {
    if !found.device().same_device(x.device()) {
        let (found, wanted) = (format!("{:?}", found.device().location()), format!("{:?}", x.device().location()));
        return Err(Error::Device { operation, argument: name, found, wanted }.into());
    }
    Ok(())
}

/// A setting that must be as `wanted` says; `holds` says whether it is.
pub(crate) fn setting(
    operation: &'static str,
    setting: &'static str,
    found: impl ToString,
    holds: bool,
    wanted: &str,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Setting { operation, setting, found: found.to_string(), wanted: wanted.into() }.into())
}

/// A setting that must be at least 1.
pub(crate) fn positive(operation: &'static str, name: &'static str, found: usize) -> Result<()> {
    setting(operation, name, found, found > 0, "at least 1")
}

/// A setting that must be finite and not negative.
pub(crate) fn not_negative(operation: &'static str, name: &'static str, found: f64) -> Result<()> {
    setting(operation, name, found, found >= 0.0 && found.is_finite(), "a finite number, at least 0")
}

/// A setting that must be a number from 0 to 1.
pub(crate) fn share(operation: &'static str, name: &'static str, found: f64) -> Result<()> {
    setting(operation, name, found, (0.0..=1.0).contains(&found), "a number from 0 to 1")
}

/// A setting that must be a number from 0 up to, not including, 1.
pub(crate) fn share_below_one(operation: &'static str, name: &'static str, found: f64) -> Result<()> {
    setting(operation, name, found, (0.0..1.0).contains(&found), "a number from 0 up to, not including, 1")
}

/// Logits `[N, C]` of a floating-point type, and labels `[N]` of an integer type.
pub(crate) fn labels(operation: &'static str, logits: &Tensor, labels: &Tensor) -> Result<()> {
    let n = match *logits.dims() {
        [n, c] if n * c > 0 => n,
        _ => return Err(shape(operation, "the logits", logits, "[N, C], each at least 1")),
    };
    float(operation, "the logits", logits)?;
    if labels.dims() != [n] {
        return Err(shape(operation, "the labels", labels, format!("[{n}] for logits of {:?}", logits.dims())));
    }
    if !matches!(labels.dtype(), DType::U8 | DType::U32 | DType::I64) {
        let wanted = "an integer type (u8, u32 or i64)".to_string();
        return Err(Error::DType { operation, argument: "the labels", found: labels.dtype(), wanted }.into());
    }
    Ok(())
}
