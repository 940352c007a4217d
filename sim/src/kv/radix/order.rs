//! The order of a depth-first walk (SGLang's `dfs-weight`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{ROOT, RadixTree};

impl RadixTree {
    /// Orders requests by where their cached tokens end: a depth-first walk that enters the child with the most requests below it first
    /// (ties: the older edge), and lists requests below a node before those at it. Returns positions in `ends`.
    pub(crate) fn depth_first(&self, ends: &[u32]) -> Vec<usize> {
        let mut at: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut weights: BTreeMap<u32, usize> = BTreeMap::new();
        for (position, &end) in ends.iter().enumerate() {
            at.entry(end).or_default().push(position);
            let mut node = end;
            while node != ROOT {
                *weights.entry(node).or_default() += 1;
                node = self.node(node).parent;
            }
        }
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &node in weights.keys() {
            children.entry(self.node(node).parent).or_default().push(node);
        }
        for nodes in children.values_mut() {
            nodes.sort_by_key(|&node| (Reverse(weights[&node]), self.node(node).edge));
        }
        let mut order = Vec::with_capacity(ends.len());
        let mut stack = vec![(ROOT, false)];
        while let Some((node, left)) = stack.pop() {
            if left {
                order.extend(at.remove(&node).unwrap_or_default());
            } else {
                stack.push((node, true));
                stack.extend(children.get(&node).into_iter().flatten().rev().map(|&child| (child, false)));
            }
        }
        order
    }
}
