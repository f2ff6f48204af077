//! Circles in a directed graph.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Position;

/// From each node to its neighbours, each edge with the place that defines it.
pub(super) type Graph<N> = BTreeMap<N, Vec<(N, Position)>>;

/// A way that ends where it begins, and the place of the edge that closes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Circle<N> {
    pub(super) nodes: Vec<N>,
    pub(super) closed_at: Position,
}

/// The circles that a walk through the whole graph meets: at least one of each
/// set of nodes that lead to each other.
pub(super) fn circles<N: Clone + Ord>(graph: &Graph<N>) -> Vec<Circle<N>> {
    let mut found = Vec::new();
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        // Each step of the way: a node, and how many of its edges were tried.
        let mut way: Vec<(&N, usize)> = vec![(start, 0)];
        while let Some((node, tried)) = way.last_mut() {
            let edge = graph.get(*node).and_then(|edges| edges.get(*tried));
            *tried += 1;
            let Some((next, position)) = edge.filter(|_| !done.contains(*node)) else {
                done.insert((*node).clone());
                way.pop();
                continue;
            };
            if let Some(begin) = way.iter().position(|(node, _)| *node == next) {
                let nodes = way.iter().skip(begin).map(|(node, _)| (*node).clone());
                found.push(Circle {
                    nodes: nodes.chain([next.clone()]).collect(),
                    closed_at: *position,
                });
            } else if !done.contains(next) {
                way.push((next, 0));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_circle_is_found_where_it_closes() {
        for (shows, edges, expected) in [
            ("nothing", vec![], vec![]),
            ("a line", vec![("a", "b"), ("b", "c")], vec![]),
            (
                "two ways to one node",
                vec![("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")],
                vec![],
            ),
            ("a node with itself", vec![("a", "a")], vec![("a a", 1)]),
            ("two", vec![("a", "b"), ("b", "a")], vec![("a b a", 2)]),
            (
                "a tail",
                vec![("a", "b"), ("b", "c"), ("c", "b")],
                vec![("b c b", 3)],
            ),
            (
                "two apart",
                vec![("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")],
                vec![("a b a", 2), ("c d c", 4)],
            ),
        ] {
            let mut graph: Graph<&str> = BTreeMap::new();
            for (index, (from, to)) in edges.into_iter().enumerate() {
                let position = Position {
                    line: index + 1,
                    column: 1,
                };
                graph.entry(from).or_default().push((to, position));
            }
            let found: Vec<(String, usize)> = circles(&graph)
                .into_iter()
                .map(|circle| (circle.nodes.join(" "), circle.closed_at.line))
                .collect();
            let expected: Vec<(String, usize)> = expected
                .into_iter()
                .map(|(way, line)| (way.to_owned(), line))
                .collect();
            assert_eq!(found, expected, "{shows}");
        }
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let position = Position { line: 1, column: 1 };
        let graph: Graph<u32> = (0..2_000)
            .map(|node| (node, vec![(node + 1, position)]))
            .collect();
        assert_eq!(circles(&graph), []);
    }
}
