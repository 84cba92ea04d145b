//! Errors from drawing and saving figures.

use crate::numbers;
use std::path::{Path, PathBuf};

/// Why a figure was not drawn or not saved.
///
/// ```
/// let error = notebook_charts::confusion_matrix("t", &[vec![1, 2], vec![3, 4]], &["cat"]).unwrap_err();
/// assert_eq!(error.to_string(), "1 class names for 2 rows of the confusion matrix: give one for each");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// There is no value, picture or node to draw.
    #[error("nothing to draw: {what}")]
    Empty {
        /// What is missing.
        what: String,
    },
    /// Two lists that belong together differ in length.
    #[error("{found} {what} for {expected} {of}: give one for each")]
    Length {
        /// The list that was counted (`class names`).
        what: &'static str,
        /// Its length.
        found: usize,
        /// The list that it must match (`rows`).
        of: &'static str,
        /// That list's length.
        expected: usize,
    },
    /// A confusion matrix is not square.
    #[error("row {row} of the confusion matrix, counted from 0, has {found} counts: give {expected}, one for each row")]
    RowLength {
        /// The row, counted from 0.
        row: usize,
        /// The number of counts in it.
        found: usize,
        /// The number of rows.
        expected: usize,
    },
    /// A setting has an invalid value.
    #[error("{name} is {value}; it must be {wanted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The value it was given.
        value: String,
        /// The valid values.
        wanted: &'static str,
    },
    /// An edge of a graph doesn't lead from a node to a later one.
    #[error("edge {from} → {to}: an edge leads from a node to a later one; there are {nodes}, counted from 0")]
    Edge {
        /// The node the edge leaves.
        from: usize,
        /// The node the edge enters.
        to: usize,
        /// How many nodes the graph has.
        nodes: usize,
    },
    /// The given text isn't an SVG document with a size.
    #[error("not an SVG drawing: {reason}")]
    Svg {
        /// What is missing.
        reason: &'static str,
    },
    /// The closure given to [`Figure::draw`](crate::Figure::draw), or plotters, failed.
    #[error("drawing failed: {0}")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Pixels could not be encoded as PNG.
    #[error("encoding the pixels as PNG failed: {0}")]
    Png(#[from] image::ImageError),
    /// The file name's extension asks for another format than SVG.
    #[error("can't save {} in that format: name the file ….svg", show_path(path))]
    Format {
        /// The path as given.
        path: PathBuf,
    },
    /// The file could not be written; an older file of that name is unchanged.
    #[error("can't save {}: {source}", show_path(path))]
    Save {
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl PlotError {
    /// Fails if the list `what` isn't as long as the list `of`.
    pub(crate) fn check_length(
        what: &'static str,
        found: usize,
        of: &'static str,
        expected: usize,
    ) -> Result<(), Self> {
        if found == expected { Ok(()) } else { Err(Self::Length { what, found, of, expected }) }
    }

    /// Fails if there are more than `most`; `wanted` says so.
    pub(crate) fn check_number(
        name: &'static str,
        number: usize,
        most: usize,
        wanted: &'static str,
    ) -> Result<(), Self> {
        if number <= most {
            Ok(())
        } else {
            Err(Self::Setting { name, value: numbers::grouped(number as u128), wanted })
        }
    }
}

/// `path` with `~` for the home folder, so that a saved notebook doesn't reveal a user name.
fn show_path(path: &Path) -> String {
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    match home.as_deref().and_then(|home| path.strip_prefix(home).ok()) {
        Some(inside) => Path::new("~").join(inside).display().to_string(),
        None => path.display().to_string(),
    }
}
