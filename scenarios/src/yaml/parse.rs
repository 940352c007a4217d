//! From events to the tree.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::iter;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span as Marks, StrInput};

use super::{Detail, Entry, FAULTS_MAX, Fault, Node, NodeKind, SourceId, Span};

/// Nesting beyond this is refused.
const DEPTH_MAX: usize = 64;
/// More values are refused: each takes some hundred bytes.
const NODES_MAX: usize = 1 << 20;
/// Every value knows its path; all of them together may take so much [bytes].
const PATHS_MAX: usize = 128 << 20;

/// Reads one document. Faults that do not hide the rest (a duplicate key, a tag) come with the tree; a syntax error
/// comes alone.
pub fn parse(source: SourceId, text: &str) -> (Option<Node>, Vec<Fault>) {
    let offsets = text.char_indices().map(|(at, _)| at).chain(iter::once(text.len())).collect();
    let mut reader = Reader { source, text, offsets, parser: Parser::new_from_str(text), faults: Vec::new(), nodes: 0 };
    let root = reader.document().and_then(of_bounded_paths);
    let mut faults = reader.faults;
    match root {
        Ok(mut root) => {
            root.relabel("");
            (Some(root), faults)
        }
        Err(fault) => {
            faults.push(fault);
            (None, faults)
        }
    }
}

struct Reader<'t> {
    source: SourceId,
    text: &'t str,
    /// Byte offset of every character.
    offsets: Vec<usize>,
    parser: Parser<'t, StrInput<'t>>,
    faults: Vec<Fault>,
    /// Values so far.
    nodes: usize,
}

/// Bytes of the paths of a node and all below it, its own path taking `length`.
fn paths(node: &Node, length: usize) -> usize {
    let below: usize = match &node.kind {
        NodeKind::Map(entries) => entries.iter().map(|entry| paths(&entry.value, length + entry.key.len() + 1)).sum(),
        // Numbers of items have up to seven digits.
        NodeKind::List(items) => items.iter().map(|item| paths(item, length + 8)).sum(),
        NodeKind::Scalar { .. } | NodeKind::Hole => 0,
    };
    length + below
}

fn of_bounded_paths(root: Node) -> Result<Node, Fault> {
    if paths(&root, 0) <= PATHS_MAX {
        return Ok(root);
    }
    Err(Fault::new(Detail::Message("its keys are too many, too long or too deep".to_owned()), root.span))
}

/// What a terminal would obey, and no text needs.
fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            let (event, marks) = self.next()?;
            match event {
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.fault("a scenario file holds one document; remove the second", marks));
                }
                Event::DocumentStart(_) => {
                    let (event, marks) = self.next()?;
                    root = Some(self.node(event, marks, 0)?);
                }
                Event::StreamEnd => break,
                _ => {}
            }
        }
        let empty = NodeKind::Scalar { text: String::new(), plain: true };
        Ok(root.unwrap_or(Node { path: String::new(), span: self.empty_span(), kind: empty }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Marks), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Marks::empty(Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'t>, marks: Marks, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH_MAX {
            return Err(self.fault(&format!("nested deeper than {DEPTH_MAX} levels"), marks));
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.fault(&format!("more than {NODES_MAX} values"), marks));
        }
        let span = self.span(marks);
        let (anchor, tag, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = NodeKind::Scalar { text: self.printable(text, marks), plain: style == ScalarStyle::Plain };
                (anchor, tag, Node { path: String::new(), span, kind })
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, self.list(span, depth)?),
            Event::MappingStart(anchor, tag) => (anchor, tag, self.map(span, depth)?),
            Event::Alias(_) => {
                return Err(self.fault("aliases (`*name`) are not supported; write the value out", marks));
            }
            _ => return Err(self.fault("expected a value", marks)),
        };
        if anchor != 0 {
            self.report("anchors (`&name`) are not supported; write the value out", marks);
        }
        if let Some(tag) = tag {
            self.report(&format!("tags (`{tag}`) are not supported"), marks);
        }
        Ok(node)
    }

    /// A text without control characters, which are reported.
    fn printable(&mut self, text: Cow<'_, str>, marks: Marks) -> String {
        let Some(control) = text.chars().find(|&c| is_control(c)) else { return text.into_owned() };
        self.report(&format!("a text has no control characters; this one has U+{:04X}", u32::from(control)), marks);
        text.replace(is_control, "\u{fffd}")
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Fault> {
        let mut items = Vec::new();
        let end = loop {
            let (event, marks) = self.next()?;
            if event == Event::SequenceEnd {
                break self.span(marks);
            }
            items.push(self.node(event, marks, depth + 1)?);
        };
        let span = self.cover(start, end, items.last().map(|item: &Node| item.span));
        Ok(Node { path: String::new(), span, kind: NodeKind::List(items) })
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys = BTreeSet::new();
        let end = loop {
            let (event, marks) = self.next()?;
            if event == Event::MappingEnd {
                break self.span(marks);
            }
            let Event::Scalar(key, ..) = event else {
                return Err(self.fault("a key must be plain text", marks));
            };
            let (event, value_marks) = self.next()?;
            let mut value = self.node(event, value_marks, depth + 1)?;
            let key_span = self.span(marks);
            if value.span.start == value.span.end {
                value.span = key_span;
            }
            let key = self.printable(key, marks);
            if keys.insert(key.clone()) {
                entries.push(Entry { key, key_span, value });
            } else {
                self.report(&format!("key `{key}` is given twice"), marks);
            }
        };
        let first = entries.first().map_or(start, |entry| Span { end: start.end, ..entry.key_span });
        let start = Span { start: start.start.min(first.start), ..start };
        let span = self.cover(start, end, entries.last().map(|entry| entry.value.span));
        Ok(Node { path: String::new(), span, kind: NodeKind::Map(entries) })
    }

    /// From the start to the closing bracket, or to the last child where there is none.
    fn cover(&self, start: Span, end: Span, last: Option<Span>) -> Span {
        let closed = self.text[end.start..].starts_with([']', '}']) && end.end > end.start;
        let end = if closed { end.end } else { last.map_or(start.end, |last| last.end) };
        Span { end: end.max(start.start), ..start }
    }

    fn span(&self, marks: Marks) -> Span {
        let at = |mark: Marker| self.offsets[mark.index().min(self.offsets.len() - 1)];
        let (start, end) = (at(marks.start), at(marks.end).max(at(marks.start)));
        let trimmed = self.text[start..end].trim_end().len();
        Span { source: self.source, start, end: start + trimmed }
    }

    fn empty_span(&self) -> Span {
        Span { source: self.source, start: 0, end: 0 }
    }

    fn fault(&self, message: &str, marks: Marks) -> Fault {
        Fault::new(Detail::Message(message.to_owned()), self.span(marks))
    }

    fn report(&mut self, message: &str, marks: Marks) {
        if self.faults.len() < FAULTS_MAX {
            let fault = self.fault(message, marks);
            self.faults.push(fault);
        }
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let hint = if error.info().contains("tab") { "" } else { self.tab_hint(error.marker().line()) };
        let message = format!("not valid YAML: {}{hint}", error.info());
        Fault::new(Detail::Message(message), self.span(Marks::empty(*error.marker())))
    }

    fn tab_hint(&self, line: usize) -> &'static str {
        let text = self.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
        let indent = &text[..text.len() - text.trim_start().len()];
        if indent.contains('\t') { "; indent with spaces, not tabs" } else { "" }
    }
}
