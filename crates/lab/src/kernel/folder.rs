//! Prepared folders and the kernels' own: names, copying, locks, sweeping.
//!
//! ```text
//! <cache>/cifar-lab/kernels/
//!   lock                    held while folders are created, swept or published
//!   prepared-R-T-S/         from setup; R, T and S are hashes of repository path, toolchain and sources
//!   kernel-ID/              of a running kernel, whose launcher and guard hold the .lock in it
//! ```
//! A kernel's folder whose lock nobody holds is dead; the next sweep removes it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::cuda::Build;
use crate::error::{Error, INSTALL_RUST, Result};
use crate::fingerprint::Fingerprint;
use crate::kernel::gate::Gate;
use crate::kernel::{instrument, known, settings};
use crate::repository::Repository;

/// The prefix of kernels' folders.
const LIVE: &str = "kernel-";
/// The prefix of prepared folders.
const PREPARED: &str = "prepared-";
/// The file in a kernel's folder that is locked while the kernel runs.
const LOCK: &str = ".lock";

/// The file in a prepared folder with the path of its repository.
const REPOSITORY: &str = "repository.txt";

/// The user's cache folder for this project: `$XDG_CACHE_HOME/cifar-lab` or `~/.cache/cifar-lab`.
pub fn user_cache() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("cifar-lab"))
        .ok_or(Error::NoCacheFolder)
}

/// The file at `path` for locks of both kinds, for which NFS wants it readable and writable.
fn open_lock(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).open(path).map_err(Error::file("open", path))
}

/// Locks the file at `path` exclusively until the result is dropped. Calls `waiting` if another process holds the lock.
pub fn lock(path: &Path, waiting: impl FnOnce()) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    }
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            waiting();
            file.lock().map_err(Error::file("lock", path))?;
            Ok(file)
        }
        Err(fs::TryLockError::Error(source)) => Err(Error::file("lock", path)(source)),
    }
}

/// What a prepared folder depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    repository: u64,
    toolchain: u64,
    sources: u64,
}

impl Key {
    /// The key of the repository as it is now, with the rustc that evcxr will use, compiled as `build` says.
    pub fn of(repository: &Repository, build: &Build) -> Result<Self> {
        let rustc = Command::new("rustc").arg("-vV").current_dir(repository.root()).output();
        let rustc = rustc.map_err(Error::start("rustc", INSTALL_RUST))?;
        let flags = settings::rust_flags(build).join(" ");
        // nvcc and the GPU are part of the toolchain. Machines with and without a GPU may share a home, so neither's folder
        // replaces the other's.
        let (kind, cuda) = match build {
            Build::Cpu(_) => ("", String::new()),
            Build::Cuda(cuda) => ("cuda", format!("{cuda:?}")),
        };
        Ok(Self {
            repository: Fingerprint::of([repository.root().as_os_str().as_encoded_bytes(), kind.as_bytes()]),
            toolchain: Fingerprint::of([
                rustc.stdout.as_slice(),
                flags.as_bytes(),
                cuda.as_bytes(),
                settings::WORKSPACE.as_bytes(),
                settings::KEEP_MANIFEST.as_bytes(),
                settings::EVCXR_SERIES.as_bytes(),
            ]),
            sources: repository.source_fingerprint()?,
        })
    }

    fn folder_name(&self) -> String {
        format!("{PREPARED}{:016x}-{:016x}-{:016x}", self.repository, self.toolchain, self.sources)
    }

    /// Whether the folder called `name` was prepared with the same toolchain, perhaps from other sources or another clone.
    fn has_toolchain(&self, name: &str) -> bool {
        let mut parts = name.strip_prefix(PREPARED).unwrap_or_default().split('-');
        parts.nth(1) == Some(format!("{:016x}", self.toolchain).as_str())
    }

    /// The key of a folder that was prepared from sources nobody knows.
    pub fn of_no_sources(self) -> Self {
        Self { sources: 0, ..self }
    }

    fn same_repository(&self) -> String {
        format!("{PREPARED}{:016x}-", self.repository)
    }
}

/// All kernel folders of the user.
#[derive(Clone, Debug)]
pub struct KernelFolders {
    root: PathBuf,
}

/// A kernel's own folder, locked until this is dropped. Dropping doesn't remove it.
#[derive(Debug)]
pub struct LiveFolder {
    path: PathBuf,
    _lock: File,
}

impl LiveFolder {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the folder was created, by the clock of the files.
    fn created(&self) -> Result<SystemTime> {
        let lock = self.path.join(LOCK);
        fs::metadata(&lock).and_then(|metadata| metadata.modified()).map_err(Error::file("read", lock))
    }

    /// Shares the lock of the folder at `path`, as a kernel's guard does.
    pub fn join(path: &Path) -> Result<Self> {
        let lock_path = path.join(LOCK);
        let lock = open_lock(&lock_path)?;
        lock.lock_shared().map_err(Error::file("lock", &lock_path))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }
}

/// What a kernel's folder was filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// A folder prepared from exactly these sources: the first cell takes seconds.
    Warm,
    /// A folder prepared from other sources or for another clone: the first cell compiles the repository's crates.
    Changed,
    /// Nothing: the first cell compiles everything.
    Cold,
}

/// A prepared folder that is copied.
#[derive(Debug)]
enum Source {
    /// Of the same sources.
    Same(PathBuf),
    Other(PathBuf),
    None,
}

/// A kernel's folder in the making, in which evcxr may start already.
#[derive(Debug)]
pub struct Filling {
    source: Source,
    target: PathBuf,
    own_crates: Vec<String>,
    _gate: Gate,
    _lock: File,
}

impl Filling {
    pub fn filled(&self) -> Filled {
        match self.source {
            Source::Same(_) => Filled::Warm,
            Source::Other(_) => Filled::Changed,
            Source::None => Filled::Cold,
        }
    }

    /// Copies what is compiled.
    pub fn finish(self) -> Result<()> {
        match &self.source {
            Source::Same(prepared) => copy_tree(&target(prepared), &self.target),
            Source::Other(nearest) => {
                copy_tree(&target(nearest), &self.target)?;
                // Cargo compares the files' times, and sources from an archive may look old though they are new.
                forget_fingerprints(&self.target, &self.own_crates);
                Ok(())
            }
            Source::None => Ok(()),
        }
    }
}

/// Cargo's folder in a prepared folder or a kernel's.
fn target(folder: &Path) -> PathBuf {
    folder.join("ctx/target")
}

impl KernelFolders {
    /// The folders in the user's cache.
    pub fn of_user() -> Result<Self> {
        Ok(Self { root: user_cache()?.join("kernels") })
    }

    #[cfg(test)]
    fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Locks all folders, so that none is created, swept or published meanwhile.
    pub fn lock(&self) -> Result<File> {
        // Others hold it for a fraction of a second.
        lock(&self.root.join("lock"), || {})
    }

    /// The folder prepared for `key`, if any.
    pub fn prepared(&self, key: &Key) -> Option<PathBuf> {
        Some(self.root.join(key.folder_name())).filter(|path| path.is_dir())
    }

    /// Fails if evcxr, which separates paths by spaces and colons, can't use a folder in here.
    pub fn check_path(&self) -> Result<()> {
        match self.root.to_str() {
            Some(path) if !path.contains([' ', ':']) => Ok(()),
            _ => Err(Error::CacheFolder { path: self.root.clone() }),
        }
    }

    /// All kernels' folders, dead ones too.
    pub fn live(&self) -> Vec<PathBuf> {
        self.list(LIVE)
    }

    /// All folders, prepared and kernels', made for `repository` if there is one.
    pub fn list_of(&self, repository: Option<&Repository>) -> Vec<PathBuf> {
        let is_its = |path: &PathBuf| {
            repository.is_none_or(|repository| {
                fs::read_to_string(path.join(REPOSITORY)).is_ok_and(|root| Path::new(&root) == repository.root())
            })
        };
        [self.list(PREPARED), self.live()].concat().into_iter().filter(is_its).collect()
    }

    /// Whether the folder is a kernel's that runs.
    pub fn is_running(&self, path: &Path) -> bool {
        // Not created: a folder without one is nobody's.
        let lock = File::options().read(true).write(true).open(path.join(LOCK));
        // A file system that fails to tell is no reason to end a kernel.
        lock.is_ok_and(|lock| lock.try_lock().is_err())
    }

    /// The folder of the kernel called `id`.
    pub fn live_path(&self, id: &str) -> PathBuf {
        self.root.join(format!("{LIVE}{id}"))
    }

    fn list(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths
    }

    /// Removes dead kernels' folders, then creates an empty, locked one for the kernel called `id`.
    pub fn create(&self, id: &str) -> Result<LiveFolder> {
        let _lock = self.lock()?;
        self.sweep_locked();
        let mut path = self.live_path(id);
        // When Jupyter restarts a kernel, the old folder may still exist.
        for attempt in 1.. {
            match fs::create_dir(&path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = self.live_path(&format!("{id}-{attempt}"));
                }
                Err(error) => return Err(Error::file("make", &path)(error)),
            }
        }
        let lock_path = path.join(LOCK);
        let lock = open_lock(&lock_path)?;
        lock.lock_shared().map_err(Error::file("lock", &lock_path))?;
        Ok(LiveFolder { path, _lock: lock })
    }

    /// Removes dead kernels' folders, and kills processes that still use them. Returns their paths.
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        let _lock = self.lock()?;
        Ok(self.sweep_locked())
    }

    fn sweep_locked(&self) -> Vec<PathBuf> {
        let dead: Vec<PathBuf> = self.live().into_iter().filter(|path| !self.is_running(path)).collect();
        for path in &dead {
            end_processes_of(path);
            remove(path);
        }
        dead
    }

    /// Fills a kernel's folder with workspace, lock file, and what a prepared folder has already compiled.
    pub fn fill(&self, live: &LiveFolder, repository: &Repository, key: &Key) -> Result<Filled> {
        let filling = self.begin_to_fill(live, repository, key)?;
        let filled = filling.filled();
        filling.finish()?;
        Ok(filled)
    }

    /// Fills a kernel's folder with what evcxr needs to start. The rest takes longer; cargo waits for it.
    pub fn begin_to_fill(&self, live: &LiveFolder, repository: &Repository, key: &Key) -> Result<Filling> {
        write_workspace(live.path(), repository)?;
        let gate = Gate::close(live.path())?;
        // So that nobody removes the prepared folder while it is copied.
        let lock_path = self.root.join("lock");
        let lock = open_lock(&lock_path)?;
        lock.lock().map_err(Error::file("lock", &lock_path))?;
        let own_crates = repository.crate_names()?;
        let source = if let Some(prepared) = self.prepared(key) {
            // Cells that are known as compiled call the library.
            if instrument::take_library(&prepared, live.path()) {
                known::take(&prepared, live.path(), repository, live.created()?)?;
            }
            refresh(&target(&prepared), &own_crates, repository.newest_source(), live.created()?)?;
            Source::Same(prepared)
        } else {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let same_toolchain = self.list(PREPARED).into_iter().filter(|path| key.has_toolchain(&name(path)));
            // Crates from the registry are the same in every clone.
            let nearest = same_toolchain.max_by_key(|path| name(path).starts_with(&key.same_repository()));
            nearest.map_or(Source::None, Source::Other)
        };
        lock.lock_shared().map_err(Error::file("lock", &lock_path))?;
        Ok(Filling { source, target: target(live.path()), own_crates, _gate: gate, _lock: lock })
    }

    /// Makes `live` the prepared folder for `key`, and removes older ones of the same repository and those of repositories
    /// that no longer exist.
    pub fn publish(&self, live: LiveFolder, key: &Key) -> Result<PathBuf> {
        let path = live.path().to_path_buf();
        tidy(&path)?;
        let _lock = self.lock()?;
        let target = self.root.join(key.folder_name());
        // With what an older `cargo lab` knew.
        remove(&target);
        fs::rename(&path, &target).map_err(Error::file("rename", &path))?;
        let same = key.same_repository();
        for other in self.list(PREPARED).into_iter().filter(|other| *other != target) {
            let is_older = other.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&same));
            let gone = |root: String| !Path::new(&root).is_dir();
            if is_older || fs::read_to_string(other.join(REPOSITORY)).is_ok_and(gone) {
                remove(&other);
            }
        }
        Ok(target)
    }
}

/// Writes the workspace around evcxr's package.
fn write_workspace(folder: &Path, repository: &Repository) -> Result<()> {
    let write = |path: PathBuf, contents: &str| {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        }
        fs::write(&path, contents).map_err(Error::file("write", &path))
    };
    write(folder.join("Cargo.toml"), settings::WORKSPACE)?;
    write(folder.join("keep/Cargo.toml"), &settings::keep_manifest(repository))?;
    write(folder.join("keep/src/lib.rs"), "")?;
    // evcxr replaces it later, but cargo needs every member to exist.
    write(folder.join("ctx/src/lib.rs"), "")?;
    write(folder.join(REPOSITORY), &repository.root().to_string_lossy())?;
    let lock = repository.root().join("Cargo.lock");
    let target = folder.join("Cargo.lock");
    fs::copy(&lock, &target).map_err(Error::file("copy", &lock))?;
    Ok(())
}

/// Removes what only the preparing kernel needed: its cells' libraries.
fn tidy(folder: &Path) -> Result<()> {
    let target = target(folder);
    for platform in subfolders(&target) {
        let debug = platform.join("debug");
        for place in [debug.clone(), debug.join("deps")] {
            for entry in fs::read_dir(&place).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("libcode_") || name.starts_with("libctx.") {
                    fs::remove_file(entry.path()).map_err(Error::file("remove", entry.path()))?;
                }
            }
        }
    }
    Ok(())
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The folders that cargo keeps in `kind` (`.fingerprint` or `build`) for the repository's own crates, called <package>-<hash>.
fn units(target: &Path, kind: &str, own_crates: &[String]) -> Vec<PathBuf> {
    let is_own = |unit: &PathBuf| {
        let name = unit.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        own_crates.iter().any(|own| name.rsplit_once('_').is_some_and(|(package, _)| package == own))
    };
    platforms(target)
        .iter()
        .flat_map(|platform| subfolders(&platform.join("debug").join(kind)))
        .filter(is_own)
        .collect()
}

/// Where cargo compiles for a platform, and for build scripts.
fn platforms(target: &Path) -> Vec<PathBuf> {
    subfolders(target).into_iter().chain([target.to_path_buf()]).collect()
}

/// Makes cargo recompile the repository's own crates.
fn forget_fingerprints(target: &Path, own_crates: &[String]) {
    for unit in units(target, ".fingerprint", own_crates) {
        remove(&unit);
    }
}

/// Makes cargo take the repository's own crates for compiled at `time`, if the `newest` source is newer: as a checkout of what
/// has been compiled before.
fn refresh(target: &Path, own_crates: &[String], newest: Option<SystemTime>, time: SystemTime) -> Result<()> {
    // What cargo compares sources with: a list of them, and what a build script has printed.
    let lists = units(target, ".fingerprint", own_crates).into_iter().flat_map(|unit| files_of(&unit, "dep-"));
    let printed = units(target, "build", own_crates).into_iter().flat_map(|unit| files_of(&unit, "output"));
    let compared: Vec<PathBuf> = lists.chain(printed).collect();
    let is_old = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok() < newest;
    if !compared.iter().any(is_old) {
        return Ok(());
    }
    // What is compiled must not be older than what it is compiled from.
    let debugs = platforms(target).into_iter().map(|platform| platform.join("debug"));
    let made = debugs
        .flat_map(|debug| [debug.join("deps"), debug])
        .flat_map(|folder| files_of(&folder, instrument::LIBRARY_PREFIX));
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_start_matches(instrument::LIBRARY_PREFIX).split(['-', '.']).next().unwrap_or_default();
        own_crates.iter().any(|own| own == name)
    };
    for path in compared.iter().cloned().chain(made.filter(is_own)) {
        let file = File::open(&path);
        file.and_then(|file| file.set_modified(time)).map_err(Error::file("change the time of", path))?;
    }
    Ok(())
}

/// The files in `folder` whose names begin with `prefix`.
fn files_of(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    entries.filter(|path| fits(path) && path.is_file()).collect()
}

/// Copies a tree with the files' times, which cargo compares. What compilers have made, nearly all of it, is hard-linked if
/// possible.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::file("make", to))?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().map_err(Error::file("read", &source))?;
        if metadata.is_dir() {
            copy_tree(&source, &target)?;
        } else if !(is_replaced_never_written(&source, &metadata) && fs::hard_link(&source, &target).is_ok()) {
            fs::copy(&source, &target).map_err(Error::file("copy", &source))?;
            let modified = metadata.modified().map_err(Error::file("read", &source))?;
            let file = File::options().write(true).open(&target).map_err(Error::file("write", &target))?;
            file.set_modified(modified).map_err(Error::file("write", &target))?;
        }
    }
    Ok(())
}

/// Whether `path` is a crate or a program in `debug/`, `debug/deps/` or `debug/build/<crate>/`. To compile one again, rustc
/// renames a new file over an `.rlib` or `.rmeta`, and cargo removes what a linker is to make. A build script's own output,
/// in `debug/build/<crate>/out/`, may be written in place.
fn is_replaced_never_written(path: &Path, metadata: &fs::Metadata) -> bool {
    let compiled = path.extension().is_some_and(|extension| extension == "rlib" || extension == "rmeta");
    let linked = metadata.permissions().mode() & 0o111 != 0;
    let lies = |depth: usize, name: &str| path.ancestors().nth(depth).is_some_and(|folder| folder.ends_with(name));
    (compiled || linked) && (lies(1, "debug") || lies(1, "deps") || lies(2, "build"))
}

/// Removes a folder, as far as possible; the next sweep does the rest.
pub fn remove(path: &Path) {
    // Dying processes may still write a file or two.
    let patience = Instant::now() + Duration::from_secs(5);
    while path.exists() && fs::remove_dir_all(path).is_err() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills the processes whose EVCXR_TMPDIR is in `folder`. They can be found on Linux only; elsewhere a kernel that has lost
/// both launcher and guard keeps running.
pub fn end_processes_of(folder: &Path) {
    let wanted = [b"EVCXR_TMPDIR=", folder.join("ctx").as_os_str().as_encoded_bytes()].concat();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == wanted)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{CudaBuild, Reason};
    use std::os::unix::fs::MetadataExt;

    fn repository(folder: &Path) -> Repository {
        let root = folder.join("repository");
        fs::create_dir_all(root.join("crates/cifar-lab/src")).unwrap();
        fs::write(root.join("crates/cifar-lab/Cargo.toml"), "").unwrap();
        fs::write(root.join("environment.yml"), "").unwrap();
        fs::write(root.join("Cargo.lock"), "version = 4\n").unwrap();
        fs::write(root.join("Cargo.toml"), "").unwrap();
        Repository::around(&root).unwrap()
    }

    fn key_of(repository: &Repository) -> Key {
        Key::of(repository, &Build::Cpu(Reason::Asked)).unwrap()
    }

    #[test]
    fn a_folder_for_cuda_and_one_for_the_cpu_stand_side_by_side() {
        let temporary = tempfile::tempdir().unwrap();
        let repository = repository(temporary.path());
        let folders = KernelFolders::at(&temporary.path().join("kernels"));
        let of = |capability: &str| {
            let build = CudaBuild { toolkit: None, capability: Some(capability.to_string()) };
            Key::of(&repository, &Build::Cuda(build)).unwrap()
        };
        let publish = |key: &Key| folders.publish(folders.create("making").unwrap(), key).unwrap();
        let (cpu, cuda) = (publish(&key_of(&repository)), publish(&of("90")));
        assert!(cpu.is_dir() && cuda.is_dir());
        // Another GPU's takes the place of the first.
        let other = publish(&of("120"));
        assert!(cpu.is_dir() && other.is_dir() && !cuda.exists());
        assert!(!of("90").has_toolchain(&other.file_name().unwrap().to_string_lossy()));
    }

    fn fake_build(ctx: &Path) {
        let debug = ctx.join("target/x86_64/debug");
        for file in [
            "deps/libcandle_core-0123.rlib",
            "deps/libcifar_lab-0123.rlib",
            "deps/libcifar_lab.so",
            "deps/libcode_3.so",
            "deps/libctx.so",
            "build/ring-0123/build-script-build",
            "build/ring-4567/out/libring.rlib",
            ".cargo-lock",
            "libcode_1.so",
            ".fingerprint/cifar-lab-0123/dep-lib-cifar_lab",
            "build/cifar-lab-4567/output",
            ".fingerprint/candle-core-0123/dep-lib-candle_core",
        ] {
            let path = debug.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
            if file.ends_with(".so") || file.ends_with("-build") {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
    }

    #[test]
    fn a_prepared_folder_is_copied_with_its_times() {
        let temporary = tempfile::tempdir().unwrap();
        let repository = repository(temporary.path());
        let folders = KernelFolders::at(&temporary.path().join("kernels"));
        let key = key_of(&repository);
        let making = folders.create("making").unwrap();
        assert_eq!(folders.fill(&making, &repository, &key).unwrap(), Filled::Cold);
        fake_build(&making.path().join("ctx"));
        instrument::fake_library(making.path());
        let prepared = folders.publish(making, &key).unwrap();
        assert_eq!(folders.prepared(&key), Some(prepared.clone()));

        let live = folders.create("one").unwrap();
        assert_eq!(folders.fill(&live, &repository, &key).unwrap(), Filled::Warm);
        let debug = "ctx/target/x86_64/debug";
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let candle = live.path().join(debug).join(".fingerprint/candle-core-0123/dep-lib-candle_core");
        assert!(modified(&candle).elapsed().unwrap() > Duration::from_secs(1_000_000), "copied with its time");
        assert!(!live.path().join(debug).join("deps/libcode_3.so").exists());
        assert!(!live.path().join(debug).join("deps/libctx.so").exists());
        assert!(live.path().join("Cargo.lock").exists() && live.path().join("keep/Cargo.toml").exists());

        // What may be written in place is copied, cargo's lock too, so that kernels don't wait for each other.
        let is_shared = |file: &str| {
            let inode = |folder: &Path| fs::metadata(folder.join(debug).join(file)).unwrap().ino();
            inode(live.path()) == inode(&prepared)
        };
        for file in ["deps/libcifar_lab-0123.rlib", "deps/libcifar_lab.so", "build/ring-0123/build-script-build"] {
            assert!(is_shared(file), "{file}");
        }
        for file in ["build/ring-4567/out/libring.rlib", ".fingerprint/cifar-lab-0123/dep-lib-cifar_lab", ".cargo-lock"]
        {
            assert!(!is_shared(file), "{file}");
        }
    }

    #[test]
    fn a_checkout_of_the_same_sources_counts_as_compiled_and_a_later_edit_does_not() {
        let temporary = tempfile::tempdir().unwrap();
        let repository = repository(temporary.path());
        let folders = KernelFolders::at(&temporary.path().join("kernels"));
        let source = repository.root().join("crates/cifar-lab/src/lib.rs");
        fs::write(&source, "").unwrap();
        let key = key_of(&repository);
        let making = folders.create("making").unwrap();
        fake_build(&making.path().join("ctx"));
        folders.publish(making, &key).unwrap();

        fs::write(&source, "").unwrap();
        let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let live = folders.create("one").unwrap();
        assert_eq!(folders.fill(&live, &repository, &key_of(&repository)).unwrap(), Filled::Warm);
        let debug = live.path().join("ctx/target/x86_64/debug");
        let lists = [".fingerprint/cifar-lab-0123/dep-lib-cifar_lab", "build/cifar-lab-4567/output"];
        // Cargo compares what is compiled with what a build script has printed.
        for file in lists.into_iter().chain(["deps/libcifar_lab-0123.rlib", "deps/libcifar_lab.so"]) {
            let compiled = modified(&debug.join(file));
            assert!(modified(&source) <= compiled, "{file} is older than the checkout");
            assert!(compiled <= live.created().unwrap(), "{file} would hide an edit");
        }
        let candle = debug.join("deps/libcandle_core-0123.rlib");
        assert!(modified(&candle) < modified(&source), "candle is not the repository's");
    }

    #[test]
    fn changed_sources_forget_only_the_own_crates() {
        let temporary = tempfile::tempdir().unwrap();
        let repository = repository(temporary.path());
        let folders = KernelFolders::at(&temporary.path().join("kernels"));
        let key = key_of(&repository);
        let making = folders.create("making").unwrap();
        folders.fill(&making, &repository, &key).unwrap();
        fake_build(&making.path().join("ctx"));
        let first = folders.publish(making, &key).unwrap();

        fs::write(repository.root().join("crates/cifar-lab/src/lib.rs"), "//! Edited.").unwrap();
        let edited = key_of(&repository);
        assert_ne!(edited, key);
        let live = folders.create("two").unwrap();
        assert_eq!(folders.fill(&live, &repository, &edited).unwrap(), Filled::Changed);
        let fingerprints = live.path().join("ctx/target/x86_64/debug/.fingerprint");
        assert!(!fingerprints.join("cifar-lab-0123").exists());
        assert!(fingerprints.join("candle-core-0123").exists());

        let second = folders.publish(live, &edited).unwrap();
        assert!(second.is_dir() && !first.exists(), "the older prepared folder goes");

        // Another clone of the same toolchain starts from what this one has compiled.
        let clone = self::repository(&temporary.path().join("clone"));
        let clones = folders.create("clone").unwrap();
        assert_eq!(folders.fill(&clones, &clone, &key_of(&clone)).unwrap(), Filled::Changed);
        let fingerprints = clones.path().join("ctx/target/x86_64/debug/.fingerprint");
        assert!(fingerprints.join("candle-core-0123").exists() && !fingerprints.join("cifar-lab-0123").exists());

        // Another clone's stays, until that clone is gone.
        let other_root = temporary.path().join("other");
        fs::create_dir(&other_root).unwrap();
        let other = folders.root().join(format!("{PREPARED}0-0-0"));
        fs::create_dir(&other).unwrap();
        fs::write(other.join(REPOSITORY), other_root.to_string_lossy().as_bytes()).unwrap();
        let publish_again = |id: &str, text: &str| {
            fs::write(repository.root().join("crates/cifar-lab/src/lib.rs"), text).unwrap();
            let live = folders.create(id).unwrap();
            folders.publish(live, &key_of(&repository)).unwrap();
        };
        publish_again("three", "//! Once more.");
        assert!(other.exists());
        fs::remove_dir(&other_root).unwrap();
        publish_again("four", "//! And again.");
        assert!(!other.exists());
    }

    #[test]
    fn only_dead_folders_are_swept() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = KernelFolders::at(temporary.path());
        let living = folders.create("living").unwrap();
        let dead = folders.create("dead").unwrap();
        let dead_path = dead.path().to_path_buf();
        drop(dead);
        let half_made = folders.live_path("half-made");
        fs::create_dir(&half_made).unwrap();
        assert_eq!(folders.sweep().unwrap(), [dead_path, half_made]);
        assert!(living.path().exists());
        // A guard joins in the lock, so the folder lives on when the launcher is gone.
        let guard = LiveFolder::join(living.path()).unwrap();
        drop(living);
        assert!(folders.sweep().unwrap().is_empty());
        assert!(guard.path().exists());
    }

    #[test]
    fn one_id_twice_gets_two_folders() {
        let temporary = tempfile::tempdir().unwrap();
        let folders = KernelFolders::at(temporary.path());
        let (first, second) = (folders.create("a").unwrap(), folders.create("a").unwrap());
        assert_ne!(first.path(), second.path());
    }
}
