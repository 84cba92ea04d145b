//! A network's layers as one path with shortcuts, and its folding into columns.

/// More shortcuts than this past one layer are unreadable.
const MOST_LANES: usize = 4;

/// A graph that is one path with shortcuts, such as a residual network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The nodes of the path; a node's place in it is its row.
    pub path: Vec<usize>,
    pub shortcuts: Vec<Shortcut>,
}

/// A connection that skips rows of the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shortcut {
    /// The row it leaves.
    pub from: usize,
    /// The row it enters.
    pub to: usize,
    /// The nodes on it, such as a projection.
    pub nodes: Vec<usize>,
    /// Shortcuts that skip the same row have different lanes, counted from 0; one with nodes has no other beside it.
    pub lane: usize,
}

impl Shortcut {
    /// The row of its first node; the nodes stand halfway.
    pub fn first_row(&self) -> usize {
        self.from + 1 + (self.to - self.from - 1 - self.nodes.len()) / 2
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

impl Chain {
    /// The graph as a chain, if it is one. `edges` lead from lower to higher nodes, sorted and without duplicates.
    pub fn of(nodes: usize, edges: &[(usize, usize)]) -> Option<Self> {
        let path = longest_path(nodes, edges);
        let mut row = vec![None; nodes];
        path.iter().enumerate().for_each(|(place, node)| row[*node] = Some(place));
        let (mut next, mut sources) = (vec![vec![]; nodes], vec![0; nodes]);
        for &(from, to) in edges {
            next[from].push(to);
            sources[to] += 1;
        }
        let mut shortcuts = vec![];
        for &(from, to) in edges {
            let Some(from) = row[from].filter(|from| row[to] != Some(from + 1)) else { continue };
            let mut beside = vec![];
            let mut node = to;
            let to = loop {
                if let Some(to) = row[node] {
                    break to;
                }
                beside.push(node);
                match next[node][..] {
                    [only] if sources[node] == 1 => node = only,
                    _ => return None,
                }
            };
            shortcuts.push(Shortcut { from, to, nodes: beside, lane: 0 });
        }
        let seen = path.len() + shortcuts.iter().map(|shortcut| shortcut.nodes.len()).sum::<usize>();
        (seen == nodes && assign_lanes(&mut shortcuts)).then_some(Self { path, shortcuts })
    }

    /// Whether a new column may begin at `row`, because only one tensor passes there.
    pub fn can_break_at(&self, row: usize) -> bool {
        self.shortcuts.iter().all(|shortcut| row <= shortcut.from + 1 || shortcut.to < row)
    }
}

fn longest_path(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let (mut length, mut before) = (vec![1; nodes], vec![None; nodes]);
    // All edges to a node come before those from it.
    for &(from, to) in edges {
        if length[from] + 1 > length[to] {
            (length[to], before[to]) = (length[from] + 1, Some(from));
        }
    }
    let last = (0..nodes).max_by_key(|node| length[*node]);
    let mut path: Vec<usize> = std::iter::successors(last, |node| before[*node]).collect();
    path.reverse();
    path
}

/// Assigns lanes, short ones inside; false if the shortcuts don't fit side by side.
fn assign_lanes(shortcuts: &mut [Shortcut]) -> bool {
    shortcuts.sort_by_key(|shortcut| shortcut.to - shortcut.from);
    for index in 0..shortcuts.len() {
        let (before, rest) = shortcuts.split_at_mut(index);
        let shortcut = &mut rest[0];
        let beside = || before.iter().filter(|other| other.overlaps(shortcut));
        if beside().any(|other| !other.nodes.is_empty() || !shortcut.nodes.is_empty()) {
            return false;
        }
        let free = (0..MOST_LANES).find(|lane| beside().all(|other| other.lane != *lane));
        let Some(lane) = free else { return false };
        shortcut.lane = lane;
    }
    true
}

/// The first row of each column, for `rows` rows: as few columns as have at most `most` rows each, or as many as `fits`
/// allows, of as equal length as `can_break_at` allows.
pub(crate) fn fold(
    rows: usize,
    most: usize,
    can_break_at: impl Fn(usize) -> bool,
    fits: impl Fn(&[usize]) -> bool,
) -> Vec<usize> {
    let breaks: Vec<bool> = (0..rows).map(can_break_at).collect();
    let fill = |height: usize| {
        let mut columns = vec![0];
        let mut start = 0;
        while start + height < rows {
            // The last break that keeps the column short; where there is none, the next one.
            let within = (start + 1..=start + height).rev().find(|row| breaks[*row]);
            let Some(first) = within.or_else(|| (start + height + 1..rows).find(|row| breaks[*row])) else { break };
            columns.push(first);
            start = first;
        }
        columns
    };
    let mut columns = vec![0];
    for count in 2..=rows {
        if longest_column(&columns, rows) <= most {
            break;
        }
        match (rows.div_ceil(count)..=rows).map(fill).find(|columns| columns.len() <= count) {
            Some(folded) if folded.len() == count && fits(&folded) => columns = folded,
            _ => break,
        }
    }
    columns
}

/// The number of rows of the longest column.
pub(crate) fn longest_column(columns: &[usize], rows: usize) -> usize {
    let ends = columns.iter().skip(1).chain([&rows]);
    columns.iter().zip(ends).map(|(first, end)| end - first).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(nodes: usize) -> Vec<(usize, usize)> {
        (1..nodes).map(|node| (node - 1, node)).collect()
    }

    fn chain(nodes: usize, mut edges: Vec<(usize, usize)>) -> Option<Chain> {
        edges.sort();
        edges.dedup();
        Chain::of(nodes, &edges)
    }

    #[test]
    fn a_path_is_folded_into_columns_of_like_length() {
        let fold = |rows| fold(rows, 6, |_| true, |columns| columns.len() <= 4);
        assert_eq!(fold(17), [0, 6, 12]);
        assert_eq!(fold(100), [0, 25, 50, 75]);
        assert_eq!(fold(6), [0]);
    }

    #[test]
    fn a_residual_network_breaks_between_its_blocks() {
        // Each block's output is the next one's input.
        let shortcuts = (0..8).map(|block| (4 * block, 4 * block + 4));
        let chain = chain(33, path(33).into_iter().chain(shortcuts).collect()).unwrap();
        assert_eq!(chain.path, (0..33).collect::<Vec<_>>());
        assert_eq!(chain.shortcuts.len(), 8);
        assert!(chain.shortcuts.iter().all(|shortcut| shortcut.lane == 0 && shortcut.nodes.is_empty()));
        let columns = fold(33, 6, |row| chain.can_break_at(row), |_| true);
        assert!(columns.len() > 1 && columns[1..].iter().all(|row| row % 4 == 1), "{columns:?}");
    }

    #[test]
    fn a_projection_stands_on_its_shortcut() {
        // 0 → 1 → 2 → 3 → 6, and 0 → 4 → 5 → 6.
        let projected = chain(7, vec![(0, 1), (1, 2), (2, 3), (3, 6), (0, 4), (4, 5), (5, 6)]).unwrap();
        assert_eq!(projected.path, [0, 1, 2, 3, 6]);
        assert_eq!(projected.shortcuts, [Shortcut { from: 0, to: 4, nodes: vec![4, 5], lane: 0 }]);
        assert_eq!(projected.shortcuts[0].first_row(), 1);
    }

    #[test]
    fn shortcuts_past_the_same_layer_have_lanes_of_their_own_while_there_are_any() {
        let nested = chain(6, path(6).into_iter().chain([(0, 5), (1, 3), (3, 5)]).collect()).unwrap();
        let lanes: Vec<_> = nested.shortcuts.iter().map(|shortcut| (shortcut.from, shortcut.lane)).collect();
        assert_eq!(lanes, [(1, 0), (3, 0), (0, 1)]);
        let all = (0..8).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
        assert_eq!(chain(8, all), None, "too many lanes");
    }

    #[test]
    fn what_is_no_chain_is_known() {
        // Two more branches beside the path; a branch that ends; a second beginning; two parts.
        assert_eq!(chain(5, vec![(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]), None);
        assert_eq!(chain(4, vec![(0, 1), (1, 2), (0, 3)]), None);
        assert_eq!(chain(4, vec![(0, 2), (1, 2), (2, 3)]), None);
        assert_eq!(chain(4, vec![(0, 1), (2, 3)]), None);
        assert_eq!(chain(1, vec![]).unwrap().path, [0]);
    }

    proptest! {
        #[test]
        fn a_chain_holds_each_node_once_and_each_edge(
            nodes in 1..12_usize, pairs in proptest::collection::vec((0..12_usize, 0..12_usize), 0..14), along: bool
        ) {
            let pairs = pairs.into_iter().map(|(a, b)| (a.min(b) % nodes, a.max(b) % nodes)).filter(|(a, b)| a < b);
            let mut edges: Vec<_> = pairs.chain(if along { path(nodes) } else { vec![] }).collect();
            edges.sort();
            edges.dedup();
            if let Some(Chain { path, shortcuts }) = Chain::of(nodes, &edges) {
                let mut held: Vec<usize> = path.clone();
                let mut links: Vec<_> = path.windows(2).map(|pair| (pair[0], pair[1])).collect();
                for Shortcut { from, to, nodes, .. } in &shortcuts {
                    held.extend(nodes);
                    let way: Vec<usize> = [path[*from]].into_iter().chain(nodes.iter().copied()).chain([path[*to]]).collect();
                    links.extend(way.windows(2).map(|pair| (pair[0], pair[1])));
                }
                held.sort();
                links.sort();
                prop_assert_eq!(held, (0..nodes).collect::<Vec<_>>());
                prop_assert_eq!(links, edges);
            }
        }
    }
}
