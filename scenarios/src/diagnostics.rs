//! Problems with a scenario, printed in the form of cargo's.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::yaml::{Fault, SourceId, Span};

/// Further problems are not printed.
const PROBLEMS_MAX: usize = 200;

/// The texts that spans point into: the scenario file first, then one per `--set`.
#[derive(Clone, Default, Debug)]
pub struct Sources(Vec<Text>);

#[derive(Clone, Debug)]
struct Text {
    name: String,
    text: String,
}

impl Sources {
    /// Adds a text under the name that users know it by.
    pub fn add(&mut self, name: &str, text: &str) -> SourceId {
        self.0.push(Text { name: name.to_owned(), text: text.to_owned() });
        SourceId(self.0.len() as u32 - 1)
    }

    /// The name of a text.
    pub fn name(&self, id: SourceId) -> &str {
        self.0.get(id.0 as usize).map_or("", |source| &source.name)
    }

    /// BLAKE3 of all texts, in hex; their names do not count.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for Text { text, .. } in &self.0 {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn text(&self, id: SourceId) -> &str {
        self.0.get(id.0 as usize).map_or("", |source| &source.text)
    }

    /// The characters of a span.
    pub fn slice(&self, span: Span) -> &str {
        self.text(span.source).get(span.start..span.end).unwrap_or("")
    }

    /// Line and column of a byte, both from 1; columns count characters.
    fn position(&self, span: Span) -> (usize, usize) {
        let before = self.text(span.source).get(..span.start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The part of a span on its first line; at least one character where there is one.
    fn visible(&self, span: Span) -> std::ops::Range<usize> {
        let text = self.text(span.source);
        let start = span.start.min(text.len());
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |end| start + end);
        let one = text[start..line_end].chars().next().map_or(0, char::len_utf8);
        start..span.end.clamp(start + one, line_end.max(start + one))
    }
}

/// One problem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The file, or `--set`.
    pub file: String,
    /// Dotted path of what it is about; empty for the document as a whole.
    pub path: String,
    /// Line, from 1; 0 if the problem has no place.
    pub line: usize,
    /// Column in characters, from 1; 0 if the problem has no place.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub help: Option<String>,
    /// Where it stands.
    pub span: Option<Span>,
}

/// Everything that is wrong with a scenario, in the order of the text.
#[derive(Clone, Debug)]
pub struct Problems {
    sources: Sources,
    list: Vec<Diagnostic>,
}

impl Problems {
    /// No problems yet.
    pub fn new(sources: Sources) -> Problems {
        Problems { sources, list: Vec::new() }
    }

    /// A single problem that no text holds (a file that cannot be read).
    pub fn unplaced(file: &str, message: String) -> Problems {
        let diagnostic = Diagnostic {
            file: file.to_owned(),
            path: String::new(),
            line: 0,
            column: 0,
            message,
            help: None,
            span: None,
        };
        Problems { sources: Sources::default(), list: vec![diagnostic] }
    }

    /// Adds a problem at a place, once, while there are fewer than 200.
    pub fn add(&mut self, path: &str, span: Span, message: impl Into<String>, help: Option<String>) {
        if self.list.len() >= PROBLEMS_MAX {
            return;
        }
        let (line, column) = self.sources.position(span);
        let diagnostic = Diagnostic {
            file: self.sources.name(span.source).to_owned(),
            path: path.to_owned(),
            line,
            column,
            message: message.into(),
            help,
            span: Some(span),
        };
        let order = |d: &Diagnostic| (d.span.map(|span| span.source), d.line, d.column);
        if !self.list.contains(&diagnostic) {
            let at = self.list.partition_point(|other| order(other) <= order(&diagnostic));
            self.list.insert(at, diagnostic);
        }
    }

    /// Adds the faults of a document.
    pub fn extend(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            self.add(&fault.path, fault.span, fault.detail.to_string(), fault.detail.help());
        }
    }

    /// The problems, in the order of the text.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems in cargo's form, with a blank line between two; `color` adds ANSI escapes.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let reports: Vec<String> = self.list.iter().map(|diagnostic| self.report(&renderer, diagnostic)).collect();
        reports.join("\n\n")
    }

    fn report(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        // Messages go on from the key that a snippet shows; what a flag has set stands in no text.
        let goes_on = ["is ", "has ", "names ", "must ", "stands ", "says "]
            .iter()
            .any(|verb| diagnostic.message.starts_with(verb));
        let subject = match diagnostic.span {
            None if goes_on && !diagnostic.path.is_empty() => format!("`{}` ", diagnostic.path),
            _ => String::new(),
        };
        let message = format!("{subject}{}", diagnostic.message);
        let title = Level::ERROR.primary_title(&message);
        let mut group = match diagnostic.span {
            Some(span) => {
                let mark = AnnotationKind::Primary.span(self.sources.visible(span));
                let text = self.sources.text(span.source);
                title.element(Snippet::source(text).path(&diagnostic.file).annotation(mark))
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
