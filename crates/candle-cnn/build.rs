//! Compiles the CUDA kernels to PTX if the feature `cuda` is on.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::compile();
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::PathBuf;
    use std::process::{Command, exit};

    /// What candle's own kernels need.
    const OLDEST_TOOLKIT: u32 = 12;

    /// Reports an error through cargo instead of a panic.
    fn fail(reason: String) -> ! {
        for line in reason.lines() {
            println!("cargo::error=candle-cnn with the feature `cuda`: {line}");
        }
        exit(1)
    }

    /// Every `.cu` file: `src/cuda/kernels.cu` and the operations' own, which it includes.
    fn kernels() -> Vec<PathBuf> {
        let folders = std::fs::read_dir("src").into_iter().flatten().flatten().map(|folder| folder.path());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "cu")).collect()
    }

    pub fn compile() {
        for source in kernels() {
            println!("cargo:rerun-if-changed={}", source.display());
        }
        for variable in ["NVCC", "NVCC_CCBIN", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        let toolkit = cudaforge::CudaToolkit::detect().unwrap_or_else(|error| {
            fail(format!(
                "no nvcc ({error}). Install NVIDIA's CUDA toolkit {OLDEST_TOOLKIT} or newer, and put nvcc on PATH or \
                 its path into NVCC; or build without the feature"
            ))
        });
        let version = toolkit.version.clone().unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST_TOOLKIT) {
            let nvcc = toolkit.nvcc_path.display();
            fail(format!("{nvcc} is from CUDA {version}, expected {OLDEST_TOOLKIT} or newer; set NVCC to a newer one"));
        }
        // As for candle's kernels: CUDA_COMPUTE_CAP, or else the GPU that nvidia-smi reports.
        let capability = cudaforge::detect_compute_cap().unwrap_or_else(|error| {
            fail(format!("no compute capability ({error}). Set CUDA_COMPUTE_CAP, for example to 90 for an H100"))
        });
        let ptx = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("kernels.ptx");
        let mut nvcc = Command::new(&toolkit.nvcc_path);
        nvcc.args(["--ptx", "-O3", "-std=c++17", &capability.to_gencode_arg(), "-o"])
            .arg(ptx)
            .arg("src/cuda/kernels.cu");
        if let Some(compiler) = std::env::var_os("NVCC_CCBIN") {
            nvcc.args(["-allow-unsupported-compiler", "-ccbin"]).arg(compiler);
        }
        match nvcc.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                fail(format!("nvcc {version} could not compile the kernels for {}:\n{said}", capability.to_nvcc_arch()))
            }
            Err(error) => fail(format!("{} could not be started: {error}", toolkit.nvcc_path.display())),
        }
    }
}
