//! What schedulers in Python see of requests and replicas.

use overbook_sim::serving::QueueOrder;
use overbook_sim::serving::replica::{self, LaneWork, Lanes};
use overbook_sim::serving::request::Phase;
use overbook_sim::serving::step::{self, RequestView};
use overbook_sim::time::Time;
use pyo3::prelude::*;

/// Which replica a policy is made for.
#[pyclass(frozen, get_all, module = "overbook")]
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Seed of the scenario: a policy that draws should draw from a generator seeded with it and `replica`.
    seed: u64,
    /// Number of the replica in the fleet, from 0.
    replica: u32,
    /// KV blocks of the replica; 0 for schedulers, which find them in the limits of the step.
    blocks: u32,
}

impl Place {
    pub(super) fn of(place: crate::Place, blocks: u32) -> Place {
        Place { seed: place.seed, replica: place.replica, blocks }
    }
}

#[pymethods]
impl Place {
    fn __repr__(&self) -> String {
        format!("Place(seed={}, replica={}, blocks={})", self.seed, self.replica, self.blocks)
    }
}

/// What a scheduler may know of a request; never its true output length.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct Request {
    pub(super) seat: u32,
    /// Number in arrival order.
    pub(super) id: u64,
    /// `waiting`, `loading`, `prefill`, `prefilled`, `ready`, `arriving`, `decode` or `draining`.
    phase: &'static str,
    /// Prompt tokens.
    prompt_tokens: u32,
    /// Output tokens delivered.
    generated: u32,
    /// The output limit that its client stated, or the context allows.
    limit: u32,
    /// Whether it is known to end at that limit and not before.
    ignores_eos: bool,
    /// Tokens whose KV is planned or present.
    computed: u32,
    /// Tokens that a prefill must compute: prompt, plus outputs so far after a preemption.
    target: u32,
    /// Smaller is more urgent.
    priority: i32,
    /// When it arrived [ns], or another key that orders equal priorities.
    arrival_ns: u64,
    /// Preemptions so far.
    preemptions: u32,
    /// Tokens whose KV waits on the host.
    on_host: u32,
    /// Its class, an index into the run's `classes`.
    class_id: u16,
    /// When its client gives up [ns]; None if it has said nothing.
    deadline_ns: Option<u64>,
}

impl Request {
    pub(super) fn of(view: &RequestView) -> Request {
        Request {
            seat: view.seat,
            id: view.id,
            phase: phase(view.phase),
            prompt_tokens: view.prompt_tokens,
            generated: view.generated,
            limit: view.limit,
            ignores_eos: view.ignores_eos,
            computed: view.computed,
            target: view.target,
            priority: view.priority,
            arrival_ns: view.arrival_key,
            preemptions: view.preemptions,
            on_host: view.on_host,
            class_id: view.class.0,
            deadline_ns: (view.deadline < Time::MAX).then_some(view.deadline.0),
        }
    }
}

#[pymethods]
impl Request {
    fn __repr__(&self) -> String {
        format!("Request(id={}, phase={:?}, prompt_tokens={})", self.id, self.phase, self.prompt_tokens)
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Loading => "loading",
        Phase::Prefill => "prefill",
        Phase::Prefilled => "prefilled",
        Phase::Ready => "ready",
        Phase::Arriving => "arriving",
        Phase::Decode => "decode",
        Phase::Draining => "draining",
        Phase::Vacant => "vacant",
    }
}

/// A waiting request, with its prefix-cache hit.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct Head {
    /// The request.
    pub(super) request: Py<Request>,
    /// Tokens it must have computed before it decodes.
    pub(super) tokens: u32,
    /// Tokens served by the prefix cache: whole blocks, at most `tokens - 1`.
    pub(super) cached: u32,
}

impl Head {
    pub(super) fn of(py: Python<'_>, head: &step::Head) -> PyResult<Head> {
        let request = Py::new(py, Request::of(&head.request))?;
        Ok(Head { request, tokens: head.tokens, cached: head.cached })
    }
}

#[pymethods]
impl Head {
    fn __repr__(&self) -> String {
        format!("Head(id={}, tokens={}, cached={})", self.request.get().id, self.tokens, self.cached)
    }
}

/// The fixed limits of a replica.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct Limits {
    /// Usable KV blocks.
    blocks: u64,
    /// Tokens per block.
    block_tokens: u32,
    /// Prompt and output tokens of one request at most.
    max_model_len: u32,
    /// Whether blocks of equal prefixes are kept and shared.
    prefix_caching: bool,
    /// Steps planned ahead: 1, or 2 when a step is planned while the one before runs.
    depth: u32,
    /// Whether the queue is in the order of keys (`Step.rank`); else it is first come, first served, or by priority.
    keyed: bool,
    /// `unified`, `split`, `prefill` or `decode`.
    lanes: &'static str,
    /// Blocks of the host for requests that are swapped out.
    swap_blocks: u64,
    /// Tokens of a prompt that a step computes at most.
    chunk: u32,
}

impl Limits {
    pub(super) fn of(limits: &replica::Limits) -> Limits {
        Limits {
            blocks: limits.blocks,
            block_tokens: limits.block_tokens,
            max_model_len: limits.max_model_len,
            prefix_caching: limits.prefix_caching,
            depth: limits.depth,
            keyed: limits.order == QueueOrder::Keyed,
            lanes: match limits.lanes {
                Lanes::Unified => "unified",
                Lanes::Split => "split",
                Lanes::Prefill => "prefill",
                Lanes::Decode => "decode",
            },
            swap_blocks: limits.swap.blocks,
            chunk: limits.chunk,
        }
    }
}

/// What a lane does, in a word.
pub(super) fn work(work: LaneWork) -> &'static str {
    match work {
        LaneWork::All => "all",
        LaneWork::Prefill => "prefill",
        LaneWork::Decode => "decode",
    }
}
