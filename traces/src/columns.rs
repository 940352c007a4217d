//! Any CSV, JSON lines or Parquet file, by a map from what a request has to the columns that hold it.

use overbook_sim::workload::arrival::ClassId;
use serde::{Deserialize, Serialize};

use crate::error::{Problem, TraceError};
use crate::header::Header;
use crate::keep::Keep;
use crate::number::{TOKENS_MAX, TimeUnit};
use crate::outcome::{Decoded, Outcome};
use crate::quote::shorten;
use crate::table::Row;

/// Which column holds what. Names are compared without regard to case; `usage.prompt_tokens` is a key of a nested JSON object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// When the request arrived; to be left out only where `arrivals` says when requests arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<String>,
    /// Prompt length [tokens].
    pub prompt: String,
    /// Output length [tokens]; a request with 0 of either has failed.
    pub output: String,
    /// Name of the request class; by default all requests are of class `trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Priority, a whole number, smaller is more urgent; by default, and where the cell is empty, 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Ids of the prompt's blocks, a list in which an id stands for a block and all before it (JSON lines).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_ids: Option<String>,
    /// Session of the request: whatever is equal belongs together, empty is no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Value of `session` in the turn before, if each turn has an id of its own there; empty or -1 in a first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Tokens that one of `hash_ids` stands for.
    #[serde(default = "mooncake_block", skip_serializing_if = "is_mooncake_block")]
    pub hash_tokens: u32,
    /// Unit of `arrival`.
    #[serde(default)]
    pub unit: TimeUnit,
    /// Where the requests are, if a file of JSON is no list of them: keys and positions with points between, `*` for all, as in
    /// `runs.*.requests`. The file is then in memory as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
}

fn mooncake_block() -> u32 {
    crate::mooncake::HASH_TOKENS
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_mooncake_block(tokens: &u32) -> bool {
    *tokens == crate::mooncake::HASH_TOKENS
}

impl Columns {
    /// The columns that a file must have; times in seconds.
    pub fn new(arrival: &str, prompt: &str, output: &str) -> Columns {
        Columns {
            arrival: Some(arrival.to_owned()),
            prompt: prompt.to_owned(),
            output: output.to_owned(),
            class: None,
            priority: None,
            hash_ids: None,
            session: None,
            parent: None,
            hash_tokens: mooncake_block(),
            unit: TimeUnit::S,
            records: None,
        }
    }

    /// Those of Qwen-Bailian's traces (alibaba-edu/qwen-bailian-usagetraces-anon): JSON lines in seconds, blocks of 16
    /// tokens, each turn with an id and that of the turn before.
    pub(crate) fn bailian(has_ids: bool) -> Columns {
        Columns {
            class: Some("type".to_owned()),
            session: Some("chat_id".to_owned()),
            parent: Some("parent_chat_id".to_owned()),
            hash_ids: has_ids.then(|| crate::mooncake::HASH_IDS.to_owned()),
            hash_tokens: 16,
            ..Columns::new("timestamp", "input_length", "output_length")
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let needed = [("prompt", &self.prompt), ("output", &self.output)];
        let optional = [
            ("class", &self.class),
            ("priority", &self.priority),
            ("hash_ids", &self.hash_ids),
            ("session", &self.session),
            ("parent", &self.parent),
        ];
        let needed = needed.into_iter().map(|(key, name)| (key, name.as_str()));
        let arrival = self.arrival.as_deref().map(|name| ("arrival", name));
        arrival
            .into_iter()
            .chain(needed)
            .chain(optional.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?))))
    }

    pub(crate) fn problems(&self) -> Vec<Problem> {
        let empty = self.named().filter(|(_, name)| name.trim().is_empty());
        let mut problems: Vec<Problem> =
            empty.map(|(key, _)| (format!("columns.{key}"), "is empty; name a column".to_owned())).collect();
        let needed: Vec<_> = self.named().take(2 + usize::from(self.arrival.is_some())).collect();
        for (at, (key, name)) in needed.iter().enumerate() {
            if let Some((first, _)) =
                needed[..at].iter().find(|(_, other)| other.trim().eq_ignore_ascii_case(name.trim()))
            {
                let told = format!("names `{}`, which is `columns.{first}` already", shorten(name));
                problems.push((format!("columns.{key}"), told));
            }
        }
        if self.parent.is_some() && self.session.is_none() {
            problems
                .push(("columns.parent".to_owned(), "names the turn before and needs `columns.session`".to_owned()));
        }
        if !(1..=TOKENS_MAX).contains(&self.hash_tokens) {
            problems.push(("columns.hash_tokens".to_owned(), format!("must be between 1 and {TOKENS_MAX} tokens")));
        }
        problems
    }
}

/// Classes at most.
const CLASSES_MAX: usize = 4096;

/// Positions of columns that are not the decoder's.
pub(crate) struct Found {
    pub(crate) hash_ids: Option<usize>,
    pub(crate) session: Option<usize>,
    pub(crate) parent: Option<usize>,
}

/// Reads rows and numbers their classes in order of appearance.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// `None` if the rows have no times.
    time: Option<usize>,
    unit: TimeUnit,
    prompt: usize,
    output: usize,
    /// Where the lengths of prompt and output are in rows that do not have them there.
    instead: [Option<usize>; 2],
    class: Option<usize>,
    priority: Option<usize>,
    keep: Keep,
    /// The column that says which rows are requests, its value, and whether that is to be there.
    wanted: Option<(usize, &'static str, bool)>,
    /// Whether a request without lengths has failed; else its row is broken.
    fails: bool,
    /// Class fields as stored in the file, and their names; `None` if the rows are filtered out.
    seen: Vec<(Box<[u8]>, String, Option<ClassId>)>,
    recent: usize,
    classes: Vec<String>,
}

impl Mapped {
    /// The decoder, and where the other columns are.
    pub(crate) fn new(
        columns: &Columns,
        header: &Header,
        keep: &Keep,
        path: &std::path::Path,
    ) -> Result<(Mapped, Found), TraceError> {
        let missing = columns.named().filter(|(_, name)| header.position(name).is_none());
        let missing: Vec<String> =
            missing.map(|(key, name)| format!("`{}` (`columns.{key}`)", shorten(name))).collect();
        let lacks = |missing| TraceError::NoColumn { path: path.to_owned(), missing, found: header.text() };
        let find = |name: &str| header.position(name);
        let maybe = |name: &Option<String>| name.as_deref().and_then(find);
        let (time, needed) = (maybe(&columns.arrival), [&columns.prompt, &columns.output].map(|name| find(name)));
        let [Some(prompt), Some(output)] = needed else { return Err(lacks(missing)) };
        if !missing.is_empty() {
            return Err(lacks(missing));
        }
        let mapped = Mapped {
            time,
            unit: columns.unit,
            prompt,
            output,
            instead: [None; 2],
            class: maybe(&columns.class),
            priority: maybe(&columns.priority),
            keep: keep.clone(),
            wanted: None,
            fails: false,
            seen: Vec::new(),
            recent: 0,
            classes: if columns.class.is_some() { Vec::new() } else { vec!["trace".to_owned()] },
        };
        let found = Found {
            hash_ids: maybe(&columns.hash_ids),
            session: maybe(&columns.session),
            parent: maybe(&columns.parent),
        };
        Ok((mapped, found))
    }

    /// As another program writes its requests: a row is one if a column has a value, or has it not, and one without lengths has
    /// failed.
    pub(crate) fn of_program(self, wanted: Option<(usize, &'static str, bool)>, instead: [Option<usize>; 2]) -> Mapped {
        Mapped { wanted, instead, fails: true, ..self }
    }

    /// Which rows are no requests, in words.
    pub(crate) fn no_request(&self, header: &Header) -> Option<String> {
        let (column, value, there) = self.wanted?;
        let is = if there { "is not" } else { "is" };
        Some(format!("`{}` {is} `{value}`", header.names()[column]))
    }

    /// The same rows, whose times do not count.
    pub(crate) fn untimed(self) -> Mapped {
        Mapped { time: None, ..self }
    }

    pub(crate) fn columns(&self) -> Vec<usize> {
        let optional = self.time.into_iter().chain(self.class).chain(self.priority);
        let of_program = self.wanted.map(|(column, ..)| column).into_iter().chain(self.instead.into_iter().flatten());
        optional.chain(of_program).chain([self.prompt, self.output]).collect()
    }

    pub(crate) fn unit(&self) -> TimeUnit {
        self.unit
    }

    pub(crate) fn time_column(&self) -> Option<usize> {
        self.time
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// All classes met so far, filtered or not.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.iter().map(|(_, name, _)| name.clone()).collect()
    }

    pub(crate) fn decode(&mut self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        if let Some((column, value, there)) = self.wanted
            && row.word(column).trim_ascii().eq_ignore_ascii_case(value.as_bytes()) != there
        {
            // It may have no time either.
            return Ok(Decoded { at_ns: 0, outcome: Outcome::NoRequest });
        }
        let at_ns = self.time.map_or(Ok(0), |time| row.time(time, self.unit))?;
        let tokens = |column: usize, instead: Option<usize>| {
            let column = instead.filter(|_| row.is_empty(column)).unwrap_or(column);
            if self.fails && row.is_empty(column) { Ok(0) } else { row.tokens(column) }
        };
        let [of_prompt, of_output] = self.instead;
        let (prompt_tokens, output_tokens) = (tokens(self.prompt, of_prompt)?, tokens(self.output, of_output)?);
        let priority = self.priority.map_or(Ok(0), |column| priority(row, column))?;
        let outcome = match self.class_of(row)? {
            None => Outcome::Filtered,
            Some(class) => Outcome::of(prompt_tokens, output_tokens, class, priority),
        };
        Ok(Decoded { at_ns, outcome })
    }

    fn class_of(&mut self, row: &Row<'_>) -> Result<Option<ClassId>, TraceError> {
        let Some(column) = self.class else { return Ok(Some(ClassId(0))) };
        let field = row.field(column);
        if let Some((known, _, class)) = self.seen.get(self.recent)
            && **known == *field
        {
            return Ok(*class);
        }
        self.recent = match self.seen.iter().position(|(known, ..)| **known == *field) {
            Some(known) => known,
            None => self.add(row, column)?,
        };
        Ok(self.seen[self.recent].2)
    }

    fn add(&mut self, row: &Row<'_>, column: usize) -> Result<usize, TraceError> {
        let text = row.text(column)?;
        let text = text.trim();
        let name = if text.is_empty() { "(none)".to_owned() } else { shorten(text) };
        if self.seen.len() >= CLASSES_MAX {
            return Err(row.too_many_classes(column, CLASSES_MAX, name));
        }
        let class = self.keep.keeps_class(&name).then(|| {
            let known = self.classes.iter().position(|class| *class == name);
            ClassId(known.unwrap_or_else(|| {
                self.classes.push(name.clone());
                self.classes.len() - 1
            }) as u16)
        });
        self.seen.push((row.field(column).into(), name, class));
        Ok(self.seen.len() - 1)
    }
}

fn priority(row: &Row<'_>, column: usize) -> Result<i32, TraceError> {
    let text = row.text(column)?;
    if row.is_empty(column) {
        return Ok(0);
    }
    text.trim().parse().map_err(|_| {
        row.bad(column, "a priority, a whole number of 32 bits", "the fields may be shifted against the header")
    })
}
