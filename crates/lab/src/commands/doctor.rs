//! `cargo lab doctor`: what is installed, what is missing, how to get it. It is quick, changes nothing, and works without
//! Python, linker or setup.

use std::path::{Path, PathBuf};

use crate::commands::clean::footprint;
use crate::cuda::{self, Build, Places, Reason};
use crate::environment::packages::Environment;
use crate::environment::{self, evcxr, kernelspec, python};
use crate::error::{Error, Result};
use crate::kernel::folder::{KernelFolders, Key, user_cache};
use crate::kernel::installation::kernelspecs;
use crate::machine::{memory_gb, output, parse_version};
use crate::repository::Repository;

/// Disk space for everything, as measured: `.venv` 0.26 GB, evcxr 0.8 GB while it is compiled, the prepared
/// kernel folder 0.7 GB, each open kernel 0.02 GB, CIFAR-10 with its archive 0.35 GB, target/ with all tests 3 GB.
const DISK_GB: f64 = 6.0;

/// Twice the 1.8 GB measured for notebook 00 on CIFAR-10 together with the compiler.
const MEMORY_GB: f64 = 4.0;

/// The folders in CIFAR-10's published archives.
const DATA_FOLDERS: [&str; 2] = ["cifar-10-batches-bin", "cifar-10-batches-py"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// `cargo lab` will create it.
    NotYet,
    Optional,
    Missing,
}

/// One line of the table.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    state: State,
    found: String,
}

fn good(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: State::Good, found: found.into() }
}

fn optional(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: State::Optional, found: found.into() }
}

fn missing(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, state: State::Missing, found: found.into() }
}

/// Prints the table; returns whether everything that is needed is there, or can be created.
pub fn examine(repository: &Repository) -> Result<bool> {
    let wanted = Environment::read(&repository.root().join("environment.yml"))?;
    let place = environment::place(repository, &wanted);
    let mut findings = vec![rust(repository)?, linker(), find_python(&wanted)];
    findings.push(rust_sources());
    let places = Places::of_process();
    findings.extend(set_up(repository, &wanted, &place)?);
    findings.extend([
        disk(repository),
        used(&place),
        memory(),
        data(),
        driver(&places),
        gpu(&places),
        cuda_toolkit(&places),
    ]);
    findings.extend([notebooks(&Build::of_machine()), pytorch(&place)]);
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    for Finding { what, state, found } in &findings {
        let mark = match state {
            State::Good => "ok       ",
            State::NotYet => "not yet  ",
            State::Optional => "optional ",
            State::Missing => "MISSING  ",
        };
        println!("{mark} {what:width$}  {found}");
    }
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    match missing {
        0 => println!("\nNothing is missing. `cargo lab` creates what is marked \"not yet\"."),
        1 => println!("\n1 required item is missing; its line says how to get it."),
        _ => println!("\n{missing} required items are missing; their lines say how to get them."),
    }
    Ok(missing == 0)
}

fn rust(repository: &Repository) -> Result<Finding> {
    let least = repository.rust_version()?;
    let found = output("rustc", &["--version"]);
    let version = found.as_deref().and_then(|text| parse_version(text.strip_prefix("rustc ")?));
    Ok(match (found, version) {
        (Some(found), Some(version)) if version >= least => good("Rust", found),
        (found, _) => {
            let found = found.unwrap_or_else(|| "no rustc on PATH".to_string());
            let least = format!("{}.{}", least.0, least.1);
            missing(
                "Rust",
                format!("{found}, but {least} or later is required: rustup update, or rustup.rs, or conda: rust"),
            )
        }
    })
}

fn rust_sources() -> Finding {
    let library =
        output("rustc", &["--print", "sysroot"]).map(|root| Path::new(&root).join("lib/rustlib/src/rust/library"));
    match library.filter(|path| path.is_dir()) {
        Some(_) => good("Rust sources", "found, for completion in cells"),
        None => optional("Rust sources", "for completion in cells: rustup component add rust-src, or conda: rust-src"),
    }
}

fn linker() -> Finding {
    match output("cc", &["--version"]) {
        Some(text) => good("C linker", text.lines().next().unwrap_or("cc").to_string()),
        None => missing("C linker", in_one_line(&Error::NoLinker)),
    }
}

fn find_python(wanted: &Environment) -> Finding {
    match python::find(wanted.python()) {
        Ok(python) => {
            let (major, minor) = python.version;
            good("Python", format!("{major}.{minor} with venv ({})", python.program.display()))
        }
        Err(error) => missing("Python", in_one_line(&error)),
    }
}

fn in_one_line(error: &Error) -> String {
    error.to_string().replace('\n', ". ")
}

fn set_up(repository: &Repository, wanted: &Environment, place: &Path) -> Result<[Finding; 4]> {
    let is_venv = place.ends_with(".venv");
    let finding = |what, found: Option<String>, otherwise: &str| match found {
        Some(found) => good(what, found),
        None => Finding { what, state: State::NotYet, found: otherwise.to_string() },
    };
    let packages = if is_venv {
        python::is_ready(place, wanted).then(|| place.display().to_string())
    } else {
        Some(format!("conda, {}", place.display()))
    };
    let program = evcxr::find(place)?;
    let spec = program.as_ref().filter(|program| kernelspec::is_ready(place, program));
    let spec = spec.map(|_| kernelspecs(place).join("rust").display().to_string());
    // There is no key without rustc, which has its own line.
    let prepared =
        Key::of(repository, &Build::of_machine()).ok().and_then(|key| KernelFolders::of_user().ok()?.prepared(&key));
    let unusable = KernelFolders::of_user().and_then(|folders| folders.check_path()).err();
    Ok([
        finding("Python packages", packages, "will be installed into .venv by pip: 1 minute, needs the network"),
        finding(
            "evcxr_jupyter",
            program.map(|path| path.display().to_string()),
            "will be compiled: up to 6 minutes on 2 cores, needs the network; conda has it compiled: evcxr",
        ),
        finding("Jupyter kernel", spec, "will be installed in a moment"),
        match unusable {
            Some(error) => missing("prepared kernel", in_one_line(&error)),
            None => finding(
                "prepared kernel",
                prepared.map(|path| path.display().to_string()),
                "will be compiled: up to 6 minutes on 2 cores the first time, half a minute after a change to the crates",
            ),
        },
    ])
}

fn disk(repository: &Repository) -> Finding {
    let cache = user_cache().unwrap_or_else(|_| repository.root().to_path_buf());
    // The cache may not exist yet.
    let existing = cache.ancestors().find(|path| path.is_dir()).unwrap_or(repository.root()).to_path_buf();
    let places = [existing, repository.root().to_path_buf()];
    let free = places.iter().filter_map(|path| Some((free_gb(path)?, path)));
    match free.min_by(|one, other| one.0.total_cmp(&other.0)) {
        None => good("disk space", "unknown"),
        Some((free, _)) if free >= DISK_GB => good("disk space", format!("{free:.0} GB free, {DISK_GB:.0} GB needed")),
        Some((free, path)) => {
            let made = KernelFolders::of_user().is_ok_and(|folders| folders.root().is_dir());
            let found = format!("{free:.1} GB free at {}, {DISK_GB:.0} GB needed for everything", path.display());
            // After setup, less is enough.
            if made { optional("disk space", found) } else { missing("disk space", found) }
        }
    }
}

/// What setup has made.
fn used(place: &Path) -> Finding {
    let found = footprint(place).unwrap_or_else(|error| in_one_line(&error));
    good(
        "disk used",
        format!("{found}; `cargo lab clean` removes what is this clone's, `cargo lab clean --all` the rest"),
    )
}

/// Free space at `path`, in GB.
fn free_gb(path: &Path) -> Option<f64> {
    let space = rustix::fs::statvfs(path).ok()?;
    Some(space.f_bavail as f64 * space.f_frsize as f64 / 1e9)
}

fn memory() -> Finding {
    match memory_gb() {
        None => good("memory", "unknown"),
        Some(gb) if gb >= MEMORY_GB => good("memory", format!("{gb:.0} GB, {MEMORY_GB:.0} GB needed")),
        Some(gb) => {
            optional("memory", format!("{gb:.1} GB, but {MEMORY_GB:.0} GB are recommended: close other programs"))
        }
    }
}

fn data() -> Finding {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("CIFAR10_DIR") {
        return if holds_cifar10(&folder) {
            good("CIFAR-10", folder.display().to_string())
        } else {
            let found = format!(
                "CIFAR10_DIR is {}, where there is no CIFAR-10 (data_batch_1.bin, data_batch_1, train/CLASS/ and test/CLASS/, or \
                 the published archive): correct or unset it",
                folder.display()
            );
            missing("CIFAR-10", found)
        };
    }
    let cache = set("CIFAR_LAB_CACHE").or(user_cache().ok());
    match cache.filter(|folder| holds_cifar10(folder)) {
        Some(folder) => good("CIFAR-10", folder.display().to_string()),
        None => optional(
            "CIFAR-10",
            "the first notebook downloads it (162 MiB), or uses a generated stand-in if there is no network",
        ),
    }
}

/// Whether notebooks find CIFAR-10 at `path`, in one of its layouts or as an archive.
fn holds_cifar10(path: &Path) -> bool {
    let is_archive = |path: &Path| path.is_file() && path.to_string_lossy().ends_with(".tar.gz");
    let folders = [path.to_path_buf(), path.join(DATA_FOLDERS[0]), path.join(DATA_FOLDERS[1])];
    let in_batches =
        folders.iter().flat_map(|folder| ["data_batch_1.bin", "data_batch_1"].map(|name| folder.join(name)));
    is_archive(path)
        || in_batches.into_iter().any(|file| file.is_file())
        || ["train", "test"].iter().all(|split| path.join(split).is_dir())
        || ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"].iter().any(|name| is_archive(&path.join(name)))
}

fn driver(places: &Places) -> Finding {
    match cuda::find_driver(places) {
        None => optional("NVIDIA driver", Reason::NoDriver.to_string()),
        Some(cuda::Driver { library, cuda }) => {
            let cuda = cuda.map_or(String::new(), |(major, minor)| format!(", for CUDA {major}.{minor}"));
            good("NVIDIA driver", format!("{}{cuda}", library.display()))
        }
    }
}

fn gpu(places: &Places) -> Finding {
    let describe = |gpu: &cuda::Gpu| {
        let capability = gpu.capability.map_or("unknown to the driver".to_string(), |(a, b)| format!("{a}.{b}"));
        format!("{}, driver {}, compute capability {capability}", gpu.name, gpu.driver)
    };
    let found: Vec<String> = cuda::find_gpus(places).iter().map(describe).collect();
    if found.is_empty() {
        optional("NVIDIA GPU", "none found (no nvidia-smi, or it lists none); everything runs on the CPU")
    } else {
        good("NVIDIA GPU", found.join("; "))
    }
}

fn cuda_toolkit(places: &Places) -> Finding {
    match cuda::find_toolkit(places).map(cuda::Toolkit::complete) {
        None => optional("CUDA toolkit", format!("{}; only needed to compile for a GPU", Reason::NoToolkit)),
        Some(Err(incomplete)) => optional("CUDA toolkit", incomplete.to_string()),
        Some(Ok(toolkit)) => {
            let (major, minor) = toolkit.version;
            let cudnn =
                if toolkit.cudnn { "with cuDNN" } else { "without cuDNN (package cudnn), so convolutions are slower" };
            good("CUDA toolkit", format!("{major}.{minor} at {}, {cudnn}", toolkit.root().display()))
        }
    }
}

/// What notebooks are compiled for.
fn notebooks(build: &Build) -> Finding {
    let found = format!("will be compiled for {build}");
    match build {
        Build::Cpu(Reason::BadOverride(_)) => missing("notebooks", found),
        _ => good("notebooks", found),
    }
}

/// Whether `cargo lab bench` will find PyTorch. Loading it would take seconds.
fn pytorch(place: &Path) -> Finding {
    let look = "import importlib.util; print(importlib.util.find_spec('torch').origin)";
    let pythons = [place.join("bin/python"), PathBuf::from("python3")];
    match pythons.iter().find(|python| output(&python.to_string_lossy(), &["-c", look]).is_some()) {
        Some(python) => good("PyTorch", format!("in {}, for `cargo lab bench`", python.display())),
        None => Finding {
            what: "PyTorch",
            state: State::Optional,
            found:
                "only for comparisons: run `pip install torch` in any Python, then `cargo lab bench --python PYTHON`"
                    .to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cifar10_is_found_in_each_of_its_forms() {
        for file in [
            "data_batch_1.bin",
            "cifar-10-batches-bin/data_batch_1.bin",
            "data_batch_1",
            "cifar-10-batches-py/data_batch_1",
            "cifar-10-python.tar.gz",
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert!(!holds_cifar10(folder.path()));
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            assert!(holds_cifar10(folder.path()), "{file}");
            assert_eq!(holds_cifar10(&path), file.ends_with(".gz"), "{file}");
        }
        let pictures = tempfile::tempdir().unwrap();
        std::fs::create_dir(pictures.path().join("train")).unwrap();
        assert!(!holds_cifar10(pictures.path()));
        std::fs::create_dir(pictures.path().join("test")).unwrap();
        assert!(holds_cifar10(pictures.path()));
    }

    #[test]
    fn the_table_needs_no_set_up() {
        let repository = Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        // The machine that runs this has Rust and a linker, or it would not have compiled.
        assert_eq!(rust(&repository).unwrap().state, State::Good);
        assert_eq!(linker().state, State::Good);
        let wanted = Environment::read(&repository.root().join("environment.yml")).unwrap();
        let findings = set_up(&repository, &wanted, Path::new("no/such/.venv")).unwrap();
        assert_eq!((findings[0].state, findings[2].state), (State::NotYet, State::NotYet));
    }

    #[test]
    fn free_space_is_known_where_a_folder_exists() {
        assert!(free_gb(&std::env::temp_dir()).is_some_and(|gb| gb > 0.0));
        assert!(free_gb(Path::new("/no/such/folder")).is_none());
    }
}
