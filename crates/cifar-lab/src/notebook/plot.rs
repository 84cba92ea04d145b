//! Charts, galleries and drawings of networks: what [`notebook_charts`] draws, also [from tensors](FromTensor).

pub use notebook_charts::{
    Bars, Curves, Gallery, Graph, GraphNode, HeatMaps, Histogram, LayerGroup, LossAndAccuracy, PlotError,
    ReliabilityBin, Scale, Series, confusion_matrix, gallery, loss_and_accuracy, network_graph, picture_with_bars,
    reliability_diagram,
};

pub use super::pictures::FromTensor;
use crate::training::EpochRecord;

/// A chart's title, which names the data set if it is known.
pub(super) fn titled(title: &str, data: &str) -> String {
    if data.is_empty() { title.to_string() } else { format!("{title}: {data}") }
}

/// A curve's points: a value of each epoch that has one.
pub(super) fn points(epochs: &[EpochRecord], value: impl Fn(&EpochRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    epochs.iter().filter_map(|row| Some((row.epoch as f64, value(row)?))).collect()
}
