//! `cargo lab clean`: removes what setup has made. Runs, CIFAR-10 and what running kernels use stay.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::environment::{self, evcxr};
use crate::error::{Error, Result};
use crate::kernel::folder::{self, KernelFolders};
use crate::repository::Repository;

/// What to remove.
#[derive(clap::Args)]
pub struct Options {
    /// Also the kernel folders of other clones, and the compiled evcxr
    #[arg(long)]
    all: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Removes what setup has made for this clone, or for all.
pub fn clean(repository: &Repository, options: &Options) -> Result<()> {
    let folders = KernelFolders::of_user()?;
    // So that nobody sets up or starts a kernel meanwhile.
    let _locks = if options.dry_run { None } else { Some((environment::lock_set_up()?, folders.lock()?)) };
    let of = if options.all { None } else { Some(repository) };
    let runs_anywhere = folders.list_of(None).iter().any(|path| folders.is_running(path));
    let kernels = folders.list_of(of).into_iter().map(|path| (folders.is_running(&path), path));
    let venv = Some(repository.root().join(".venv")).filter(|path| path.is_dir());
    let programs = if options.all { evcxr::all_installed()? } else { Vec::new() };
    // A kernel of a notebook outside the clone may run from .venv, too.
    let found = (venv.into_iter().map(|path| (runs_anywhere, path)))
        .chain(kernels)
        .chain(programs.into_iter().map(|path| (runs_anywhere, path)));
    let (mut sizes, mut sum) = (Sizes::default(), 0);
    for (in_use, path) in found {
        let shown = path.display();
        if in_use {
            println!("kept    {:>9}  {shown}: a kernel is running", "");
            continue;
        }
        let size = sizes.megabytes(&path);
        sum += size;
        if !options.dry_run {
            folder::end_processes_of(&path);
            folder::remove(&path);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
            }
        }
        println!("{} {size:>5} MB  {shown}", if options.dry_run { "would go" } else { "removed " });
    }
    let freed = if options.dry_run { "would be freed" } else { "freed" };
    println!("{sum} MB {freed}. `cargo lab` sets up again what it needs.");
    Ok(())
}

/// Sizes of folders, of which a file with several links counts in the folder that holds the last.
#[derive(Default)]
pub struct Sizes {
    /// The links seen, by device and inode.
    links: HashMap<(u64, u64), u64>,
}

impl Sizes {
    /// What removing `path` frees if all before it are removed too, in MB.
    pub fn megabytes(&mut self, path: &Path) -> u64 {
        self.bytes(path) / 1_000_000
    }

    fn bytes(&mut self, path: &Path) -> u64 {
        let Ok(metadata) = path.symlink_metadata() else { return 0 };
        if metadata.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            return entries.map(|entry| self.bytes(&entry.path())).sum::<u64>();
        }
        let seen = self.links.entry((metadata.dev(), metadata.ino())).or_default();
        *seen += 1;
        if *seen == metadata.nlink() { metadata.len() } else { 0 }
    }
}

/// What all that setup has made takes, for `cargo lab doctor`.
pub fn footprint(environment: &Path) -> Result<String> {
    let mut sizes = Sizes::default();
    let mut size = |paths: &[PathBuf]| paths.iter().map(|path| sizes.megabytes(path)).sum::<u64>();
    let folders = KernelFolders::of_user()?.list_of(None);
    let (kernels, programs) = (size(&folders), size(&evcxr::all_installed()?));
    let place = environment.file_name().unwrap_or_default().display();
    let environment = size(&[environment.to_path_buf()]);
    Ok(format!("{} kernel folders {kernels} MB, evcxr {programs} MB, {place} {environment} MB", folders.len()))
}
