//! A session as a graph: its requests, what each waits for, and the blocks of its prompts.

mod ids;

use std::collections::HashMap;

use overbook_sim::workload::arrival::{ClassId, Content, SessionId};

use super::line::{Entry, Line, Place};
use crate::error::TraceError;
use crate::session::hash;

/// Consecutive ids: the first, and how many.
type Run = (u64, u64);

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// When it was sent, since the session's first one.
    pub(super) at_ns: u64,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) class: ClassId,
    /// How long the recorded service took for the answer.
    pub(super) took_ns: Option<u64>,
    /// Requests whose ends it waits for.
    pub(super) waits_for: u32,
    /// Its runs of ids, in [`Session::runs`].
    runs: (u32, u32),
    /// What waits for it, in [`Session::edges`].
    edges: (u32, u32),
}

impl Request {
    /// It came to nothing: it has no lengths.
    pub(super) fn failed(&self) -> bool {
        self.prompt_tokens == 0 || self.output_tokens == 0
    }

    /// When it ended by the record; without a recorded end, when it was sent.
    fn end_ns(&self) -> u64 {
        self.at_ns.saturating_add(self.took_ns.unwrap_or(0))
    }
}

/// A request that waits for another one, and for how long after its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) to: u32,
    pub(super) pause_ns: u64,
}

/// A session of the file.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Tokens that an id stands for.
    pub(super) block_size: u32,
    pub(super) requests: Vec<Request>,
    /// Requests that were cut off with what follows on them: their prompts, or earlier ones, are too long.
    pub(super) cut_off: u64,
    runs: Vec<Run>,
    edges: Vec<Edge>,
}

impl Session {
    /// The requests that wait for this one.
    pub(super) fn followers(&self, request: usize) -> &[Edge] {
        let (from, to) = self.requests[request].edges;
        &self.edges[from as usize..to as usize]
    }

    /// When its last request ended by the record, since its first one was sent.
    pub(super) fn end_ns(&self) -> u64 {
        self.requests.iter().map(Request::end_ns).max().unwrap_or(0)
    }

    /// What a prompt consists of, in full blocks of the engine; ids count from `base`. What is behind the last full block of the file
    /// has no known content: its ids are its own.
    pub(super) fn content(&self, turn: u32, block_tokens: u32, base: u64) -> Content {
        let request = &self.requests[turn as usize];
        let parts = u64::from(self.block_size / block_tokens);
        let full = u64::from(request.prompt_tokens / block_tokens);
        let runs = &self.runs[request.runs.0 as usize..request.runs.1 as usize];
        let mut ids = Vec::with_capacity(full as usize);
        for &(first, count) in runs {
            let here = (count * parts).min(full - ids.len() as u64);
            let first = base + first * parts;
            ids.extend(first..first + here);
        }
        let rest = full - ids.len() as u64;
        let first = base + NAMED_IDS + u64::from(turn) * parts;
        ids.extend(first..first + rest);
        Content { block_tokens, ids: ids.into_boxed_slice() }
    }
}

/// What is left out of a session, and how its pauses are changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// A list ends before a longer prompt.
    pub(super) prompt_tokens: u32,
    /// Longer outputs are cut to this.
    pub(super) output_tokens: u32,
    /// Longer pauses are cut to this.
    pub(super) pause_ns: u64,
}

/// Ids of blocks of the engine that a session has for itself: the lower half for what the file names, the upper one for what it does not.
pub(super) const SESSION_IDS: u64 = 1 << 32;
const NAMED_IDS: u64 = SESSION_IDS / 2;

/// Models that a file can name.
const CLASSES_MAX: usize = 4096;

/// Builds sessions, and remembers the models of all of them.
#[derive(Debug)]
pub(super) struct Builder {
    cut: Cut,
    /// Tokens of the engine's blocks.
    block_tokens: u32,
    pub(super) classes: Vec<String>,
}

impl Builder {
    pub(super) fn new(cut: Cut, block_tokens: u32) -> Builder {
        Builder { cut, block_tokens, classes: Vec::new() }
    }

    /// The session of a line.
    pub(super) fn build(&mut self, text: &[u8], place: Place<'_>) -> Result<Session, TraceError> {
        let Line { id, block_size, hash_id_scope, requests } = place.parse(text)?;
        match hash_id_scope.as_deref() {
            Some("local") => {}
            Some(scope) => {
                let help = "whether equal ids of two sessions are equal text is not defined for other scopes; if every session has ids of its own, say `local`";
                return Err(place.bad(
                    "",
                    "hash_id_scope",
                    &scope,
                    "`local`: ids mean something only within their session",
                    help,
                ));
            }
            None => {
                let help = "the file does not say whether equal ids of two sessions are equal text; if every session has ids of its own, say `local`";
                return Err(place.bad(
                    "",
                    "hash_id_scope",
                    &"nothing",
                    "`local`: ids mean something only within their session",
                    help,
                ));
            }
        }
        if block_size == 0 || !block_size.is_multiple_of(self.block_tokens) {
            let help = "set `engine.block_tokens` to this number, or to one that divides it";
            return Err(place.bad("", "block_size", &block_size, "a multiple of the engine's block size", help));
        }
        let session = Session {
            id: SessionId::new(hash(id.as_bytes())),
            block_size,
            requests: Vec::with_capacity(requests.len()),
            cut_off: 0,
            runs: Vec::new(),
            edges: Vec::new(),
        };
        let mut draft = Draft { builder: self, place, session, waits: Vec::new(), before: HashMap::new() };
        draft.list(&requests, "requests", Origin { at_ns: 0, after: None })?;
        Ok(draft.finish())
    }

    fn class(&mut self, model: &str, place: Place<'_>, path: &str) -> Result<ClassId, TraceError> {
        let known = self.classes.iter().position(|class| class == model);
        let at = known.unwrap_or(self.classes.len());
        if at == CLASSES_MAX {
            let (file, column) = (place.path.to_owned(), format!("{path}.model"));
            let (limit, found) = (CLASSES_MAX, crate::quote::shorten(model));
            return Err(TraceError::TooManyClasses { path: file, line: place.line, column, limit, found });
        }
        if known.is_none() {
            self.classes.push(model.to_owned());
        }
        Ok(ClassId(at as u16))
    }
}

/// Where a list of requests begins: its time zero, and the request after whose end it is sent.
#[derive(Clone, Copy)]
struct Origin {
    at_ns: u64,
    after: Option<u32>,
}

/// A sub-agent that its parent may have waited for.
struct SubAgent {
    /// Its last request.
    last: u32,
    started_ns: u64,
}

/// A session that is being built.
struct Draft<'b, 'p> {
    builder: &'b mut Builder,
    place: Place<'p>,
    session: Session,
    /// (what is waited for, what waits, pause), as found.
    waits: Vec<(u32, u32, u64)>,
    /// The id before each id: an id stands for all blocks before it too.
    before: HashMap<u64, u64>,
}

impl Draft<'_, '_> {
    /// Adds the requests of a list, and those of its sub-agents. Gives the last one.
    fn list(&mut self, entries: &[Entry<'_>], path: &str, origin: Origin) -> Result<Option<u32>, TraceError> {
        // The requests of this list so far, with times; sub-agents since the last one; its ids.
        let (mut own, mut beside, mut ids): (Vec<u32>, Vec<SubAgent>, Vec<Run>) = (Vec::new(), Vec::new(), Vec::new());
        let mut latest_ns = 0;
        for (at, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let t_ns = self.place.seconds(&path, "t", entry.t)?;
            if t_ns < latest_ns {
                let help = "the entries of a list are in the order of time; a sub-agent stands where it ended";
                return Err(self.place.bad(&path, "t", &entry.t.get(), "at least the `t` of the entry before", help));
            }
            latest_ns = t_ns;
            let at_ns = origin.at_ns.checked_add(t_ns).ok_or_else(|| self.too_late())?;
            match &*entry.kind {
                "n" | "s" => {
                    let prompt = self.place.tokens(&path, "in", entry.prompt)?;
                    if prompt > self.builder.cut.prompt_tokens {
                        self.session.cut_off += entries[at..].iter().map(Entry::requests).sum::<u64>();
                        break;
                    }
                    let request = self.request(entry, &path, (at_ns, prompt), &mut ids)?;
                    self.connect(entry, &path, request, (&own, &beside), origin)?;
                    own.push(request);
                    beside.clear();
                }
                "subagent" => beside.extend(self.sub_agent(entry, &path, at_ns, &own, origin)?),
                other => {
                    let help = "requests are of type `n` or `s`, sub-agents of type `subagent`";
                    return Err(self.place.bad(&path, "type", &other, "`n`, `s` or `subagent`", help));
                }
            }
        }
        Ok(own.last().copied().or_else(|| beside.last().map(|agent| agent.last)))
    }

    /// Adds a request; `ids` become those of its prompt.
    fn request(
        &mut self,
        entry: &Entry<'_>,
        path: &str,
        (at_ns, prompt): (u64, u32),
        ids: &mut Vec<Run>,
    ) -> Result<u32, TraceError> {
        let output = self.place.tokens(path, "out", entry.output)?;
        let Some(model) = &entry.model else {
            return Err(self.place.bad(
                path,
                "model",
                &"nothing",
                "the name of a model",
                "check how the file was made",
            ));
        };
        let class = self.builder.class(model, self.place, path)?;
        let took_ns = entry.api_time.map(|time| self.place.seconds(path, "api_time", time)).transpose()?;
        self.ids(entry, path, prompt, ids)?;
        let first_run = self.session.runs.len() as u32;
        self.session.runs.extend_from_slice(ids);
        self.session.requests.push(Request {
            at_ns,
            prompt_tokens: prompt,
            output_tokens: output.min(self.builder.cut.output_tokens),
            class,
            took_ns,
            waits_for: 0,
            runs: (first_run, self.session.runs.len() as u32),
            edges: (0, 0),
        });
        Ok(self.session.requests.len() as u32 - 1)
    }

    /// Says what a request waits for.
    fn connect(
        &mut self,
        entry: &Entry<'_>,
        path: &str,
        request: u32,
        (own, beside): (&[u32], &[SubAgent]),
        origin: Origin,
    ) -> Result<(), TraceError> {
        let at_ns = self.session.requests[request as usize].at_ns;
        let think = entry.think_time.map(|time| self.place.seconds(path, "think_time", time)).transpose()?;
        let Some(&last) = own.last() else {
            if let Some(parent) = origin.after {
                let ended = self.session.requests[parent as usize].end_ns();
                self.wait(parent, request, at_ns.saturating_sub(ended));
            }
            return Ok(());
        };
        let before = &self.session.requests[last as usize];
        // A sub-agent that began before the last request of its parent did not keep it from sending that.
        let awaited: Vec<u32> =
            beside.iter().filter(|agent| agent.started_ns >= before.at_ns).map(|agent| agent.last).collect();
        if awaited.is_empty() {
            let gap = at_ns - before.at_ns;
            let pause = if before.took_ns.is_some() {
                think.unwrap_or_else(|| at_ns.saturating_sub(before.end_ns()))
            } else {
                think.unwrap_or(gap).min(gap)
            };
            self.wait(last, request, pause);
            return Ok(());
        }
        let ended = awaited.iter().map(|&agent| self.session.requests[agent as usize].end_ns()).max().unwrap_or(0);
        for agent in awaited {
            self.wait(agent, request, at_ns.saturating_sub(ended));
        }
        Ok(())
    }

    fn wait(&mut self, on: u32, request: u32, pause_ns: u64) {
        self.session.requests[request as usize].waits_for += 1;
        self.waits.push((on, request, pause_ns.min(self.builder.cut.pause_ns)));
    }

    /// Adds the requests of a sub-agent that ended at `end_ns`.
    fn sub_agent(
        &mut self,
        entry: &Entry<'_>,
        path: &str,
        end_ns: u64,
        own: &[u32],
        origin: Origin,
    ) -> Result<Option<SubAgent>, TraceError> {
        let Some(requests) = &entry.requests else {
            return Err(self.place.bad(
                path,
                "requests",
                &"nothing",
                "the requests of the sub-agent",
                "check how the file was made",
            ));
        };
        let took = entry.duration_ms;
        let took_ns = took.map(|took| self.place.milliseconds(path, "duration_ms", took)).transpose()?.unwrap_or(0);
        let started_ns = end_ns.saturating_sub(took_ns).max(origin.at_ns);
        if let (Some(took), Some(last)) = (took, requests.last()) {
            let last_ns = self.place.seconds(path, "requests[].t", last.t)?;
            // Times are rounded to seconds.
            if last_ns > took_ns.saturating_add(1_000_000_000) {
                let help = "the times of a sub-agent's requests count from its start; times since the start of the session are another form of these files";
                let found = format!("{} s in {} ms", last.t.get(), took.get());
                return Err(self.place.bad(path, "requests[].t", &found, "times within `duration_ms`", help));
            }
        }
        // The last request of the parent that was sent by then.
        let sent = own.partition_point(|&request| self.session.requests[request as usize].at_ns <= started_ns);
        let after = sent.checked_sub(1).map(|at| own[at]).or(origin.after);
        let last = self.list(requests, &format!("{path}.requests"), Origin { at_ns: started_ns, after })?;
        Ok(last.map(|last| SubAgent { last, started_ns }))
    }

    #[cold]
    fn too_late(&self) -> TraceError {
        TraceError::TooLate { path: self.place.path.to_owned(), line: self.place.line }
    }

    /// Counts times from the first request, and sorts what waits by what it waits for.
    fn finish(self) -> Session {
        let Draft { mut session, mut waits, .. } = self;
        let first_ns = session.requests.iter().map(|request| request.at_ns).min().unwrap_or(0);
        session.requests.iter_mut().for_each(|request| request.at_ns -= first_ns);
        waits.sort_by_key(|&(on, ..)| on);
        let mut waits = waits.into_iter().peekable();
        for (at, request) in (0..).zip(&mut session.requests) {
            let from = session.edges.len() as u32;
            while let Some((_, to, pause_ns)) = waits.next_if(|&(on, ..)| on == at) {
                session.edges.push(Edge { to, pause_ns });
            }
            request.edges = (from, session.edges.len() as u32);
        }
        session
    }
}
