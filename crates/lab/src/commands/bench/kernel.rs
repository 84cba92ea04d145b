//! The same code as notebook cells and as a compiled program, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::report::{MEASURING, Report, failed};
use crate::environment;
use crate::error::{ASK_THE_DOCTOR, Error, Result};
use crate::execution::{self, Interrupts, Outcome, Request};
use crate::kernel::settings;
use crate::listing;
use crate::notebook::Notebook;
use crate::programs::Example;
use crate::repository::Repository;
use crate::steps;

/// The program, an example of cifar-lab, that is also cut into cells.
const PROGRAM: &str = "speed";
/// The line before each cell.
const MARK: &str = "// %%";

/// Images per second in each round, by mode and batch size.
type Rates = BTreeMap<String, Vec<f64>>;

/// Measures in the kernel and in the program, in turns, and reports both.
pub fn beside_a_program(repository: &Repository, quick: bool, report: &mut Report) -> Result<()> {
    let rounds = if quick { 2 } else { 7 };
    let source = repository.root().join(format!("crates/cifar-lab/examples/{PROGRAM}.rs"));
    let mut cells = cells(&fs::read_to_string(&source).map_err(Error::file("read", &source))?);
    let measuring = cells.pop().unwrap_or_default();
    cells[0] = format!(":dep cifar-lab = {{ path = \"../crates/cifar-lab\" }}\n{}", cells[0]);
    let begun = cells.len();
    cells.extend(std::iter::repeat_n(measuring, rounds));

    let program = Example { package: "cifar-lab", name: PROGRAM }.build(repository, None)?;
    let ready = environment::set_up(repository)?;
    let interrupts = Interrupts::watch()?;
    let folder = tempfile::tempdir().map_err(Error::file("make", std::env::temp_dir()))?;
    let notebook = Notebook::from_cells(cells.iter().map(String::as_str));
    let request = Request::new(notebook, PROGRAM, folder.path().to_path_buf());
    let (mut compiled, mut error) = (Rates::new(), None);
    println!("{rounds} rounds, about {} seconds each", 2 * SECONDS_OF_A_ROUND);
    let execution = execution::execute_with(repository, &ready, &request, &interrupts, &mut |cell| {
        if cell > begun && error.is_none() {
            match output_of(&program, repository) {
                Ok(text) => note(&mut compiled, &text),
                Err(reason) => error = Some(reason),
            }
            println!("  round {} of {rounds}", cell - begun);
        }
    })?;
    match (&execution.outcome, error) {
        (Outcome::Passed, None) => {}
        (Outcome::Failed { cell, failure }, _) => {
            return Err(failed(execution::describe(PROGRAM, &request.notebook, *cell, failure)));
        }
        (_, Some(reason)) => return Err(reason),
        (Outcome::Interrupted { .. }, None) => return Err(failed("it was interrupted")),
    }
    let executed = Notebook::read(&execution.copy)?;
    let mut kernel = Rates::new();
    executed.code_cells().iter().skip(begun).for_each(|(index, _)| note(&mut kernel, &executed.printed(*index)));
    table(&kernel, &compiled, rounds, report);
    Ok(())
}

/// Nine measurements of 0.4 s, with a step before each.
const SECONDS_OF_A_ROUND: usize = 5;

/// The cells of a program: the text between its marks, without `fn main`.
fn cells(program: &str) -> Vec<String> {
    let cut = |cell: &str| {
        let cell = cell.trim_end().trim_end_matches("fn main() -> Result<()> {").trim_end();
        let cell = cell.strip_suffix("    Ok(())\n}").unwrap_or(cell);
        let indented = cell.lines().filter(|line| !line.trim().is_empty()).all(|line| line.starts_with("    "));
        let line = |line: &str| line.strip_prefix("    ").filter(|_| indented).unwrap_or(line).trim_end().to_string();
        cell.trim_matches('\n').lines().map(line).collect::<Vec<_>>().join("\n").trim().to_string()
    };
    program.split(MARK).skip(1).map(cut).collect()
}

fn output_of(program: &Path, repository: &Repository) -> Result<String> {
    let mut command = Command::new(program);
    settings::forget_cargo_run(&mut command, repository);
    steps::output(MEASURING, command.stderr(Stdio::inherit()), ASK_THE_DOCTOR)
}

fn note(rates: &mut Rates, printed: &str) {
    for (name, rate) in listing::parse(printed) {
        rates.entry(name).or_default().push(rate);
    }
}

fn table(kernel: &Rates, compiled: &Rates, rounds: usize, report: &mut Report) {
    report.say(&format!("\nMedian of {rounds} rounds, alternating between kernel and program (slowest – fastest).\n"));
    report.say("| mode | batch | kernel, images/s | | program, images/s | | kernel ÷ program |");
    report.say("|---|---:|---:|---:|---:|---:|---:|");
    for (name, rates) in kernel {
        let (mode, batch) = name.split_once(' ').unwrap_or((name, ""));
        let (slowest, middle, fastest) = spread(rates);
        let (p_slowest, p_middle, p_fastest) = spread(compiled.get(name).map_or(&[], Vec::as_slice));
        let mode = mode.replace('-', " ");
        let own = format!("{middle:.0} | {slowest:.0} – {fastest:.0}");
        let program = format!("{p_middle:.0} | {p_slowest:.0} – {p_fastest:.0}");
        report.say(&format!("| {mode} | {batch} | {own} | {program} | {:.2} |", middle / p_middle));
    }
}

/// The smallest, the median and the largest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_cut_into_cells() {
        let program = "//! Head.\n\n// %%\nuse a::*;\n\nfn f() {\n    g()\n}\n\nfn main() -> Result<()> {\n    // %%\n    \
            let a = 1;\n    if a > 0 {\n        f();\n    }\n\n    // %%\n    println!(\"x\");\n    Ok(())\n}\n";
        let wanted = ["use a::*;\n\nfn f() {\n    g()\n}", "let a = 1;\nif a > 0 {\n    f();\n}", "println!(\"x\");"];
        assert_eq!(cells(program), wanted);
    }

    #[test]
    fn the_example_has_three_cells() {
        let example = include_str!("../../../../cifar-lab/examples/speed.rs");
        let cells = cells(example);
        assert_eq!(cells.len(), 3);
        assert!(cells.iter().all(|cell| !cell.contains("fn main") && !cell.contains("Ok(())\n}")), "{cells:?}");
    }

    #[test]
    fn rates_are_collected_by_name() {
        let mut rates = Rates::new();
        note(&mut rates, "training 32 100\nnoise\n");
        note(&mut rates, "training 32 300\n");
        note(&mut rates, "training 32 200\n");
        assert_eq!(spread(&rates["training 32"]), (100.0, 200.0, 300.0));
    }
}
