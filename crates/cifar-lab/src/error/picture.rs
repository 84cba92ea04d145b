//! What can be wrong with a picture file.

use std::path::PathBuf;

use crate::paths::show_path;

/// What can be wrong with a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file can't be read.
    #[error("reading the picture {}: {source}", show_path(path))]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file has an unsupported format.
    #[error("{} is {found}, but pictures must be JPEG or PNG: save it as one of these", show_path(path))]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The file is truncated or damaged.
    #[error("the picture {} is damaged: {reason}; get the file again, or delete it", show_path(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The picture would need more memory than one picture may take.
    #[error(
        "the picture {} of {width}×{height} pixels takes {} MiB in memory, but the limit is {}: make it smaller",
        show_path(path), bytes.div_ceil(1 << 20), most >> 20
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The bytes that its pixels take.
        bytes: u64,
        /// The limit in bytes.
        most: u64,
    },
    /// A picture without pixels.
    #[error("a picture of {width}×{height} pixels is empty")]
    Empty {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
}
