//! Setting a value at a dotted path: sweeps and `--set`.

use super::{Entry, Node, NodeKind, Span, join};

/// Why nothing can be set at a path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SetError {
    /// A part of the path is empty.
    #[error("`{0}` is not a path; write keys with dots between them, e.g. fleet.replicas")]
    NotAPath(String),
    /// A value on the way has nothing below it.
    #[error("`{path}` is {found} here, so nothing can be set below it")]
    NotAMapping {
        /// The value on the way.
        path: String,
        /// Its kind.
        found: String,
    },
    /// A list has no such item.
    #[error("`{path}` is a list of {length}; it has no item `{item}`")]
    NoItem {
        /// The list.
        path: String,
        /// Its length.
        length: usize,
        /// What was asked for.
        item: String,
    },
}

impl Node {
    /// Puts `value` at `path`, making mappings on the way where there are none. Keys it makes are placed at `key_span`.
    ///
    /// # Errors
    /// A scalar or list stands in the way. A scalar that names the next key (`scheduler: vllm` for
    /// `scheduler.vllm.max_num_seqs`) does not: it becomes a mapping.
    pub fn set(&mut self, path: &str, value: Node, key_span: Span) -> Result<(), SetError> {
        let keys: Vec<&str> = path.split('.').map(str::trim).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(SetError::NotAPath(path.to_owned()));
        }
        let mut value = value;
        value.relabel(path);
        self.put(&keys, value, key_span)
    }

    fn put(&mut self, keys: &[&str], value: Node, key_span: Span) -> Result<(), SetError> {
        let Some((&key, rest)) = keys.split_first() else {
            *self = value;
            return Ok(());
        };
        self.open(key, key_span);
        let path = self.path.clone();
        match &mut self.kind {
            NodeKind::Map(entries) => {
                let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                    let empty = Node { path: join(&path, key), span: key_span, kind: NodeKind::Map(Vec::new()) };
                    entries.push(Entry { key: key.to_owned(), key_span, value: empty });
                    entries.len() - 1
                });
                entries[at].value.put(rest, value, key_span)
            }
            NodeKind::List(items) => {
                let length = items.len();
                let item = key.parse().ok().and_then(|at: usize| items.get_mut(at));
                let missing = || SetError::NoItem { path, length, item: key.to_owned() };
                item.ok_or_else(missing)?.put(rest, value, key_span)
            }
            NodeKind::Scalar { text, .. } => Err(SetError::NotAMapping { path, found: format!("`{text}`") }),
            NodeKind::Hole => Err(SetError::NotAMapping { path, found: "missing".to_owned() }),
        }
    }

    /// Turns an empty value, and a bare variant name equal to the next key, into a mapping.
    fn open(&mut self, key: &str, key_span: Span) {
        if let NodeKind::Scalar { text, .. } = &self.kind {
            if text.is_empty() {
                self.kind = NodeKind::Map(Vec::new());
            } else if text == key {
                let path = join(&self.path, key);
                let value = Node { path, span: key_span, kind: NodeKind::Map(Vec::new()) };
                self.kind = NodeKind::Map(vec![Entry { key: key.to_owned(), key_span: self.span, value }]);
            }
        }
    }
}
