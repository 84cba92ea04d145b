//! Drawings of networks.

use crate::chain::{self, Chain, Shortcut};
use crate::error::PlotError;
use crate::figure::Figure;
use crate::graph::{Graph, GraphNode, LayerGroup};
use crate::numbers;
use crate::svg::{Anchor, Document, Type};
use crate::table::Table;
use crate::text;

const TITLE_SIZE: f64 = 12.0;
const DETAIL_SIZE: f64 = 10.5;
/// The height of a box, in pixels: two lines of text.
const BOX: f64 = 38.0;
/// The distance between the tops of boxes one above the other, in pixels.
const ROW: f64 = BOX + 16.0;
/// The narrowest and the widest box, in pixels.
const BOX_WIDTH: (f64, f64) = (130.0, 270.0);
/// The narrowest card, in pixels, for the legend's sake.
const NARROWEST: f64 = 420.0;
/// Where the legend begins, below the title, in pixels.
const LEGEND_TOP: f64 = 38.0;
/// The height of a row of the legend, in pixels.
const LEGEND_ROW: f64 = 18.0;
/// The width of a colored box in the legend with the space after it, in pixels.
const SWATCH: f64 = 20.0;
/// The space between columns, in pixels.
const GUTTER: f64 = 30.0;
/// The space between a column's boxes and those on shortcuts, in pixels.
const BESIDE: f64 = 16.0;
/// The distance of the first lane of shortcuts from the boxes, and the distance between lanes, in pixels.
const LANES: (f64, f64) = (14.0, 9.0);
/// The longest list of a layer's inputs, in pixels.
const LONGEST_INPUTS: f64 = 120.0;
/// Free space at the card's edge, in pixels.
const EDGE: f64 = 14.0;
/// The width and height that a drawing keeps to if possible, in pixels: a notebook shows it without scrolling.
const ROOM: (f64, f64) = (900.0, 520.0);
/// More nodes than this are unreadable.
const MOST_NODES: usize = 2000;
/// Explains the texts on the right of each box.
const HINT: &str = "right: output shape, number of parameters";
/// Says why there are no arrows.
const LIST_HINT: &str = "drawn as a list, because it isn't a chain with shortcuts; ←: each layer's inputs";

/// Draws a network from top to bottom: a box for each layer, with its name, kind, output shape and number of parameters,
/// and an arrow for each tensor that passes from layer to layer. A long network continues in further columns.
///
/// The network must be a chain with shortcuts, as plain and residual networks are; layers on a shortcut stand beside the
/// chain. Any other graph is drawn as a list that names the inputs of each layer.
///
/// # Errors
/// [`PlotError::Empty`] without a node, [`PlotError::Edge`] for an edge that doesn't lead from a node to a later one,
/// [`PlotError::Setting`] for more than 2,000 nodes.
pub fn network_graph(graph: &Graph) -> Result<Figure, PlotError> {
    let nodes = graph.nodes.len();
    if nodes == 0 {
        return Err(PlotError::Empty { what: "the network's graph has no layers".to_string() });
    }
    PlotError::check_number("the number of nodes", nodes, MOST_NODES, "at most 2,000: draw a part of the network")?;
    let mut edges = graph.edges.clone();
    if let Some(&(from, to)) = edges.iter().find(|(from, to)| from >= to || *to >= nodes) {
        return Err(PlotError::Edge { from, to, nodes });
    }
    edges.sort_unstable();
    edges.dedup();
    let parameters: u128 = graph.nodes.iter().map(|node| node.parameters as u128).sum();
    let title = if graph.title.trim().is_empty() {
        let noun = if nodes == 1 { "node" } else { "nodes" };
        format!("Network: {} {noun}, {} parameters", numbers::grouped(nodes as u128), numbers::grouped(parameters))
    } else {
        text::one_line(&graph.title)
    };
    let drawing = Drawing::new(graph, &edges);
    let svg = drawing.draw(&title);

    let listed = drawing.chain.is_none();
    // In a list, numbers stand for layers, because names repeat.
    let name = |node: usize| if listed { node.to_string() } else { graph.nodes[node].name().to_string() };
    let number = |number: String| listed.then_some(number).into_iter();
    let header = ["layer", "kind", "output shape", "parameters", "from"].map(String::from);
    let mut table = Table::new(number(String::new()).chain(header)).caption(title.as_str());
    for (index, node) in graph.nodes.iter().enumerate() {
        let sources: Vec<String> = edges.iter().filter(|(_, to)| *to == index).map(|(from, _)| name(*from)).collect();
        let parameters = numbers::grouped(node.parameters as u128);
        let row = [node.name().to_string(), node.kind.clone(), node.shape.clone(), parameters, sources.join(", ")];
        table = table.row(number(index.to_string()).chain(row));
    }
    let why = if listed { "\ndrawn as a list, because it isn't a chain with shortcuts" } else { "" };
    Ok(Figure::from_svg(&title, &svg)?.with_text(format!("{table}{why}")))
}

/// A network with its boxes arranged in columns.
struct Drawing<'a> {
    nodes: &'a [GraphNode],
    labels: Vec<Label>,
    box_width: f64,
    /// None for a list.
    chain: Option<Chain>,
    /// The inputs of each node, in words; empty for a chain.
    inputs: Vec<String>,
    /// The node that stands in each row.
    rows: Vec<usize>,
    /// The first row of each column.
    columns: Vec<usize>,
}

impl<'a> Drawing<'a> {
    fn new(graph: &'a Graph, edges: &[(usize, usize)]) -> Self {
        let nodes = graph.nodes.len();
        let chain = Chain::of(nodes, edges);
        let (mut inputs, mut labels) = (vec![], graph.nodes.iter().map(Label::new).collect::<Vec<_>>());
        if chain.is_none() {
            let mut sources = vec![vec![]; nodes];
            edges.iter().for_each(|(from, to)| sources[*to].push(from.to_string()));
            let shown = |sources: &Vec<String>| match sources.len() {
                0 => String::new(),
                _ => text::shorten(&format!("← {}", sources.join(", ")), DETAIL_SIZE, LONGEST_INPUTS),
            };
            inputs = sources.iter().map(shown).collect();
            labels.iter_mut().enumerate().for_each(|(index, label)| label.title = format!("{index} {}", label.title));
        }
        let box_width = labels.iter().map(Label::width).fold(0.0, f64::max).clamp(BOX_WIDTH.0, BOX_WIDTH.1).ceil();
        let rows = chain.as_ref().map_or_else(|| (0..nodes).collect(), |chain| chain.path.clone());
        let mut drawing = Self { nodes: &graph.nodes, labels, box_width, chain, inputs, rows, columns: vec![0] };
        // Title and legend take about 84 pixels.
        let most = ((ROOM.1 - 84.0 - EDGE + ROW - BOX) / ROW).floor() as usize;
        let can_break_at = |row| drawing.chain.as_ref().is_none_or(|chain| chain.can_break_at(row));
        let fits = |columns: &[usize]| {
            let right = drawing.lefts(columns).last().copied().unwrap_or(0.0);
            right - GUTTER <= ROOM.0 - EDGE
        };
        drawing.columns = chain::fold(drawing.rows.len(), most, can_break_at, fits);
        drawing
    }

    /// The left end of each of `columns`, and of one more.
    fn lefts(&self, columns: &[usize]) -> Vec<f64> {
        let mut lefts = vec![EDGE];
        for (index, first) in columns.iter().enumerate() {
            let end = columns.get(index + 1).copied().unwrap_or(self.rows.len());
            lefts.push(lefts[index] + self.box_width + self.beside(*first..end) + GUTTER);
        }
        lefts
    }

    /// The space that these rows need to the right of their boxes.
    fn beside(&self, rows: std::ops::Range<usize>) -> f64 {
        let Some(chain) = &self.chain else {
            return 8.0 + text::widest(rows.map(|row| self.inputs[row].as_str()), DETAIL_SIZE);
        };
        let shortcuts = chain.shortcuts.iter().filter(|shortcut| rows.contains(&shortcut.to));
        let widths = shortcuts.map(|shortcut| match shortcut.nodes.len() {
            0 => LANES.0 + LANES.1 * shortcut.lane as f64,
            _ => BESIDE + self.box_width,
        });
        widths.fold(0.0, f64::max)
    }

    fn draw(&self, title: &str) -> String {
        let lefts = self.lefts(&self.columns);
        let right = lefts[self.columns.len()] - GUTTER + EDGE;
        let width = right.max(NARROWEST).max((text::width(title, 16.5) + 2.0 * EDGE).min(ROOM.0)).ceil();
        let room = width - 2.0 * EDGE;
        // The hint goes beside the title if there is room, otherwise on its own line.
        let beside = text::width(title, 16.5) + 20.0 + text::width(HINT, DETAIL_SIZE) <= room;
        let hints = (!beside).then_some(HINT).into_iter().chain(self.chain.is_none().then_some(LIST_HINT));
        let hints: Vec<String> = hints.flat_map(|hint| text::wrap(hint, DETAIL_SIZE, room)).collect();
        let (legend, legend_rows) = legend(self.nodes, room);
        let hint_top = LEGEND_TOP + LEGEND_ROW * legend_rows as f64 + 9.0;
        let legend_rows = legend_rows + hints.len();
        // An arrow from another column comes in above the first row.
        let above = if self.chain.is_some() && self.columns.len() > 1 { 28.0 } else { 14.0 };
        let top = LEGEND_TOP + LEGEND_ROW * legend_rows as f64 + above;
        let rows = chain::longest_column(&self.columns, self.rows.len());
        let bottom = top + rows as f64 * ROW - (ROW - BOX) + EDGE;
        let mut svg = Document::new(width as u32, bottom.ceil() as u32);

        let plain = Type { size: DETAIL_SIZE, color: "#222222", bold: false, anchor: Anchor::Start };
        let muted = Type { color: "#4A4A4A", ..plain };
        let shown = text::shorten(title, 16.5, room);
        svg.text(&shown, EDGE, 25.0, Type { size: 15.0, bold: true, ..plain });
        if beside {
            svg.text(HINT, width - EDGE, 25.0, Type { anchor: Anchor::End, ..muted });
        }
        for (line, number) in hints.iter().zip(0..) {
            svg.text(line, EDGE, hint_top + LEGEND_ROW * f64::from(number), muted);
        }
        for Entry { group, x, row } in &legend {
            let (x, y) = (x + EDGE, LEGEND_TOP + LEGEND_ROW * *row as f64);
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

        // The upper left corner of a row's box.
        let corner = |row: usize| {
            let column = self.columns.partition_point(|first| *first <= row) - 1;
            (lefts[column], top + (row - self.columns[column]) as f64 * ROW)
        };
        // Lines first, so that boxes lie on them.
        if let Some(chain) = &self.chain {
            let half = self.box_width / 2.0;
            for row in 1..self.rows.len() {
                let ((from, above), (x, y)) = (corner(row - 1), corner(row));
                let line = if from == x {
                    format!("M{:.1},{:.1}L{:.1},{:.1}", x + half, above + BOX, x + half, y - TIP)
                } else {
                    into_next_column((from + half, above), (x + half, y), x - GUTTER / 2.0)
                };
                arrow(&mut svg, &line, (x + half, y), Direction::Down);
            }
            for shortcut in &chain.shortcuts {
                self.draw_shortcut(&mut svg, shortcut, corner);
            }
        }
        for (row, node) in self.rows.iter().enumerate() {
            let (x, y) = corner(row);
            self.labels[*node].draw(&mut svg, self.nodes[*node].group, x, y, self.box_width);
            if let Some(inputs) = self.inputs.get(*node) {
                svg.text(inputs, x + self.box_width + 8.0, y + 23.0, muted);
            }
        }
        svg.finish()
    }

    /// Draws a line from a box's right side past others and back, through the shortcut's own boxes; `corner` gives the
    /// upper left corner of a row's box.
    fn draw_shortcut(&self, svg: &mut Document, shortcut: &Shortcut, corner: impl Fn(usize) -> (f64, f64)) {
        let ((before, above), (left, below)) = (corner(shortcut.from), corner(shortcut.from + 1));
        let right = left + self.box_width;
        // Not at the same height, because one shortcut often starts where another ends.
        let end = corner(shortcut.to).1 + 0.3 * BOX;
        // At the top of a column it branches off the line from the column before.
        let (start_x, start) = match before == left {
            true => (right, above + 0.7 * BOX),
            false => (left + self.box_width / 2.0 - CORNER, below - 2.0 * WAY),
        };
        let out = |x: f64| {
            format!("M{start_x:.1},{start:.1}H{:.1}Q{x:.1},{start:.1} {x:.1},{:.1}", x - CORNER, start + CORNER)
        };
        let back =
            |x: f64| format!("V{:.1}Q{x:.1},{end:.1} {:.1},{end:.1}H{:.1}", end - CORNER, x - CORNER, right + TIP);
        let Some((last, others)) = shortcut.nodes.split_last() else {
            let x = right + LANES.0 + LANES.1 * shortcut.lane as f64;
            return arrow(svg, &(out(x) + &back(x)), (right, end), Direction::Left);
        };
        let side = right + BESIDE;
        let middle = side + self.box_width / 2.0;
        let mut y = corner(shortcut.first_row()).1;
        arrow(svg, &format!("{}V{:.1}", out(middle), y - TIP), (middle, y), Direction::Down);
        for node in others {
            self.labels[*node].draw(svg, self.nodes[*node].group, side, y, self.box_width);
            let line = format!("M{middle:.1},{:.1}V{:.1}", y + BOX, y + ROW - TIP);
            y += ROW;
            arrow(svg, &line, (middle, y), Direction::Down);
        }
        self.labels[*last].draw(svg, self.nodes[*last].group, side, y, self.box_width);
        arrow(svg, &format!("M{middle:.1},{:.1}{}", y + BOX, back(middle)), (right, end), Direction::Left);
    }
}

/// An entry of the legend: a group and its position.
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
        let parameters = if node.parameters == 0 { String::new() } else { numbers::grouped(node.parameters as u128) };
        let [title, shape, kind] = [&node.title, &node.shape, &node.kind].map(|text| text::one_line(text));
        // A layer without a name is labeled once, with its kind.
        if title.trim().is_empty() || title == kind {
            return Self { title: kind, shape, kind: String::new(), parameters };
        }
        Self { title, shape, kind, parameters }
    }

    /// The width that fits everything: texts, the space between them, band and edges.
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
        // If a box is too narrow for both, the text on the left is shortened.
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

/// How far an arrow's line ends before its tip, in pixels.
const TIP: f64 = 6.0;
/// The radius of a line's corners, in pixels.
const CORNER: f64 = 5.0;

/// The distance between a box and a line to another column, in pixels; twice that above a box.
const WAY: f64 = 8.0;

/// Where an arrow points.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Down,
    Left,
}

/// An arrow along `line`, the `d` of an SVG path, with its tip at (x, y).
fn arrow(svg: &mut Document, line: &str, (x, y): (f64, f64), direction: Direction) {
    svg.element("path", format_args!("d=\"{line}\" fill=\"none\" stroke=\"#6B6B6B\" stroke-width=\"1.4\""));
    let [a, b] = match direction {
        Direction::Down => [(x - 4.0, y - 7.0), (x + 4.0, y - 7.0)],
        Direction::Left => [(x + 7.0, y - 4.0), (x + 7.0, y + 4.0)],
    };
    svg.element(
        "polygon",
        format_args!("points=\"{:.1},{:.1} {:.1},{:.1} {x:.1},{y:.1}\" fill=\"#6B6B6B\"", a.0, a.1, b.0, b.1),
    );
}

/// A line from the last box of a column to the first of the next, through the gutter. Points are the middles of the boxes'
/// upper sides.
fn into_next_column(from: (f64, f64), to: (f64, f64), gutter: f64) -> String {
    let (low, high) = (from.1 + BOX + WAY, to.1 - 2.0 * WAY);
    format!(
        "M{x0:.1},{:.1}V{:.1}Q{x0:.1},{low:.1} {:.1},{low:.1}H{:.1}Q{gutter:.1},{low:.1} {gutter:.1},{:.1}\
         V{:.1}Q{gutter:.1},{high:.1} {:.1},{high:.1}H{:.1}Q{x1:.1},{high:.1} {x1:.1},{:.1}L{x1:.1},{:.1}",
        from.1 + BOX,
        low - CORNER,
        from.0 + CORNER,
        gutter - CORNER,
        low - CORNER,
        high + CORNER,
        gutter + CORNER,
        to.0 - CORNER,
        high + CORNER,
        to.1 - TIP,
        x0 = from.0,
        x1 = to.0,
    )
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
            group: LayerGroup::Convolution,
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
    fn a_residual_block_has_its_shortcut_and_a_projection_a_box_beside_the_path() {
        let mut graph = chain(6);
        graph.edges.push((1, 5));
        let svg = network_graph(&graph).unwrap().svg();
        inside(&svg);
        assert_eq!((count(&svg, "rect"), count(&svg, "path")), (2 * 6 + 2, 5 + 1));
        // 5 is the projection: 1 → 5 → 6.
        graph = chain(8);
        graph.edges = vec![(0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 7), (1, 5), (5, 6)];
        let figure = network_graph(&graph).unwrap();
        let svg = figure.svg();
        inside(&svg);
        assert_eq!((count(&svg, "rect"), count(&svg, "path")), (2 * 8 + 2, 8));
        assert!(!figure.text().contains("list") && figure.text().contains("conv4, conv5"), "{}", figure.text());
        let document = roxmltree::Document::parse(&svg).unwrap();
        let boxes = document.descendants().filter(|node| node.attribute("rx") == Some("4"));
        let lefts: std::collections::BTreeSet<_> = boxes.map(|node| node.attribute("x").unwrap()).collect();
        assert_eq!(lefts.len(), 2);
    }

    #[test]
    fn any_other_graph_is_a_list_that_says_so() {
        let mut graph = chain(5);
        graph.edges = vec![(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)];
        let figure = network_graph(&graph).unwrap();
        let svg = figure.svg();
        inside(&svg);
        assert_eq!((count(&svg, "rect"), count(&svg, "path")), (2 * 5 + 2, 0));
        let texts = texts(&svg);
        assert!(texts.contains(&"← 1, 2, 3".to_string()) && texts.contains(&"4 conv4".to_string()), "{texts:?}");
        assert!(texts.join(" ").contains(LIST_HINT), "{texts:?}");
        let text = figure.text();
        assert!(text.contains("\n3  conv3") && text.contains("1, 2, 3\ndrawn as a list, because"), "{text}");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        assert!(matches!(network_graph(&Graph::default()), Err(PlotError::Empty { .. })));
        for edge in [(1, 3), (2, 1), (1, 1)] {
            let graph = Graph { edges: vec![(0, 1), edge], ..chain(3) };
            let Err(PlotError::Edge { from, to, nodes: 3 }) = network_graph(&graph) else { panic!("{edge:?}") };
            assert_eq!((from, to), edge);
        }
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

    proptest! {
        #[test]
        fn any_graph_is_drawn_on_its_card(
            count in 1..20_usize, pairs in proptest::collection::vec((0..20_usize, 0..20_usize), 0..30), along: bool
        ) {
            let pairs = pairs.into_iter().take(if along { 4 } else { 30 });
            let edges = pairs.map(|(a, b)| (a.min(b) % count, a.max(b) % count)).filter(|(a, b)| a < b);
            let path = if along { chain(count).edges } else { vec![] };
            let graph = Graph { edges: edges.chain(path).collect(), ..chain(count) };
            inside(&network_graph(&graph).unwrap().svg());
        }
    }
}
