//! Holds cargo up until a kernel's folder is filled. evcxr starts meanwhile, and asks nothing of cargo that needs more than
//! manifests.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Closed until this is dropped, or its process ends.
#[derive(Debug)]
pub struct Gate {
    _lock: File,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("filling.lock")
}

impl Gate {
    /// Closes the gate of a kernel's folder.
    pub fn close(folder: &Path) -> Result<Self> {
        let path = path(folder);
        let lock = File::create(&path).map_err(Error::file("make", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(Self { _lock: lock })
    }
}

/// Waits until the gate is open.
pub fn pass(folder: &Path) {
    if let Ok(lock) = File::open(path(folder)) {
        let _ = lock.lock_shared();
    }
}
