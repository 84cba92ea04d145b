//! The device that a notebook computes on, in one line.

use candle_core::Device;

use crate::error::{Error, Result};

/// The device called `name`: `"auto"` (the best that this build and machine have), `"cpu"`, `"cuda"` or `"cuda:1"`.
///
/// ```
/// let device = cifar_lab::device::choose_device("cpu")?;
/// assert!(device.is_cpu());
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`Error::Device`] for a name that is none of these, and for a GPU where there is none.
pub fn choose_device(name: &str) -> Result<Device> {
    let unavailable = |reason: String| Error::Device { name: name.to_string(), reason };
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => match without_cuda() {
            Some(_) => Ok(Device::Cpu),
            None => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        },
        _ => {
            let ordinal = match name.strip_prefix("cuda") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix(':').and_then(|digits| digits.parse().ok()),
                None => None,
            };
            let ordinal = ordinal.ok_or_else(|| unavailable("devices are auto, cpu, cuda, cuda:1, …".into()))?;
            match without_cuda() {
                Some(reason) => Err(unavailable(reason.into())),
                None => Device::new_cuda(ordinal).map_err(|error| unavailable(error.to_string())),
            }
        }
    }
}

/// Why this build cannot use a GPU, if it cannot.
fn without_cuda() -> Option<&'static str> {
    (!candle_core::utils::cuda_is_available()).then_some("built without CUDA")
}

/// What `device` is, for a print or a caption: `CPU (2 threads, AVX-512), built without CUDA`.
///
/// ```
/// let text = cifar_lab::device::describe(&candle_core::Device::Cpu);
/// assert!(text.starts_with("CPU"));
/// ```
pub fn describe(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = if threads == 1 { "1 thread".to_string() } else { format!("{threads} threads") };
            let reason = without_cuda().map(|reason| format!(", {reason}")).unwrap_or_default();
            format!("CPU ({threads}, {}){reason}", vector_instructions())
        }
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("CUDA device {gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
    }
}

/// The widest vector instructions that this CPU has and the kernels use.
fn vector_instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
        "SSE2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "no vector instructions"
    }
}

#[cfg(test)]
mod tests {
    use super::choose_device;

    #[test]
    fn names_that_cannot_be_are_errors_that_say_what_can() {
        for name in ["gpu", "", "cuda:", "cuda:-1", "CUDA"] {
            let message = choose_device(name).unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?}")) && message.contains("cpu"), "{message}");
        }
    }

    #[test]
    fn auto_always_gives_one() {
        assert!(choose_device("auto").is_ok());
    }
}
