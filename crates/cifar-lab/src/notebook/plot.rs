//! Charts, galleries and drawings of networks: what [`notebook_charts`] draws, also [from tensors](FromTensor).

pub use notebook_charts::{
    Bars, Curves, Gallery, Graph, GraphNode, HeatMaps, Histogram, LayerGroup, LossAndAccuracy, PlotError,
    ReliabilityBin, Scale, Series, confusion_matrix, gallery, loss_and_accuracy, network_graph, picture_with_bars,
    reliability_diagram,
};

pub use super::pictures::FromTensor;
