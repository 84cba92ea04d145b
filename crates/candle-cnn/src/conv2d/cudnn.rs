//! Convolutions by cuDNN, in the selected precision (in `f32` without TF32) and with deterministic algorithms.
//!
//! Each function returns whether there was such an algorithm. cuDNN's choice for a geometry is cached, because asking
//! takes longer than a small convolution.

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result as lib, sys};
use candle_core::{Error, Result};
use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;

use super::geometry::Geometry;
use crate::capturing::outside_captures;
use crate::cuda::launch::{self, Address};
use crate::cuda::{Gpu, Memory};
use crate::precision::Precision;

/// The largest workspace for an algorithm, in bytes.
const MOST_WORKSPACE: usize = 1 << 30;

/// Algorithms that cuDNN is asked for; it has up to eight for each direction, each with and without tensor cores.
const ALGORITHMS: usize = 16;

/// A cuDNN object, destroyed on drop.
struct Owned<T: Copy>(T, unsafe fn(T) -> std::result::Result<(), CudnnError>);

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by the matching function, and given back once. An error has nowhere to go.
        let _ = unsafe { (self.1)(self.0) };
    }
}

fn failed(error: CudnnError) -> Error {
    Error::wrap(error)
}

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    Forward,
    Input,
    Weight,
}

enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

/// A geometry as cuDNN describes it, and the algorithm for one direction with its workspace.
struct Plan {
    x: Owned<sys::cudnnTensorDescriptor_t>,
    y: Owned<sys::cudnnTensorDescriptor_t>,
    weight: Owned<sys::cudnnFilterDescriptor_t>,
    convolution: Owned<sys::cudnnConvolutionDescriptor_t>,
    algorithm: Option<(Algorithm, usize)>,
}

/// A thread's handle to one device; not for other threads.
struct Handle {
    plans: HashMap<(Geometry, Direction, Precision), Plan>,
    handle: Owned<sys::cudnnHandle_t>,
}

impl Handle {
    fn new(gpu: &Gpu) -> Result<Self> {
        let stream = gpu.device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        // Both wait for the whole GPU.
        let handle = outside_captures(lib::create_handle).map_err(failed)?;
        // SAFETY: as `destroy_handle`, which is called once.
        let destroy = |handle| outside_captures(|| unsafe { lib::destroy_handle(handle) });
        let handle = Owned(handle, destroy as unsafe fn(_) -> _);
        // SAFETY: both are alive, and the device keeps its stream as long as it lives.
        unsafe { lib::set_stream(handle.0, stream.cu_stream() as *mut _) }.map_err(failed)?;
        Ok(Self { plans: HashMap::new(), handle })
    }
}

thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, Handle>> = RefCell::default();
}

/// The type of cuDNN's tensors.
fn kind(precision: Precision) -> sys::cudnnDataType_t {
    match precision {
        Precision::F32 | Precision::Tf32 => sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Precision::Bf16 => sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
    }
}

fn tensor(dims: [usize; 4], precision: Precision) -> Result<Owned<sys::cudnnTensorDescriptor_t>> {
    let owned =
        Owned(lib::create_tensor_descriptor().map_err(failed)?, lib::destroy_tensor_descriptor as unsafe fn(_) -> _);
    let (format, kind) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW, kind(precision));
    // SAFETY: just made.
    unsafe { lib::set_tensor4d_descriptor(owned.0, format, kind, dims.map(|size| size as c_int)) }.map_err(failed)?;
    Ok(owned)
}

fn filter(dims: [usize; 4], precision: Precision) -> Result<Owned<sys::cudnnFilterDescriptor_t>> {
    let owned =
        Owned(lib::create_filter_descriptor().map_err(failed)?, lib::destroy_filter_descriptor as unsafe fn(_) -> _);
    let (format, kind) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW, kind(precision));
    // SAFETY: just made.
    unsafe { lib::set_filter4d_descriptor(owned.0, kind, format, dims.map(|size| size as c_int)) }.map_err(failed)?;
    Ok(owned)
}

fn convolution(g: &Geometry, precision: Precision) -> Result<Owned<sys::cudnnConvolutionDescriptor_t>> {
    let made = lib::create_convolution_descriptor().map_err(failed)?;
    let owned = Owned(made, lib::destroy_convolution_descriptor as unsafe fn(_) -> _);
    let [padding, stride, dilation] =
        [g.config.padding, g.config.stride, g.config.dilation].map(|setting| setting as c_int);
    // SAFETY: just made.
    unsafe {
        lib::set_convolution2d_descriptor(
            owned.0,
            padding,
            padding,
            stride,
            stride,
            dilation,
            dilation,
            sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
            sys::cudnnDataType_t::CUDNN_DATA_FLOAT,
        )
        .map_err(failed)?;
        lib::set_convolution_math_type(owned.0, maths(precision)[0]).map_err(failed)?;
    }
    Ok(owned)
}

/// The math that cuDNN is asked for, and then what else an algorithm may say of itself.
fn maths(precision: Precision) -> &'static [sys::cudnnMathType_t] {
    use sys::cudnnMathType_t::{CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
    match precision {
        // cuDNN's default allows TF32.
        Precision::F32 => &[CUDNN_FMA_MATH, CUDNN_DEFAULT_MATH],
        Precision::Tf32 => &[CUDNN_DEFAULT_MATH, CUDNN_TENSOR_OP_MATH, CUDNN_FMA_MATH],
        Precision::Bf16 => &[CUDNN_TENSOR_OP_MATH, CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH],
    }
}

/// The method for a convolution, where measurements showed that cuDNN's estimate is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// cuDNN's estimate of the fastest.
    Estimated,
    /// Winograd's transforms around products, where cuDNN has them.
    Winograd,
    /// This crate's matrix products.
    Products,
}

impl Way {
    /// On an H200 with cuDNN 9.19, in `f32`, 3×3 pixels, at batch 32, 128 and 512: Winograd's transforms took down to a
    /// third of the time of the estimate's choice for a gradient of many channels, and products a third for that of
    /// few.
    fn of(g: &Geometry, direction: Direction, precision: Precision) -> Self {
        /// The number of channels from which the transforms pay off.
        const MANY: usize = 32;
        /// Bytes of the largest matrix of columns.
        const MOST_COLUMNS: usize = MOST_WORKSPACE / 4;
        let measured = (g.kh, g.kw, g.config.stride, g.config.dilation) == (3, 3, 1, 1);
        if !measured || precision != Precision::F32 {
            return Self::Estimated;
        }
        let columns = (g.c * g.kh * g.kw * size_of::<f32>()).saturating_mul(g.n * g.oh * g.ow);
        match direction {
            Direction::Weight if g.c <= MANY && columns <= MOST_COLUMNS => Self::Products,
            Direction::Forward if g.c <= MANY => Self::Estimated,
            _ if g.c.min(g.o) >= MANY => Self::Winograd,
            _ => Self::Estimated,
        }
    }
}

/// Of the algorithms that serve `$winograd`, where the way is that, or else the fastest by cuDNN's own estimate, with
/// its workspace in bytes; `None` where none serves. `$ask` fills an array with them, `$size` tells the workspace of
/// one; both take the same descriptors.
macro_rules! fastest {
    (
        $kind:ident: $performance:ty, $ask:ident, $size:ident, $winograd:expr, $way:expr, $precision:expr,
        ($handle:expr, $a:expr, $b:expr, $convolution:expr, $result:expr)
    ) => {{
        let mut count: c_int = 0;
        // SAFETY: zero is a value of each of its fields.
        let mut found: [$performance; ALGORITHMS] = unsafe { zeroed() };
        let (room, places) = (ALGORITHMS as c_int, found.as_mut_ptr());
        // SAFETY: descriptors and handle are alive, and the array has room for as many as are asked for.
        match unsafe { lib::$ask($handle, $a, $b, $convolution, $result, room, &mut count, places) } {
            // No algorithm at all, as for bf16 in some geometries.
            Err(CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED)) => count = 0,
            asked => asked.map_err(failed)?,
        }
        let mut serving = found[..count as usize].iter().filter(|found| {
            found.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                && found.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                && maths($precision).contains(&found.mathType)
                && found.memory <= MOST_WORKSPACE
        });
        let asked = serving.clone().find(|found| $way == Way::Winograd && found.algo == $winograd);
        match asked.or_else(|| serving.next()) {
            None => None,
            Some(found) => {
                // In `f32` the math stays what was asked for: "default" would allow TF32.
                if $precision != Precision::F32 {
                    // SAFETY: the descriptor is alive.
                    unsafe { lib::set_convolution_math_type($convolution, found.mathType) }.map_err(failed)?;
                }
                // SAFETY: descriptors and handle are alive.
                let size = unsafe { lib::$size($handle, $a, $b, $convolution, $result, found.algo) };
                Some((Algorithm::$kind(found.algo), size.map_err(failed)?))
            }
        }
    }};
}

impl Plan {
    fn new(handle: sys::cudnnHandle_t, g: &Geometry, direction: Direction, precision: Precision) -> Result<Self> {
        let x = tensor([g.n, g.c, g.h, g.w], precision)?;
        let y = tensor([g.n, g.o, g.oh, g.ow], precision)?;
        let weight = filter([g.o, g.c, g.kh, g.kw], precision)?;
        let convolution = convolution(g, precision)?;
        let way = Way::of(g, direction, precision);
        let algorithm = match direction {
            _ if way == Way::Products => None,
            Direction::Forward => fastest!(
                Forward: sys::cudnnConvolutionFwdAlgoPerf_t, get_convolution_forward_algorithm,
                get_convolution_forward_workspace_size,
                sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED, way, precision,
                (handle, x.0, weight.0, convolution.0, y.0)
            ),
            Direction::Input => fastest!(
                Input: sys::cudnnConvolutionBwdDataAlgoPerf_t, get_convolution_backward_data_algorithm,
                get_convolution_backward_data_workspace_size,
                sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED, way, precision,
                (handle, weight.0, y.0, convolution.0, x.0)
            ),
            Direction::Weight => fastest!(
                Weight: sys::cudnnConvolutionBwdFilterAlgoPerf_t, get_convolution_backward_filter_algorithm,
                get_convolution_backward_filter_workspace_size,
                sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED, way, precision,
                (handle, x.0, y.0, convolution.0, weight.0)
            ),
        };
        Ok(Self { x, y, weight, convolution, algorithm })
    }

    /// Launches the convolution, if there is an algorithm for it; see [`run`].
    ///
    /// # Safety
    /// The addresses must be those of tensors of the plan's sizes and type.
    unsafe fn run(&self, gpu: &Gpu, handle: sys::cudnnHandle_t, [a, b, result]: [Address; 3]) -> Result<()> {
        let Self { x, y, weight, convolution, algorithm } = self;
        let Some((algorithm, bytes)) = algorithm else { return Ok(()) };
        let workspace = if *bytes > 0 { Some(gpu.empty::<u8>(*bytes)?) } else { None };
        let room = workspace.as_ref().map_or(std::ptr::null_mut(), |workspace| workspace.at() as *mut c_void);
        let (one, zero) = (1f32, 0f32);
        let (one, zero) = (std::ptr::from_ref(&one).cast::<c_void>(), std::ptr::from_ref(&zero).cast::<c_void>());
        let (a, b, result) = (a as *const c_void, b as *const c_void, result as *mut c_void);
        // SAFETY: the caller's promise; descriptors and handle are alive, the workspace is as large as cuDNN asked for.
        unsafe {
            match *algorithm {
                Algorithm::Forward(algorithm) => lib::convolution_forward(
                    handle,
                    one,
                    x.0,
                    a,
                    weight.0,
                    b,
                    convolution.0,
                    algorithm,
                    room,
                    *bytes,
                    zero,
                    y.0,
                    result,
                ),
                Algorithm::Input(algorithm) => lib::convolution_backward_data(
                    handle,
                    one,
                    weight.0,
                    a,
                    y.0,
                    b,
                    convolution.0,
                    algorithm,
                    room,
                    *bytes,
                    zero,
                    x.0,
                    result,
                ),
                Algorithm::Weight(algorithm) => lib::convolution_backward_filter(
                    handle,
                    one,
                    x.0,
                    a,
                    y.0,
                    b,
                    convolution.0,
                    algorithm,
                    room,
                    *bytes,
                    zero,
                    weight.0,
                    result,
                ),
            }
        }
        .map_err(failed)
    }
}

/// Values of the two tensors that a convolution takes and of the one that it gives.
fn counts(g: &Geometry, direction: Direction) -> [usize; 3] {
    let (x, y, weight) = (g.n * g.c * g.h * g.w, g.n * g.o * g.oh * g.ow, g.o * g.c * g.kh * g.kw);
    match direction {
        Direction::Forward => [x, weight, y],
        Direction::Input => [weight, y, x],
        Direction::Weight => [x, y, weight],
    }
}

/// Runs a convolution of two tensors into a third; returns whether there was an algorithm for it.
fn run(gpu: &Gpu, g: &Geometry, direction: Direction, addresses: [Address; 3]) -> Result<bool> {
    HANDLES.with_borrow_mut(|handles| {
        let Handle { handle, plans } = match handles.entry(gpu.device.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Handle::new(gpu)?),
        };
        let plan = match plans.entry((*g, direction, gpu.precision)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Plan::new(handle.0, g, direction, gpu.precision)?),
        };
        if plan.algorithm.is_none() {
            return Ok(false);
        }
        if gpu.precision != Precision::Bf16 {
            // SAFETY: the callers below hand over tensors of the geometry's sizes, in `f32`.
            unsafe { plan.run(gpu, handle.0, addresses) }?;
            return Ok(true);
        }
        let ([a, b, result], [of_a, of_b, of_result]) = (addresses, counts(g, direction));
        let (a, b) = (gpu.rounded(a, of_a)?, gpu.rounded(b, of_b)?);
        let rounded: Memory = gpu.empty::<i16>(of_result)?;
        // SAFETY: as many values as the geometry has, in bf16.
        unsafe { plan.run(gpu, handle.0, [a.at(), b.at(), rounded.at()]) }?;
        gpu.run(launch::from_bf16(rounded.at(), result, of_result))?;
        Ok(true)
    })
}

/// y from x and weight.
pub(super) fn forward(gpu: &Gpu, x: Address, weight: Address, y: Address, g: &Geometry) -> Result<bool> {
    run(gpu, g, Direction::Forward, [x, weight, y])
}

/// dx from weight and dy.
pub(super) fn input_gradient(gpu: &Gpu, weight: Address, dy: Address, dx: Address, g: &Geometry) -> Result<bool> {
    run(gpu, g, Direction::Input, [weight, dy, dx])
}

/// The weight's gradient from x and dy.
pub(super) fn weight_gradient(gpu: &Gpu, x: Address, dy: Address, dw: Address, g: &Geometry) -> Result<bool> {
    run(gpu, g, Direction::Weight, [x, dy, dw])
}
