//! Decoding that goes on after an error, so that a user sees every problem at once.
//!
//! serde stops at its first error. So the faulty entry is recorded, cut out of the tree (or, where a required key is
//! missing, a hole is put in its place), and the tree is decoded again.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::{Detail, Entry, Error, Fault, Node, NodeKind, join, leads_to};

/// Reporting ends after this many faults.
pub const FAULTS_MAX: usize = 50;

/// What came of a tree.
#[derive(Debug)]
pub struct Decoded<T> {
    /// The value; with faults, what the rest of the tree says. `None` if nothing could be made of it.
    pub value: Option<T>,
    /// Every fault found.
    pub faults: Vec<Fault>,
    /// Paths that were cut out or made up: the value says nothing about them.
    pub patched: BTreeSet<String>,
}

impl<T> Decoded<T> {
    /// Whether `path` and all below it hold what the user wrote (or a default), and not what a fault left behind.
    pub fn vouches_for(&self, path: &str) -> bool {
        !self.patched.iter().any(|patched| leads_to(patched, path) || leads_to(path, patched))
    }
}

/// Decodes the tree, collecting faults.
pub fn decode<T: DeserializeOwned>(tree: &Node) -> Decoded<T> {
    let mut tree = tree.clone();
    let mut decoded = Decoded { value: None, faults: Vec::new(), patched: BTreeSet::new() };
    // Every round cuts a node out or fills one hole, so the bound is never met; it guards against a slip here.
    for _ in 0..10 * FAULTS_MAX {
        let error = match T::deserialize(&tree) {
            Ok(value) => {
                decoded.value = Some(value);
                break;
            }
            Err(error) => error,
        };
        if !mend(&mut tree, error, &mut decoded) || decoded.faults.len() >= FAULTS_MAX {
            break;
        }
    }
    decoded
}

/// Records the error and patches the tree; `false` if there is nothing left to patch.
fn mend<T>(tree: &mut Node, error: Error, decoded: &mut Decoded<T>) -> bool {
    let (path, span) = error.place.unwrap_or_else(|| (tree.path.clone(), tree.span));
    if let Some(holder) = tree.holder_of_hole(&path) {
        // What we made up does not fit: give up on the mapping that needs it.
        decoded.patched.insert(holder.clone());
        return holder != tree.path && tree.remove(&holder);
    }
    if let Detail::Missing(key) = error.detail {
        let missing = join(&path, key);
        let hole = Node { path: missing.clone(), span, kind: NodeKind::Hole };
        let added = tree.add(&path, Entry { key: key.to_owned(), key_span: span, value: hole });
        if added && decoded.patched.insert(missing) {
            decoded.faults.push(Fault { detail: error.detail, path, span });
        } else if !added {
            // Inside a bare variant name there is no mapping to add to.
            return cut(tree, Fault { detail: error.detail, path, span }, decoded);
        }
        return true;
    }
    cut(tree, Fault { detail: error.detail, path, span }, decoded)
}

fn cut<T>(tree: &mut Node, fault: Fault, decoded: &mut Decoded<T>) -> bool {
    let holder = tree.holder(&fault.path).map(|holder| holder.path.clone());
    let removed = fault.path != tree.path && tree.remove(&fault.path);
    let of_a_value = !matches!(fault.detail, Detail::UnknownKey { .. });
    if let Some(holder) = holder.filter(|holder| of_a_value && tree.hollow(holder)) {
        decoded.patched.insert(holder);
    }
    decoded.patched.insert(fault.path.clone());
    decoded.faults.push(fault);
    removed
}

impl Node {
    /// Path of the mapping or list that holds the node with this path.
    fn holder(&self, path: &str) -> Option<&Node> {
        let find = |child: &Node| child.path == path;
        match &self.kind {
            NodeKind::Map(entries) if entries.iter().any(|entry| find(&entry.value)) => Some(self),
            NodeKind::List(items) if items.iter().any(find) => Some(self),
            NodeKind::Map(entries) => {
                entries.iter().filter_map(|entry| entry.value.below(path)).find_map(|n| n.holder(path))
            }
            NodeKind::List(items) => items.iter().filter_map(|item| item.below(path)).find_map(|n| n.holder(path)),
            _ => None,
        }
    }

    fn below(&self, path: &str) -> Option<&Node> {
        leads_to(&self.path, path).then_some(self)
    }

    fn holder_of_hole(&self, path: &str) -> Option<String> {
        let holder = self.holder(path)?;
        let NodeKind::Map(entries) = &holder.kind else { return None };
        let hole = entries.iter().any(|entry| entry.value.path == path && entry.value.kind == NodeKind::Hole);
        hole.then(|| holder.path.clone())
    }

    /// Turns the mapping with this path into a hole if nothing is left in it: it may have been a choice
    /// (`{ poisson: … }`), and an empty one would look like another fault.
    fn hollow(&mut self, path: &str) -> bool {
        let Some(node) = self.at_mut(path) else { return false };
        let empty = matches!(&node.kind, NodeKind::Map(entries) if entries.is_empty());
        if empty {
            node.kind = NodeKind::Hole;
        }
        empty
    }

    /// The node with this path.
    fn at_mut(&mut self, path: &str) -> Option<&mut Node> {
        if self.path == path {
            return Some(self);
        }
        match &mut self.kind {
            NodeKind::Map(entries) => {
                let mut values = entries.iter_mut().map(|entry| &mut entry.value);
                values.find(|node| leads_to(&node.path, path))?.at_mut(path)
            }
            NodeKind::List(items) => items.iter_mut().find(|node| leads_to(&node.path, path))?.at_mut(path),
            _ => None,
        }
    }

    /// Adds an entry to the mapping with this path; says whether there is one.
    fn add(&mut self, path: &str, entry: Entry) -> bool {
        match self.at_mut(path).map(|node| &mut node.kind) {
            Some(NodeKind::Map(entries)) => {
                entries.push(entry);
                true
            }
            _ => false,
        }
    }
}
