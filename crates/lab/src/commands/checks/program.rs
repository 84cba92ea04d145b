//! An exported notebook, compared with the notebook in the kernel: both must print the same, except times and paths.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;

use super::expectation::Trial;
use super::laboratory::{Laboratory, STAND_IN, passed, printed};
use crate::commands::export::{self, Options};
use crate::execution::Request;
use crate::kernel::settings;
use crate::repository::stem;

/// Exports the notebook at `path` with its test settings, runs it as a program and in the kernel, and compares the outputs.
pub fn compare(laboratory: &Laboratory, path: &Path) -> Result<String, String> {
    let said = |error: crate::error::Error| error.to_string();
    let (repository, name) = (&laboratory.repository, stem(path));
    let Trial { notebook, settings, .. } = Trial::read(path).map_err(said)?;
    let folder = laboratory.folder.join(&name);
    let _ = std::fs::remove_dir_all(&folder);
    let out = Some(folder.join("crate"));
    let notebook_path = path.to_string_lossy().into_owned();
    let options = Options { notebook: notebook_path, out, settings, ..Options::default() };
    let exported = export::export(repository, &options, None).map_err(said)?;
    let program = exported.program.ok_or("it was not compiled")?;
    let mut command = Command::new(&program);
    settings::forget_cargo_run(&mut command, repository);
    command.current_dir(repository.notebooks()).env(STAND_IN.0, STAND_IN.1);
    command.env("CIFAR_LAB_RUN_DIR", folder.join("program"));
    let output = command.output().map_err(|error| error.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the program ended with {}: {stderr}", output.status));
    }

    let mut request = Request::new(notebook.clone(), &name, folder.join("kernel"));
    request.variables.push((STAND_IN.0.to_string(), STAND_IN.1.to_string()));
    let execution = laboratory.execute_as(&request)?;
    let in_kernel = printed(passed(&name, &notebook, &execution)?)?;
    same(&String::from_utf8_lossy(&output.stdout), &in_kernel, &program)
}

/// Compares two outputs; returns their size, or the first difference.
fn same(of_program: &str, of_kernel: &str, program: &Path) -> Result<String, String> {
    let (own, wanted) = (essence(of_program), essence(of_kernel));
    if let Some(at) = (0..own.len().max(wanted.len())).find(|at| own.get(*at) != wanted.get(*at)) {
        let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "nothing more".to_string());
        return Err(format!(
            "line {}: {} prints\n  {}\nthe kernel\n  {}",
            at + 1,
            program.display(),
            line(&own),
            line(&wanted)
        ));
    }
    let numbers = own.iter().flat_map(|line| line.split(|c: char| !(c.is_ascii_digit() || c == '.')));
    let numbers = numbers.filter(|word| word.contains(|c: char| c.is_ascii_digit())).count();
    if numbers == 0 {
        Err("neither prints a number".to_string())
    } else {
        Ok(format!("{} lines with {numbers} numbers", own.len()))
    }
}

/// The lines of an output, without what differs between runs: times, speeds, paths, and progress. If a training starts in
/// one cell and the next waits for it, it may already have finished an epoch, so only its last epoch counts.
fn essence(text: &str) -> Vec<String> {
    static BY_THE_CLOCK: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"step +[0-9]+/[0-9]+|^about .* on this machine$").expect("valid"));
    static VARYING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[0-9.,]+ images/s|([0-9.]+ (h|min|s|ms|µs)\b ?)+(left)?|\S*runs/\S*").expect("valid")
    });
    static EPOCH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^epoch +([0-9]+)/([0-9]+) ").expect("valid"));
    let in_between = |line: &str| EPOCH.captures(line).is_some_and(|epoch| epoch[1] != epoch[2]);
    let lines = text.lines().filter(|line| !BY_THE_CLOCK.is_match(line) && !in_between(line));
    let lines = lines.map(|line| VARYING.replace_all(line, "…").split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "about 42 min 17 s for 20 epochs on this machine\n\
        epoch  1/20  step  195/1563  loss 1.951  accuracy 32.3 %  370 images/s  42 min 55 s left\n\
        epoch  1/20  loss 1.765  accuracy 37.1 %  test 50.8 %  377 images/s  40 min 03 s left\n\
        epoch 20/20  loss 1.465  accuracy 47.1 %  test 60.8 %  377 images/s\n\
        saved 34 tensors to runs/20261124-00/a.pth\n(loss 1.093; CIFAR-10; 4.8 s)\n";

    #[test]
    fn times_and_paths_do_not_count_and_numbers_do() {
        let other = "epoch 20/20  loss 1.465  accuracy 47.1 %  test 60.8 %  1,200 images/s\n\n\
            saved 34 tensors to runs/x/a.pth\n(loss 1.093; CIFAR-10; 120 ms)\n";
        let program = Path::new("program");
        assert_eq!(same(PRINTED, other, program).unwrap(), "3 lines with 8 numbers");
        let error = same(PRINTED, &other.replace("1.465", "1.466"), program).unwrap_err();
        assert!(error.contains("loss 1.465") && error.contains("loss 1.466"), "{error}");
        assert!(same(PRINTED, "", program).unwrap_err().contains("nothing more"));
        assert!(same("", "", program).is_err());
    }
}
