//! `cargo lab export`: a notebook's code cells as a plain Rust program, for machines without a Rust compiler: a GPU
//! server, a cluster's node.
//!
//! - [`cells`]: a cell taken apart.
//! - [`source`]: the cells as the text of one program.
//! - [`manifest`]: its Cargo.toml.
//! - [`starter`]: the script that starts it where it was compiled with CUDA.

pub mod cells;
pub mod manifest;
pub mod source;
pub mod starter;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cuda::CudaBuild;
use crate::error::{Error, Result};
use crate::notebook::parameters::{self, Parameter, Setting};
use crate::notebook::{INJECTED, Notebook, PARAMETERS, RAISES};
use crate::programs::{self, cargo};
use crate::repository::{Repository, stem};
use crate::steps;
use cells::Cell;
use source::{Content, Part};

/// What is exported, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The notebook: a number, a name or a path.
    pub notebook: String,
    /// The folder that is written; `target/export/<name>` otherwise.
    pub out: Option<PathBuf>,
    /// Values for its parameters.
    pub settings: Vec<Setting>,
    /// With what it is compiled for a GPU, if it is for one.
    pub cuda: Option<CudaBuild>,
    /// Whether it is compiled at all.
    pub build: bool,
}

/// An exported notebook.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The crate's folder.
    pub folder: PathBuf,
    /// What starts the program, where it was compiled: the program itself, or the script beside it.
    pub program: Option<PathBuf>,
    /// The code cells, counted from 1, that were left out because they are there to fail.
    pub left_out: Vec<usize>,
}

/// `cargo lab export`: writes the crate, compiles it and says where it is.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let Exported { folder, program, left_out } = export(repository, options)?;
    if !left_out.is_empty() {
        let cells: Vec<String> = left_out.iter().map(usize::to_string).collect();
        println!("Left out, because they are there to fail: cells {}.", cells.join(", "));
    }
    println!("The crate is {}.", folder.display());
    match program {
        Some(program) => println!("The program is {}; --help names its settings.", program.display()),
        None => println!("`cargo build --release` in it compiles the program."),
    }
    Ok(())
}

/// Writes a notebook's cells as a crate, and compiles it where that is wanted.
pub fn export(repository: &Repository, options: &Options) -> Result<Exported> {
    let path = repository.find_notebook(&options.notebook)?;
    let notebook_name = stem(&path);
    let mut notebook = Notebook::read(&path)?;
    parameters::set(&mut notebook, &notebook_name, &options.settings)?;
    let wrong = |(number, problem): (usize, cells::CellError)| Error::Cell {
        notebook: notebook_name.clone(),
        number,
        problem: problem.to_string(),
    };
    let parts = parts(&notebook).map_err(wrong)?;
    let text = source::write(&notebook_name, &parts).map_err(wrong)?;
    let name = manifest::package_name(&notebook_name);
    // A path in a `:dep` line begins at the notebook's folder, which is the kernel's working directory.
    let notebooks = path.parent().unwrap_or(Path::new("."));
    let mut dependencies = Vec::new();
    for (number, dependency) in source::dependencies(&parts).map_err(wrong)? {
        dependencies.push(manifest::resolve(&dependency, notebooks).map_err(|problem| wrong((number, problem)))?);
    }
    let feature = options.cuda.as_ref().map(CudaBuild::feature);
    let manifest = manifest::write(&name, &dependencies, repository, feature);
    let folder = options.out.clone().unwrap_or_else(|| repository.root().join("target/export").join(&name));
    write_crate(&folder, &manifest, &text, repository)?;
    let left_out = parts.iter().filter(|part| matches!(part.content, Content::LeftOut(_))).map(|part| part.number);
    let mut exported = Exported { folder, program: None, left_out: left_out.collect() };
    if options.build {
        let program = build(repository, &exported.folder, &name, options.cuda.as_ref())?;
        exported.program = Some(match &options.cuda {
            Some(cuda) => starter::write(&exported.folder, &name, cuda)?,
            None => program,
        });
    }
    Ok(exported)
}

/// The code cells, taken apart; the number of the one that can't be, and why.
fn parts(notebook: &Notebook) -> Result<Vec<Part>, (usize, cells::CellError)> {
    let mut parts: Vec<Part> = Vec::new();
    let mut declared: Vec<Parameter> = Vec::new();
    let code_cells = notebook.code_cells();
    for (index, (place, text)) in code_cells.iter().enumerate() {
        let number = index + 1;
        if notebook.is_tagged(*place, RAISES) {
            parts.push(Part { number, content: Content::LeftOut(text.clone()) });
            continue;
        }
        if notebook.is_tagged(*place, PARAMETERS) {
            declared = parameters::declared(text).into_iter().filter(Parameter::is_settable).collect();
        }
        // What was set when it was exported goes before the notebook's own, and what is set at its start before both.
        let overridden = code_cells.get(index + 1).is_some_and(|(next, _)| notebook.is_tagged(*next, INJECTED));
        let settable = if overridden { Vec::new() } else { std::mem::take(&mut declared) };
        let cell = Cell::parse(text).map_err(|problem| (number, problem))?;
        parts.push(Part { number, content: Content::Code(cell, settable) });
    }
    Ok(parts)
}

fn write_crate(folder: &Path, manifest: &str, text: &str, repository: &Repository) -> Result<()> {
    let sources = folder.join("src");
    fs::create_dir_all(&sources).map_err(Error::file("make", &sources))?;
    let write = |path: PathBuf, text: &str| {
        // A file that stays as it is keeps its time, so that cargo has nothing to do.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).map_err(Error::file("write", &path))
    };
    write(folder.join("Cargo.toml"), manifest)?;
    write(sources.join("main.rs"), text)?;
    let (lock, own) = (repository.root().join("Cargo.lock"), folder.join("Cargo.lock"));
    // Cargo takes the versions that it names, and drops what the program does not need.
    fs::copy(&lock, own).map_err(Error::file("copy", &lock))?;
    Ok(())
}

/// Compiles the crate in `folder`, and copies the program beside its Cargo.toml.
fn build(repository: &Repository, folder: &Path, name: &str, cuda: Option<&CudaBuild>) -> Result<PathBuf> {
    let mut command = cargo(repository, &["build", "--release"]);
    // All exports share what they have in common; not with the repository's own programs, whose libcifar_lab.so this
    // would replace, nor the CPU's with CUDA's.
    let target = repository.root().join("target").join(if cuda.is_some() { "export-cuda" } else { "export-cpu" });
    command.arg("--target-dir").arg(target).current_dir(folder);
    let mut usual = "4 minutes on 2 cores the first time, half a minute later";
    if let Some(cuda) = cuda {
        cuda.apply(&mut command);
        usual = "10 minutes or more on 2 cores the first time: nvcc takes most of it";
    }
    let step = steps::begin(&format!("Compiling {name}"), usual);
    let advice = format!("Does the notebook run? The program's text is {}.", folder.join("src/main.rs").display());
    let programs = programs::build(&mut command, name, &advice)?;
    let built = programs.get(name);
    let built = built.ok_or_else(|| Error::step(format!("compiling {name}"), "cargo built no such program", advice))?;
    step.end();
    let program = folder.join(name);
    // Not into a program that may be running.
    let _ = fs::remove_file(&program);
    fs::copy(built, &program).map_err(Error::file("copy", built))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Repository {
        Repository::around(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn every_committed_notebook_becomes_a_crate() {
        let repository = committed();
        let folder = tempfile::tempdir().unwrap();
        for path in repository.list_notebooks().unwrap() {
            let out = folder.path().join(stem(&path));
            let notebook = path.to_string_lossy().into_owned();
            let options = Options { notebook, out: Some(out.clone()), settings: Vec::new(), cuda: None, build: false };
            export(&repository, &options).unwrap_or_else(|error| panic!("{error}"));
            let text = fs::read_to_string(out.join("src/main.rs")).unwrap();
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(
                fs::read(out.join("Cargo.lock")).unwrap(),
                fs::read(repository.root().join("Cargo.lock")).unwrap()
            );
        }
    }

    #[test]
    fn settings_come_in_behind_the_notebooks_own() {
        let repository = committed();
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            notebook: "00".to_string(),
            out: Some(folder.path().to_path_buf()),
            settings: vec![Setting::parse("epochs=3").unwrap()],
            cuda: None,
            build: false,
        };
        export(&repository, &options).unwrap();
        let text = fs::read_to_string(folder.path().join("src/main.rs")).unwrap();
        let places: Vec<usize> =
            ["let epochs: usize = 20;", "let epochs: usize = 3;", "program::setting(\"epochs\", epochs)"]
                .iter()
                .map(|line| text.find(line).unwrap_or_else(|| panic!("no {line} in\n{text}")))
                .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches("program::setting(\"epochs\"").count(), 1);
    }

    #[test]
    fn a_cell_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.ipynb");
        Notebook::from_cells(["let a: u8 = 1;", "a\n:clear"]).write(&path).unwrap();
        let options = Options {
            notebook: path.to_string_lossy().into_owned(),
            out: Some(folder.path().join("out")),
            settings: Vec::new(),
            cuda: None,
            build: false,
        };
        let error = export(&committed(), &options).unwrap_err().to_string();
        assert!(error.starts_with("mine: cell 2 is no Rust that can be read, line 2"), "{error}");
        assert!(!folder.path().join("out").exists(), "nothing is written");
    }
}
