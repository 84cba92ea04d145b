//! The repository: its folders, notebooks, minimum Rust version, and a fingerprint of its sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::machine::parse_version;

/// A clone of the repository.
#[derive(Clone, Debug)]
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository that contains `folder`: the closest ancestor with environment.yml and crates/cifar-lab.
    pub fn around(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().map_err(Error::file("read", folder))?;
        folder
            .ancestors()
            .find(|root| root.join("environment.yml").is_file() && root.join("crates/cifar-lab/Cargo.toml").is_file())
            .map(|root| Self { root: root.to_path_buf() })
            .ok_or(Error::OutsideRepository(folder))
    }

    /// The repository that contains the current folder.
    pub fn current() -> Result<Self> {
        Self::around(&std::env::current_dir().map_err(Error::file("read", "."))?)
    }

    /// Its top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The notebooks' folder, which is the kernel's working directory.
    pub fn notebooks(&self) -> PathBuf {
        self.root.join("notebooks")
    }

    /// All notebooks, in the order of their numbers.
    pub fn list_notebooks(&self) -> Result<Vec<PathBuf>> {
        let folder = self.notebooks();
        let mut notebooks = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let path = entry.map_err(Error::file("read", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "ipynb") {
                notebooks.push(path);
            }
        }
        notebooks.sort();
        Ok(notebooks)
    }

    /// The notebook called `asked`, which may be a path, a name, or the start of a name (`00`).
    pub fn find_notebook(&self, asked: &str) -> Result<PathBuf> {
        let path = Path::new(asked);
        if path.is_file() {
            return path.canonicalize().map_err(Error::file("read", path));
        }
        let all = self.list_notebooks()?;
        // A path to another folder is no name.
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() && !folder.ends_with("notebooks") {
            let known = all.iter().map(|notebook| stem(notebook)).collect();
            return Err(Error::NoSuchNotebook { asked: asked.to_string(), known });
        }
        let wanted = path.file_name().map_or(asked.into(), |name| name.to_string_lossy());
        let wanted = wanted.strip_suffix(".ipynb").unwrap_or(&wanted);
        if let Some(exact) = all.iter().find(|notebook| stem(notebook) == wanted) {
            return Ok(exact.clone());
        }
        let fitting: Vec<&PathBuf> =
            all.iter().filter(|notebook| !wanted.is_empty() && stem(notebook).starts_with(wanted)).collect();
        match fitting.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::NoSuchNotebook {
                asked: asked.to_string(),
                known: all.iter().map(|notebook| stem(notebook)).collect(),
            }),
            several => Err(Error::AmbiguousNotebook {
                asked: asked.to_string(),
                fitting: several.iter().map(|notebook| stem(notebook)).collect(),
            }),
        }
    }

    /// The minimum version of Rust, from the workspace's Cargo.toml, as (major, minor).
    pub fn rust_version(&self) -> Result<(u32, u32)> {
        let path = self.root.join("Cargo.toml");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("rust-version"))
            .find_map(|rest| parse_version(rest.trim_start_matches([' ', '=', '"'])))
            .ok_or(Error::BadEnvironment { path, reason: "it has no rust-version".to_string() })
    }

    /// Everything that notebooks compile: lock file, manifests and sources of all crates but `lab`.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut files = vec![self.root.join("Cargo.lock"), self.root.join("Cargo.toml")];
        let crates = self.root.join("crates");
        for entry in fs::read_dir(&crates).map_err(Error::file("read", &crates))? {
            let folder = entry.map_err(Error::file("read", &crates))?.path();
            if !folder.join("Cargo.toml").is_file() || folder.ends_with("lab") {
                continue;
            }
            files.push(folder.join("Cargo.toml"));
            files.extend(Some(folder.join("build.rs")).filter(|script| script.is_file()));
            collect_files(&folder.join("src"), &mut files)?;
        }
        files.sort();
        Ok(files)
    }

    /// A fingerprint of everything that notebooks compile.
    pub fn source_fingerprint(&self) -> Result<u64> {
        let mut fingerprint = Fingerprint::default();
        for file in self.sources()? {
            fingerprint.add(file.strip_prefix(&self.root).unwrap_or(&file).as_os_str().as_encoded_bytes());
            fingerprint.add(&fs::read(&file).map_err(Error::file("read", &file))?);
        }
        Ok(fingerprint.finish())
    }

    /// When the newest of what notebooks compile was written; `None` if that can't be told.
    pub fn newest_source(&self) -> Option<SystemTime> {
        let modified = |file: &PathBuf| fs::metadata(file).ok()?.modified().ok();
        self.sources()
            .ok()?
            .iter()
            .map(modified)
            .try_fold(SystemTime::UNIX_EPOCH, |newest, time| Some(newest.max(time?)))
    }

    /// The names of the repository's crates as rustc writes them (`cifar_lab`).
    pub fn crate_names(&self) -> Result<Vec<String>> {
        let crates = self.root.join("crates");
        let mut names = Vec::new();
        for entry in fs::read_dir(&crates).map_err(Error::file("read", &crates))? {
            let entry = entry.map_err(Error::file("read", &crates))?;
            names.push(entry.file_name().to_string_lossy().replace('-', "_"));
        }
        Ok(names)
    }
}

/// A file's name without folder and extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let entry = entry.map_err(Error::file("read", folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        // Copies and locks of files that are open in an editor.
        let bytes = name.as_encoded_bytes();
        let is_editor_s = bytes.starts_with(b".") || bytes.starts_with(b"#") || bytes.ends_with(b"~");
        if path.is_dir() {
            collect_files(&path, files)?;
        } else if !is_editor_s {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(notebooks: &[&str]) -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("crates/cifar-lab/src")).unwrap();
        fs::create_dir_all(root.join("crates/lab/src")).unwrap();
        fs::create_dir_all(root.join("notebooks")).unwrap();
        fs::write(root.join("environment.yml"), "").unwrap();
        fs::write(root.join("Cargo.lock"), "").unwrap();
        fs::write(root.join("Cargo.toml"), "[workspace.package]\nrust-version = \"1.95\"\n").unwrap();
        fs::write(root.join("crates/cifar-lab/Cargo.toml"), "").unwrap();
        fs::write(root.join("crates/lab/Cargo.toml"), "").unwrap();
        for name in notebooks {
            fs::write(root.join("notebooks").join(name), "{}").unwrap();
        }
        let repository = Repository::around(&root.join("notebooks")).unwrap();
        (folder, repository)
    }

    #[test]
    fn notebooks_are_found_by_number_name_and_path() {
        let (_folder, repository) = repository(&["00_pipeline.ipynb", "01_data.ipynb", "01_data_more.ipynb"]);
        let found = |asked: &str| repository.find_notebook(asked).map(|path| stem(&path));
        assert_eq!(found("00").unwrap(), "00_pipeline");
        assert_eq!(found("notebooks/00_pipeline.ipynb").unwrap(), "00_pipeline");
        assert_eq!(found("01_data").unwrap(), "01_data");
        assert_eq!(found(&repository.notebooks().join("01_data.ipynb").to_string_lossy()).unwrap(), "01_data");
        assert!(matches!(found("01"), Err(Error::AmbiguousNotebook { .. })));
        let error = found("7").unwrap_err().to_string();
        assert!(error.contains("00_pipeline, 01_data, 01_data_more"), "{error}");
        assert!(matches!(found(""), Err(Error::NoSuchNotebook { .. })));
    }

    #[test]
    fn the_minimum_rust_version_is_the_workspaces() {
        let (_folder, repository) = repository(&[]);
        assert_eq!(repository.rust_version().unwrap(), (1, 95));
    }

    #[test]
    fn the_fingerprint_follows_the_sources_but_not_labs() {
        let (_folder, repository) = repository(&[]);
        let before = repository.source_fingerprint().unwrap();
        fs::write(repository.root().join("crates/lab/src/main.rs"), "fn main() {}").unwrap();
        assert_eq!(repository.source_fingerprint().unwrap(), before);
        fs::write(repository.root().join("crates/cifar-lab/src/lib.rs"), "//! New.").unwrap();
        assert_ne!(repository.source_fingerprint().unwrap(), before);
    }

    #[test]
    fn what_an_editor_leaves_beside_the_sources_does_not_count() {
        let (_folder, repository) = repository(&[]);
        let before = repository.source_fingerprint().unwrap();
        let source = repository.root().join("crates/cifar-lab/src");
        fs::write(source.join(".lib.rs.swp"), "").unwrap();
        fs::write(source.join("lib.rs~"), "").unwrap();
        fs::write(source.join("#lib.rs#"), "").unwrap();
        std::os::unix::fs::symlink("user@machine.1:2", source.join(".#lib.rs")).unwrap();
        assert_eq!(repository.source_fingerprint().unwrap(), before);
    }
}
