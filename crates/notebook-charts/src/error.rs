//! What can go wrong while a figure is drawn or saved.

use std::path::{Path, PathBuf};

/// Why a figure was not drawn, or not saved.
///
/// ```
/// use notebook_charts::PlotError;
/// let error = notebook_charts::confusion_matrix("Confusion matrix", &[vec![1, 2], vec![3]], &["cat", "dog"]).unwrap_err();
/// assert!(matches!(error, PlotError::RowLength { row: 1, found: 1, expected: 2 }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// There is not one value, picture or node to draw.
    #[error("nothing to draw: {what}")]
    Empty {
        /// What is missing, and what to give instead.
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
    /// A row of a confusion matrix is longer or shorter than the matrix is high.
    #[error(
        "row {row} of the confusion matrix, counted from 0, has {found} counts; with {expected} rows it needs {expected}"
    )]
    RowLength {
        /// The row, counted from 0.
        row: usize,
        /// The counts in it.
        found: usize,
        /// The counts it should have: as many as there are rows.
        expected: usize,
    },
    /// A setting has a value that can't be drawn.
    #[error("{name} is {value}; it must be {wanted}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// The value it was given.
        value: String,
        /// What it may be.
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
    /// A text given as a drawing isn't an SVG document with a size.
    #[error("not an SVG drawing: {reason}")]
    Svg {
        /// What is missing.
        reason: &'static str,
    },
    /// The closure given to [`Figure::draw`](crate::Figure::draw), or plotters, failed.
    #[error("drawing failed: {0}")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Pixels could not be packed as PNG.
    #[error("packing the pixels as PNG failed: {0}")]
    Png(#[from] image::ImageError),
    /// The file's name asks for a format that this figure doesn't have.
    #[error("can't save {} in that format: name the file {wanted}", show_path(path))]
    Format {
        /// The path as given.
        path: PathBuf,
        /// The endings that work.
        wanted: &'static str,
    },
    /// The file could not be written; an older file of that name is still as it was.
    #[error("can't save {}: {source}", show_path(path))]
    Save {
        /// The path as given.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// `path` with `~` for the home folder, so that a saved notebook doesn't tell whose it is.
fn show_path(path: &Path) -> String {
    let home = std::env::home_dir().filter(|home| home.parent().is_some());
    match home.as_deref().and_then(|home| path.strip_prefix(home).ok()) {
        Some(inside) => Path::new("~").join(inside).display().to_string(),
        None => path.display().to_string(),
    }
}
