//! `cargo lab export`: a notebook's code cells as a plain Rust program, for machines without a Rust compiler, such as a GPU
//! server or a cluster's nodes.
//!
//! - [`cells`]: parsing a cell.
//! - [`source`]: the program's source.
//! - [`manifest`]: its Cargo.toml.
//! - [`starter`]: the script that starts a program compiled with CUDA.

mod cells;
mod manifest;
mod source;
mod starter;

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

/// What to export, and how.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Number (00), name or path of the notebook
    pub notebook: String,
    /// Folder for the crate [default: target/export/<name>]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Override a parameter from the cell tagged `parameters`; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Setting::parse)]
    pub settings: Vec<Setting>,
    /// Compile for NVIDIA GPUs; needs the CUDA toolkit, but no GPU
    #[arg(long)]
    pub cuda: bool,
    /// Write the crate, but don't compile it
    #[arg(long)]
    pub no_build: bool,
}

/// An exported notebook.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The crate's folder.
    pub folder: PathBuf,
    /// The program, or the script that starts it; `None` if it wasn't compiled.
    pub program: Option<PathBuf>,
    /// The code cells, counted from 1, that are left out because they are meant to fail.
    pub left_out: Vec<usize>,
}

/// Writes the crate, compiles it and says where it is.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let cuda = options.cuda.then(CudaBuild::of_toolkit).transpose().map_err(Error::NoCuda)?;
    let Exported { folder, program, left_out } = export(repository, options, cuda.as_ref())?;
    if !left_out.is_empty() {
        let cells: Vec<String> = left_out.iter().map(usize::to_string).collect();
        println!("Left out, because they are meant to fail: cells {}.", cells.join(", "));
    }
    println!("Crate: {}", folder.display());
    match program {
        Some(program) => println!("Program: {} (--help lists its settings)", program.display()),
        None => println!("Run `cargo build --release` there to compile the program."),
    }
    Ok(())
}

/// Writes a notebook's cells as a crate, and compiles it unless `options` say otherwise, for a GPU if there is `cuda`.
pub fn export(repository: &Repository, options: &Options, cuda: Option<&CudaBuild>) -> Result<Exported> {
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
    // Paths in `:dep` lines are relative to the kernel's working directory.
    let notebooks = path.parent().unwrap_or(Path::new("."));
    let mut dependencies = Vec::new();
    for (number, dependency) in source::dependencies(&parts).map_err(wrong)? {
        dependencies.push(manifest::resolve(&dependency, notebooks).map_err(|problem| wrong((number, problem)))?);
    }
    let feature = cuda.map(CudaBuild::feature);
    let manifest = manifest::write(&name, &dependencies, repository, feature);
    let folder = options.out.clone().unwrap_or_else(|| repository.root().join("target/export").join(&name));
    write_crate(&folder, &manifest, &text, repository)?;
    let left_out = parts.iter().filter(|part| matches!(part.content, Content::LeftOut(_))).map(|part| part.number);
    let mut exported = Exported { folder, program: None, left_out: left_out.collect() };
    if !options.no_build {
        let program = build(repository, &exported.folder, &name, cuda)?;
        exported.program = Some(match cuda {
            Some(cuda) => starter::write(&exported.folder, &name, cuda)?,
            None => program,
        });
    }
    Ok(exported)
}

/// The parsed code cells, or the number of the first that can't be part of a program, and why.
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
        // A setting from the export overrides the notebook's value, and one from the program's start both.
        let overridden = code_cells.get(index + 1).is_some_and(|(next, _)| notebook.is_tagged(*next, INJECTED));
        let settable = if overridden { Vec::new() } else { std::mem::take(&mut declared) };
        let cell = Cell::parse(text).map_err(|problem| (number, problem))?;
        parts.push(Part { number, content: Content::Code(cell, settable) });
    }
    Ok(parts)
}

fn write_crate(folder: &Path, manifest_text: &str, text: &str, repository: &Repository) -> Result<()> {
    let sources = folder.join("src");
    let there = fs::read_to_string(folder.join("Cargo.toml"));
    if sources.join("main.rs").exists() && there.is_err() || there.is_ok_and(|there| !there.starts_with(manifest::HEAD))
    {
        return Err(Error::NotAnExport { folder: folder.to_path_buf() });
    }
    fs::create_dir_all(&sources).map_err(Error::file("make", &sources))?;
    let write = |path: PathBuf, text: &str| {
        // An unchanged file keeps its time, so that cargo has nothing to do.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).map_err(Error::file("write", &path))
    };
    write(folder.join("Cargo.toml"), manifest_text)?;
    write(sources.join("main.rs"), text)?;
    let (lock, own) = (repository.root().join("Cargo.lock"), folder.join("Cargo.lock"));
    // Cargo uses its versions, and drops what the program doesn't need.
    fs::copy(&lock, own).map_err(Error::file("copy", &lock))?;
    Ok(())
}

/// Compiles the crate in `folder`, and copies the program there.
fn build(repository: &Repository, folder: &Path, name: &str, cuda: Option<&CudaBuild>) -> Result<PathBuf> {
    let mut command = cargo(repository, &["build", "--release"]);
    // Exports share a target folder, but neither with the repository's programs nor with those for a GPU, whose
    // libcifar_lab.so they would replace.
    let target = repository.root().join("target").join(if cuda.is_some() { "export-cuda" } else { "export-cpu" });
    command.arg("--target-dir").arg(target).current_dir(folder);
    let mut usual = "4 minutes on 2 cores the first time, then half a minute";
    if let Some(cuda) = cuda {
        cuda.apply(&mut command);
        usual = "10 minutes or more on 2 cores the first time, mostly nvcc";
    }
    let step = steps::begin(&format!("Compiling {name}"), usual);
    let advice =
        format!("Check that the notebook runs. The program's source is {}.", folder.join("src/main.rs").display());
    let programs = programs::build(&mut command, name, &advice)?;
    let built = programs.get(name);
    let built = built.ok_or_else(|| Error::step(format!("compiling {name}"), "cargo built no such program", advice))?;
    step.end();
    let program = folder.join(name);
    // A running program can't be overwritten.
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
            let options = Options { notebook, out: Some(out.clone()), no_build: true, ..Options::default() };
            export(&repository, &options, None).unwrap_or_else(|error| panic!("{error}"));
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
            no_build: true,
            ..Options::default()
        };
        export(&repository, &options, None).unwrap();
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
            no_build: true,
            ..Options::default()
        };
        let error = export(&committed(), &options, None).unwrap_err().to_string();
        assert!(error.starts_with("mine: cell 2, line 2: not valid Rust"), "{error}");
        assert!(!folder.path().join("out").exists(), "nothing is written");
    }

    #[test]
    fn another_crate_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.ipynb");
        Notebook::from_cells(["let a: u8 = 1;"]).write(&path).unwrap();
        let notebook = path.to_string_lossy().into_owned();
        let options = Options { notebook, out: Some(folder.path().join("out")), no_build: true, ..Options::default() };
        // Its own may be written again.
        for _ in 0..2 {
            export(&committed(), &options, None).unwrap();
        }
        fs::write(folder.path().join("out/Cargo.toml"), "[package]\n").unwrap();
        let error = export(&committed(), &options, None).unwrap_err();
        assert!(matches!(error, Error::NotAnExport { .. }), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("out/Cargo.toml")).unwrap(), "[package]\n");
    }
}
