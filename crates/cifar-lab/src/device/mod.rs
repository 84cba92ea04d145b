//! Choosing the device to compute on. `cuda.rs` asks NVIDIA's driver, in builds with CUDA.

#[cfg(any(feature = "cuda", cifar_lab_cuda))]
mod cuda;

use candle_cnn::InstructionSet;
use candle_cnn::parameters::read_between_steps;
use candle_core::Device;

use crate::error::Result;

pub use crate::error::{DeviceError, Version};

/// The device called `name`: `"auto"` (the best available), `"cpu"`, `"cuda"` or `"cuda:1"`. A GPU is tried with a kernel
/// first.
///
/// ```
/// use cifar_lab::device::{choose_device, describe};
///
/// let device = choose_device("cpu")?;
/// assert!(describe(&device).starts_with("CPU"));
/// let error = choose_device("gpu").unwrap_err();
/// assert!(error.to_string().starts_with("unknown device \"gpu\""));
/// # Ok::<(), cifar_lab::error::Error>(())
/// ```
///
/// # Errors
/// [`DeviceError`] for any other name and for a GPU that can't be used; `"auto"` and `"cpu"` never fail.
pub fn choose_device(name: &str) -> Result<Device> {
    let unknown = || DeviceError::UnknownName(name.to_string());
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Ok(open(0).unwrap_or(Device::Cpu)),
        "cuda" => Ok(open(0)?),
        _ => {
            let ordinal = name.strip_prefix("cuda:").and_then(|digits| digits.parse().ok()).ok_or_else(unknown)?;
            Ok(open(ordinal)?)
        }
    }
}

#[cfg(any(feature = "cuda", cifar_lab_cuda))]
use cuda::open;
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
pub(crate) use cuda::{finish_work, free_memory};

/// Without CUDA there is nothing to wait for.
#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
pub(crate) fn finish_work() {}

/// The CPU's free memory is not known.
#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
pub(crate) fn free_memory(_device: &Device) -> Option<usize> {
    None
}

#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
fn open(_ordinal: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::BuiltWithoutCuda)
}

/// Runs `read`, which runs a network on `device`. On a GPU, where nothing else orders the work of two threads, that is
/// between two steps of every training in this process: the network doesn't say which of them updates it.
pub(crate) fn between_steps<R>(device: &Device, read: impl FnOnce() -> R) -> R {
    if device.is_cpu() {
        return read();
    }
    read_between_steps(|| {
        let result = read();
        finish_work();
        result
    })
}

/// Why the best device is not a GPU; `None` if it is one.
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
fn why_not_cuda() -> Option<String> {
    // Computed once: the reason does not change, and finding it loads a kernel.
    static REASON: std::sync::OnceLock<Option<DeviceError>> = std::sync::OnceLock::new();
    let reason = REASON.get_or_init(|| open(0).err()).as_ref()?;
    Some(format!("built with CUDA, but {reason}"))
}

/// Why the best device is not a GPU; `None` if it is one.
#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
fn why_not_cuda() -> Option<String> {
    Some(DeviceError::BuiltWithoutCuda.to_string())
}

/// Describes `device` for a print or a caption: `CUDA device 0 (NVIDIA H100 80GB HBM3, compute capability 9.0, 85 GB)`, or
/// `CPU (2 threads, AVX-512), built without CUDA: …` with the reason why there is no GPU.
pub fn describe(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = if threads == 1 { "1 thread".to_string() } else { format!("{threads} threads") };
            let reason = why_not_cuda().map(|reason| format!(", {reason}")).unwrap_or_default();
            format!("CPU ({threads}, {}){reason}", vector_instructions())
        }
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("CUDA device {gpu_id}{}", details(gpu_id)),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("Metal device {gpu_id}"),
    }
}

/// What the bits of a result depend on: the kind of `device`, and its instructions or model.
pub(crate) fn kind(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => format!("CPU ({})", vector_instructions()),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("CUDA{}", details(gpu_id)),
        candle_core::DeviceLocation::Metal { .. } => "Metal".to_string(),
    }
}

/// The GPU's name, compute capability and memory, in parentheses.
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
fn details(ordinal: usize) -> String {
    match cuda::look(ordinal) {
        Ok(cuda::Gpu { name, capability: (major, minor), memory }) => {
            format!(" ({name}, compute capability {major}.{minor}, {:.0} GB)", memory as f64 / 1e9)
        }
        Err(_) => String::new(),
    }
}

#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
fn details(_ordinal: usize) -> String {
    String::new()
}

/// What this build needs from a machine, in one line: the driver, and the CUDA libraries that are loaded.
#[cfg(any(feature = "cuda", cifar_lab_cuda))]
pub fn requirements() -> String {
    let (major, minor) = cuda::toolkit();
    let capability = cuda::compiled_capability()
        .map_or(String::new(), |(major, minor)| format!(" for compute capability {major}.{minor} or later"));
    // Linux's list of mapped files; other systems have none, so no library is named there.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let names = maps.lines().filter_map(|line| line.rsplit('/').next());
    let ours = ["libcuda.", "libcudart.", "libcublas.", "libcublasLt.", "libcurand.", "libcudnn.", "libnvrtc."];
    let mut loaded: Vec<&str> = names.filter(|name| ours.iter().any(|own| name.starts_with(own))).collect();
    loaded.sort_unstable();
    loaded.dedup();
    format!(
        "compiled with CUDA {major}.{minor}{capability}: needs NVIDIA's driver of CUDA {major}.{minor} or later and the \
         toolkit's libraries; loaded: {}",
        loaded.join(", ")
    )
}

/// What this build needs from a machine, in one line.
#[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
pub fn requirements() -> String {
    "compiled for the CPU: needs no driver, and only the system's libraries".to_string()
}

/// The widest vector instructions of this CPU that the kernels use.
fn vector_instructions() -> &'static str {
    match candle_cnn::instruction_set() {
        InstructionSet::Avx512 => "AVX-512",
        InstructionSet::Avx2 => "AVX2",
        InstructionSet::Plain if cfg!(target_arch = "x86_64") => "SSE2",
        InstructionSet::Plain if cfg!(target_arch = "aarch64") => "NEON",
        InstructionSet::Plain => "no vector instructions",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_errors_that_list_the_known_ones() {
        for name in ["gpu", "", "cuda:", "cuda:-1", "CUDA", "cuda1"] {
            let message = choose_device(name).unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?}")) && message.contains("cpu"), "{message}");
        }
    }

    #[test]
    fn auto_always_finds_a_device() {
        let device = choose_device("auto").unwrap();
        assert_eq!(device.is_cpu(), choose_device("cuda").is_err());
        // Only the CPU's description has the reason.
        assert_eq!(describe(&device).contains("built with"), device.is_cpu());
    }

    #[test]
    #[cfg(not(any(feature = "cuda", cifar_lab_cuda)))]
    fn without_cuda_the_reason_is_given() {
        let message = choose_device("cuda:1").unwrap_err().to_string();
        assert_eq!(message, "built without CUDA: `cargo lab doctor` says how");
        assert!(describe(&Device::Cpu).ends_with(&message), "{}", describe(&Device::Cpu));
    }
}
