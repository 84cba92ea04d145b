//! Labeled images: a data set in memory, and where CIFAR-10 comes from.
//!
//! | file | what it holds |
//! |---|---|
//! | `set.rs` | [`Dataset`], images as bytes with their labels |
//! | `cifar10.rs` | [`Cifar10`], from a folder |
//! | `search.rs` | [`Search`], where CIFAR-10 is searched for |
//! | `records.rs` | the binary layout |
//! | `python_layout.rs` | the Python layout, read without executing anything |
//! | `image_folder.rs` | [`ImageFolder`], your own images in folders |
//! | `archive.rs` | [`ArchiveSource`], the published archive |
//! | `stand_in.rs` | generated images where CIFAR-10 is not available |

mod archive;
mod cifar10;
mod image_folder;
mod python_layout;
mod records;
mod search;
mod set;
mod stand_in;

pub use crate::error::DatasetError;
pub use archive::ArchiveSource;
pub use cifar10::Cifar10;
pub use image_folder::ImageFolder;
pub use records::{CIFAR10_CLASSES, RECORD_LENGTH, read_records};
pub use search::{Choice, Search};
pub use set::{ChannelStatistics, Dataset, Source, Split};

/// The result of an operation on data.
pub type Result<T, E = DatasetError> = std::result::Result<T, E>;
