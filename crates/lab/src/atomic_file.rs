//! Files that are written whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file in one step: whoever opens it meanwhile sees the old or the new one, and so does everybody after a kill,
/// a full disk or a power cut. Missing folders are made; what a link leads to is replaced, not the link. `mode` is for a
/// new file; one that is there keeps its own, unless `mode` lets it be executed.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let failed = || Error::file("write", path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    let kept = fs::metadata(path).ok().map(|metadata| metadata.permissions()).filter(|_| mode & 0o111 == 0);
    let mut temporary = tempfile::NamedTempFile::new_in(parent).map_err(failed())?;
    temporary.write_all(contents).map_err(failed())?;
    let permissions = kept.unwrap_or(fs::Permissions::from_mode(mode));
    temporary.as_file().set_permissions(permissions).map_err(failed())?;
    // Without it a power cut could leave the new name with no bytes.
    temporary.as_file().sync_all().map_err(failed())?;
    // Closed first: Linux refuses to start a program that is open for writing.
    temporary.into_temp_path().persist(path).map_err(|error| failed()(error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_where_it_is_with_its_mode_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("new/a.ipynb"), folder.path().join("link.ipynb"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write_atomically(&path, b"one", 0o644).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"one".to_vec(), 0o644));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomically(&link, b"two", 0o644).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), 0o600));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A folder can't be replaced by a file; nothing is left beside it.
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        assert!(write_atomically(&other, b"three", 0o644).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
