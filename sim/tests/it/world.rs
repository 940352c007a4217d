//! A small world (fleet, traffic, cost) and how to run it.

use overbook_sim::cost::jitter::{Jitter, Jittered};
use overbook_sim::cost::{Cost, CostModel, DecodeCost, DecodeParts, Parts, StepCost, StepShape};
use overbook_sim::fleet::{Cluster, ClusterSpec, Leak, Policies, PowerFault, RunError, RunResult, StopReason};
use overbook_sim::kv::retention::Keep;
use overbook_sim::results::rows::{Keep as KeepRows, RequestRow};
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::Scheduler;
use overbook_sim::serving::replica::{Limits, SwapSpace};
use overbook_sim::time::Time;
use overbook_sim::units::Bytes;
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

pub const MS: u64 = 1_000_000;

/// Arrivals from a list.
pub struct Listed {
    arrivals: std::vec::IntoIter<Arrival>,
    classes: Vec<String>,
}

impl Listed {
    pub fn new(arrivals: Vec<Arrival>) -> Self {
        Listed { arrivals: arrivals.into_iter(), classes: vec!["even".into(), "odd".into()] }
    }
}

impl Workload for Listed {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.arrivals.next())
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// A cost with every feature: batch size, context, host time, and coefficients that change at multiples of `grid`. Its base and its prompts
/// are arithmetic, sequences and context memory, what a grid adds is the links'.
#[derive(Clone, Copy, Debug)]
pub struct Affine {
    pub base_us: f64,
    pub seq_us: f64,
    pub context_ns: f64,
    pub token_us: f64,
    pub host_us: f64,
    pub grid: u64,
}

impl Affine {
    /// Every step takes this long.
    pub fn constant(ns: u64) -> Self {
        Affine { base_us: ns as f64 / 1e3, seq_us: 0.0, context_ns: 0.0, token_us: 0.0, host_us: 0.0, grid: 0 }
    }

    fn at(&self, seqs: u32, context: u64) -> DecodeCost {
        let cell = context.checked_div(self.grid).unwrap_or(0);
        DecodeCost {
            base: Cost::from_us(self.base_us + self.seq_us * f64::from(seqs) + 3.0 * cell as f64),
            per_context: Cost::from_ns(self.context_ns),
            valid_below: if self.grid == 0 { u64::MAX } else { (cell + 1) * self.grid },
            host: Cost::from_us(self.host_us),
        }
    }

    fn bound(&self, whole: Cost, seqs: u32, context: u64) -> Parts {
        let cell = context.checked_div(self.grid).unwrap_or(0);
        let memory = Cost::from_us(self.seq_us * f64::from(seqs)).min(whole);
        let link = Cost::from_us(3.0 * cell as f64).min(Cost(whole.0 - memory.0));
        Parts { whole, compute: Cost(whole.0 - memory.0 - link.0), memory, link }
    }
}

impl CostModel for Affine {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let decode = self.at(shape.decode_seqs, shape.decode_context);
        let prefill: u32 = shape.prefill.iter().map(|p| p.tokens).sum();
        let context = decode.per_context * shape.decode_context;
        let tokens = Cost::from_us(self.token_us * f64::from(prefill));
        StepCost { device: decode.base + context + tokens, host: decode.host }
    }
    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        self.at(seqs, context)
    }
    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        let decode = self.at(shape.decode_seqs, shape.decode_context);
        let context = decode.per_context * shape.decode_context;
        let bound = Cost(self.step(shape).device.0 - context.0);
        self.bound(bound, shape.decode_seqs, shape.decode_context) + Parts::memory(context)
    }
    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        let DecodeCost { base, per_context, .. } = self.at(seqs, context);
        DecodeParts { base: self.bound(base, seqs, context), per_context: Parts::memory(per_context) }
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub spec: ClusterSpec,
    pub cost: Affine,
    /// Costs of the pools after the first.
    pub others: Vec<Affine>,
    pub arrivals: Vec<Arrival>,
}

/// How to run a world. The default is the slow way: step by step.
#[derive(Clone, Copy, Default)]
pub struct How<'a> {
    pub jumps: bool,
    pub audit: bool,
    /// A stop rule that is off by one.
    pub planted: Option<StopReason>,
    /// A block that is not given back.
    pub leak: Option<Leak>,
    /// A fault of the row's power.
    pub power: Option<PowerFault>,
    /// When to settle all lanes without any reason.
    pub probes: &'a [Time],
    /// How far steps lie from what the world's cost says.
    pub jitter: Option<&'a Jitter>,
    /// Replaces the world's scheduler.
    pub scheduler: Option<&'a dyn Fn() -> Box<dyn Scheduler>>,
}

impl How<'_> {
    pub const STEPS: How<'static> = How {
        jumps: false,
        audit: false,
        planted: None,
        leak: None,
        power: None,
        probes: &[],
        jitter: None,
        scheduler: None,
    };
    pub const JUMPS: How<'static> = How { jumps: true, ..How::STEPS };
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Run {
    pub result: RunResult,
    pub rows: KeepRows,
}

/// More events than any world here needs: a run that passes it goes round in circles.
const EVENTS_MAX: u32 = 1 << 24;

impl World {
    /// One replica of vLLM with a constant step of 1 ms.
    pub fn vllm(vllm: VllmSpec, blocks: u64, block_tokens: u32, max_model_len: u32, arrivals: Vec<Arrival>) -> World {
        World::of(SchedulerSpec::Vllm(vllm), blocks, block_tokens, max_model_len, arrivals)
    }

    /// One replica with a constant step of 1 ms.
    pub fn of(
        scheduler: SchedulerSpec,
        blocks: u64,
        block_tokens: u32,
        max_model_len: u32,
        arrivals: Vec<Arrival>,
    ) -> World {
        let limits = scheduler.needs().limits(blocks, block_tokens, max_model_len);
        let mut world = World {
            spec: ClusterSpec { limits, ..ClusterSpec::default() },
            cost: Affine::constant(MS),
            others: Vec::new(),
            arrivals,
        };
        world.set_scheduler(scheduler);
        world
    }

    /// Another scheduler, and the lane and queue that it wants.
    pub fn set_scheduler(&mut self, scheduler: SchedulerSpec) {
        let needs = scheduler.needs();
        let Limits { blocks, block_tokens, max_model_len, retention, .. } = self.spec.limits;
        // A block is a byte here.
        let swap = |space: Bytes| SwapSpace { blocks: space.0, block_cost: Cost::from_us(137.3) };
        let swap = needs.swap_space.map(swap).unwrap_or_default();
        let retention = if needs.counts_slots { retention } else { Keep::ALL };
        self.spec.limits = Limits { swap, retention, ..needs.limits(blocks, block_tokens, max_model_len) };
        self.spec.scheduler = scheduler;
    }

    pub fn try_run(&self, how: How<'_>) -> Result<Run, RunError> {
        self.try_play(how, &mut Listed::new(self.arrivals.clone()))
    }

    /// As [`World::try_run`], with another workload.
    pub fn try_play(&self, how: How<'_>, workload: &mut dyn Workload) -> Result<Run, RunError> {
        let spec = ClusterSpec { jumps: how.jumps, audit: how.audit, ..self.spec.clone() };
        let named = Policies::from(&spec);
        let policies = match how.scheduler {
            Some(build) => Policies { scheduler: Box::new(|_, _| build()), ..named },
            None => named,
        };
        let mut cluster = Cluster::with_policies(spec, &policies)?;
        how.probes.iter().for_each(|&at| cluster.probe(at));
        if let Some(reason) = how.planted {
            cluster.plant(reason);
        }
        if let Some(fault) = how.power {
            cluster.plant_power(fault);
        }
        if let Some(leak) = how.leak {
            cluster.plant_leak(leak);
        }
        let mut rows = KeepRows::default();
        let boxed = |cost: Affine| -> Box<dyn CostModel> {
            match how.jitter {
                Some(jitter) => Box::new(Jittered::new(Box::new(cost), jitter.clone())),
                None => Box::new(cost),
            }
        };
        let mut costs: Vec<_> = [&[self.cost][..], &self.others].concat().into_iter().map(boxed).collect();
        let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
        let mut looks = 0;
        let mut watch = |_| {
            looks += 1;
            looks < EVENTS_MAX >> 14
        };
        let result = cluster.run_pools(workload, &mut costs, &mut rows, &mut watch)?;
        Ok(Run { result, rows })
    }

    /// A run that must succeed.
    pub fn run(&self, how: How<'_>) -> Run {
        let run = self.try_run(how).unwrap_or_else(|e| panic!("{e}\n{:?}", self.spec));
        assert!(!run.result.interrupted, "went round in circles: {:?}", self.spec);
        assert_eq!(run.result.halted, None, "{:?}", self.spec);
        run
    }
}

impl Run {
    /// The request's row.
    pub fn row(&self, request: u64) -> &RequestRow {
        self.rows.requests.iter().find(|r| r.request == request).unwrap()
    }

    /// What must not change when the run is made another way.
    pub fn difference(&self, other: &Run) -> Option<String> {
        let (a, b) = (&self.result, &other.result);
        let rows = self.rows.requests.iter().zip(&other.rows.requests).find(|(a, b)| a != b);
        if let Some((a, b)) = rows {
            return Some(format!("row\n{a:?}\n{b:?}"));
        }
        let same = [
            ("digest", a.digest == b.digest),
            ("rows", self.rows.requests.len() == other.rows.requests.len()),
            ("end", a.end == b.end),
            ("steps", a.effort.steps == b.effort.steps),
            ("itl", a.summary.itl == b.summary.itl),
            ("batches", a.summary.batches == b.summary.batches),
            ("latencies", a.summary.latencies == b.summary.latencies),
            ("queue_time", a.summary.queue_time == b.summary.queue_time),
            ("tokens", a.summary.tokens == b.summary.tokens),
            ("classes", a.summary.classes == b.summary.classes),
            ("busy", a.summary.work.busy == b.summary.work.busy),
            ("load", a.summary.load == b.summary.load),
            ("kv", a.summary.kv == b.summary.kv),
            ("retained", a.summary.retained == b.summary.retained),
            ("readings", a.readings == b.readings),
            ("interrupted", a.interrupted == b.interrupted),
            ("halted", a.halted == b.halted),
        ];
        same.iter().find(|s| !s.1).map(|s| s.0.to_owned())
    }
}
