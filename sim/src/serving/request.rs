//! The state of one active request inside a replica.

use crate::kv::{KvHolding, User};
use crate::time::Time;
use crate::workload::arrival::{Arrival, ClassId, Content, SessionId};

/// Where a request stands. Legal transitions (law 4):
///
/// ```text
/// Waiting ─admit─► Prefill ─last chunk─► Decode ─last token planned─► Draining ─► ended
///    ▲  └────────────admit whole───────────▲ │                           │
///    └───────────────preempt────────────────┴───────────────────────────┘        (every phase may end)
/// ```
///
/// Where KV of a waiting request comes up from a tier below: `Waiting ─► Loading ─► Waiting`.
///
/// On a lane that only prefills, the way from the last chunk to the standing set of another lane is longer:
///
/// ```text
/// Prefill ─last chunk─► Prefilled ─token delivered─► Ready ─taken over─► Decode
///                                                    Ready ─sent to another replica─► Arriving ─► Ready
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// In the waiting queue, new or preempted.
    Waiting,
    /// Its KV, or the beginning of it, comes up from a tier below; it waits again when that is there.
    Loading,
    /// Running, prompt (or recomputed) tokens left to plan.
    Prefill,
    /// Running on a lane that only prefills: nothing left to plan there, its token is in flight.
    Prefilled,
    /// Holds the KV of its prompt and waits for a lane that decodes.
    Ready,
    /// Its KV is on its way here from another replica.
    Arriving,
    /// Running, member of the lane's standing decode set.
    Decode,
    /// Running, but its last token is certainly in flight: nothing left to plan.
    Draining,
    /// The seat is vacant.
    Vacant,
}

/// An active request. Token counts come in two frontiers: *planned* (the scheduler's) and *delivered* (the outputs
/// processed so far); they differ by the steps in flight.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) arrival: Time,
    /// Orders ties of priority; the arrival time, unless a driver sets another key.
    pub(crate) arrival_key: u64,
    /// When its client gives up unless it has finished.
    pub(crate) deadline: Time,
    pub(crate) start: Time,
    pub(crate) first_token: Time,
    /// Last delivered token, kept only while the request is not in the standing set, or misses steps of it.
    pub(crate) last_token: Time,
    /// Identity of full blocks.
    pub(crate) content: Option<Box<Content>>,
    /// Its KV as planned; for a member: at the time it joined.
    pub(crate) kv: KvHolding,
    /// Standing clock at which the member joined; see [`crate::serving::lane::Lane`].
    pub(crate) joined: u64,
    /// Standing clock (delivered) at which the `generated` tokens are all delivered.
    pub(crate) settled: u64,
    pub(crate) recomputed: u64,
    /// Longest gap between two tokens that spanned other steps than its own [ns]; the others are the lane's.
    pub(crate) longest_gap: u64,
    /// Since when its gaps are the steps of its lane: its first token, or the moment at which another lane took it over.
    pub(crate) gaps_from: Time,
    pub(crate) session: Option<SessionId>,
    pub(crate) generation: u32,
    /// Position key in the running list, ascending with admission.
    pub(crate) seq: u32,
    pub(crate) prompt: u32,
    /// True output length: never shown to a policy (law 9).
    pub(crate) output: u32,
    /// Output limit that policies may see.
    pub(crate) limit: u32,
    /// Delivered output tokens; for a member: at the time it joined, tokens in flight then included.
    pub(crate) generated: u32,
    /// Tokens this prefill must compute before decoding (prompt, plus outputs after a preemption).
    pub(crate) target: u32,
    pub(crate) cached: u32,
    /// Tokens whose KV the last preemption dropped, or moved to a tier below.
    pub(crate) lost: u32,
    pub(crate) preemptions: u32,
    pub(crate) priority: i32,
    pub(crate) class: ClassId,
    pub(crate) phase: Phase,
    /// Lane that ran it last.
    pub(crate) lane: u8,
    /// Whether the first step plan it was part of has been recorded in `start`.
    pub(crate) started: bool,
    /// Whether KV has been loaded for it since it waits.
    pub(crate) loaded: bool,
    /// Whether its first token has been delivered.
    pub(crate) has_first: bool,
    /// Whether the client has gone; the request ends at the next step boundary.
    pub(crate) doomed: bool,
    /// Whether it is known to end at its limit.
    pub(crate) ignores_eos: bool,
}

impl Request {
    pub(crate) fn new(id: u64, arrival: Arrival, limit: u32) -> Self {
        Request {
            id,
            arrival: arrival.at,
            arrival_key: arrival.at.0,
            deadline: arrival.deadline.map_or(Time::MAX, |span| arrival.at + span),
            start: Time::ZERO,
            first_token: Time::ZERO,
            last_token: Time::ZERO,
            content: arrival.content,
            kv: KvHolding::default(),
            joined: 0,
            settled: 0,
            recomputed: 0,
            longest_gap: 0,
            gaps_from: Time::ZERO,
            session: arrival.session,
            generation: 0,
            seq: 0,
            prompt: arrival.prompt_tokens,
            output: arrival.output_tokens.min(limit),
            limit,
            generated: 0,
            target: arrival.prompt_tokens,
            cached: 0,
            lost: 0,
            preemptions: 0,
            priority: arrival.priority,
            class: arrival.class,
            phase: Phase::Waiting,
            lane: 0,
            started: false,
            loaded: false,
            has_first: false,
            doomed: false,
            ignores_eos: arrival.ignore_eos,
        }
    }

    /// Who it is, for policies that look at users of blocks.
    pub(crate) fn user(&self) -> User {
        let asked = self.contents(self.target.saturating_sub(1)).len() as u32;
        // Another number at every admission.
        let admission = (self.id << 8) | u64::from(self.preemptions & 0xff);
        User { admission, class: self.class, session: self.session, priority: self.priority, asked }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Whether it is, or was until its last token was planned, in the standing set.
    pub(crate) fn is_decoding(&self) -> bool {
        matches!(self.phase, Phase::Decode | Phase::Draining)
    }

    /// Whether the end comes by the visible limit (known when planned) and not by an end-of-sequence token.
    pub(crate) fn ends_by_length(&self) -> bool {
        self.output == self.limit
    }

    /// Contents of the full blocks among the first `tokens` tokens, as far as they are known.
    pub(crate) fn contents(&self, tokens: u32) -> &[u64] {
        known(self.content.as_deref(), tokens)
    }
}

/// Contents of the full blocks among the first `tokens` tokens, as far as they are known.
pub(crate) fn known(content: Option<&Content>, tokens: u32) -> &[u64] {
    content.map_or(&[], |content| {
        let full = (tokens / content.block_tokens) as usize;
        &content.ids[..full.min(content.ids.len())]
    })
}

const _: () = assert!(size_of::<Request>() <= 224, "a waiting request must stay small");
