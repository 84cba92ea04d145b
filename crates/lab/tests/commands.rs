//! `cargo lab` as a command: common mistakes give a message of one or two lines and an exit code of 1.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A scratch repository with its own home and cache.
struct Scratch {
    folder: tempfile::TempDir,
}

const NOTEBOOK: &str = r#"{"cells": [{"cell_type": "code", "execution_count": null, "id": "p", "outputs": [],
    "metadata": {"tags": ["parameters"]}, "source": ["let epochs: usize = 20;\n", "let device: &str = \"auto\";"]}],
    "metadata": {"kernelspec": {"display_name": "Rust", "language": "rust", "name": "rust"}},
    "nbformat": 4, "nbformat_minor": 5}"#;

impl Scratch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for made in ["crates/cifar-lab/src", "notebooks", "programs"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        for copied in ["environment.yml", "Cargo.toml", "Cargo.lock"] {
            fs::copy(real.join(copied), root.join(copied)).unwrap();
        }
        fs::write(root.join("crates/cifar-lab/Cargo.toml"), "").unwrap();
        fs::write(root.join("notebooks/00_first.ipynb"), NOTEBOOK).unwrap();
        fs::write(root.join("notebooks/01_second.ipynb"), NOTEBOOK).unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Links a program of this machine into the scratch PATH.
    fn link(&self, name: &str, program: &Path) {
        symlink(program, self.root().join("programs").join(name)).unwrap();
    }

    /// `cargo lab` with only linked programs on PATH, and no variable that leads out of the scratch folder.
    fn lab(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.current_dir(self.root()).env_clear();
        command.env("PATH", self.root().join("programs")).env("HOME", self.folder.path());
        command
    }
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file()).unwrap()
}

/// A real Python, not a version manager's script, which would need its own PATH.
fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// The message of a run that must fail, but not panic.
fn message(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

fn short_message(output: &Output) -> String {
    let text = message(output);
    assert!(text.trim_end().lines().count() <= 2, "{text}");
    text
}

#[test]
fn a_notebook_that_does_not_exist() {
    let scratch = Scratch::new();
    let text = short_message(&scratch.lab().args(["run", "07"]).output().unwrap());
    assert!(text.contains("no notebook is called 07; available: 00_first, 01_second"), "{text}");
    let text = short_message(&scratch.lab().args(["run", "0"]).output().unwrap());
    assert!(text.contains("more than one notebook: 00_first, 01_second"), "{text}");
    assert!(!scratch.root().join("runs").exists(), "nothing has begun");
}

#[test]
fn a_setting_that_is_wrong() {
    let scratch = Scratch::new();
    for (setting, wanted) in [
        ("epoch=2", "has no parameter called epoch; its parameters are epochs: usize, device: &str"),
        ("epochs=two", "can't set epochs to \"two\": it is of type usize, expected an integer"),
    ] {
        let text = short_message(&scratch.lab().args(["run", "00", "--set", setting]).output().unwrap());
        assert!(text.contains(wanted), "{text}");
    }
    let output = scratch.lab().args(["run", "00", "--set", "epochs"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("expected name=value, for example --set epochs=2"), "{text}");
    assert!(!scratch.root().join("runs").exists(), "nothing has begun");
}

#[test]
fn a_file_that_is_no_notebook() {
    let scratch = Scratch::new();
    fs::write(scratch.root().join("notebooks/02_broken.ipynb"), "{").unwrap();
    let text = short_message(&scratch.lab().args(["run", "02"]).output().unwrap());
    assert!(text.contains("02_broken.ipynb: it isn't JSON"), "{text}");
}

#[test]
fn no_linker_then_no_python() {
    let scratch = Scratch::new();
    let text = short_message(&scratch.lab().args(["run", "00"]).output().unwrap());
    assert!(text.contains("no C linker") && text.contains("apt install build-essential"), "{text}");
    scratch.link("cc", &find("cc"));
    let text = short_message(&scratch.lab().args(["run", "00"]).output().unwrap());
    assert!(text.contains("needs Python 3.10 or later") && text.contains("apt install python3"), "{text}");
}

#[test]
fn a_comparison_with_a_python_that_lacks_pytorch() {
    let scratch = Scratch::new();
    let text = short_message(&scratch.lab().args(["bench", "--python", "no-such-python"]).output().unwrap());
    assert!(text.contains("no-such-python can't import torch") && text.contains("pip install torch"), "{text}");
}

#[test]
fn the_doctor_needs_neither() {
    let scratch = Scratch::new();
    let output = scratch.lab().arg("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    for missing in ["MISSING   Rust", "MISSING   C linker", "MISSING   Python"] {
        assert!(table.contains(missing), "{table}");
    }
    assert!(table.contains("3 required items are missing"), "{table}");
}

#[test]
fn the_doctor_sees_cuda() {
    let scratch = Scratch::new();
    let program = |name: &str, text: &str| {
        let path = scratch.root().join("programs").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let libraries = scratch.root().join("libraries");
    fs::create_dir(&libraries).unwrap();
    let doctor = |variables: &[(&str, &str)]| {
        let mut command = scratch.lab();
        command.env("LD_LIBRARY_PATH", &libraries).env("LIBRARY_PATH", &libraries).arg("doctor");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    fs::write(libraries.join("libcuda.so.1"), "").unwrap();
    // This machine may have its own toolkit where NVIDIA's installer puts it.
    program("nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'");
    let table = doctor(&[]);
    assert!(table.contains("optional  CUDA toolkit") && table.contains("lacks libcudart.so"), "{table}");
    for name in ["libcudart.so", "libcublas.so", "libcublasLt.so", "libcurand.so", "libnvrtc.so"] {
        fs::write(libraries.join(name), "").unwrap();
    }
    let table = doctor(&[]);
    assert!(table.contains("will be compiled for the CPU: the NVIDIA driver finds no GPU"), "{table}");
    program("nvidia-smi", "[ $# = 0 ] && echo 'CUDA Version: 13.0' || echo 'NVIDIA H200, 580.95.05, 9.0'");
    let table = doctor(&[]);
    for line in [
        "libcuda.so.1, for CUDA 13.0",
        "NVIDIA H200, driver 580.95.05, compute capability 9.0",
        "without cuDNN (package cudnn)",
        "will be compiled for the GPU, with CUDA 13.0, without cuDNN, for compute capability 9.0",
    ] {
        assert!(table.contains(line), "no {line:?} in\n{table}");
    }
    assert!(doctor(&[("CIFAR_LAB_CUDA", "0")]).contains("compiled for the CPU: CIFAR_LAB_CUDA is 0"));
    let table = doctor(&[("CIFAR_LAB_CUDA", "no")]);
    assert!(table.contains("MISSING   notebooks") && table.contains("CIFAR_LAB_CUDA is \"no\""), "{table}");
}

#[test]
fn cleaning_leaves_runs_data_and_running_kernels() {
    let scratch = Scratch::new();
    let cache = scratch.folder.path().join(".cache/cifar-lab");
    let other = scratch.folder.path().join("other");
    let made = |path: PathBuf, repository: Option<&Path>| {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), vec![1; 20_000_000]).unwrap();
        fs::write(path.join(".lock"), "").unwrap();
        if let Some(root) = repository {
            fs::write(path.join("repository.txt"), root.to_str().unwrap()).unwrap();
        }
        path
    };
    let root = scratch.root().canonicalize().unwrap();
    let kernels = |name: &str| cache.join("kernels").join(name);
    let venv = made(root.join(".venv"), None);
    let (own, dead) = (made(kernels("prepared-1-1-1"), Some(&root)), made(kernels("kernel-dead"), Some(&root)));
    // As kernels' files are: the link in what goes frees nothing by itself.
    fs::remove_file(dead.join("file")).unwrap();
    fs::hard_link(own.join("file"), dead.join("file")).unwrap();
    let (others, evcxr) = (made(kernels("prepared-2-1-1"), Some(&other)), made(cache.join("evcxr-0.22.0"), None));
    let stays = [made(root.join("runs"), None), made(cache.join("cifar-10-batches-bin"), None)];
    let clean = |arguments: &[&str]| {
        let output = scratch.lab().arg("clean").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = clean(&["--dry-run"]);
    assert!(text.contains("would go    20 MB") && text.contains("\n40 MB would be freed"), "{text}");
    assert!(venv.exists() && own.exists() && dead.exists(), "{text}");

    let running = made(kernels("kernel-running"), Some(&root));
    let lock = fs::File::open(running.join(".lock")).unwrap();
    lock.lock_shared().unwrap();
    let text = clean(&[]);
    assert!(!own.exists() && !dead.exists() && others.exists() && evcxr.exists(), "{text}");
    assert!(running.exists() && venv.exists() && text.contains(".venv: a kernel is running"), "{text}");
    let text = clean(&["--all"]);
    assert!(running.exists() && venv.exists() && evcxr.exists() && !others.exists(), "{text}");
    drop(lock);
    let text = clean(&["--all"]);
    assert!(!running.exists() && !venv.exists() && !evcxr.exists(), "{text}");
    assert!(stays.iter().all(|path| path.join("file").exists()), "{text}");
}

#[test]
fn pip_without_a_network() {
    let scratch = Scratch::new();
    scratch.link("cc", &find("cc"));
    scratch.link("python3", &python());
    let mut command = scratch.lab();
    // Nothing listens on the discard port.
    command
        .env("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        .env("PIP_RETRIES", "0")
        .env("PIP_CONFIG_FILE", "/dev/null");
    let text = short_message(&command.args(["run", "00"]).output().unwrap());
    assert!(text.contains("installing Python packages failed: ERROR: "), "{text}");
    assert!(text.contains("Check the network") && text.contains("continue where it stopped"), "{text}");
}

#[test]
fn cargo_without_a_network() {
    let scratch = Scratch::new();
    scratch.link("cc", &find("cc"));
    scratch.link("cargo", Path::new(env!("CARGO")));
    // A setup with its packages installed.
    let venv = scratch.root().join(".venv");
    fs::create_dir_all(venv.join("bin")).unwrap();
    symlink(python(), venv.join("bin/python")).unwrap();
    let list = fs::read_to_string(scratch.root().join("environment.yml")).unwrap();
    let not_from_pip = ["python ", "rust ", "rust-src ", "evcxr ", "c-compiler"];
    let output =
        Command::new(python()).args(["-c", "import sys; print('python %d.%d' % sys.version_info[:2])"]).output();
    let packages: String = list
        .lines()
        .skip_while(|line| *line != "dependencies:")
        .filter_map(|line| line.strip_prefix("  - "))
        .filter(|line| not_from_pip.iter().all(|name| !line.starts_with(name)))
        .map(|line| line.replace(' ', "") + "\n")
        .collect();
    let version = String::from_utf8(output.unwrap().stdout).unwrap();
    fs::write(venv.join("cifar-lab-packages.txt"), version + &packages).unwrap();
    let mut command = scratch.lab();
    command.env("CARGO_NET_OFFLINE", "true");
    let text = message(&command.args(["run", "00"]).output().unwrap());
    // cargo's own messages come first.
    let last: Vec<&str> = text.trim_end().lines().rev().take(2).collect();
    assert!(last[1].contains("compiling evcxr_jupyter failed"), "{text}");
    assert!(last[0].contains("Check the network") && last[0].contains("run the same command again"), "{text}");
}

#[test]
fn outside_of_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).current_dir(folder.path()).arg("doctor").output().unwrap();
    assert!(short_message(&output).contains("is not in the repository"));
}
