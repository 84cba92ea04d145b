//! The operations on NVIDIA GPUs, in `f32`.
//!
//! All work of a candle device goes to its single stream and runs in the order of the calls. So nothing here waits for
//! the GPU or reads from it, memory may be freed as soon as its last use has been launched, and a step can be captured
//! in a CUDA graph. No kernel uses atomics: the same values give the same bits.

pub(crate) mod capture;
#[allow(missing_docs)] // The test includes it, so it says `pub`; kernels.cu says what each kernel does.
pub(crate) mod launch;
mod memory_pool;

use candle_core::cuda_backend::cudarc::cublas;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Result, Storage, Tensor};
use std::ffi::{c_int, c_void};

use crate::error::Error;
use crate::precision::{Precision, precision};
use launch::{Address, Argument, Channels, Launch, Table};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

// SAFETY: made of integers, floats and addresses, laid out as in C.
unsafe impl DeviceRepr for Table {}

/// Memory for a result.
pub(crate) struct Memory {
    storage: CudaStorage,
    begin: Address,
}

impl Memory {
    /// Its address. A method, because a closure that names a field captures that field alone and not the memory.
    pub(crate) fn at(&self) -> Address {
        self.begin
    }

    pub(crate) fn into_storage(self) -> Storage {
        Storage::Cuda(self.storage)
    }

    /// A tensor outside of any graph.
    pub(crate) fn into_tensor(self, shape: &[usize]) -> Tensor {
        Tensor::from_storage(self.into_storage(), shape, BackpropOp::none(), false)
    }
}

/// A matrix as cuBLAS takes it, column by column: a contiguous tensor is its own transpose.
struct Factor {
    /// What the matrix lies in, rounded to bf16 or not.
    begin: Address,
    rounded: Option<Memory>,
    /// Values from one row of the tensor to the next.
    row: c_int,
    operation: cublas::sys::cublasOperation_t,
}

/// The device that an operation runs on, forward and backward, and the precision of its products.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub(crate) device: CudaDevice,
    pub(crate) precision: Precision,
}

impl Gpu {
    pub(crate) fn new(device: CudaDevice) -> Result<Self> {
        /// The first compute capability with TF32 and bf16.
        const AMPERE: i32 = 8;
        memory_pool::keep(&device);
        let precision = match precision() {
            Precision::F32 => Precision::F32,
            reduced => {
                let (major, _) = device.cuda_stream().context().compute_capability().w()?;
                if major >= AMPERE { reduced } else { Precision::F32 }
            }
        };
        Ok(Self { device, precision })
    }

    pub(crate) fn of(x: &Tensor) -> Result<Self> {
        Self::new(x.device().as_cuda_device()?.clone())
    }

    /// Room for `count` values, which are to be written before they are read.
    pub(crate) fn empty<T: CudaDType + DeviceRepr>(&self, count: usize) -> Result<Memory> {
        let storage = uninitialized::<T>(&self.device, count)?;
        let begin = begin::<T>(&storage, 0)?;
        Ok(Memory { storage, begin })
    }

    /// `count` values from `x` on as bf16.
    pub(crate) fn rounded(&self, x: Address, count: usize) -> Result<Memory> {
        // candle's 16-bit integer: nothing here needs to know that these are bf16.
        let rounded = self.empty::<i16>(count)?;
        self.run(launch::to_bf16(x, rounded.at(), count))?;
        Ok(rounded)
    }

    fn factor(&self, x: &Tensor) -> Result<Factor> {
        use cublas::sys::cublasOperation_t::{CUBLAS_OP_N as AS_IT_IS, CUBLAS_OP_T as TRANSPOSED};
        let (stored, operation) = if x.is_contiguous() { (x.clone(), AS_IT_IS) } else { (x.t()?, TRANSPOSED) };
        let begin = address::<f32>(&stored)?;
        let reduce = self.precision == Precision::Bf16;
        let rounded = if reduce { Some(self.rounded(begin, x.elem_count())?) } else { None };
        let begin = rounded.as_ref().map_or(begin, Memory::at);
        Ok(Factor { begin, rounded, row: size(stored.dim(1)?)?, operation })
    }

    /// a · b for matrices `[m, k]` and `[k, n]`, either of them transposed or not, by cuBLAS.
    pub(crate) fn product(&self, a: &Tensor, b: &Tensor) -> Result<Memory> {
        let ((m, k), (_, n)) = (a.dims2()?, b.dims2()?);
        let (a, b, product) = (self.factor(a)?, self.factor(b)?, self.empty::<f32>(m * n)?);
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = (std::ptr::from_ref(&one).cast::<c_void>(), std::ptr::from_ref(&zero).cast::<c_void>());
        use cublas::sys::{cublasComputeType_t as Compute, cudaDataType_t as Kind};
        let float = Kind::CUDA_R_32F;
        let (kind, compute) = match self.precision {
            Precision::F32 => (float, Compute::CUBLAS_COMPUTE_32F),
            Precision::Tf32 => (float, Compute::CUBLAS_COMPUTE_32F_FAST_TF32),
            Precision::Bf16 => (Kind::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F),
        };
        let blas = self.device.cublas_handle();
        // SAFETY: the factors have the sizes of the product, whose transpose is b's times a's; all are alive, and so is
        // the handle, whose context `empty` has bound to this thread.
        unsafe {
            cublas::result::gemm_ex(
                *blas.handle(),
                b.operation,
                a.operation,
                size(n)?,
                size(m)?,
                size(k)?,
                one,
                b.begin as *const c_void,
                kind,
                b.row,
                a.begin as *const c_void,
                kind,
                a.row,
                zero,
                product.at() as *mut c_void,
                float,
                size(n)?,
                compute,
                cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()?;
        // Given back behind the product, on the same stream.
        drop((a.rounded, b.rounded));
        Ok(product)
    }

    /// Puts a launch on the stream.
    ///
    /// Its arguments must be those of the kernel, and the addresses those of tensors, or of memory from
    /// [`Self::empty`], that are at least as large as the sizes say.
    pub(crate) fn run(&self, launch: Launch) -> Result<()> {
        let kernel = self.device.get_or_load_custom_func(launch.kernel, "candle-cnn", PTX).map_err(explained)?;
        let mut arguments = kernel.builder();
        for argument in &launch.arguments {
            match argument {
                Argument::Address(value) => arguments.arg(value),
                Argument::Integer(value) => arguments.arg(value),
                Argument::Float(value) => arguments.arg(value),
                Argument::Double(value) => arguments.arg(value),
                // The driver reads as many bytes from here as the kernel's signature says.
                Argument::Sizes(values) => arguments.arg(&values[0]),
                Argument::Table(table) => arguments.arg(&**table),
            };
        }
        let config =
            LaunchConfig { grid_dim: (launch.blocks, 1, 1), block_dim: (launch.threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: arguments are put together in `launch` alone, beside each other for all kernels, and the same launches
        // run on the CPU in tests/kernels.rs, where a wrong type, order or size shows.
        unsafe { arguments.launch(config) }.w()?;
        Ok(())
    }
}

/// A size as cuBLAS counts it.
fn size(size: usize) -> Result<c_int> {
    match c_int::try_from(size) {
        Ok(size) => Ok(size),
        Err(_) => candle_core::bail!("a matrix on a GPU has a side of {size}, expected less than 2³¹"),
    }
}

/// Memory of candle's, not written yet.
pub(crate) fn uninitialized<T: CudaDType + DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaStorage> {
    // SAFETY: callers launch what writes it before anything reads it; `f32` and integers have no invalid bits.
    let slice = unsafe { device.alloc::<T>(count) }.map_err(|error| {
        let bytes = count * size_of::<T>();
        if error.to_string().contains("OUT_OF_MEMORY") { Error::OutOfMemory { bytes }.into() } else { error }
    })?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}

/// The address of the value at `offset` in a storage.
fn begin<T: CudaDType>(storage: &CudaStorage, offset: usize) -> Result<Address> {
    let stream = storage.device.cuda_stream();
    // The guard would record the use for other streams, of which a device of candle's has none.
    let (address, _) = storage.as_cuda_slice::<T>()?.device_ptr(&stream);
    Ok(address + (offset * size_of::<T>()) as u64)
}

/// A contiguous tensor's address in its device's memory.
pub(crate) fn address<T: CudaDType>(x: &Tensor) -> Result<Address> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, _))) => begin::<T>(storage, start),
        _ => candle_core::bail!("internal: a contiguous tensor on a GPU was expected"),
    }
}

/// Like [`address`]; 0 if there is no tensor.
pub(crate) fn address_or_null(x: Option<&Tensor>) -> Result<Address> {
    x.map_or(Ok(0), address::<f32>)
}

/// The sum of each channel of dy `[N, C, plane]`: a bias's gradient.
pub(crate) fn channel_gradient(gpu: &Gpu, dy: Address, [n, c, plane]: [usize; 3]) -> Result<Tensor> {
    let channels = Channels::new(n, c, plane);
    let (sums, gradient) = (gpu.empty::<f64>(channels.sums())?, gpu.empty::<f32>(c)?);
    gpu.run(channels.gradient_sums(dy, 0, 0, sums.at()))?;
    gpu.run(channels.gradients(sums.at(), 0, 0, gradient.at()))?;
    Ok(gradient.into_tensor(&[c]))
}

/// What to do if the kernels can't be loaded.
fn explained(error: candle_core::Error) -> candle_core::Error {
    let said = error.to_string();
    let advice = if said.contains("UNSUPPORTED_PTX_VERSION") {
        "the driver is older than the CUDA toolkit of this build; update the driver, or build with an older toolkit"
    } else if said.contains("NO_BINARY_FOR_GPU") || said.contains("INVALID_PTX") {
        "this build is for a newer GPU; build again with CUDA_COMPUTE_CAP set to this GPU's compute capability"
    } else {
        return error;
    };
    Error::Kernels { reason: said.lines().next().unwrap_or_default().to_string(), advice }.into()
}
