//! The Cargo profile, compiler flags and environment for cells.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cuda::{Build, CudaBuild};
use crate::error::{Error, Result};
use crate::kernel::{cargo, cell, instrument};
use crate::repository::Repository;

/// The series of evcxr_jupyter whose source this module follows.
pub const EVCXR_SERIES: &str = "0.22";

/// The version that setup compiles.
pub const EVCXR_VERSION: &str = "0.22.0";

/// The workspace around evcxr's package `ctx`.
///
/// It keeps Cargo.lock intact: evcxr first builds `ctx` without dependencies, which would drop every entry, and the next
/// `:dep` would pick newer versions and compile them. The member `keep` holds on to the entries. As the workspace's root
/// it also overrides the profile that evcxr writes into `ctx`: dependencies are fully optimized and unchecked, cells have
/// the checks that help learners, and are compiled fast rather than optimized: what takes time is in the crates. `:opt 2`
/// changes that, by [`instrument`]. Compilation is not incremental: noting what the next cell could use again takes rustc
/// longer than it saves. The dependencies in the last list compute nothing for notebooks (candle's tokenizers, HTTPS, color
/// profiles, complex numbers): unoptimized, they let setup compile a fifth faster.
pub const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["ctx", "keep"]

[profile.dev]
opt-level = 3
debug = false
strip = "debuginfo"
rpath = true
lto = false
debug-assertions = false
overflow-checks = false
codegen-units = 16
panic = "unwind"
incremental = false

[profile.dev.package.ctx]
opt-level = 0
debug-assertions = true
overflow-checks = true

[profile.dev.package]
aho-corasick.opt-level = 0
fancy-regex.opt-level = 0
gemm-c32.opt-level = 0
gemm-c64.opt-level = 0
jiff.opt-level = 0
moxcms.opt-level = 0
pxfm.opt-level = 0
regex-automata.opt-level = 0
regex-syntax.opt-level = 0
rustls.opt-level = 0
rustls-webpki.opt-level = 0
tokenizers.opt-level = 0
ureq.opt-level = 0
ureq-proto.opt-level = 0
"#;

/// The manifest of the member `keep`, which depends on what notebooks import. PATH is replaced by the crate's path.
pub const KEEP_MANIFEST: &str = r#"[package]
name = "keep"
version = "0.0.0"
edition = "2024"

[dependencies]
cifar-lab = { path = PATH }
"#;

/// [`KEEP_MANIFEST`] of `repository`.
pub fn keep_manifest(repository: &Repository) -> String {
    KEEP_MANIFEST.replace("PATH", &toml_string(&repository.root().join("crates/cifar-lab")))
}

/// A path as a TOML string, which is the same as a JSON string.
pub fn toml_string(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// rustc's flags for cells and dependencies. `-Cprefer-dynamic` is evcxr's own; without it each cell would have its own copy
/// of candle's statics.
const RUST_FLAGS: [&str; 1] = ["-Cprefer-dynamic"];

/// All of rustc's flags for `build`.
pub fn rust_flags(build: &Build) -> Vec<&'static str> {
    RUST_FLAGS.into_iter().chain(build.cuda().into_iter().flat_map(CudaBuild::flags)).collect()
}

/// Keeps glibc from returning freed memory to the system. A training step frees hundreds of megabytes that the next one
/// allocates again, and the page fault for each fresh 4 KiB costs more than the arithmetic on them. What
/// `candle_cnn::memory::keep_freed` does, but at the process's start, before any thread has a heap of its own: one heap, as
/// others hold no block above 64 MiB (`ARENA_MAX`), which serves blocks below 8 GiB (`MMAP`), keeps up to 8 GiB (`TRIM`) and
/// grows by 64 MiB at a time (`TOP_PAD`). A training returns it when it ends.
const KEEP_FREED_MEMORY: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
    ("MALLOC_TOP_PAD_", "67108864"),
];

/// Lets `command` keep freed memory. A user's own setting wins; other C libraries don't know these variables.
pub fn keep_freed_memory(command: &mut Command) {
    for (name, value) in KEEP_FREED_MEMORY {
        if cfg!(target_env = "gnu") && std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// Keeps evcxr's allocator, mimalloc, from asking for huge pages, which it touches in part: clearing them costs rust-analyzer half a
/// second and 70 MB. `cell` allows them again in the process with the variables. And what rust-analyzer frees is returned at once:
/// it is idle most of the time, and mimalloc returns memory only while it is used.
const SPARE_MEMORY: [(&str, &str); 2] = [("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "0")];

/// Sets the environment of `command`, which starts evcxr, for it and for the cargo and rustc that it starts. Cargo starts
/// `launcher`, an installed copy of this program, for each cell.
pub fn apply(
    command: &mut Command,
    folder: &Path,
    repository: Option<&Repository>,
    build: &Build,
    launcher: &Path,
) -> Result<()> {
    forget_profiles(command);
    let mut libraries = library_path(repository.map(Repository::root));
    // In a cell's library rustc writes a relative path to the standard library, which is one level off once cargo has moved
    // the library up from deps/. Under /tmp it works by chance.
    let toolchain = toolchain();
    libraries.splice(0..0, toolchain.as_ref().map(|(_, library)| library.clone()).filter(|library| library.is_dir()));
    // With the library that `instrument` links cells to.
    libraries.push(folder.to_path_buf());
    if let Some(cuda) = build.cuda() {
        // After the standard library and before the rest, so that a cell loads what it was linked to.
        let at = libraries.len().min(1);
        libraries.splice(at..at, cuda.library_folders());
        cuda.apply(command);
    }
    if let Ok(path) = std::env::join_paths(libraries) {
        command.env(LIBRARY_PATH, path);
    }
    keep_freed_memory(command);
    for (name, value) in SPARE_MEMORY {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    // Cargo separates flags by the unit separator here, and prefers this variable to RUSTFLAGS, which evcxr sets.
    let flags = rust_flags(build).join("\u{1f}");
    let config = folder.join("evcxr-config");
    command
        .env("EVCXR_TMPDIR", folder.join("ctx"))
        // Called for the workspace's members only, so it doesn't affect dependencies.
        .env("RUSTC_WORKSPACE_WRAPPER", launcher)
        .env(instrument::FOLDER, folder)
        .env(instrument::INTERRUPT, instrument::stop_file(folder))
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        // A user's evcxr.toml could change how notebooks run.
        .env("EVCXR_CONFIG_DIR", &config)
        // evcxr would overwrite a kernels/rust/kernel.json of another version there.
        .env("JUPYTER_PATH", folder.join("no-kernels"));
    // evcxr sets RUST_BACKTRACE for cells. The user's own setting counts.
    match std::env::var_os("RUST_BACKTRACE") {
        Some(asked) => command.env(cell::BACKTRACE, asked),
        None => command.env_remove(cell::BACKTRACE),
    };
    cargo::apply(command, folder, launcher, toolchain.as_ref().map(|(sysroot, _)| sysroot.as_path()))?;
    fs::create_dir_all(&config).map_err(Error::file("make", &config))?;
    let path = config.join("evcxr.toml");
    // `:opt` without a number then means 2.
    fs::write(&path, "[evcxr]\nopt_level = \"0\"\n").map_err(Error::file("write", &path))
}

/// Removes from the environment of `command` what would compile the crates in another way.
pub fn forget_profiles(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if overrides_the_profile(&name) {
            command.env_remove(name);
        }
    }
}

/// Keeps packages of the user's from `command`, a Python, which a shell or a cluster's modules may bring in: pip would count them as
/// installed.
pub fn isolate_python(command: &mut Command) {
    command.env("PIP_USER", "0").env_remove("PYTHONPATH").env_remove("PYTHONHOME");
}

/// Removes from the environment of `command` what `cargo run` has added to this program's own.
pub fn forget_cargo_run(command: &mut Command, repository: &Repository) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    if let Ok(path) = std::env::join_paths(library_path(Some(repository.root()))) {
        command.env(LIBRARY_PATH, path);
    }
}

/// Lets `command`, a program compiled for a GPU, find its libraries.
pub fn add_libraries(command: &mut Command, repository: &Repository, cuda: Option<&CudaBuild>) {
    let folders = cuda.map(CudaBuild::library_folders).unwrap_or_default();
    if let Ok(path) = std::env::join_paths(folders.into_iter().chain(library_path(Some(repository.root())))) {
        command.env(LIBRARY_PATH, path);
    }
}

fn overrides_the_profile(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PROFILE_") || name == "CARGO_INCREMENTAL"
}

/// The variable with the folders that the dynamic linker searches first.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// The library path without cargo's target folder, which `cargo run` adds: there a cell could load the libcifar_lab.so of
/// `cargo test` instead of its own.
fn library_path(root: Option<&Path>) -> Vec<PathBuf> {
    let path = std::env::var_os(LIBRARY_PATH).unwrap_or_default();
    std::env::split_paths(&path).filter(|entry| is_kept(entry, root)).collect()
}

fn is_kept(entry: &Path, root: Option<&Path>) -> bool {
    let in_repository = root.is_some_and(|root| entry.starts_with(root));
    !entry.as_os_str().is_empty() && !in_repository && !entry.join(crate_library()).exists()
}

/// The file name of the library that notebooks import.
pub fn crate_library() -> String {
    instrument::library_name("cifar_lab")
}

/// The toolchain's folder, and that of its standard library.
fn toolchain() -> Option<(PathBuf, PathBuf)> {
    let output = Command::new("rustc").args(["--print", "sysroot", "--print", "target-libdir"]).output().ok()?;
    let output = String::from_utf8(output.stdout).ok()?;
    let (sysroot, library) = output.trim().split_once('\n')?;
    Some((sysroot.into(), library.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_s_library_is_kept_away_wherever_it_is() {
        let target = tempfile::tempdir().unwrap();
        let root = Path::new("/clone");
        assert!(is_kept(target.path(), Some(root)));
        std::fs::write(target.path().join(crate_library()), "").unwrap();
        assert!(!is_kept(target.path(), Some(root)));
        assert!(!is_kept(Path::new("/clone/target/debug/deps"), Some(root)));
        assert!(!is_kept(Path::new(""), None));
    }

    #[test]
    fn profile_variables_are_kept_away() {
        assert!(overrides_the_profile(OsStr::new("CARGO_PROFILE_DEV_OPT_LEVEL")));
        assert!(!overrides_the_profile(OsStr::new("CARGO_HOME")));
    }
}
