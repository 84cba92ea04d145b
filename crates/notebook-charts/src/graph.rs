//! A network as a graph: its layers, and how tensors flow between them.

/// What a layer does; it gives the box its color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerGroup {
    /// The network's input or output.
    Data,
    /// Convolutions.
    Convolution,
    /// Batch norm and its kin.
    Normalization,
    /// ReLU and its kin, softmax.
    Activation,
    /// Max and average pooling.
    Pooling,
    /// Fully connected layers.
    Dense,
    /// Dropout and its kin.
    Regularization,
    /// Whatever only changes a tensor's shape.
    Reshape,
    /// Whatever joins several tensors: sum, concatenation.
    Combination,
    /// Anything else.
    Other,
}

impl LayerGroup {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LayerGroup::Data => "data",
            LayerGroup::Convolution => "convolution",
            LayerGroup::Normalization => "normalization",
            LayerGroup::Activation => "activation",
            LayerGroup::Pooling => "pooling",
            LayerGroup::Dense => "fully connected",
            LayerGroup::Regularization => "regularization",
            LayerGroup::Reshape => "reshape",
            LayerGroup::Combination => "combination",
            LayerGroup::Other => "other",
        }
    }

    /// The color of the band at the box's left, and of the box: Okabe and Ito's palette and pale tints of it.
    pub(crate) fn colors(self) -> (&'static str, &'static str) {
        match self {
            LayerGroup::Data => ("#555555", "#EFEFEF"),
            LayerGroup::Convolution => ("#0072B2", "#E0EEF7"),
            LayerGroup::Normalization => ("#CC79A7", "#F9EDF3"),
            LayerGroup::Activation => ("#009E73", "#DFF3EC"),
            LayerGroup::Pooling => ("#E69F00", "#FCF2DC"),
            LayerGroup::Dense => ("#D55E00", "#FBE7DB"),
            LayerGroup::Regularization => ("#56B4E9", "#E8F5FD"),
            LayerGroup::Reshape => ("#A8A8A8", "#F8F8F8"),
            LayerGroup::Combination => ("#D6C600", "#FCFAD2"),
            LayerGroup::Other => ("#000000", "#FFFFFF"),
        }
    }
}

/// A layer of a network, as its box shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// The name of its parameters (`conv1`), or what it is where it has none (`ReLU`).
    pub title: String,
    /// What it is, with its settings.
    pub kind: String,
    /// The shape of its output.
    pub shape: String,
    /// The number of its trained values.
    pub parameters: usize,
    /// What its color says.
    pub group: LayerGroup,
}

impl GraphNode {
    /// The title; the kind where there is none.
    pub(crate) fn name(&self) -> &str {
        if self.title.trim().is_empty() { &self.kind } else { &self.title }
    }
}

/// A network: its layers in the order in which they run, and which layer's output goes into which.
///
/// ```
/// use notebook_charts::{Graph, GraphNode, LayerGroup, network_graph};
/// let node = |title: &str, kind: &str, parameters, group| GraphNode {
///     title: title.into(),
///     kind: kind.into(),
///     shape: "[1, 10]".into(),
///     parameters,
///     group,
/// };
/// let nodes = vec![
///     node("input", "", 0, LayerGroup::Data),
///     node("fc", "Linear 10→10", 110, LayerGroup::Dense),
///     node("ReLU", "", 0, LayerGroup::Activation),
///     node("add", "", 0, LayerGroup::Combination),
/// ];
/// // A block with a shortcut.
/// let graph = Graph { title: String::new(), nodes, edges: vec![(0, 1), (1, 2), (2, 3), (0, 3)] };
/// assert_eq!(network_graph(&graph)?.title(), "Network: 4 nodes, 110 parameters");
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Stands above the drawing; where it is empty, the numbers of layers and parameters do.
    pub title: String,
    /// The layers, in the order in which they run.
    pub nodes: Vec<GraphNode>,
    /// Pairs of places in `nodes`: (from, to), with from < to. A pair given twice is drawn once.
    pub edges: Vec<(usize, usize)>,
}
