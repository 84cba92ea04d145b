//! What this program adds to an environment: the kernelspec `rust`, the launcher that it starts, the notebook client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::execution::client::SCRIPT;
use crate::kernel::installation::{client_script, kernelspecs, launcher};
use crate::machine;

/// The kernelspec's contents. It has the same name as evcxr's own, so that a plain evcxr opens the notebooks too.
fn contents(environment: &Path, evcxr: &Path) -> Value {
    json!({
        "argv": [launcher(environment).to_string_lossy(), "kernel", "--evcxr", evcxr.to_string_lossy(), "{connection_file}"],
        "display_name": "Rust",
        "language": "rust",
        "interrupt_mode": "message",
    })
}

/// Whether kernelspec, launcher and client are installed and up to date.
pub fn is_ready(environment: &Path, evcxr: &Path) -> bool {
    let spec = fs::read(kernelspecs(environment).join("rust/kernel.json")).unwrap_or_default();
    let same_spec = serde_json::from_slice::<Value>(&spec).is_ok_and(|spec| spec == contents(environment, evcxr));
    let launcher = fs::read(launcher(environment)).unwrap_or_default();
    let same_program = own_program().is_ok_and(|own| own == launcher);
    let same_client = fs::read_to_string(client_script(environment)).is_ok_and(|script| script == SCRIPT);
    same_spec && same_program && same_client
}

fn own_program() -> Result<Vec<u8>> {
    let path = machine::own_program().map_err(Error::file("find", "this program"))?;
    fs::read(&path).map_err(Error::file("read", &path))
}

/// Installs all three, the kernelspec last: what it names is then there.
pub fn install(environment: &Path, evcxr: &Path) -> Result<()> {
    let write = |path: PathBuf, contents: &[u8]| {
        write_atomically(&path, contents).map_err(Error::file("write", &path))?;
        Ok(path)
    };
    let launcher = write(launcher(environment), &own_program()?)?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&launcher, executable).map_err(Error::file("write", &launcher))?;
    write(client_script(environment), SCRIPT.as_bytes())?;
    let spec = format!("{:#}\n", contents(environment, evcxr));
    write(kernelspecs(environment).join("rust/kernel.json"), spec.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_kernelspec_is_ready_until_evcxr_moves() {
        let folder = tempfile::tempdir().unwrap();
        let (environment, evcxr) = (folder.path(), Path::new("bin/evcxr_jupyter"));
        assert!(!is_ready(environment, evcxr));
        install(environment, evcxr).unwrap();
        assert!(is_ready(environment, evcxr));
        assert!(!is_ready(environment, Path::new("elsewhere/evcxr_jupyter")));
        let spec = fs::read_to_string(environment.join("share/jupyter/kernels/rust/kernel.json")).unwrap();
        assert!(spec.contains("{connection_file}") && spec.contains("\"language\": \"rust\""));
    }
}
