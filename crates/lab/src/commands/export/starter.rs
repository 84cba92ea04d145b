//! The script that starts a program compiled with CUDA. The dynamic linker refuses to start such a program if a library is
//! missing, so the program itself can't explain what it needs; the script does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::cuda::CudaBuild;
use crate::error::{Error, Result};

/// NAME is replaced by the program, WITH by what it was compiled with, and LEAST by the minimum version of the driver.
const SCRIPT: &str = r#"#!/bin/sh
# Starts NAME, in the same folder, with the same arguments, unless a library is missing.
program=$(dirname "$0")/NAME
missing=$(ldd "$program" 2>/dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u)
if [ -n "$missing" ]; then
  echo "error: NAME was compiled with WITH, and this machine lacks:" >&2
  for library in $missing; do
    case $library in
      libcuda.so.*) echo "  $library: from NVIDIA's driver, for LEAST or later (nvidia-smi shows its version)" >&2 ;;
      *) echo "  $library: from the CUDA toolkit or cuDNN; if it is installed, add its folder to LD_LIBRARY_PATH" >&2 ;;
    esac
  done
  exit 127
fi
exec "$program" "$@"
"#;

/// Writes the script for the program called `name` in `folder`, and returns its path.
pub fn write(folder: &Path, name: &str, build: &CudaBuild) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.sh"));
    let (with, least) = match &build.toolkit {
        Some(toolkit) => {
            let cuda = format!("CUDA {}.{}", toolkit.version.0, toolkit.version.1);
            (format!("{cuda}{}", if toolkit.cudnn { " and cuDNN" } else { "" }), cuda)
        }
        None => ("CUDA".to_string(), "the same CUDA".to_string()),
    };
    let text = SCRIPT.replace("NAME", name).replace("WITH", &with).replace("LEAST", &least);
    fs::write(&path, text).map_err(Error::file("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::file("write", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Toolkit;
    use std::process::Command;

    #[test]
    fn missing_libraries_are_named_and_else_the_program_runs() {
        let folder = tempfile::tempdir().unwrap();
        let executable = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let toolkit = Toolkit {
            nvcc: PathBuf::from("/x/bin/nvcc"),
            version: (13, 0),
            missing: Vec::new(),
            cudnn: true,
            libraries: Vec::new(),
        };
        let build = CudaBuild { toolkit: Some(toolkit), capability: None };
        let script = write(folder.path(), "notebook_x", &build).unwrap();
        executable("notebook_x", "#!/bin/sh\necho \"ran $1\"\n");
        let run = |ldd: &str| {
            executable("ldd", &format!("#!/bin/sh\nprintf '{ldd}'\n"));
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let output = Command::new(&script).arg("--help").env("PATH", path).output().unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, said) = run(
            "\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n\\tlibcuda.so.1 => not found\\n\\tlibcublas.so.13 => not found\\n",
        );
        assert_eq!(code, Some(127));
        assert!(
            said.contains("compiled with CUDA 13.0 and cuDNN") && said.contains("libcublas.so.13: from the"),
            "{said}"
        );
        assert!(
            said.contains("libcuda.so.1: from NVIDIA's driver, for CUDA 13.0 or later") && !said.contains("libc.so"),
            "{said}"
        );
        assert_eq!(run("\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n"), (Some(0), "ran --help\n".to_string()));
    }
}
