//! NVIDIA's driver, in builds with CUDA. Asking it creates no context, so it takes milliseconds and no GPU memory.

use candle_cnn::step_graph::outside_captures;
use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};
use candle_core::cuda_backend::kernels;
use candle_core::{DType, Device, Tensor};

use std::sync::{Mutex, PoisonError};

use crate::error::{DeviceError, Version, explain, without_backtrace};

/// A GPU as the driver describes it.
#[derive(Clone, Debug)]
pub(super) struct Gpu {
    pub(super) name: String,
    pub(super) capability: Version,
    /// In bytes.
    pub(super) memory: usize,
}

/// The CUDA of the toolkit that this was compiled with.
pub(super) fn toolkit() -> Version {
    version(sys::CUDA_VERSION)
}

/// The lowest compute capability that can load the kernels, from their PTX.
pub(super) fn compiled_capability() -> Option<Version> {
    capability_of_ptx(kernels::FILL.ptx())
}

/// 13000 is 13.0.
fn version(number: u32) -> Version {
    (number / 1000, number % 1000 / 10)
}

/// `.target sm_90` is 9.0, `.target sm_120a` is 12.0.
fn capability_of_ptx(ptx: &str) -> Option<Version> {
    let target = ptx.lines().find_map(|line| line.trim().strip_prefix(".target sm_"))?;
    let digits: String = target.chars().take_while(char::is_ascii_digit).collect();
    let number: u32 = digits.parse().ok()?;
    Some((number / 10, number % 10))
}

fn of_driver(error: DriverError) -> DeviceError {
    DeviceError::of_driver_code(error.0 as u32).unwrap_or_else(|| DeviceError::Other(error.to_string()))
}

/// The driver's description of the GPU with this number, or why it can't be used.
pub(super) fn look(ordinal: usize) -> Result<Gpu, DeviceError> {
    // Whatever else keeps the driver from starting, it does not respond.
    result::init().map_err(|error| match of_driver(error) {
        DeviceError::Other(_) => DeviceError::NoDriver { code: error.0 as u32 },
        known => known,
    })?;
    let mut driver = 0;
    // SAFETY: `driver` is an `i32`, and the call writes one `int` to it.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(of_driver)?;
    let (driver, toolkit) = (version(driver.unsigned_abs()), toolkit());
    // Within a major version most things work; what doesn't shows when the kernels are loaded.
    if driver.0 < toolkit.0 {
        return Err(DeviceError::DriverTooOld { driver, toolkit });
    }
    let count = usize::try_from(result::device::get_count().map_err(of_driver)?).unwrap_or(0);
    if count == 0 {
        return Err(DeviceError::NoGpu);
    }
    let number = i32::try_from(ordinal).ok().filter(|_| ordinal < count);
    let number = number.ok_or(DeviceError::OutOfRange { asked: ordinal, count })?;
    let device = result::device::get(number).map_err(of_driver)?;
    let attribute = |attribute| {
        // SAFETY: `device` was returned by `result::device::get`.
        unsafe { result::device::get_attribute(device, attribute) }.map(i32::unsigned_abs).map_err(of_driver)
    };
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let capability = (attribute(MAJOR)?, attribute(MINOR)?);
    if let Some(compiled) = compiled_capability().filter(|compiled| capability < *compiled) {
        return Err(DeviceError::TooOldGpu { found: capability, compiled });
    }
    let name = result::device::get_name(device).map_err(of_driver)?;
    // SAFETY: `device` was returned by `result::device::get`.
    let memory = unsafe { result::device::total_mem(device) }.map_err(of_driver)?;
    Ok(Gpu { name, capability, memory })
}

/// The GPU with this number, the same in all of the process: tensors of two devices would not be accepted together, and
/// closing one waits for the whole GPU, which spoils captures.
///
/// It has run a kernel, so that a driver that can't load the kernels fails here and not during a training.
pub(super) fn open(ordinal: usize) -> Result<Device, DeviceError> {
    static GPUS: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());
    look(ordinal)?;
    let mut gpus = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = gpus.iter().find(|(known, _)| *known == ordinal) {
        return Ok(device.clone());
    }
    let device = outside_captures(|| open_anew(ordinal))?;
    gpus.push((ordinal, device.clone()));
    Ok(device)
}

fn open_anew(ordinal: usize) -> Result<Device, DeviceError> {
    let open = || {
        let device = Device::new_cuda(ordinal)?;
        // SAFETY: the events (two for each tensor) order the streams that cudarc makes, and no stream is made here: each
        // thread uses CUDA's own, which they would not order, and `finish_work` is called where tensors change threads.
        unsafe { device.as_cuda_device()?.disable_event_tracking() };
        Tensor::ones(1, DType::F32, &device)?.affine(1., 1.)?.to_vec1::<f32>()?;
        Ok(device)
    };
    open().map_err(|error: candle_core::Error| {
        explain(&error).unwrap_or_else(|| DeviceError::Other(without_backtrace(&error)))
    })
}

/// Waits until this thread's GPU, if it has one, has finished all work on its streams.
///
/// Each thread has a stream of its own, so another thread's work on the same tensors would not wait for it.
pub(crate) fn finish_work() {
    // SAFETY: the call takes no arguments. Without a started driver or a context it returns an error, and there is nothing
    // to wait for; an error of the work itself shows where its results are read.
    let _ = outside_captures(|| unsafe { sys::cuCtxSynchronize() });
}

/// The free memory of a GPU in bytes, including what its pool keeps of dropped tensors; `None` if `device` is no GPU.
pub(crate) fn free_memory(device: &Device) -> Option<usize> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().ok()?;
    let (free, _) = result::mem_get_info().ok()?;
    use sys::CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED, CU_MEMPOOL_ATTR_USED_MEM_CURRENT as USED,
    };
    // SAFETY: `cu_device` is the device of `context`, which is alive.
    let pool = unsafe { result::device::get_mem_pool(context.cu_device()) };
    let bytes = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: `pool` is the device's, and `bytes` is the `u64` that both attributes are written as.
        unsafe { result::mem_pool::get_attribute(pool.ok()?, attribute, std::ptr::from_mut(&mut bytes).cast()) }
            .ok()?;
        usize::try_from(bytes).ok()
    };
    // A device without a pool keeps nothing.
    let kept = bytes(RESERVED).zip(bytes(USED)).map_or(0, |(reserved, used)| reserved.saturating_sub(used));
    Some(free + kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version(12080), (12, 8));
        assert_eq!(capability_of_ptx("//\n.version 9.0\n.target sm_90\n"), Some((9, 0)));
        assert_eq!(capability_of_ptx(".target sm_120a, debug"), Some((12, 0)));
        assert!(compiled_capability().is_some() && toolkit().0 >= 11);
    }

    #[test]
    fn memory_of_a_dropped_tensor_is_free() {
        let gpu = match open(0) {
            Err(reason) => return println!("skipped: no GPU: {reason}"),
            Ok(gpu) => gpu,
        };
        // candle-cnn lets the pool keep memory from its first operation on.
        candle_cnn::ops::relu(&Tensor::ones(1, DType::F32, &gpu).expect("room")).expect("a kernel");
        const GIBIBYTE: usize = 1 << 30;
        let free = || free_memory(&gpu).expect("a GPU's memory");
        let before = free();
        let tensor = Tensor::zeros(GIBIBYTE, DType::U8, &gpu).expect("room");
        gpu.synchronize().expect("an answer");
        let between = free();
        drop(tensor);
        gpu.synchronize().expect("an answer");
        // Other tests use a little at the same time.
        assert!(before - between > GIBIBYTE / 2, "{before} {between}");
        assert!(before.abs_diff(free()) < GIBIBYTE / 2, "{before} {}", free());
    }

    #[test]
    fn a_gpu_computes_where_there_is_one() {
        match look(0) {
            Err(reason) => println!("skipped: no GPU: {reason}"),
            Ok(gpu) => {
                assert!(open(0).is_ok(), "{gpu:?}");
                assert!(matches!(look(99), Err(DeviceError::OutOfRange { asked: 99, .. })));
            }
        }
    }
}
