//! Where set-up puts things in an environment, and where they are found again.

use std::path::{Path, PathBuf};

use super::folder::KernelFolders;

/// What a finished set-up has made.
#[derive(Clone, Debug)]
pub struct Installation {
    /// `.venv`, or the conda environment.
    pub environment: PathBuf,
    /// All kernel folders.
    pub folders: KernelFolders,
}

impl Installation {
    /// Its Python.
    pub fn python(&self) -> PathBuf {
        self.environment.join("bin/python")
    }
}

/// The launcher in `environment`: a copy of this program, because `cargo clean` deletes the one in target/.
pub fn launcher(environment: &Path) -> PathBuf {
    environment.join("bin/cifar-lab-kernel")
}

/// The folder in `environment` that Jupyter searches for kernelspecs.
pub fn kernelspecs(environment: &Path) -> PathBuf {
    environment.join("share/jupyter/kernels")
}

/// The notebook client's script in `environment`.
pub fn client_script(environment: &Path) -> PathBuf {
    environment.join("share/cifar-lab/client.py")
}
