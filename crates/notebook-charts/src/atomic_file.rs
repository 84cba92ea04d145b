//! Files that are written completely or not at all. `cifar-lab` and `lab` compile this file too: it is no part of what
//! this crate offers.

use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes a file beside `path` and renames it, so that a reader sees the old bytes or the new ones, even if the process is
/// killed or the power fails meanwhile. Creates missing folders. A file that exists keeps its permissions; of a link, the
/// target is replaced.
///
/// # Errors
/// The system's, for example on a full disk; the old file then still exists.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    // Only its owner can read a temporary file, but it becomes an ordinary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    #[cfg(test)]
    fault::write(&mut file, bytes)?;
    file.write_all(bytes)?;
    if let Ok(old) = fs::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    #[cfg(test)]
    fault::at(fault::Fault::Sync)?;
    // Without it, a power cut could leave the new name with the old bytes, or with none.
    file.as_file().sync_all()?;
    #[cfg(test)]
    fault::at(fault::Fault::Rename)?;
    // Closed first: Linux refuses to start a program that is open for writing.
    file.into_temp_path().persist(path)?;
    // Without it, a power cut could undo the renaming. The file itself is complete.
    #[cfg(unix)]
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// What a test makes fail on its thread.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;
    use std::io::{Error, ErrorKind, Result, Write};

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum Fault {
        /// The disk is full after so many bytes.
        Write(usize),
        Sync,
        Rename,
    }

    thread_local! {
        pub(crate) static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    pub(super) fn at(place: Fault) -> Result<()> {
        if FAULT.get() == Some(place) { Err(Error::other("made to fail")) } else { Ok(()) }
    }

    pub(super) fn write(file: &mut impl Write, bytes: &[u8]) -> Result<()> {
        match FAULT.get() {
            Some(Fault::Write(most)) if most < bytes.len() => {
                file.write_all(&bytes[..most])?;
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::fault::{FAULT, Fault};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_with_its_permissions_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("new/a.json"), folder.path().join("link.json"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write_atomically(&path, b"one").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomically(&link, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A folder can't be replaced by a file, and nothing is left beside it.
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        assert!(write_atomically(&other, b"three").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn where_a_step_fails_the_old_file_stays_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"old").unwrap();
        for fault in [Fault::Write(0), Fault::Write(2), Fault::Sync, Fault::Rename] {
            FAULT.set(Some(fault));
            assert!(write_atomically(&path, b"new").is_err(), "{fault:?}");
            FAULT.set(None);
            assert_eq!(fs::read(&path).unwrap(), b"old", "{fault:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{fault:?}");
        }
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
