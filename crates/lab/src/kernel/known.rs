//! What cargo answered while a folder was prepared, for kernels that ask the same: then a notebook's first cell needs neither
//! cargo nor rustc, and rust-analyzer learns at the start what that cell will depend on.
//!
//! An answer holds for the sources that the folder was prepared from. Once one of them is newer than the kernel, cargo is asked.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::repository::Repository;

/// The variable that asks to remember answers.
pub const PREPARING: &str = "CIFAR_LAB_PREPARING";
/// Stands for the kernel's folder.
const HERE: &str = "/cifar-lab-kernel-folder";
/// In the answers' folder: the repository's path, as old as the kernel.
const SOURCES: &str = "sources.txt";
/// What cargo prints.
const PRINTED: &str = "printed";

/// The folder with the answers, in a prepared folder or a kernel's. Its name follows the code that shapes them.
fn answers(folder: &Path) -> PathBuf {
    let code = [
        include_str!("cargo.rs"),
        include_str!("instrument.rs"),
        include_str!("cell.rs"),
        include_str!("known.rs"),
        include_str!("recipe.rs"),
    ];
    folder.join(format!("known-{:016x}", Fingerprint::of(code.map(str::as_bytes))))
}

/// Whether the prepared folder has answers.
pub fn are_in(prepared: &Path) -> bool {
    answers(prepared).is_dir()
}

/// Links the answers in a prepared folder into a kernel's, which was created at `time`.
pub fn take(prepared: &Path, folder: &Path, repository: &Repository, time: SystemTime) -> Result<()> {
    let (from, to) = (answers(prepared), answers(folder));
    for question in fs::read_dir(&from).into_iter().flatten().flatten() {
        let own = to.join(question.file_name());
        fs::create_dir_all(&own).map_err(Error::file("make", &own))?;
        for entry in fs::read_dir(question.path()).into_iter().flatten().flatten() {
            let link = own.join(entry.file_name());
            fs::hard_link(entry.path(), &link).map_err(Error::file("make", &link))?;
        }
    }
    if to.is_dir() {
        let sources = to.join(SOURCES);
        fs::write(&sources, repository.root().as_os_str().as_encoded_bytes())
            .map_err(Error::file("write", &sources))?;
        let file = File::options().write(true).open(&sources);
        file.and_then(|file| file.set_modified(time)).map_err(Error::file("write", &sources))?;
    }
    Ok(())
}

/// Something that cargo is asked.
pub struct Question {
    kernel: PathBuf,
    place: PathBuf,
}

impl Question {
    /// Cargo called with `arguments` for the kernel in the folder `kernel`. `read` is what the answer depends on.
    pub fn new(kernel: &Path, arguments: &[OsString], read: &[&str]) -> Self {
        let here = kernel.to_string_lossy();
        let arguments = arguments.iter().map(|argument| argument.to_string_lossy().replace(&*here, HERE));
        let parts: Vec<String> = arguments.chain(read.iter().map(|text| text.to_string())).collect();
        let name = format!("{:016x}", Fingerprint::of(parts.iter().map(|part| part.as_bytes())));
        Self { kernel: kernel.to_path_buf(), place: answers(kernel).join(name) }
    }

    /// A file that belongs to the answer.
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// What cargo would print.
    pub fn answer(&self) -> Option<String> {
        let printed = fs::read_to_string(self.file(PRINTED)).ok()?;
        self.sources_are_as_before().then(|| printed.replace(HERE, &self.kernel.to_string_lossy()))
    }

    /// Whether there is an answer, which may hold no more.
    pub fn is_remembered(&self) -> bool {
        self.place.exists()
    }

    /// Remembers what cargo has printed, and copies of `files` under other names.
    pub fn remember(&self, printed: &str, files: &[(&str, &Path)]) -> Result<()> {
        fs::create_dir_all(&self.place).map_err(Error::file("make", &self.place))?;
        for (name, file) in files {
            fs::copy(file, self.file(name)).map_err(Error::file("copy", file))?;
        }
        let place = self.file(PRINTED);
        let printed = printed.replace(&*self.kernel.to_string_lossy(), HERE);
        fs::write(&place, printed).map_err(Error::file("write", &place))
    }

    fn sources_are_as_before(&self) -> bool {
        let path = answers(&self.kernel).join(SOURCES);
        let newest = |root: String| Repository::around(Path::new(&root)).ok()?.newest_source();
        let since = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let newest = fs::read_to_string(&path).ok().and_then(newest);
        newest.is_some_and(|newest| since.is_some_and(|since| newest <= since))
    }
}

/// Whether answers are to be remembered.
pub fn is_preparing() -> bool {
    std::env::var_os(PREPARING).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_in_other_folders_until_a_source_changes() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("repository");
        fs::create_dir_all(root.join("crates/cifar-lab/src")).unwrap();
        let source = root.join("crates/cifar-lab/src/lib.rs");
        for file in [
            "crates/cifar-lab/Cargo.toml",
            "crates/cifar-lab/src/lib.rs",
            "environment.yml",
            "Cargo.lock",
            "Cargo.toml",
        ] {
            fs::write(root.join(file), "").unwrap();
        }
        let repository = Repository::around(&root).unwrap();
        let (prepared, kernel) = (temporary.path().join("prepared-1"), temporary.path().join("kernel-1"));
        let question = |folder: &Path, read: &str| {
            Question::new(folder, &["metadata".into(), format!("--manifest={}", folder.display()).into()], &[read])
        };
        let file = temporary.path().join("made");
        fs::write(&file, "made").unwrap();
        let path = prepared.join("ctx").display().to_string();
        question(&prepared, "a").remember(&path, &[("library", &file)]).unwrap();
        assert!(are_in(&prepared) && !are_in(&kernel));

        take(&prepared, &kernel, &repository, SystemTime::now()).unwrap();
        let known = question(&kernel, "a");
        assert_eq!(known.answer(), Some(kernel.join("ctx").display().to_string()));
        assert_eq!(fs::read_to_string(known.file("library")).unwrap(), "made");
        assert_eq!(question(&kernel, "b").answer(), None, "another manifest");

        let later = SystemTime::now() + std::time::Duration::from_secs(1);
        File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
        assert_eq!(known.answer(), None, "an edit");
    }
}
