//! `cargo lab bundle`: a folder for a machine with an NVIDIA GPU that has neither Rust nor a network. Its script
//! `run.sh` checks there that results are right, and measures how fast they come. The programs are in one archive, in
//! which what they share is compressed to almost nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::commands::export;
use crate::cuda::CudaBuild;
use crate::error::{ASK_THE_DOCTOR, Error, Result};
use crate::programs::{self, CUDA_TESTS, cargo_with_cuda};
use crate::repository::Repository;
use crate::steps;

const RUN: &str = include_str!("run.sh");

/// The folder to write.
const FOLDER: &str = "target/gpu-bundle";

/// The unit tests, of which `run.sh` runs those of `device`.
const UNIT_TESTS: &str = "cifar_lab";

/// PyTorch's side of the comparison.
const SCRIPTS: [&str; 2] =
    ["crates/candle-cnn/examples/bench_pytorch.py", "crates/cifar-lab/examples/train_pytorch.py"];

/// Builds and packs it, and lists the sizes of its parts.
pub fn bundle(repository: &Repository) -> Result<()> {
    let started = Instant::now();
    let cuda = CudaBuild::for_many_gpus().map_err(Error::NoCuda)?;
    let mut programs = BTreeMap::new();
    let tests = CUDA_TESTS.iter().flat_map(|name| ["--test", name]);
    let step = steps::begin("Compiling tests and benchmark with CUDA", "15 minutes on 2 cores, once");
    let tests_and_benchmark: Vec<&str> = ["build", "--example", "bench"].into_iter().chain(tests).collect();
    programs.extend(build(repository, &cuda, &tests_and_benchmark)?);
    programs.extend(build(repository, &cuda, &["test", "--lib", "--no-run"])?);
    step.end();
    programs.retain(|name, _| CUDA_TESTS.contains(&name.as_str()) || [UNIT_TESTS, "bench"].contains(&name.as_str()));
    let notebook = export::Options { notebook: "00".to_string(), ..Default::default() };
    let folder = export::export(repository, &notebook, Some(&cuda))?.folder;
    if let Some(name) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) {
        programs.insert(name.clone(), folder.join(name));
    }

    let target = repository.root().join(FOLDER);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).map_err(Error::file("make", &target))?;
    let step = steps::begin("Packing", "2 minutes on 2 cores");
    pack(&programs, &target.join("programs.tar.xz"))?;
    step.end();
    for script in SCRIPTS.map(|script| repository.root().join(script)) {
        let place = target.join(script.file_name().unwrap_or_default());
        fs::copy(&script, &place).map_err(Error::file("copy", &script))?;
    }
    let run = target.join("run.sh");
    fs::write(&run, RUN).map_err(Error::file("write", &run))?;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).map_err(Error::file("write", &run))?;
    println!("Done in {}:", steps::seconds(started.elapsed()));
    list(&target)
}

/// Compiles the `selection` from both crates with CUDA.
fn build(repository: &Repository, cuda: &CudaBuild, selection: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo_with_cuda(repository, cuda, cuda.feature(), selection, &["--release"]);
    programs::build(&mut command, "the bundle", ASK_THE_DOCTOR)
}

/// Strips the programs and packs them into one archive.
fn pack(programs: &BTreeMap<String, PathBuf>, archive: &Path) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::file("make", std::env::temp_dir()))?;
    for (name, program) in programs {
        run(Command::new("strip").arg("-o").arg(folder.path().join(name)).arg(program))?;
        println!("  {name}: {}", megabytes(&folder.path().join(name))?);
    }
    // xz looks back 64 MiB, further than the last program; gzip would miss what they share.
    let mut tar = Command::new("tar");
    tar.env("XZ_OPT", "-9 -T0").args(["--owner=0", "--group=0", "--xz", "-cf"]).arg(archive);
    run(tar.arg("-C").arg(folder.path()).args(programs.keys()))
}

fn run(command: &mut Command) -> Result<()> {
    steps::show("packing the bundle", command, "Install binutils, tar and xz.")
}

fn megabytes(path: &Path) -> Result<String> {
    let bytes = fs::metadata(path).map_err(Error::file("read", path))?.len();
    Ok(format!("{:.1} MB", bytes as f64 * 1e-6))
}

fn list(folder: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(Error::file("read", folder))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    for file in files {
        println!("  {}: {}", file.file_name().unwrap_or_default().to_string_lossy(), megabytes(&file)?);
    }
    println!(
        "Copy {} to a machine with a GPU, and run run.sh there; its first lines explain the options.",
        folder.display()
    );
    Ok(())
}

// On Linux only, like the machines with a GPU: run.sh needs GNU's `timeout`, which macOS lacks.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A bundle of scripts in place of programs.
    struct Bundle {
        folder: tempfile::TempDir,
    }

    impl Bundle {
        fn new(programs: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                let path = folder.path().join(name);
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            };
            write("run.sh", RUN);
            for (name, lines) in programs {
                write(name, &format!("#!/bin/sh\n{lines}\n"));
            }
            let archive = folder.path().join("programs.tar.xz");
            let mut tar = Command::new("tar");
            tar.arg("--xz").arg("-cf").arg(archive).arg("-C").arg(folder.path());
            run(tar.args(programs.iter().map(|(name, _)| *name))).unwrap();
            Self { folder }
        }

        /// The report, and whether all steps passed.
        fn report(&self, arguments: &[&str]) -> (String, bool) {
            let mut command = Command::new(self.folder.path().join("run.sh"));
            // No Python, and no tool of NVIDIA's.
            command.env_clear().env("PATH", "/usr/bin:/bin").args(["--python", "no-python"]).args(arguments);
            let output = command.output().unwrap();
            let report = fs::read_to_string(self.folder.path().join("results/report.md"));
            (report.unwrap_or_else(|_| panic!("{output:?}")), output.status.success())
        }
    }

    const GOOD: &str = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";

    #[test]
    fn what_fails_is_a_line_and_the_rest_goes_on() {
        let red =
            "echo 'failures:'; echo '    relu'; echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";
        let bundle = Bundle::new(&[
            ("cuda", red),
            ("pytorch", "echo 'skipped: no GPU (none)' >&2; echo 'test result: ok. 3 passed; 0 failed; 0 ignored'"),
            ("cuda_precision", "echo 'error while loading shared libraries: libcudnn.so.9' >&2; exit 127"),
            ("cuda_training", "sleep 600"),
            ("cuda_errors", GOOD),
            ("cifar_lab", GOOD),
            ("bench", "echo 'libcudnn.so.9: cannot open shared object file' >&2; exit 127"),
        ]);
        let steps = "operations,errors,benchmark,training";
        let (report, good) = bundle.report(&["--only", steps, "--test-seconds", "1"]);
        assert!(!good);
        for line in [
            "- cuda: 2 passed; 1 failed\n  - relu failed\n",
            "- pytorch: 3 passed; 0 failed; found no GPU\n",
            "- cuda_precision: did not start: error while loading shared libraries: libcudnn.so.9\n",
            "- cuda_training: stopped after 1 s\n",
            "operations: failed in ",
            "- cuda_errors: 3 passed; 0 failed\n- cifar_lab: 3 passed; 0 failed\n",
            "errors: passed in ",
            "### benchmark\n\nlibcudnn.so.9: cannot open shared object file\n",
            "Skipped: --data is missing.\n\ntraining: skipped.\n",
        ] {
            assert!(report.contains(line), "{line}\n{report}");
        }
    }

    #[test]
    fn what_the_machine_lacks_is_skipped() {
        let bundle = Bundle::new(&[("bench", "echo \"$@\"")]);
        let (report, good) = bundle.report(&["--only", "machine,benchmark,sanitizer,kernels", "--tiny"]);
        assert!(good, "{report}");
        assert!(report.contains("no PyTorch in no-python"), "{report}");
        assert!(report.contains("--rounds 1 --batches 2") && !report.contains("--python"), "{report}");
        assert!(report.contains("kernels: skipped.") && report.contains("sanitizer: skipped."), "{report}");
    }
}
