//! Charts, galleries and tables for Rust notebooks that run on [evcxr](https://github.com/evcxr/evcxr).
//!
//! | to show | use |
//! |---|---|
//! | lines | [`Curves`], [`Series`] |
//! | loss and accuracy by epoch | [`loss_and_accuracy`] |
//! | one value for each class | [`Bars`] |
//! | how values are distributed | [`Histogram`] |
//! | true against predicted classes | [`confusion_matrix`] |
//! | confidence against accuracy | [`reliability_diagram`] |
//! | pictures with labels | [`gallery`], [`Gallery`] |
//! | signed values as heat maps | [`HeatMaps`] |
//! | pictures with a classifier's predictions | [`picture_with_bars`] |
//! | the layers of a network | [`network_graph`], [`Graph`] |
//! | a table | [`Table`] |
//! | what changes while a cell runs | [`LiveView`] |
//!
//! Each but the last two is drawn as a [`Figure`], and all have a plain-text twin that holds the numbers. Figures stand on a white card, so
//! they read in light and dark themes; their colors can be told apart with any kind of color blindness.
//!
//! evcxr calls `evcxr_display` on a cell's last expression and reads what that prints between two marker lines
//! (evcxr_jupyter's README, "Custom output"). A cell shows one output of each MIME type, so several figures of one cell
//! are joined first: [`Figure::side_by_side`], [`Figure::grid`].

pub use image;
pub use plotters;

mod atomic_file;
mod axis;
mod bars;
mod chain;
mod chart;
mod confusion;
mod curves;
mod error;
mod figure;
mod gallery;
mod graph;
mod heat_maps;
mod histogram;
mod live;
mod network;
pub mod numbers;
mod picture_bars;
mod png;
mod protocol;
mod reliability;
mod svg;
mod table;
pub mod text;
mod view;

pub use axis::Scale;
pub use bars::Bars;
pub use confusion::{confusion_matrix, confusion_matrix_with_unclassified};
pub use curves::{Curves, LossAndAccuracy, Series, loss_and_accuracy};
pub use error::PlotError;
pub use figure::{DrawError, Figure};
pub use gallery::{Gallery, gallery};
pub use graph::{Graph, GraphNode, LayerGroup};
pub use heat_maps::HeatMaps;
pub use histogram::Histogram;
pub use live::LiveView;
pub use network::network_graph;
pub use picture_bars::picture_with_bars;
pub use reliability::{ReliabilityBin, reliability_diagram};
pub use table::Table;
pub use view::View;
