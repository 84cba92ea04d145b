//! Pictures of data, training and networks, as [`Figure`](crate::display::Figure)s.
//!
//! | what | with |
//! |---|---|
//! | pictures with labels | [`gallery`], [`Gallery`] |
//! | the channels of a tensor | [`FeatureMaps`] |
//! | loss and accuracy by epoch | [`loss_and_accuracy`] |
//! | any lines over a common axis | [`Curves`], [`Series`] |
//! | one value for each class | [`Bars`] |
//! | how values are distributed | [`Histogram`] |
//! | true against predicted classes | [`confusion_matrix`] |
//! | confidence against accuracy | [`reliability_diagram`] |
//! | the layers of a network | [`network_graph`], [`Graph`] |
//!
//! Every figure stands on a white card, so that it reads in light and in dark themes, and keeps to colours that
//! readers with colour blindness can tell apart. Its plain-text twin holds the numbers it shows.

mod axis;
mod bars;
mod chart;
mod confusion;
mod curves;
mod error;
mod feature_maps;
mod gallery;
mod graph;
mod histogram;
mod layout;
mod picture_bars;
mod pictures;
mod reliability;
mod svg;
pub(crate) mod text;

pub use axis::Scale;
pub use bars::Bars;
pub use confusion::confusion_matrix;
pub(crate) use confusion::confusion_matrix_of;
pub use curves::{Curves, LossAndAccuracy, Series, loss_and_accuracy};
pub use error::PlotError;
pub use feature_maps::FeatureMaps;
pub use gallery::{Gallery, gallery};
pub use graph::{Graph, GraphNode, LayerGroup, network_graph};
pub use histogram::Histogram;
pub(crate) use picture_bars::picture_with_bars;
pub(crate) use pictures::pictures;
pub use reliability::{ReliabilityBin, reliability_diagram};
