//! Why a device can't be used.

/// A version of CUDA or a compute capability: major and minor.
pub type Version = (u32, u32);

/// Why the requested device can't be used; each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no device of this name.
    #[error(
        "unknown device {0:?}: the devices are auto, cpu, cuda, cuda:1, …; \"auto\" takes the best one available, \"cpu\" \
         always works"
    )]
    UnknownName(String),
    /// This build supports no GPU.
    #[error("built without CUDA: `cargo lab doctor` says how")]
    BuiltWithoutCuda,
    /// NVIDIA's driver is missing or doesn't respond.
    #[error(
        "the NVIDIA driver does not respond (CUDA error {code}): install or start it; `nvidia-smi` must list the GPU"
    )]
    NoDriver {
        /// The driver's error code.
        code: u32,
    },
    /// The driver sees no GPU.
    #[error("the NVIDIA driver sees no GPU: is CUDA_VISIBLE_DEVICES empty, or the GPU hidden from this container?")]
    NoGpu,
    /// The driver is older than the toolkit that this was compiled with.
    #[error(
        "the NVIDIA driver is too old: it supports CUDA {}.{}, but this was compiled with CUDA {}.{}; update the driver \
         (CUDA 12 needs 525 or later, CUDA 13 needs 580), or compile with an older toolkit",
        driver.0, driver.1, toolkit.0, toolkit.1
    )]
    DriverTooOld {
        /// The newest CUDA that the driver supports.
        driver: Version,
        /// The toolkit's CUDA.
        toolkit: Version,
    },
    /// There are fewer GPUs.
    #[error("there is no cuda:{asked}: GPUs are numbered from 0, and there {}; `nvidia-smi` lists them", counted(*count))]
    OutOfRange {
        /// The requested number.
        asked: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is older than the kernels were compiled for.
    #[error(
        "this GPU has compute capability {}.{}, but the kernels were compiled for {}.{} or later; compile again on its \
         machine, or with CUDA_COMPUTE_CAP={}{}",
        found.0, found.1, compiled.0, compiled.1, found.0, found.1
    )]
    TooOldGpu {
        /// The GPU's.
        found: Version,
        /// The kernels'.
        compiled: Version,
    },
    /// The driver can't load the kernels.
    #[error(
        "the NVIDIA driver can't load the kernels (CUDA error {code}): they were compiled for another compute capability or \
         a newer CUDA; update the driver, or compile again on the GPU's machine (CUDA_COMPUTE_CAP sets the capability)"
    )]
    Unloadable {
        /// The driver's error code.
        code: u32,
    },
    /// The GPU is out of memory.
    #[error(
        "out of memory on the GPU: use a smaller batch size, or stop other programs on it (`nvidia-smi` lists them)"
    )]
    OutOfMemory,
    /// Anything else.
    #[error("the GPU failed: {0}; run it on \"cpu\" to see whether the GPU is at fault")]
    Other(String),
}

fn counted(count: usize) -> String {
    if count == 1 { "is 1".to_string() } else { format!("are {count}") }
}

// Only builds with CUDA meet these codes; the tests of every build check them.
#[cfg(any(test, feature = "cuda", cifar_lab_cuda))]
impl DeviceError {
    /// What a result of CUDA's driver means, if the user can do something about it. The codes are `CUresult`'s (CUDA
    /// Driver API, "Data types used by CUDA driver").
    pub(crate) fn of_driver_code(code: u32) -> Option<Self> {
        match code {
            2 => Some(Self::OutOfMemory),
            // Not initialized; a stub in place of the driver; kernel module and library of different versions.
            3 | 34 | 803 => Some(Self::NoDriver { code }),
            100 => Some(Self::NoGpu),
            // No binary for this GPU; PTX that it can't compile; PTX of a newer CUDA; failed forward compatibility.
            209 | 218 | 222 | 804 => Some(Self::Unloadable { code }),
            _ => None,
        }
    }

    /// The same for cuBLAS (`cublasStatus_t`).
    pub(crate) fn of_cublas_code(code: u32) -> Option<Self> {
        match code {
            3 => Some(Self::OutOfMemory),
            8 => Some(Self::Unloadable { code }),
            _ => None,
        }
    }

    /// The same for cuRAND (`curandStatus_t`).
    pub(crate) fn of_curand_code(code: u32) -> Option<Self> {
        match code {
            102 => Some(Self::OutOfMemory),
            204 => Some(Self::Unloadable { code }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceError;

    #[test]
    fn every_message_says_what_to_do() {
        for (error, wanted) in [
            (DeviceError::UnknownName("gpu".into()), "\"cpu\""),
            (DeviceError::BuiltWithoutCuda, "cargo lab doctor"),
            (DeviceError::NoDriver { code: 34 }, "nvidia-smi"),
            (DeviceError::NoGpu, "CUDA_VISIBLE_DEVICES"),
            (DeviceError::DriverTooOld { driver: (12, 4), toolkit: (13, 0) }, "it supports CUDA 12.4"),
            (DeviceError::OutOfRange { asked: 1, count: 1 }, "no cuda:1: GPUs are numbered from 0, and there is 1;"),
            (DeviceError::TooOldGpu { found: (7, 5), compiled: (9, 0) }, "CUDA_COMPUTE_CAP=75"),
            (DeviceError::Unloadable { code: 222 }, "CUDA error 222"),
            (DeviceError::OutOfMemory, "smaller batch size"),
            (DeviceError::Other("x".into()), "cpu"),
        ] {
            let message = error.to_string();
            assert!(message.contains(wanted) && message.lines().count() == 1, "{message}");
        }
    }

    #[test]
    fn codes_that_a_user_can_do_something_about_are_known() {
        assert_eq!(DeviceError::of_driver_code(2), Some(DeviceError::OutOfMemory));
        assert_eq!(DeviceError::of_cublas_code(3), Some(DeviceError::OutOfMemory));
        assert_eq!(DeviceError::of_curand_code(102), Some(DeviceError::OutOfMemory));
        // An illegal address: a fault of the program.
        assert_eq!(DeviceError::of_driver_code(700), None);
    }
}
