//! Where setup installs things in an environment.

use std::path::{Path, PathBuf};

use super::folder::KernelFolders;

/// The result of a setup.
#[derive(Clone, Debug)]
pub struct Installation {
    /// `.venv`, or the conda environment.
    pub environment: PathBuf,
    pub folders: KernelFolders,
}

impl Installation {
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
