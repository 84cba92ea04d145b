//! `cargo lab test --quick`: format, lints, and unit tests of the crates that have changed or depend on one that has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::tally::Tally;
use crate::error::{ASK_THE_DOCTOR, Error, Result};
use crate::kernel::settings;
use crate::machine::output;
use crate::programs::{self, cargo};
use crate::repository::Repository;
use crate::steps;

/// cargo's arguments for the format of all crates.
pub const FORMAT: [&str; 3] = ["fmt", "--all", "--check"];

/// cargo's arguments for the lints of all crates. Unchanged ones take no time.
pub const LINTS: [&str; 7] = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];

/// What a branch may have started from; the first that exists is taken.
const BASES: [&str; 3] = ["origin/HEAD", "origin/main", "main"];

/// Files and folders that affect every crate.
const OF_ALL: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rustfmt.toml", ".cargo"];

/// A crate of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    /// Its folder, relative to the repository's.
    folder: String,
    /// The workspace's crates that it or its tests depend on.
    dependencies: Vec<String>,
    /// Its targets with unit tests: library and programs.
    units: Vec<String>,
}

/// Runs the checks up to the first failure.
pub fn check(repository: &Repository, tally: &mut Tally) -> Result<()> {
    let packages = packages(repository)?;
    let (files, since) = match changed_files(repository) {
        Some((files, base)) => (files, format!("since {base}")),
        None => (vec![OF_ALL[0].to_string()], "(unknown: this is not a git clone)".to_string()),
    };
    let affected = affected(&files, &packages);
    let (affected, others): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| affected.contains(package.name.as_str()));
    let list = |packages: &[&Package]| match packages {
        [] => "none".to_string(),
        some => some.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    println!("crates affected by changes {since}: {}", list(&affected));
    println!("skipped: other crates ({}), integration tests, doctests, notebooks, kernel", list(&others));
    let mut cargo = |arguments: &[&str]| tally.cargo(repository, arguments, |_| {});
    if cargo(&FORMAT) && !affected.is_empty() && cargo(&LINTS) {
        unit_tests(repository, &affected, tally);
    }
    Ok(())
}

/// Runs the unit tests of `packages` up to the first failure. They are built as part of the workspace: for a few packages
/// alone, cargo may choose different features, and compile candle once more with those.
fn unit_tests(repository: &Repository, packages: &[&Package], tally: &mut Tally) {
    let mut programs = BTreeMap::new();
    let built = tally.check("compiling unit tests", || {
        let mut command = cargo(repository, &["test", "--workspace", "--lib", "--bins", "--no-run"]);
        programs = programs::build(&mut command, "unit tests", "")
            .map_err(|error| error.to_string().trim_end().to_string())?;
        Ok(String::new())
    });
    if !built {
        return;
    }
    let units = packages.iter().flat_map(|package| package.units.iter().map(move |unit| (package, unit)));
    for (package, program) in units.filter_map(|(package, unit)| Some((package, programs.get(unit)?))) {
        let mut command = Command::new(program);
        command.arg("--quiet").current_dir(repository.root().join(&package.folder));
        settings::forget_cargo_run(&mut command, repository);
        if !tally.run(&format!("unit tests of {}", package.name), &mut command) {
            return;
        }
    }
}

/// The files that have changed since the branch started, committed or not, relative to the repository's folder; and the
/// commit from which it started.
fn changed_files(repository: &Repository) -> Option<(Vec<String>, String)> {
    let root = repository.root().to_string_lossy();
    let git = |arguments: &[&str]| output("git", &[&["-C", &root], arguments].concat());
    let base =
        BASES.iter().find_map(|base| git(&["merge-base", "HEAD", base])).or_else(|| git(&["rev-parse", "HEAD"]))?;
    let changed = git(&["diff", "--name-only", "--relative", &base])?;
    let new = git(&["ls-files", "--others", "--exclude-standard"])?;
    let files = changed.lines().chain(new.lines()).map(str::to_string).collect();
    Some((files, base.chars().take(9).collect()))
}

/// The workspace's crates.
fn packages(repository: &Repository) -> Result<Vec<Package>> {
    let mut command = cargo(repository, &["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let step = "listing the crates";
    let metadata: Value = serde_json::from_str(&steps::output(step, &mut command, ASK_THE_DOCTOR)?)
        .map_err(|error| Error::step(step, error.to_string(), ASK_THE_DOCTOR))?;
    Ok(metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| package(value, repository.root()))
        .collect())
}

/// What `cargo metadata` says of one crate.
fn package(value: &Value, root: &Path) -> Option<Package> {
    let manifest = Path::new(value["manifest_path"].as_str()?);
    let folder = manifest.parent()?.strip_prefix(root).ok()?.to_string_lossy().into_owned();
    let dependencies = value["dependencies"].as_array()?.iter().filter(|dependency| dependency["path"].is_string());
    let dependencies = dependencies.filter_map(|dependency| dependency["name"].as_str().map(str::to_string)).collect();
    let is_unit = |target: &&Value| {
        let mut kinds = target["kind"].as_array().into_iter().flatten().filter_map(Value::as_str);
        kinds.any(|kind| kind.ends_with("lib") || kind == "bin")
    };
    let units = value["targets"].as_array()?.iter().filter(is_unit).filter_map(|target| target["name"].as_str());
    let units = units.map(str::to_string).collect();
    Some(Package { name: value["name"].as_str()?.to_string(), folder, dependencies, units })
}

/// The crates that contain `files`, and all that depend on them.
fn affected<'a>(files: &[String], packages: &'a [Package]) -> BTreeSet<&'a str> {
    let any_in = |folder: &str| files.iter().any(|file| Path::new(file).starts_with(folder));
    let everything = OF_ALL.iter().any(|path| any_in(path));
    let changed = packages.iter().filter(|package| everything || any_in(&package.folder));
    let mut affected: BTreeSet<&str> = changed.map(|package| package.name.as_str()).collect();
    loop {
        let depends = |package: &&Package| package.dependencies.iter().any(|name| affected.contains(name.as_str()));
        let found: Vec<&str> = packages.iter().filter(depends).map(|package| package.name.as_str()).collect();
        let before = affected.len();
        affected.extend(found);
        if affected.len() == before {
            return affected;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_affects_its_crate_and_those_above() {
        let package = |name: &str, dependencies: &[&str]| Package {
            name: name.to_string(),
            folder: format!("crates/{name}"),
            dependencies: dependencies.iter().map(|name| name.to_string()).collect(),
            units: Vec::new(),
        };
        let packages = [
            package("ground", &[]),
            package("data", &["ground"]),
            package("notebook", &["data"]),
            package("tool", &[]),
        ];
        let affected = |files: &[&str]| -> Vec<&str> {
            let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
            affected(&files, &packages).into_iter().collect()
        };
        assert_eq!(affected(&["crates/ground/src/lib.rs"]), ["data", "ground", "notebook"]);
        assert_eq!(affected(&["crates/notebook/Cargo.toml", "README.md"]), ["notebook"]);
        assert_eq!(affected(&["crates/tools/x.rs", "notebooks/00.ipynb"]), [""; 0]);
        assert_eq!(affected(&["Cargo.lock"]).len(), 4);
    }

    #[test]
    fn the_workspaces_crates_are_found() {
        let repository = Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let packages = packages(&repository).unwrap();
        let find = |name: &str| packages.iter().find(|package| package.name == name).unwrap();
        assert!(find("cifar-lab").dependencies.contains(&"candle-cnn".to_string()));
        assert_eq!(
            (find("cifar-lab").units.as_slice(), find("lab").units.as_slice()),
            (&["cifar_lab".to_string()][..], &["lab".to_string()][..])
        );
        assert_eq!(find("lab").folder, "crates/lab");
    }
}
