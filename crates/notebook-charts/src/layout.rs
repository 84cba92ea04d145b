//! Places for the nodes of a directed graph: layers from top to bottom, in columns where it is long.
//!
//! After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981):
//! a node's layer is the longest path to it, edges over several layers bend in each, barycentres order the layers.

/// Where everything stands. A vertex is a node, or a bend of an edge where it passes a layer.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The layers' vertices, each from left to right; vertex `i` is node `i` while `i` is less than their number.
    layers: Vec<Vec<usize>>,
    /// Each vertex's layer.
    pub layer: Vec<usize>,
    /// Each vertex's middle, in pixels.
    pub x: Vec<f64>,
    /// Each edge's vertices, from its source over its bends to its target.
    pub routes: Vec<Vec<usize>>,
    /// The first layer of each column.
    pub columns: Vec<usize>,
}

/// Why a graph can't be laid out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LayoutError {
    /// The node lies on a circle.
    Circle(usize),
    /// Edges pass so many layers that there are more than [`MOST_BENDS`].
    Bends(usize),
}

/// More than anyone could follow, and few enough to be ordered in a second.
pub(crate) const MOST_BENDS: usize = 20_000;

/// The size of things, in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub node_width: f64,
    /// The room that a passing edge takes in a layer.
    pub bend_width: f64,
    pub gap: f64,
    /// The height of a layer with the space below it.
    pub row: f64,
    /// The space between columns.
    pub gutter: f64,
    /// The size that the drawing should keep to, if it can.
    pub room: (f64, f64),
}

impl Layout {
    /// Lays out `nodes` nodes. Edges must name nodes that are there.
    pub(crate) fn new(nodes: usize, edges: &[(usize, usize)], measure: &Measure) -> Result<Self, LayoutError> {
        let mut layer = longest_paths(nodes, edges).map_err(LayoutError::Circle)?;
        let bends = edges.iter().map(|(from, to)| layer[*to] - layer[*from] - 1).sum();
        if bends > MOST_BENDS {
            return Err(LayoutError::Bends(bends));
        }
        let mut routes = Vec::with_capacity(edges.len());
        for &(from, to) in edges {
            let mut route = vec![from];
            for between in layer[from] + 1..layer[to] {
                route.push(layer.len());
                layer.push(between);
            }
            route.push(to);
            routes.push(route);
        }
        let mut layers = vec![vec![]; layer.iter().max().map_or(0, |last| last + 1)];
        for (vertex, layer) in layer.iter().enumerate() {
            layers[*layer].push(vertex);
        }
        let mut layout = Self { layers, x: vec![0.0; layer.len()], layer, routes, columns: vec![] };
        let neighbours = Neighbours::new(nodes, &layout);
        layout.order(&neighbours);
        layout.place(nodes, &neighbours, measure);
        layout.fold(nodes, measure);
        Ok(layout)
    }

    /// The column and the row in it of a layer.
    pub(crate) fn cell(&self, layer: usize) -> (usize, usize) {
        let column = self.columns.partition_point(|first| *first <= layer) - 1;
        (column, layer - self.columns[column])
    }

    /// The layers of a column.
    fn span(&self, column: usize) -> std::ops::Range<usize> {
        self.columns[column]..self.columns.get(column + 1).copied().unwrap_or(self.layers.len())
    }

    /// The rows of the longest column.
    pub(crate) fn rows(&self) -> usize {
        (0..self.columns.len()).map(|column| self.span(column).len()).max().unwrap_or(0)
    }

    /// The left and right end of a column's vertices.
    pub(crate) fn extent(&self, column: usize, nodes: usize, measure: &Measure) -> (f64, f64) {
        self.layers[self.span(column)].iter().flatten().fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(left, right), vertex| {
                let half = width(*vertex, nodes, measure) / 2.0;
                (left.min(self.x[*vertex] - half), right.max(self.x[*vertex] + half))
            },
        )
    }

    /// Orders the vertices of each layer so that few edges cross.
    fn order(&mut self, neighbours: &Neighbours) {
        // More sweeps seldom find better orders in graphs of this kind.
        const SWEEPS: usize = 8;
        let mut best = (self.crossings(neighbours), self.layers.clone());
        let mut position = vec![0.0; self.layer.len()];
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let down = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let (index, fixed) = if down { (step, step - 1) } else { (count - 1 - step, count - step) };
                for (place, vertex) in self.layers[fixed].iter().enumerate() {
                    position[*vertex] = place as f64;
                }
                let mut keyed: Vec<(f64, usize)> = self.layers[index]
                    .iter()
                    .enumerate()
                    .map(|(place, vertex)| {
                        let beside = neighbours.of(*vertex, down);
                        let sum: f64 = beside.iter().map(|(other, _)| position[*other]).sum();
                        // One without neighbours stays where it is.
                        (if beside.is_empty() { place as f64 } else { sum / beside.len() as f64 }, *vertex)
                    })
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.layers[index] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
            }
            let crossings = self.crossings(neighbours);
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    fn crossings(&self, neighbours: &Neighbours) -> u64 {
        let mut position = vec![0; self.layer.len()];
        for layer in &self.layers {
            for (place, vertex) in layer.iter().enumerate() {
                position[*vertex] = place;
            }
        }
        let between = |upper: &Vec<usize>| {
            let ends: Vec<usize> = upper
                .iter()
                .flat_map(|vertex| {
                    let mut ends: Vec<usize> =
                        neighbours.below[*vertex].iter().map(|(other, _)| position[*other]).collect();
                    ends.sort_unstable();
                    ends
                })
                .collect();
            inversions(&ends)
        };
        self.layers.iter().map(between).sum()
    }

    /// Gives each vertex its x: near its neighbours, in the order of its layer, without overlap.
    fn place(&mut self, nodes: usize, neighbours: &Neighbours, measure: &Measure) {
        // The last one goes down, so that a branch is straight below its beginning.
        const SWEEPS: usize = 9;
        let distance = |a: usize, b: usize| measure.gap + (width(a, nodes, measure) + width(b, nodes, measure)) / 2.0;
        for layer in &self.layers {
            for pair in layer.windows(2) {
                self.x[pair[1]] = self.x[pair[0]] + distance(pair[0], pair[1]);
            }
        }
        for sweep in 0..SWEEPS {
            let down = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let layer = &self.layers[if down { step } else { count - 1 - step }];
                let wanted: Vec<(f64, f64)> = layer
                    .iter()
                    .map(|vertex| {
                        let beside = neighbours.of(*vertex, down);
                        let place = weighted_median(beside.iter().map(|(other, weight)| (self.x[*other], *weight)));
                        // Bends give way to nodes, so that the main path stays straight.
                        (place.unwrap_or(self.x[*vertex]), if *vertex < nodes { 1e9 } else { 1.0 })
                    })
                    .collect();
                let distances: Vec<f64> = layer.windows(2).map(|pair| distance(pair[0], pair[1])).collect();
                for (vertex, x) in layer.iter().zip(spread(&wanted, &distances)) {
                    self.x[*vertex] = x;
                }
            }
        }
    }

    /// Folds a long graph into columns. It is cut only below a layer of one node and no passing edge: a single
    /// tensor then goes on in the next column.
    fn fold(&mut self, nodes: usize, measure: &Measure) {
        let count = self.layers.len();
        let single = |layer: usize| self.layers[layer].len() == 1 && self.layers[layer][0] < nodes;
        let cuttable: Vec<bool> = (0..count).map(|first| first > 0 && single(first - 1)).collect();
        let fill = |rows: usize| {
            let mut columns = vec![0];
            let mut start = 0;
            while start + rows < count {
                // The last allowed cut that keeps the column short; where there is none, the next one.
                let within = (start + 1..=start + rows).rev().find(|first| cuttable[*first]);
                let Some(first) = within.or_else(|| (start + rows + 1..count).find(|first| cuttable[*first])) else {
                    break;
                };
                columns.push(first);
                start = first;
            }
            columns
        };
        self.columns = vec![0];
        let fits = (measure.room.1 / measure.row).floor().max(1.0) as usize;
        if count <= fits {
            return;
        }
        // From few columns to many: the first that is low enough, or else the lowest that is not too wide.
        for wanted in 2..=count {
            let Some(columns) = (count.div_ceil(wanted)..=count).map(fill).find(|columns| columns.len() <= wanted)
            else {
                continue;
            };
            let before = std::mem::replace(&mut self.columns, columns);
            let extent = |column| {
                let (left, right) = self.extent(column, nodes, measure);
                right - left
            };
            let wide =
                (0..self.columns.len()).map(extent).sum::<f64>() + (self.columns.len() - 1) as f64 * measure.gutter;
            if wide > measure.room.0 || self.columns.len() < wanted {
                if wide > measure.room.0 {
                    self.columns = before;
                }
                return;
            }
            if self.rows() <= fits {
                return;
            }
        }
    }
}

fn width(vertex: usize, nodes: usize, measure: &Measure) -> f64 {
    if vertex < nodes { measure.node_width } else { measure.bend_width }
}

/// Each vertex's neighbours in the next layers up and down, with the weight of a straight line to them.
struct Neighbours {
    above: Vec<Vec<(usize, f64)>>,
    below: Vec<Vec<(usize, f64)>>,
}

impl Neighbours {
    fn new(nodes: usize, layout: &Layout) -> Self {
        let count = layout.layer.len();
        let (mut above, mut below) = (vec![vec![]; count], vec![vec![]; count]);
        for pair in layout.routes.iter().flat_map(|route| route.windows(2)) {
            // A line between nodes is straight before a line to a bend is; a long edge is straight within.
            let weight = match (pair[0] < nodes, pair[1] < nodes) {
                (true, true) => 8.0,
                (false, false) => 4.0,
                _ => 1.0,
            };
            below[pair[0]].push((pair[1], weight));
            above[pair[1]].push((pair[0], weight));
        }
        Self { above, below }
    }

    /// Those above where one goes down through the layers, those below on the way up.
    fn of(&self, vertex: usize, down: bool) -> &[(usize, f64)] {
        if down { &self.above[vertex] } else { &self.below[vertex] }
    }
}

/// The length of the longest path to each node; the error is a node on a circle.
fn longest_paths(nodes: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, usize> {
    let (mut after, mut before, mut missing) = (vec![vec![]; nodes], vec![vec![]; nodes], vec![0_usize; nodes]);
    for &(from, to) in edges {
        after[from].push(to);
        before[to].push(from);
        missing[to] += 1;
    }
    let mut layer = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|node| missing[*node] == 0).collect();
    let mut done = 0;
    while let Some(node) = ready.pop() {
        done += 1;
        for &next in &after[node] {
            layer[next] = layer[next].max(layer[node] + 1);
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push(next);
            }
        }
    }
    if done == nodes {
        return Ok(layer);
    }
    // Every node left has a predecessor that is left too: walking back from one ends on a circle.
    let left = |node: &usize| missing[*node] > 0;
    let mut node = (0..nodes).find(left).unwrap_or(0);
    for _ in 0..nodes {
        node = before[node].iter().copied().find(left).unwrap_or(node);
    }
    Err(node)
}

/// The pairs that stand in the wrong order, counted with a Fenwick tree.
fn inversions(values: &[usize]) -> u64 {
    let size = values.iter().max().map_or(0, |largest| largest + 1);
    let mut tree = vec![0_u64; size + 1];
    let mut count = 0;
    for (seen, value) in values.iter().enumerate() {
        let mut not_above = 0;
        let mut index = value + 1;
        while index > 0 {
            not_above += tree[index];
            index &= index - 1;
        }
        count += seen as u64 - not_above;
        let mut index = value + 1;
        while index <= size {
            tree[index] += 1;
            index += index & index.wrapping_neg();
        }
    }
    count
}

/// The value that halves the weight; the middle of two where the halves are equal.
fn weighted_median(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let mut values: Vec<(f64, f64)> = values.collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    for (index, (value, weight)) in values.iter().enumerate() {
        sum += weight;
        if sum > half {
            return Some(*value);
        }
        if sum == half {
            return Some((value + values.get(index + 1).map_or(*value, |next| next.0)) / 2.0);
        }
    }
    None
}

/// Places as near as possible to the wanted ones (place, weight), in least squares, with at least `distances` between
/// neighbours: with these taken off it is isotonic regression, solved by pooling adjacent violators.
fn spread(wanted: &[(f64, f64)], distances: &[f64]) -> Vec<f64> {
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(wanted.len());
    // Blocks of neighbours that touch: mean place, weight, how many.
    let mut blocks: Vec<(f64, f64, usize)> = vec![];
    for (index, (place, weight)) in wanted.iter().enumerate() {
        if index > 0 {
            offset += distances[index - 1];
        }
        offsets.push(offset);
        blocks.push((place - offset, *weight, 1));
        while let [.., (a, wa, na), (b, wb, nb)] = blocks[..]
            && a > b
        {
            blocks.truncate(blocks.len() - 2);
            blocks.push(((a * wa + b * wb) / (wa + wb), wa + wb, na + nb));
        }
    }
    let places = blocks.into_iter().flat_map(|(place, _, count)| std::iter::repeat_n(place, count));
    places.zip(offsets).map(|(place, offset)| place + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEASURE: Measure =
        Measure { node_width: 100.0, bend_width: 16.0, gap: 10.0, row: 50.0, gutter: 30.0, room: (600.0, 300.0) };

    fn chain(nodes: usize) -> Vec<(usize, usize)> {
        (1..nodes).map(|node| (node - 1, node)).collect()
    }

    #[test]
    fn a_chain_is_folded_into_columns_of_like_length() {
        let layout = Layout::new(17, &chain(17), &MEASURE).unwrap();
        assert_eq!(layout.columns, [0, 6, 12]);
        assert_eq!(layout.cell(13), (2, 1));
        // Four columns of 100 with 30 between are the most that 600 hold.
        assert_eq!(Layout::new(100, &chain(100), &MEASURE).unwrap().columns, [0, 25, 50, 75]);
        assert_eq!(Layout::new(6, &chain(6), &MEASURE).unwrap().columns, [0]);
    }

    #[test]
    fn a_residual_network_keeps_its_main_path_straight_and_is_cut_between_blocks() {
        // Blocks of four: 4k → 4k+1 → 4k+2 → 4k+3 → 4k+4, and a shortcut 4k → 4k+3.
        let mut edges = chain(33);
        edges.extend((0..8).map(|block| (4 * block, 4 * block + 3)));
        let layout = Layout::new(33, &edges, &MEASURE).unwrap();
        let main: Vec<f64> = layout.x[..33].to_vec();
        assert!(main.iter().all(|x| (x - main[0]).abs() < 1e-3), "{main:?}");
        assert!(layout.columns.len() > 1);
        for first in &layout.columns[1..] {
            assert!(first % 4 <= 1, "a column begins inside of a block, at {first}");
        }
    }

    #[test]
    fn crossings_that_can_be_avoided_are() {
        let layout = Layout::new(6, &[(0, 3), (1, 2), (1, 3), (0, 4), (2, 5), (3, 5), (4, 5)], &MEASURE).unwrap();
        assert_eq!(layout.crossings(&Neighbours::new(6, &layout)), 0);
    }

    #[test]
    fn a_circle_is_found() {
        let error = Layout::new(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)], &MEASURE).unwrap_err();
        assert!(matches!(error, LayoutError::Circle(1..=3)), "{error:?}");
        assert_eq!(Layout::new(1, &[(0, 0)], &MEASURE).unwrap_err(), LayoutError::Circle(0));
    }

    #[test]
    fn a_thicket_is_refused() {
        let edges: Vec<(usize, usize)> = (0..100).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
        assert!(matches!(Layout::new(100, &edges, &MEASURE), Err(LayoutError::Bends(_))));
    }

    #[test]
    fn parts() {
        assert_eq!(inversions(&[2, 0, 1, 1, 0]), 6);
        assert_eq!(weighted_median([(1.0, 1.0), (5.0, 8.0)].into_iter()), Some(5.0));
        assert_eq!(weighted_median([(1.0, 1.0), (5.0, 1.0)].into_iter()), Some(3.0));
        assert_eq!(spread(&[(0.0, 1.0), (0.0, 1.0)], &[10.0]), [-5.0, 5.0]);
        assert_eq!(spread(&[(0.0, 1.0), (50.0, 1.0)], &[10.0]), [0.0, 50.0]);
    }

    proptest! {
        #[test]
        fn edges_lead_down_and_nothing_overlaps(
            nodes in 1..25_usize, pairs in proptest::collection::vec((0..25_usize, 0..25_usize), 0..50)
        ) {
            let edges: Vec<(usize, usize)> = pairs
                .into_iter()
                .map(|(a, b)| (a.min(b) % nodes, a.max(b) % nodes))
                .filter(|(a, b)| a < b)
                .collect();
            let layout = Layout::new(nodes, &edges, &MEASURE).unwrap();
            for (from, to) in &edges {
                prop_assert!(layout.layer[*from] < layout.layer[*to]);
            }
            for layer in &layout.layers {
                for pair in layer.windows(2) {
                    let least = MEASURE.gap + (width(pair[0], nodes, &MEASURE) + width(pair[1], nodes, &MEASURE)) / 2.0;
                    prop_assert!(layout.x[pair[1]] - layout.x[pair[0]] >= least - 1e-6);
                }
            }
            prop_assert_eq!(layout.layers.iter().map(Vec::len).sum::<usize>(), layout.x.len());
        }
    }
}
