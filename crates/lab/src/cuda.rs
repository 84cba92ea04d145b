//! CUDA on this machine: toolkit, driver and GPU. They are detected by looking at files and running programs, so a
//! broken driver can't crash this one.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;

use crate::machine::{parse_version, succeeded};

/// The variable that overrides detection: `0` for the CPU, `1` for CUDA, whatever is missing.
const OVERRIDE: &str = "CIFAR_LAB_CUDA";

/// The driver's library, without which a program compiled with CUDA doesn't start.
const DRIVER: &str = "libcuda.so.1";

/// The toolkit's libraries that programs are linked to, and their packages in environment-cuda.yml.
pub const LIBRARIES: [(&str, &str); 5] = [
    ("libcudart.so", "cuda-cudart-dev"),
    ("libcublas.so", "libcublas-dev"),
    ("libcublasLt.so", "libcublas-dev"),
    ("libcurand.so", "libcurand-dev"),
    ("libnvrtc.so", "cuda-nvrtc-dev"),
];

/// cuDNN, which is a separate package.
pub const CUDNN: (&str, &str) = ("libcudnn.so", "cudnn");

/// Folders that the dynamic linker searches by default, or into which drivers are installed.
const DRIVER_FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
];

/// Folders into which NVIDIA's installer and distributions install the toolkit.
const TOOLKIT_FOLDERS: [&str; 2] = ["/usr/local/cuda", "/opt/cuda"];

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    variables: HashMap<&'static str, OsString>,
    /// Folders that the dynamic linker searches by default.
    system: Vec<PathBuf>,
    /// Folders into which toolkits are installed.
    toolkits: Vec<PathBuf>,
}

impl Places {
    /// This machine's, with the variables of this process.
    pub fn of_process() -> Self {
        let names = ["PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_COMPUTE_CAP", OVERRIDE];
        let variables = names.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let paths = |folders: &[&str]| folders.iter().map(PathBuf::from).collect();
        Self { variables: variables.collect(), system: paths(&DRIVER_FOLDERS), toolkits: paths(&TOOLKIT_FOLDERS) }
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    fn folders(&self, name: &str) -> Vec<PathBuf> {
        self.variable(name).map(|path| std::env::split_paths(path).collect()).unwrap_or_default()
    }

    /// The output of a program on PATH, if it succeeds.
    fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let program =
            self.folders("PATH").into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())?;
        let mut command = Command::new(program);
        succeeded(command.args(arguments).env("PATH", self.variable("PATH").unwrap_or_default()))
    }
}

/// NVIDIA's compiler and its libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolkit {
    pub nvcc: PathBuf,
    /// Of CUDA.
    pub version: (u32, u32),
    /// The libraries that it lacks.
    pub missing: Vec<&'static str>,
    pub cudnn: bool,
    /// The folders of its libraries.
    pub libraries: Vec<PathBuf>,
}

impl Toolkit {
    /// Its folder.
    pub fn root(&self) -> &Path {
        self.nvcc.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"))
    }

    /// It, unless it lacks a library.
    pub fn complete(self) -> Result<Self, Reason> {
        if self.missing.is_empty() {
            return Ok(self);
        }
        Err(Reason::Incomplete { root: self.root().to_path_buf(), libraries: self.missing })
    }
}

/// NVIDIA's driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    pub library: PathBuf,
    /// The latest CUDA that it supports.
    pub cuda: Option<(u32, u32)>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub name: String,
    /// The driver's version.
    pub driver: String,
    /// Its compute capability, which older drivers don't report.
    pub capability: Option<(u32, u32)>,
}

/// Why notebooks run on the CPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The user has asked for it.
    #[error("CIFAR_LAB_CUDA is 0")]
    Asked,
    /// `CIFAR_LAB_CUDA` is neither 0 nor 1.
    #[error("CIFAR_LAB_CUDA is {0:?}: set it to 0 for the CPU or 1 for CUDA, or unset it for detection")]
    BadOverride(String),
    #[error("no NVIDIA driver ({DRIVER} was not found): install it from nvidia.com or your distribution")]
    NoDriver,
    #[error("the NVIDIA driver finds no GPU: `nvidia-smi` must list one")]
    NoGpu,
    #[error(
        "no CUDA toolkit (nvcc is neither on PATH nor in CUDA_HOME): run `conda env update -f environment-cuda.yml`, or \
         install it from developer.nvidia.com/cuda-downloads"
    )]
    NoToolkit,
    /// A toolkit without all libraries.
    #[error("the CUDA toolkit at {} lacks {}: install its development packages (conda: {})", root.display(),
            libraries.join(", "), packages_of(libraries).join(", "))]
    Incomplete { root: PathBuf, libraries: Vec<&'static str> },
    #[error(
        "unknown compute capability, since there is no GPU here: set CUDA_COMPUTE_CAP to that of the target (75 for Turing, \
         80 for A100, 86 for RTX 30, 89 for RTX 40 and L4, 90 for H100 and H200, 120 for RTX 50)"
    )]
    NoCapability,
    #[error(
        "the driver supports CUDA {}.{}, but the toolkit is for CUDA {}.{}: update the driver, or install a toolkit for CUDA {}",
        driver.0, driver.1, toolkit.0, toolkit.1, driver.0
    )]
    DriverTooOld { driver: (u32, u32), toolkit: (u32, u32) },
}

/// The packages of these libraries.
fn packages_of(libraries: &[&str]) -> Vec<&'static str> {
    let mut packages: Vec<_> =
        LIBRARIES.iter().filter(|(name, _)| libraries.contains(name)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// What notebooks are compiled for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    Cpu(Reason),
    Cuda(CudaBuild),
}

/// How notebooks are compiled for a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaBuild {
    /// `None` if there is none, but the user insists on CUDA.
    pub toolkit: Option<Toolkit>,
    /// As in `CUDA_COMPUTE_CAP`: 90 is 9.0.
    pub capability: Option<String>,
}

impl CudaBuild {
    /// How programs are compiled for a GPU. It needs the toolkit, but no driver, since they may run elsewhere.
    pub fn of_toolkit() -> Result<Self, Reason> {
        let places = Places::of_process();
        Self::of_toolkit_in(&places, || find_gpus(&places).first().and_then(capability_of))
    }

    /// How programs are compiled for all GPUs with TF32 and bf16, or those of `CUDA_COMPUTE_CAP`. The driver recompiles
    /// them for newer GPUs when it loads them.
    pub fn for_many_gpus() -> Result<Self, Reason> {
        const AMPERE: &str = "80";
        Self::of_toolkit_in(&Places::of_process(), || Some(AMPERE.to_string()))
    }

    fn of_toolkit_in(places: &Places, otherwise: impl FnOnce() -> Option<String>) -> Result<Self, Reason> {
        let toolkit = find_toolkit(places).ok_or(Reason::NoToolkit)?.complete()?;
        let capability = asked_capability(places).or_else(otherwise).ok_or(Reason::NoCapability)?;
        Ok(Self { toolkit: Some(toolkit), capability: Some(capability) })
    }

    /// The feature of cifar-lab to compile.
    pub fn feature(&self) -> &'static str {
        match &self.toolkit {
            Some(toolkit) if toolkit.cudnn => "cudnn",
            _ => "cuda",
        }
    }

    /// The compiler flags that turn it on in a notebook, whose `:dep` line names no feature.
    pub fn flags(&self) -> Vec<&'static str> {
        match self.feature() {
            "cudnn" => vec!["--cfg", "cifar_lab_cuda", "--cfg", "cifar_lab_cudnn"],
            _ => vec!["--cfg", "cifar_lab_cuda"],
        }
    }

    /// Sets the variables of `command` by which compilers find the toolkit.
    pub fn apply(&self, command: &mut Command) {
        if let Some(capability) = &self.capability {
            command.env("CUDA_COMPUTE_CAP", capability);
        }
        let Some(toolkit) = &self.toolkit else { return };
        // cudarc runs nvcc from PATH, and searches CUDA_HOME for libraries.
        command.env("CUDA_HOME", toolkit.root());
        let folder = toolkit.nvcc.parent().map(Path::to_path_buf);
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Ok(path) = std::env::join_paths(folder.into_iter().chain(std::env::split_paths(&path))) {
            command.env("PATH", path);
        }
        let own = std::env::var_os("LIBRARY_PATH").unwrap_or_default();
        let stubs = toolkit.libraries.iter().map(|folder| folder.join("stubs")).filter(|folder| folder.is_dir());
        let paths = toolkit.libraries.iter().cloned().chain(stubs).chain(std::env::split_paths(&own));
        if let Ok(path) = std::env::join_paths(paths.filter(|path| !path.as_os_str().is_empty())) {
            command.env("LIBRARY_PATH", path);
        }
    }

    /// The folders that the dynamic linker must search first.
    pub fn library_folders(&self) -> Vec<PathBuf> {
        self.toolkit.iter().flat_map(|toolkit| toolkit.libraries.clone()).collect()
    }
}

impl Build {
    /// Detects what this machine has. Without a driver, it only takes a look at a few files.
    pub fn of_machine() -> Self {
        Self::of(&Places::of_process())
    }

    fn of(places: &Places) -> Self {
        match places.variable(OVERRIDE).map(OsStr::to_string_lossy).as_deref() {
            None => {}
            Some("0") => return Self::Cpu(Reason::Asked),
            Some("1") => {
                let capability = find_gpus(places).first().and_then(capability_of);
                let capability = capability.or_else(|| asked_capability(places));
                return Self::Cuda(CudaBuild { toolkit: find_toolkit(places), capability });
            }
            Some(other) => return Self::Cpu(Reason::BadOverride(other.to_string())),
        }
        // The quickest check first.
        let Some(driver) = find_driver(places) else { return Self::Cpu(Reason::NoDriver) };
        let toolkit = match find_toolkit(places).ok_or(Reason::NoToolkit).and_then(Toolkit::complete) {
            Ok(toolkit) => toolkit,
            Err(reason) => return Self::Cpu(reason),
        };
        let gpus = find_gpus(places);
        let Some(gpu) = gpus.first() else { return Self::Cpu(Reason::NoGpu) };
        // The driver may be of an older minor version; other mismatches are reported when kernels are loaded.
        if let Some(cuda) = driver.cuda.filter(|cuda| cuda.0 < toolkit.version.0) {
            return Self::Cpu(Reason::DriverTooOld { driver: cuda, toolkit: toolkit.version });
        }
        let capability = asked_capability(places).or_else(|| capability_of(gpu));
        Self::Cuda(CudaBuild { toolkit: Some(toolkit), capability })
    }

    /// The build for a GPU, if it is one.
    pub fn cuda(&self) -> Option<&CudaBuild> {
        match self {
            Self::Cuda(build) => Some(build),
            Self::Cpu(_) => None,
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(reason) => write!(f, "the CPU: {reason}"),
            Self::Cuda(build) => {
                write!(f, "the GPU")?;
                match &build.toolkit {
                    Some(Toolkit { version: (major, minor), cudnn, .. }) => {
                        write!(f, ", with CUDA {major}.{minor}")?;
                        write!(f, "{}", if *cudnn { " and cuDNN" } else { ", without cuDNN" })?;
                    }
                    None => write!(f, ", because CIFAR_LAB_CUDA is 1, although no nvcc was found")?,
                }
                build.capability.iter().try_for_each(|number| write!(f, ", for compute capability {}", dotted(number)))
            }
        }
    }
}

/// 90 as 9.0, 120a as 12.0a.
fn dotted(number: &str) -> String {
    let digits = number.chars().take_while(char::is_ascii_digit).count();
    match digits {
        2.. => format!("{}.{}", &number[..digits - 1], &number[digits - 1..]),
        _ => number.to_string(),
    }
}

fn asked_capability(places: &Places) -> Option<String> {
    places.variable("CUDA_COMPUTE_CAP").map(|value| value.to_string_lossy().into_owned())
}

fn capability_of(gpu: &Gpu) -> Option<String> {
    gpu.capability.map(|(major, minor)| format!("{major}{minor}"))
}

/// The toolkit, if any: on PATH, in CUDA_HOME or CUDA_PATH, or where NVIDIA's installer puts it.
pub fn find_toolkit(places: &Places) -> Option<Toolkit> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(|name| places.variable(name).map(PathBuf::from));
    let homes = homes.chain(places.toolkits.iter().cloned()).map(|home| home.join("bin"));
    let nvcc =
        places.folders("PATH").into_iter().chain(homes).map(|bin| bin.join("nvcc")).find(|nvcc| nvcc.is_file())?;
    let text = succeeded(Command::new(&nvcc).arg("--version"))?;
    let version = parse_version(text.split("release ").nth(1)?)?;
    let mut found = Toolkit { nvcc, version, missing: Vec::new(), cudnn: false, libraries: Vec::new() };
    let below = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
    let mut libraries: Vec<PathBuf> = below.iter().map(|folder| found.root().join(folder)).collect();
    // A distribution's package installs them among the system's.
    if found.root() == Path::new("/usr") {
        libraries.extend(places.system.iter().cloned());
    }
    libraries.extend(places.folders("LIBRARY_PATH"));
    let has = |name: &str| libraries.iter().any(|folder| folder.join(name).exists());
    found.missing = LIBRARIES.iter().map(|(name, _)| *name).filter(|name| !has(name)).collect();
    found.cudnn = has(CUDNN.0);
    let ours = |folder: &PathBuf| LIBRARIES.iter().chain([&CUDNN]).any(|(name, _)| folder.join(name).exists());
    let system = |folder: &PathBuf| places.system.contains(folder);
    found.libraries = libraries.iter().filter(|folder| ours(folder) && !system(folder)).cloned().collect();
    Some(found)
}

/// The driver, if the dynamic linker would find its library.
pub fn find_driver(places: &Places) -> Option<Driver> {
    let folders = places.folders("LD_LIBRARY_PATH").into_iter().chain(places.system.iter().cloned());
    let in_folder = folders.map(|folder| folder.join(DRIVER)).find(|library| library.exists());
    let library = in_folder.or_else(|| {
        // A line of its cache: `	libcuda.so.1 (libc6,x86-64) => /usr/lib/…/libcuda.so.1`.
        let list = ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]
            .iter()
            .filter(|_| !places.system.is_empty())
            .find_map(|program| succeeded(Command::new(program).arg("-p")))?;
        let line = list.lines().find(|line| line.trim_start().starts_with(DRIVER))?;
        Some(PathBuf::from(line.split("=> ").nth(1)?)).filter(|library| library.exists())
    })?;
    static CUDA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"CUDA (?:UMD )?Version: ([0-9]+\.[0-9]+)").expect("valid"));
    let said = places.output("nvidia-smi", &[]).unwrap_or_default();
    let cuda = CUDA.captures(&said).and_then(|captures| parse_version(&captures[1]));
    Some(Driver { library, cuda })
}

/// The GPUs that the driver finds.
pub fn find_gpus(places: &Places) -> Vec<Gpu> {
    let ask = |fields: &str| places.output("nvidia-smi", &[&format!("--query-gpu={fields}"), "--format=csv,noheader"]);
    let said = ask("name,driver_version,compute_cap").or_else(|| ask("name,driver_version")).unwrap_or_default();
    let gpu = |line: &str| {
        let mut fields = line.split(", ");
        let (name, driver) = (fields.next()?.to_string(), fields.next()?.to_string());
        Some(Gpu { name, driver, capability: fields.next().and_then(parse_version) })
    };
    said.lines().filter_map(gpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// All libraries.
    fn all() -> Vec<&'static str> {
        LIBRARIES.iter().map(|(name, _)| *name).collect()
    }

    /// A machine made of scripts and empty files.
    struct Machine {
        folder: tempfile::TempDir,
        places: Places,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let variable = |name: &str| folder.path().join(name).into_os_string();
            let variables = [
                ("PATH", variable("bin")),
                ("LD_LIBRARY_PATH", variable("driver")),
                ("CUDA_HOME", variable("toolkit")),
            ];
            let places = Places { variables: variables.into_iter().collect(), ..Places::default() };
            Self { folder, places }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn with_driver(self, cuda: &str) -> Self {
            self.write("driver/libcuda.so.1", "");
            let table = format!("echo '| NVIDIA-SMI 580.1  Driver Version: 580.1  CUDA Version: {cuda} |'");
            let query = "*compute_cap*) echo 'NVIDIA H100 80GB HBM3, 580.95, 9.0' ;;";
            self.write(
                "bin/nvidia-smi",
                &format!("#!/bin/sh\ncase \"$1\" in\n{query}\n'') {table} ;;\n*) exit 1 ;;\nesac\n"),
            );
            self
        }

        fn with_toolkit(self, release: &str, libraries: &[&str]) -> Self {
            let said = format!("Cuda compilation tools, release {release}, V{release}.88");
            self.write(
                "toolkit/bin/nvcc",
                &format!("#!/bin/sh\necho 'nvcc: NVIDIA (R) Cuda compiler driver'\necho '{said}'\n"),
            );
            libraries.iter().for_each(|name| self.write(&format!("toolkit/lib64/{name}"), ""));
            self
        }

        fn with_variable(mut self, name: &'static str, value: &str) -> Self {
            self.places.variables.insert(name, value.into());
            self
        }

        fn build(&self) -> Build {
            Build::of(&self.places)
        }
    }

    #[test]
    fn a_machine_with_everything_gets_cuda() {
        let machine = Machine::new().with_driver("13.0").with_toolkit("13.0", &all());
        let build = machine.build();
        let cuda = build.cuda().unwrap();
        assert_eq!((cuda.feature(), cuda.flags()), ("cuda", vec!["--cfg", "cifar_lab_cuda"]));
        assert_eq!(cuda.capability.as_deref(), Some("90"));
        assert_eq!(build.to_string(), "the GPU, with CUDA 13.0, without cuDNN, for compute capability 9.0");
        let machine = machine.with_variable("CUDA_COMPUTE_CAP", "120a");
        machine.write("toolkit/lib64/libcudnn.so", "");
        let build = machine.build();
        assert_eq!(build.cuda().unwrap().feature(), "cudnn");
        assert_eq!(build.to_string(), "the GPU, with CUDA 13.0 and cuDNN, for compute capability 12.0a");
        let mut command = Command::new("true");
        build.cuda().unwrap().apply(&mut command);
        let variables: HashMap<_, _> = command.get_envs().collect();
        let path = variables[OsStr::new("PATH")].unwrap().to_string_lossy();
        assert!(path.starts_with(&*machine.folder.path().join("toolkit/bin").to_string_lossy()), "{path}");
        assert_eq!(variables[OsStr::new("CUDA_COMPUTE_CAP")], Some(OsStr::new("120a")));
    }

    #[test]
    fn what_is_missing_is_said() {
        let reason = |machine: Machine| match machine.build() {
            Build::Cpu(reason) => reason,
            Build::Cuda(build) => panic!("{build:?}"),
        };
        assert_eq!(reason(Machine::new().with_toolkit("13.0", &all())), Reason::NoDriver);
        assert_eq!(reason(Machine::new().with_driver("13.0")), Reason::NoToolkit);
        let incomplete =
            reason(Machine::new().with_driver("13.0").with_toolkit("13.0", &["libcudart.so", "libcublas.so"]));
        assert!(
            incomplete.to_string().ends_with("lacks libcublasLt.so, libcurand.so, libnvrtc.so: install its development packages (conda: libcublas-dev, libcurand-dev, cuda-nvrtc-dev)"),
            "{incomplete}"
        );
        let old = reason(Machine::new().with_driver("12.4").with_toolkit("13.0", &all()));
        assert_eq!(old, Reason::DriverTooOld { driver: (12, 4), toolkit: (13, 0) });
        // A driver without a GPU: nvidia-smi fails.
        let machine = Machine::new().with_driver("13.0").with_toolkit("13.0", &all());
        machine.write("bin/nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n");
        assert_eq!(reason(machine), Reason::NoGpu);
        // What crashes is as good as missing.
        let machine = Machine::new().with_driver("13.0").with_toolkit("13.0", &all());
        machine.write("toolkit/bin/nvcc", "#!/bin/sh\nkill -SEGV $$\n");
        assert_eq!(reason(machine), Reason::NoToolkit);
    }

    #[test]
    fn a_program_can_be_compiled_where_no_gpu_is() {
        let machine = Machine::new().with_toolkit("13.0", &all());
        assert_eq!(CudaBuild::of_toolkit_in(&machine.places, || None), Err(Reason::NoCapability));
        let machine = machine.with_variable("CUDA_COMPUTE_CAP", "90");
        assert_eq!(CudaBuild::of_toolkit_in(&machine.places, || None).unwrap().capability.as_deref(), Some("90"));
        assert_eq!(CudaBuild::of_toolkit_in(&Machine::new().places, || None), Err(Reason::NoToolkit));
    }

    #[test]
    fn an_older_minor_version_of_the_driver_will_do() {
        let machine = Machine::new().with_driver("12.4").with_toolkit("12.8", &all());
        assert!(machine.build().cuda().is_some());
    }

    #[test]
    fn the_user_can_override() {
        let whole = || Machine::new().with_driver("13.0").with_toolkit("13.0", &all());
        assert_eq!(whole().with_variable(OVERRIDE, "0").build(), Build::Cpu(Reason::Asked));
        assert_eq!(whole().with_variable(OVERRIDE, "yes").build(), Build::Cpu(Reason::BadOverride("yes".to_string())));
        let forced = Machine::new().with_variable(OVERRIDE, "1").build();
        assert_eq!(forced, Build::Cuda(CudaBuild { toolkit: None, capability: None }));
        assert!(forced.to_string().contains("no nvcc was found"));
    }

    #[test]
    fn gpus_are_listed() {
        let machine = Machine::new();
        machine.write("bin/nvidia-smi", "#!/bin/sh\ncase \"$1\" in *compute_cap*) exit 2 ;; esac\necho 'Tesla K80, 470.1'\necho 'Tesla K80, 470.1'\n");
        let gpus = find_gpus(&machine.places);
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0], Gpu { name: "Tesla K80".to_string(), driver: "470.1".to_string(), capability: None });
        assert!(find_gpus(&Machine::new().places).is_empty());
    }
}
