//! What the requests of a trace say about sessions.

use std::collections::BTreeMap;

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId};

/// A turn after the first of its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowUp {
    /// Time since the turn before.
    pub(crate) gap: Span,
    /// Output of the turn before [tokens].
    pub(crate) output: u32,
    /// How long its answer took, if the trace says so.
    pub(crate) e2el: Option<Span>,
    /// Prompt tokens beyond prompt and output of the turn before; at least 1, as where the context was cut.
    pub(crate) added: u32,
}

/// The last turn of a session so far.
struct Last {
    turns: u32,
    at: Time,
    prompt: u32,
    output: u32,
    e2el: Option<Span>,
}

/// The turns of all sessions. A request without a session is a session of one turn.
#[derive(Default)]
pub(crate) struct SessionTurns {
    sessions: BTreeMap<SessionId, Last>,
    alone: usize,
    pub(crate) follow_ups: Vec<FollowUp>,
    /// Recorded times to answer, by output length.
    pub(crate) answers: Vec<(u32, Span)>,
    pub(crate) longest_prompt: u32,
}

impl SessionTurns {
    /// Takes the next request. Returns whether it starts a session.
    pub(crate) fn record(&mut self, arrival: &Arrival) -> bool {
        let (at, prompt, output, e2el) =
            (arrival.at, arrival.prompt_tokens, arrival.output_tokens, arrival.recorded_e2el);
        self.longest_prompt = self.longest_prompt.max(prompt);
        let Some(session) = arrival.session else {
            self.alone += 1;
            return true;
        };
        self.answers.extend(e2el.map(|e2el| (output, e2el)));
        let Some(last) = self.sessions.get_mut(&session) else {
            self.sessions.insert(session, Last { turns: 1, at, prompt, output, e2el });
            return true;
        };
        let said = last.prompt.saturating_add(last.output);
        let added = prompt.saturating_sub(said).max(1);
        self.follow_ups.push(FollowUp { gap: at.since(last.at), output: last.output, e2el: last.e2el, added });
        *last = Last { turns: last.turns + 1, at, prompt, output, e2el };
        false
    }

    /// Turns of every session.
    pub(crate) fn turns(&self) -> impl Iterator<Item = u32> + '_ {
        self.sessions.values().map(|last| last.turns).chain(std::iter::repeat_n(1, self.alone))
    }
}
