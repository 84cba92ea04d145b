//! Files that are written whole or not at all.

use std::io::Write;
use std::path::Path;

/// Writes a file beside `path` and renames it, so that a reader sees the old bytes or the new ones, never half, even
/// where the process is killed or the power fails meanwhile. Missing folders are made.
///
/// # Errors
/// What the system answers, on a full disk for example; then the old file is still there.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    // A temporary file is readable by its owner only; what it becomes is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    // Without it a power cut could leave the new name with the old, or no, bytes.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
