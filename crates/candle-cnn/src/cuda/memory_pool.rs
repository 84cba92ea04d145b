//! CUDA's memory pool, from which candle allocates every tensor.

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets this device's pool keep freed memory; once per process.
///
/// By default it returns it to the system whenever something waits for the GPU, and the next step allocates it
/// again (CUDA C++ Programming Guide, "Stream-Ordered Memory Allocator").
pub(super) fn keep(gpu: &CudaDevice) {
    /// A bit for each device that it was done for; those from 64 on are left as they are.
    static DONE: AtomicU64 = AtomicU64::new(0);
    let stream = gpu.cuda_stream();
    let context = stream.context();
    let Some(bit) = 1u64.checked_shl(context.ordinal() as u32) else { return };
    if DONE.load(Ordering::Relaxed) & bit != 0 || DONE.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return;
    }
    let mut all = u64::MAX;
    // SAFETY: the device is the context's, the pool the device's, and this attribute a number of 64 bits.
    let _ = unsafe {
        // A device without pools has nothing to keep.
        device::get_mem_pool(context.cu_device()).and_then(|pool| {
            let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            mem_pool::set_attribute(pool, threshold, std::ptr::from_mut(&mut all).cast())
        })
    };
}
