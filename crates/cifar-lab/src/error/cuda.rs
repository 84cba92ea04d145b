//! What CUDA's error codes mean, in builds with CUDA.

use std::error::Error as StdError;

use candle_core::cuda_backend::CudaError;
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::cudarc::{cublas, curand};

use super::DeviceError;

/// What candle's error means, if it comes from CUDA with a code that the user can do something about.
pub(crate) fn explain(error: &candle_core::Error) -> Option<DeviceError> {
    match error {
        candle_core::Error::WithBacktrace { inner, .. }
        | candle_core::Error::Context { inner, .. }
        | candle_core::Error::WithPath { inner, .. } => explain(inner),
        candle_core::Error::Cuda(cause) => explain_cause(cause.as_ref()),
        _ => None,
    }
}

fn explain_cause(cause: &(dyn StdError + Send + Sync + 'static)) -> Option<DeviceError> {
    let driver = |error: &DriverError| DeviceError::of_driver_code(error.0 as u32);
    let blas = |error: &cublas::result::CublasError| DeviceError::of_cublas_code(error.0 as u32);
    let rand = |error: &curand::result::CurandError| DeviceError::of_curand_code(error.0 as u32);
    match cause.downcast_ref::<CudaError>() {
        Some(CudaError::Cuda(error) | CudaError::Load { cuda: error, .. }) => return driver(error),
        Some(CudaError::Cublas(error)) => return blas(error),
        Some(CudaError::Curand(error)) => return rand(error),
        _ => {}
    }
    let bare = cause.downcast_ref().and_then(driver);
    bare.or_else(|| cause.downcast_ref().and_then(blas)).or_else(|| cause.downcast_ref().and_then(rand))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::cuda_backend::cudarc::driver::sys;

    #[test]
    fn errors_are_known_by_their_code_however_they_are_wrapped() {
        let error = || DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        let wrapped = candle_core::Error::from(CudaError::Cuda(error())).context("in a layer");
        assert_eq!(explain(&wrapped), Some(DeviceError::OutOfMemory));
        assert_eq!(explain(&candle_core::Error::Cuda(Box::new(error()))), Some(DeviceError::OutOfMemory));
        let load =
            CudaError::Load { cuda: DriverError(sys::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU), module_name: "x".into() };
        assert_eq!(explain(&load.into()), Some(DeviceError::Unloadable { code: 209 }));
        assert_eq!(explain(&candle_core::Error::Msg("x".into())), None);
    }
}
