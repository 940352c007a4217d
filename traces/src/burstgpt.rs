//! `BurstGPT` (HPMLL/BurstGPT, CC-BY-4.0), versions 1 and 1.2: read by column name, because v1.2 inserts columns.
//!
//! Timestamps are seconds (`5`, or `19440110.0` in v1.2); excerpts count from their own start in `Relative timestamp`.
//! A row with 0 response tokens is a failed request; its prompt length is 0 as well, so it has no size to replay.
//! v1.2 adds the session of conversation requests and how long the whole answer took.

use overbook_sim::workload::arrival::ClassId;

use crate::error::TraceError;
use crate::keep::Keep;
use crate::outcome::{Decoded, Outcome};
use crate::quote::shorten;
use crate::table::Row;

/// Column of v1.2 with the session, empty for API requests.
pub(crate) const SESSION: &str = "Session ID";

/// Column of v1.2 with the time from submission to the last token, in whole seconds, cut off (0 is common).
pub(crate) const ELAPSED: &str = "Elapsed time";

/// Pairs of model and log type at most; the real files have four.
const PAIRS_MAX: usize = 4096;

/// Reads rows and numbers their classes in order of appearance.
#[derive(Debug)]
pub(crate) struct BurstGpt {
    time: usize,
    model: usize,
    prompt: usize,
    output: usize,
    log_type: usize,
    keep: Keep,
    pairs: Vec<Pair>,
    /// The pair of the row before: rows of a kind come in runs.
    recent: usize,
    classes: Vec<String>,
}

/// A model and log type seen in the file, as written there.
#[derive(Debug)]
struct Pair {
    model: Box<[u8]>,
    log_type: Box<[u8]>,
    /// `None` if the rows are filtered out.
    class: Option<ClassId>,
    name: String,
}

impl BurstGpt {
    /// The columns are those of `Format::BurstGpt`, in that order.
    pub(crate) fn new(columns: &[usize], keep: Keep) -> BurstGpt {
        let [time, model, prompt, output, log_type] = [0, 1, 2, 3, 4].map(|at| columns[at]);
        BurstGpt { time, model, prompt, output, log_type, keep, pairs: Vec::new(), recent: 0, classes: Vec::new() }
    }

    pub(crate) fn columns(&self) -> Vec<usize> {
        vec![self.time, self.model, self.prompt, self.output, self.log_type]
    }

    pub(crate) fn time_column(&self) -> usize {
        self.time
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Names of all pairs met so far, filtered or not.
    pub(crate) fn seen(&self) -> Vec<&str> {
        self.pairs.iter().map(|pair| pair.name.as_str()).collect()
    }

    pub(crate) fn decode(&mut self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        let at_ns = row.seconds(self.time)?;
        let (prompt_tokens, output_tokens) = (row.tokens(self.prompt)?, row.tokens(self.output)?);
        let outcome = match self.class(row)? {
            None => Outcome::Filtered,
            Some(class) => Outcome::of(prompt_tokens, output_tokens, class, 0),
        };
        Ok(Decoded { at_ns, outcome })
    }

    fn class(&mut self, row: &Row<'_>) -> Result<Option<ClassId>, TraceError> {
        let (model, log_type) = (row.field(self.model), row.field(self.log_type));
        let is_pair = |pair: &Pair| *pair.model == *model && *pair.log_type == *log_type;
        if let Some(pair) = self.pairs.get(self.recent)
            && is_pair(pair)
        {
            return Ok(pair.class);
        }
        self.recent = match self.pairs.iter().position(is_pair) {
            Some(known) => known,
            None => self.add_pair(row)?,
        };
        Ok(self.pairs[self.recent].class)
    }

    fn add_pair(&mut self, row: &Row<'_>) -> Result<usize, TraceError> {
        let (model, log_type) = (row.text(self.model)?, row.text(self.log_type)?);
        let name = format!("{}/{}", shorten(model.trim()), short(&log_type));
        if self.pairs.len() >= PAIRS_MAX {
            return Err(row.too_many_classes(self.model, PAIRS_MAX, name));
        }
        let keeps = self.keeps(model.trim(), log_type.trim()) && self.keep.keeps_class(&name);
        let class = keeps.then(|| self.class_named(&name));
        let (model, log_type) = (row.field(self.model).into(), row.field(self.log_type).into());
        self.pairs.push(Pair { model, log_type, class, name });
        Ok(self.pairs.len() - 1)
    }

    fn class_named(&mut self, name: &str) -> ClassId {
        let known = self.classes.iter().position(|class| class == name);
        let index = known.unwrap_or_else(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        });
        ClassId(index as u16)
    }

    fn keeps(&self, model: &str, log_type: &str) -> bool {
        let wanted = |names: &[String], matches: &dyn Fn(&str) -> bool| {
            names.is_empty() || names.iter().any(|name| matches(name.trim()))
        };
        wanted(&self.keep.model, &|name| name.eq_ignore_ascii_case(model))
            && wanted(&self.keep.log_type, &|name| short(name) == short(log_type))
    }
}

/// `Conversation log` to `conversation`.
fn short(log_type: &str) -> String {
    let lower = log_type.trim().to_ascii_lowercase();
    shorten(lower.strip_suffix(" log").unwrap_or(&lower))
}
