//! The layers of a network and how tensors flow between them.

use crate::error::PlotError;
use crate::figure::Figure;
use crate::layout::{Layout, LayoutError, Measure};
use crate::svg::{Anchor, Document, Type};
use crate::table::Table;
use crate::text;
use std::fmt::Write;

const TITLE_SIZE: f64 = 12.0;
const DETAIL_SIZE: f64 = 10.5;
/// The height of a box, in pixels: two lines of text.
const BOX: f64 = 38.0;
/// The narrowest and the widest box, in pixels.
const BOX_WIDTH: (f64, f64) = (130.0, 270.0);
/// The narrowest card, in pixels: the legend needs some room.
const NARROWEST: f64 = 420.0;
/// Where the legend begins, below the title, in pixels.
const LEGEND_TOP: f64 = 38.0;
/// The height of a row of the legend, in pixels.
const ROW: f64 = 18.0;
/// What the texts at the right of each box are.
const HINT: &str = "right: output shape, number of parameters";
/// The width of a coloured box in the legend with the space after it, in pixels.
const SWATCH: f64 = 20.0;
/// The space below a box of a chain, and of a graph with branches, whose lines need more to bend, in pixels.
const BELOW: (f64, f64) = (16.0, 26.0);
/// Free space at the card's edge, in pixels.
const EDGE: f64 = 14.0;
/// The width and height that a drawing keeps to if it can: what a notebook shows without scrolling, in pixels.
const ROOM: (f64, f64) = (900.0, 520.0);
/// More nodes than anyone could look at.
const MOST_NODES: usize = 2000;

/// What a layer does; it gives the box its colour.
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
    /// What only changes a tensor's shape.
    Reshape,
    /// What joins several tensors: sum, concatenation.
    Combination,
    /// Anything else.
    Other,
}

impl LayerGroup {
    /// The group of a layer called as PyTorch or candle calls it.
    ///
    /// ```
    /// use notebook_charts::LayerGroup;
    /// assert_eq!(LayerGroup::of("Conv2d"), LayerGroup::Convolution);
    /// assert_eq!(LayerGroup::of("BatchNorm2d"), LayerGroup::Normalization);
    /// assert_eq!(LayerGroup::of("MyBlock"), LayerGroup::Other);
    /// ```
    pub fn of(kind: &str) -> Self {
        // The first that is part of the name decides: a `MaxPool2d` is not a maximum of two tensors.
        const PARTS: [(&str, LayerGroup); 34] = [
            ("conv", LayerGroup::Convolution),
            ("norm", LayerGroup::Normalization),
            ("pool", LayerGroup::Pooling),
            ("dropout", LayerGroup::Regularization),
            ("droppath", LayerGroup::Regularization),
            ("stochasticdepth", LayerGroup::Regularization),
            ("relu", LayerGroup::Activation),
            ("gelu", LayerGroup::Activation),
            ("selu", LayerGroup::Activation),
            ("elu", LayerGroup::Activation),
            ("silu", LayerGroup::Activation),
            ("swish", LayerGroup::Activation),
            ("mish", LayerGroup::Activation),
            ("sigmoid", LayerGroup::Activation),
            ("tanh", LayerGroup::Activation),
            ("softmax", LayerGroup::Activation),
            ("activation", LayerGroup::Activation),
            ("bilinear", LayerGroup::Other),
            ("linear", LayerGroup::Dense),
            ("dense", LayerGroup::Dense),
            ("flatten", LayerGroup::Reshape),
            ("reshape", LayerGroup::Reshape),
            ("view", LayerGroup::Reshape),
            ("permute", LayerGroup::Reshape),
            ("transpose", LayerGroup::Reshape),
            ("squeeze", LayerGroup::Reshape),
            ("pad", LayerGroup::Reshape),
            ("add", LayerGroup::Combination),
            ("sum", LayerGroup::Combination),
            ("cat", LayerGroup::Combination),
            ("mul", LayerGroup::Combination),
            ("stack", LayerGroup::Combination),
            ("input", LayerGroup::Data),
            ("output", LayerGroup::Data),
        ];
        let kind = kind.to_ascii_lowercase();
        PARTS.iter().find(|(part, _)| kind.contains(part)).map_or(LayerGroup::Other, |(_, group)| *group)
    }

    fn name(self) -> &'static str {
        match self {
            LayerGroup::Data => "data",
            LayerGroup::Convolution => "convolution",
            LayerGroup::Normalization => "normalisation",
            LayerGroup::Activation => "activation",
            LayerGroup::Pooling => "pooling",
            LayerGroup::Dense => "fully connected",
            LayerGroup::Regularization => "regularization",
            LayerGroup::Reshape => "reshape",
            LayerGroup::Combination => "combination",
            LayerGroup::Other => "other",
        }
    }

    /// The colour of the band at the box's left, and of the box: Okabe and Ito's palette and pale tints of it.
    fn colors(self) -> (&'static str, &'static str) {
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
///
/// ```
/// use notebook_charts::{GraphNode, LayerGroup};
/// let node = GraphNode {
///     title: "conv1".into(),
///     kind: "Conv2d 3→32, 3×3".into(),
///     shape: "[1, 32, 32, 32]".into(),
///     parameters: 896,
///     group: LayerGroup::of("Conv2d"),
/// };
/// assert_eq!(node.group, LayerGroup::Convolution);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphNode {
    /// The name of its parameters (`conv1`), or what it is where it has none (`ReLU`).
    pub title: String,
    /// What it is, with its settings.
    pub kind: String,
    /// The shape of what comes out.
    pub shape: String,
    /// The number of its trained values.
    pub parameters: usize,
    /// What its colour says.
    pub group: LayerGroup,
}

impl GraphNode {
    /// The title; the kind where there is none.
    fn name(&self) -> &str {
        if self.title.trim().is_empty() { &self.kind } else { &self.title }
    }
}

/// A network as a directed graph without circles: its layers, and which layer's output goes into which.
///
/// ```
/// use notebook_charts::{Graph, GraphNode, LayerGroup};
/// let node = |title: &str| GraphNode {
///     title: title.into(),
///     kind: String::new(),
///     shape: "[1, 10]".into(),
///     parameters: 0,
///     group: LayerGroup::of(title),
/// };
/// // A block with a shortcut.
/// let graph = Graph {
///     title: "a residual block".into(),
///     nodes: ["input", "Linear", "ReLU", "add"].map(node).into(),
///     edges: vec![(0, 1), (1, 2), (2, 3), (0, 3)],
/// };
/// assert_eq!(graph.edges.len(), 4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Stands above the drawing; where it is empty, the numbers of layers and parameters do.
    pub title: String,
    /// The layers.
    pub nodes: Vec<GraphNode>,
    /// Pairs of places in `nodes`: (from, to). A pair given twice is drawn once.
    pub edges: Vec<(usize, usize)>,
}

/// Draws a network from top to bottom: a box for each layer with its name and kind, at its right the shape of its
/// output and the number of its parameters; an arrow for each tensor that flows. A long network goes on in a further column.
///
/// Errors: [`PlotError::Empty`] without a node, [`PlotError::Edge`] for an edge to a node that isn't there,
/// [`PlotError::Cycle`] where edges lead round in a circle, [`PlotError::Setting`] for more than 2,000 nodes or a
/// thicket of edges.
///
/// ```
/// use notebook_charts::{Graph, GraphNode, LayerGroup};
/// let node = |title: &str, kind: &str, shape: &str, parameters| GraphNode {
///     title: title.into(),
///     kind: kind.into(),
///     shape: shape.into(),
///     parameters,
///     group: LayerGroup::of(kind),
/// };
/// let nodes = vec![
///     node("input", "Input", "[1, 3, 32, 32]", 0),
///     node("conv1", "Conv2d 3→32, 3×3, padding 1", "[1, 32, 32, 32]", 896),
///     node("ReLU", "ReLU", "[1, 32, 32, 32]", 0),
/// ];
/// let figure = notebook_charts::network_graph(&Graph { title: String::new(), nodes, edges: vec![(0, 1), (1, 2)] })?;
/// assert_eq!(figure.title(), "Network: 3 nodes, 896 parameters");
/// # Ok::<(), notebook_charts::PlotError>(())
/// ```
pub fn network_graph(graph: &Graph) -> Result<Figure, PlotError> {
    let nodes = graph.nodes.len();
    if nodes == 0 {
        return Err(PlotError::Empty { what: "the network's graph has no layers".to_string() });
    }
    if nodes > MOST_NODES {
        let wanted = "at most 2,000: draw a part of the network";
        return Err(PlotError::Setting { name: "the number of nodes", value: text::grouped(nodes as u128), wanted });
    }
    let mut edges = graph.edges.clone();
    if let Some(&(from, to)) = edges.iter().find(|(from, to)| *from.max(to) >= nodes) {
        return Err(PlotError::Edge { from, to, nodes });
    }
    edges.sort_unstable();
    edges.dedup();
    let parameters: u128 = graph.nodes.iter().map(|node| node.parameters as u128).sum();
    let title = if graph.title.trim().is_empty() {
        let noun = if nodes == 1 { "node" } else { "nodes" };
        format!("Network: {} {noun}, {} parameters", text::grouped(nodes as u128), text::grouped(parameters))
    } else {
        text::one_line(&graph.title)
    };

    let labels: Vec<Label> = graph.nodes.iter().map(Label::new).collect();
    let box_width = labels.iter().map(Label::width).fold(0.0, f64::max).clamp(BOX_WIDTH.0, BOX_WIDTH.1).ceil();
    let chain = edges.iter().enumerate().all(|(index, edge)| *edge == (index, index + 1));
    let measure = Measure {
        node_width: box_width,
        bend_width: 14.0,
        gap: 14.0,
        row: BOX + if chain { BELOW.0 } else { BELOW.1 },
        gutter: 30.0,
        // Title and legend take about 84 pixels.
        room: (ROOM.0 - 2.0 * EDGE, ROOM.1 - 84.0 - EDGE + BELOW.0),
    };
    let layout = Layout::new(nodes, &edges, &measure).map_err(|error| match error {
        LayoutError::Circle(node) => PlotError::Cycle { node, title: text::one_line(graph.nodes[node].name()) },
        LayoutError::Bends(bends) => PlotError::Setting {
            name: "the number of layers that edges pass, taken together,",
            value: text::grouped(bends as u128),
            wanted: "at most 20,000: draw a part of the network",
        },
    })?;

    // The columns stand side by side, each from its own left end.
    let mut shifts = vec![];
    let mut right = EDGE;
    for column in 0..layout.columns.len() {
        let (left, end) = layout.extent(column, nodes, &measure);
        shifts.push(right - left);
        right += end - left + measure.gutter;
    }
    right += EDGE - measure.gutter;
    let width = right.max(NARROWEST).max((text::width(&title, 16.5) + 2.0 * EDGE).min(ROOM.0)).ceil();
    let room = width - 2.0 * EDGE;
    // The hint stands in the title's line, if there is room, otherwise in one of its own.
    let beside = text::width(&title, 16.5) + 20.0 + text::width(HINT, DETAIL_SIZE) <= room;
    let (legend, legend_rows) = legend(&graph.nodes, room);
    let hint = if beside { (width - EDGE, 25.0) } else { (EDGE, LEGEND_TOP + ROW * legend_rows as f64 + 9.0) };
    let legend_rows = legend_rows + usize::from(!beside);
    // An arrow from another column comes in above the first row.
    let above = if layout.columns.len() > 1 { 28.0 } else { 14.0 };
    let top = LEGEND_TOP + ROW * legend_rows as f64 + above;
    let bottom = top + layout.rows() as f64 * measure.row - (measure.row - BOX) + EDGE;
    let mut svg = Document::new(width as u32, bottom.ceil() as u32);

    let plain = Type { size: DETAIL_SIZE, color: "#222222", bold: false, anchor: Anchor::Start };
    let shown = text::shorten(&title, 16.5, room);
    svg.text(&shown, EDGE, 25.0, Type { size: 15.0, bold: true, ..plain });
    let end = if beside { Anchor::End } else { Anchor::Start };
    svg.text(HINT, hint.0, hint.1, Type { anchor: end, color: "#4A4A4A", ..plain });
    for Entry { group, x, row } in &legend {
        let (x, y) = (x + EDGE, LEGEND_TOP + ROW * *row as f64);
        let (band, fill) = group.colors();
        svg.element(
            "rect",
            format_args!(
                "x=\"{x:.1}\" y=\"{y}\" width=\"14\" height=\"11\" rx=\"2\" fill=\"{fill}\" stroke=\"{band}\" \
                 stroke-width=\"1.5\""
            ),
        );
        svg.text(group.name(), x + SWATCH, y + 9.0, plain);
    }

    let place = |vertex: usize| {
        let (column, row) = layout.cell(layout.layer[vertex]);
        (layout.x[vertex] + shifts[column], top + row as f64 * measure.row)
    };
    // Lines first, so that boxes lie on them.
    for route in &layout.routes {
        let points: Vec<(f64, f64)> = route.iter().map(|vertex| place(*vertex)).collect();
        let column = layout.cell(layout.layer[route[0]]).0;
        // Only the first part of a route can lead to another column: above a cut there is nothing but its source.
        let path = if column == layout.cell(layout.layer[route[1]]).0 {
            arrow_down(&points, box_width)
        } else {
            // In the gutter, beside everything that the left column holds.
            let (_, end) = layout.extent(column, nodes, &measure);
            arrow_over(&points, end + shifts[column] + measure.gutter / 2.0, box_width)
        };
        svg.element("path", format_args!("d=\"{}\" fill=\"none\" stroke=\"#6B6B6B\" stroke-width=\"1.4\"", path.line));
        let (x, y) = path.tip;
        svg.element(
            "polygon",
            format_args!(
                "points=\"{:.1},{:.1} {:.1},{:.1} {:.1},{:.1}\" fill=\"#6B6B6B\"",
                x - 4.0,
                y - 7.0,
                x + 4.0,
                y - 7.0,
                x,
                y
            ),
        );
    }
    for (index, (node, label)) in graph.nodes.iter().zip(&labels).enumerate() {
        let (middle, y) = place(index);
        label.draw(&mut svg, node.group, middle - box_width / 2.0, y, box_width);
    }

    let mut table = Table::new(["layer", "kind", "output shape", "parameters", "from"]).caption(title.as_str());
    for (index, node) in graph.nodes.iter().enumerate() {
        let sources = edges.iter().filter(|(_, to)| *to == index).map(|(from, _)| graph.nodes[*from].name());
        let sources = sources.collect::<Vec<_>>().join(", ");
        let parameters = text::grouped(node.parameters as u128);
        table = table.row([node.name().to_string(), node.kind.clone(), node.shape.clone(), parameters, sources]);
    }
    Ok(Figure::from_svg(&title, &svg.finish())?.with_text(table.to_string()))
}

/// An entry of the legend: a group and where it stands.
struct Entry {
    group: LayerGroup,
    x: f64,
    row: usize,
}

/// The groups in the order in which they first appear, in rows of at most `room` pixels, and the number of rows.
fn legend(nodes: &[GraphNode], room: f64) -> (Vec<Entry>, usize) {
    let (mut x, mut row) = (0.0, 0);
    let mut entries: Vec<Entry> = vec![];
    for &GraphNode { group, .. } in nodes {
        if entries.iter().any(|entry| entry.group == group) {
            continue;
        }
        let long = SWATCH + text::width(group.name(), DETAIL_SIZE);
        if x > 0.0 && x + long > room {
            (x, row) = (0.0, row + 1);
        }
        entries.push(Entry { group, x, row });
        x += long + 16.0;
    }
    (entries, row + 1)
}

/// The four texts of a box: title and shape above, kind and parameters below.
struct Label {
    title: String,
    shape: String,
    kind: String,
    parameters: String,
}

impl Label {
    fn new(node: &GraphNode) -> Self {
        let parameters = if node.parameters == 0 { String::new() } else { text::grouped(node.parameters as u128) };
        let [title, shape, kind] = [&node.title, &node.shape, &node.kind].map(|text| text::one_line(text));
        // A box without a name says once what it is.
        if title.trim().is_empty() || title == kind {
            return Self { title: kind, shape, kind: String::new(), parameters };
        }
        Self { title, shape, kind, parameters }
    }

    /// The width that shows everything: texts, the space between them, band and edges.
    fn width(&self) -> f64 {
        let line = |left: f64, right: &str| match text::width(right, DETAIL_SIZE) {
            0.0 => left,
            right => left + 14.0 + right,
        };
        // Bold text is about a tenth wider.
        let above = line(1.1 * text::width(&self.title, TITLE_SIZE), &self.shape);
        above.max(line(text::width(&self.kind, DETAIL_SIZE), &self.parameters)) + 22.0
    }

    fn draw(&self, svg: &mut Document, group: LayerGroup, x: f64, y: f64, width: f64) {
        let (band, fill) = group.colors();
        svg.element("rect", format_args!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width}\" height=\"{BOX}\" rx=\"4\" fill=\"{fill}\" stroke=\"{band}\""));
        svg.element(
            "rect",
            format_args!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"5\" height=\"{BOX}\" rx=\"2\" fill=\"{band}\""),
        );
        let (left, right) = (x + 12.0, x + width - 9.0);
        let ink = Type { size: DETAIL_SIZE, color: "#222222", bold: false, anchor: Anchor::Start };
        let muted = Type { color: "#4A4A4A", anchor: Anchor::End, ..ink };
        // Where a box is not wide enough for both, the text at the left is shortened.
        let room = |right_text: &str| {
            let taken = text::width(right_text, DETAIL_SIZE);
            width - 21.0 - if taken > 0.0 { taken + 8.0 } else { 0.0 }
        };
        let shape = text::shorten(&self.shape, DETAIL_SIZE, 0.6 * width);
        let parameters = text::shorten(&self.parameters, DETAIL_SIZE, 0.6 * width);
        let title = text::shorten(&self.title, 1.1 * TITLE_SIZE, room(&shape));
        let kind = text::shorten(&self.kind, DETAIL_SIZE, room(&parameters));
        // A single line stands in the middle.
        let first = if kind.is_empty() && parameters.is_empty() { y + 23.0 } else { y + 16.0 };
        svg.text(&title, left, first, Type { size: TITLE_SIZE, bold: true, ..ink });
        for (content, x, y, look) in
            [(&shape, right, first, muted), (&kind, left, y + 31.0, ink), (&parameters, right, y + 31.0, muted)]
        {
            if !content.is_empty() {
                svg.text(content, x, y, look);
            }
        }
    }
}

/// A line, as the `d` of an SVG path, and the tip of its arrow.
struct Arrow {
    line: String,
    tip: (f64, f64),
}

/// How far an arrow's line ends before its tip.
const TIP: f64 = 6.0;

/// From the box at the first point to that at the last, through the rows of the bends between them. Points are the
/// middles of their boxes' upper sides.
fn arrow_down(points: &[(f64, f64)], box_width: f64) -> Arrow {
    let start = (port(points[0], points[1], box_width), points[0].1 + BOX);
    arrow_on(format!("M{:.1},{:.1}", start.0, start.1), start, points, box_width)
}

/// Where a line to `other` leaves a box or enters it: beside the middle, if it leads to the side, so that it can be
/// told from the straight one.
fn port(at: (f64, f64), other: (f64, f64), box_width: f64) -> f64 {
    at.0 + (other.0 - at.0).clamp(-0.3 * box_width, 0.3 * box_width)
}

/// Goes on with a line that has come to `at`, from the second point to the last.
fn arrow_on(mut line: String, mut at: (f64, f64), points: &[(f64, f64)], box_width: f64) -> Arrow {
    let last = points.len() - 1;
    let end = port(points[last], points[last - 1], box_width);
    for (index, point) in points.iter().enumerate().skip(1) {
        let to = if index == last { (end, point.1 - TIP) } else { *point };
        if (at.0 - to.0).abs() < 0.05 {
            let _ = write!(line, "L{:.1},{:.1}", to.0, to.1);
        } else {
            let middle = (at.1 + to.1) / 2.0;
            let _ = write!(line, "C{:.1},{middle:.1} {:.1},{middle:.1} {:.1},{:.1}", at.0, to.0, to.0, to.1);
        }
        at = to;
        if index < last {
            // Straight past the boxes of its row.
            at.1 += BOX;
            let _ = write!(line, "L{:.1},{:.1}", at.0, at.1);
        }
    }
    Arrow { line, tip: (end, points[last].1) }
}

/// From the last box of a column over the gutter at `gutter` into the next column, and on there.
fn arrow_over(points: &[(f64, f64)], gutter: f64, box_width: f64) -> Arrow {
    /// The radius of the corners, and the way out of a box.
    const CORNER: f64 = 5.0;
    const WAY: f64 = 8.0;
    let (from, to) = (points[0], points[1]);
    let (low, high) = (from.1 + BOX + WAY, to.1 - 2.0 * WAY);
    let line = format!(
        "M{x0:.1},{y0:.1}V{:.1}Q{x0:.1},{low:.1} {:.1},{low:.1}H{:.1}Q{gutter:.1},{low:.1} {gutter:.1},{:.1}\
         V{:.1}Q{gutter:.1},{high:.1} {:.1},{high:.1}H{:.1}Q{x1:.1},{high:.1} {x1:.1},{:.1}",
        low - CORNER,
        from.0 + CORNER,
        gutter - CORNER,
        low - CORNER,
        high + CORNER,
        gutter + CORNER,
        to.0 - CORNER,
        high + CORNER,
        x0 = from.0,
        y0 = from.1 + BOX,
        x1 = to.0,
    );
    // In the new column the line comes from straight above.
    let mut rest = points.to_vec();
    rest[0].0 = to.0;
    arrow_on(line, (to.0, high + CORNER), &rest, box_width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::tests::{count, inside, texts};
    use proptest::prelude::*;

    fn nodes(titles: impl IntoIterator<Item = String>) -> Vec<GraphNode> {
        let node = |title: String| GraphNode {
            kind: format!("{title} <kind> & more"),
            shape: "[1, 32, 32, 32]".into(),
            parameters: 1234,
            group: LayerGroup::of(&title),
            title,
        };
        titles.into_iter().map(node).collect()
    }

    fn chain(length: usize) -> Graph {
        Graph {
            title: "<a> & b".into(),
            nodes: nodes((0..length).map(|index| format!("conv{index}"))),
            edges: (1..length).map(|index| (index - 1, index)).collect(),
        }
    }

    #[test]
    fn a_chain_has_a_box_for_each_layer_and_fits_a_screen() {
        for length in [1, 2, 17, 23] {
            let figure = network_graph(&chain(length)).unwrap();
            let svg = figure.svg();
            // Two rectangles a box, the card, and one entry of the legend.
            assert_eq!(count(&svg, "rect"), 2 * length + 1 + 1);
            assert_eq!((count(&svg, "path"), count(&svg, "polygon")), (length - 1, length - 1));
            let texts = texts(&svg);
            assert!((0..length).all(|index| texts.contains(&format!("conv{index}"))));
            assert!(texts.contains(&"<a> & b".to_string()) && texts.contains(&"1,234".to_string()));
            inside(&svg);
            let (width, height) = figure.size();
            assert!(f64::from(width) <= ROOM.0 && f64::from(height) <= ROOM.1, "{length}: {width}×{height}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        assert!(matches!(network_graph(&Graph::default()), Err(PlotError::Empty { .. })));
        let mut graph = chain(3);
        graph.edges.push((1, 3));
        let error = network_graph(&graph).unwrap_err();
        assert_eq!(
            error.to_string(),
            "edge 1 → 3 names a node that isn't there: the graph has 3 nodes, counted from 0"
        );
        graph.edges = vec![(0, 1), (1, 2), (2, 1)];
        assert!(matches!(network_graph(&graph), Err(PlotError::Cycle { node: 1 | 2, .. })));
        assert!(matches!(network_graph(&chain(2001)), Err(PlotError::Setting { .. })));
    }

    #[test]
    fn long_texts_are_shortened() {
        let mut graph = chain(3);
        graph.nodes[1].kind =
            "a kind with so many settings that they would never fit into any box of any drawing".into();
        graph.nodes[2].title = "one name that is far too long ".repeat(5);
        graph.nodes[2].shape = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]".into();
        inside(&network_graph(&graph).unwrap().svg());
    }

    #[test]
    fn a_pair_given_twice_is_one_arrow() {
        let mut graph = chain(2);
        graph.edges.push((0, 1));
        assert_eq!(count(&network_graph(&graph).unwrap().svg(), "path"), 1);
    }

    #[test]
    fn layers_are_known_by_their_names() {
        for (kind, group) in [
            ("MaxPool2d", LayerGroup::Pooling),
            ("ReLU", LayerGroup::Activation),
            ("LogSoftmax", LayerGroup::Activation),
            ("Linear", LayerGroup::Dense),
            ("Flatten", LayerGroup::Reshape),
            ("Dropout", LayerGroup::Regularization),
            ("Add", LayerGroup::Combination),
            ("Input", LayerGroup::Data),
        ] {
            assert_eq!(LayerGroup::of(kind), group, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn any_graph_without_circles_is_drawn_on_its_card(
            count in 1..20_usize, pairs in proptest::collection::vec((0..20_usize, 0..20_usize), 0..30)
        ) {
            let edges = pairs.into_iter().map(|(a, b)| (a.min(b) % count, a.max(b) % count)).filter(|(a, b)| a < b);
            let graph = Graph { edges: edges.collect(), ..chain(count) };
            inside(&network_graph(&graph).unwrap().svg());
        }
    }
}
