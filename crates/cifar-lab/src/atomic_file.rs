//! Files that are written completely or not at all.

use std::io::Write;
use std::path::Path;

/// Writes a file beside `path` and renames it, so that a reader sees the old bytes or the new ones and never a mixture,
/// even if the process is killed or the power fails. Makes missing folders.
///
/// # Errors
/// The system's error, for example on a full disk; the old file is then unchanged.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    // Only its owner may read a temporary file, but it becomes an ordinary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    // Without this, a power failure could leave an empty file under the new name.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
