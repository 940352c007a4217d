//! Random small worlds for the law tests: fleets, traffic and costs that hit every branch of the serving rules.

use overbook_sim::arrival::{Arrival, ClassId, Content, Workload, WorkloadError};
use overbook_sim::cluster::{Cluster, ClusterSpec, Clients, OutputLimit, Patience, RunError, RunResult};
use overbook_sim::cost::{Cost, CostModel, DecodeCost, StepCost, StepShape};
use overbook_sim::policy::{QueueOrder, RouterSpec, SchedulerSpec, StaticSpec, VllmSpec};
use overbook_sim::replica::Limits;
use overbook_sim::rows::Keep;
use overbook_sim::summary::Slo;
use overbook_sim::time::{Span, Time};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

/// Arrivals from a list.
pub struct Listed {
    pub arrivals: Vec<Arrival>,
    pub next: usize,
    pub classes: Vec<String>,
}

impl Listed {
    pub fn new(arrivals: Vec<Arrival>) -> Self {
        Listed { arrivals, next: 0, classes: vec!["all".into()] }
    }
}

impl Workload for Listed {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        self.next += 1;
        Ok(self.arrivals.get(self.next - 1).cloned())
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// A cost with every feature: batch size, context, host time, and coefficients that change at multiples of `grid`.
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
    fn at(&self, seqs: u32, context: u64) -> DecodeCost {
        let cell = if self.grid == 0 { 0 } else { context / self.grid };
        DecodeCost {
            base: Cost::from_us(self.base_us + self.seq_us * f64::from(seqs) + 3.0 * cell as f64),
            per_context: Cost::from_ns(self.context_ns),
            valid_below: if self.grid == 0 { u64::MAX } else { (cell + 1) * self.grid },
            host: Cost::from_us(self.host_us),
        }
    }
}

impl CostModel for Affine {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let decode = self.at(shape.decode_seqs, shape.decode_context);
        let prefill: u32 = shape.prefill.iter().map(|p| p.tokens).sum();
        let device = decode.base.0
            + decode.per_context.0 * shape.decode_context
            + Cost::from_us(self.token_us * f64::from(prefill)).0;
        StepCost { device: Cost(device), host: decode.host }
    }
    fn decode(&mut self, seqs: u32, context: u64) -> DecodeCost {
        self.at(seqs, context)
    }
}

/// A random world; `jumps` is left to the caller.
pub struct World {
    pub spec: ClusterSpec,
    pub cost: Affine,
    pub arrivals: Vec<Arrival>,
}

fn arrivals(rng: &mut ChaCha8Rng, n: usize, caching: bool, depth_us: f64) -> Vec<Arrival> {
    let gap_us = depth_us * [0.1, 1.0, 8.0, 60.0][rng.random_range(0..4)];
    let long = rng.random_range(1..4u32) * 40;
    let mut at = 0.0;
    let mut next_content = 1000u64;
    (0..n)
        .map(|i| {
            if rng.random_range(0..4) > 0 {
                at += -rng.random::<f64>().max(1e-12).ln() * gap_us * 1e3;
            }
            let prompt = rng.random_range(1..=long * 3);
            let output = if rng.random_range(0..8) == 0 { 1 } else { rng.random_range(1..=long * 2) };
            let mut arrival = Arrival::new(Time(at as u64), prompt, output);
            arrival.class = ClassId((i % 2) as u16);
            arrival.priority = rng.random_range(-1..=1);
            arrival.max_new_tokens = match rng.random_range(0..3) {
                0 => None,
                1 => Some(output),
                _ => Some(rng.random_range(1..=long * 2)),
            };
            if caching {
                let blocks = ((prompt + output) / 16) as u64;
                let shared = rng.random_range(0..=blocks.min(6));
                let family = rng.random_range(0..3u64) * 100;
                let fresh = next_content..next_content + blocks - shared;
                next_content += blocks - shared;
                let ids = (family..family + shared).chain(fresh).collect();
                arrival.content = Some(Box::new(Content { block_tokens: 16, ids }));
            }
            let wait = Span::from_secs_f64(depth_us * 1e-6 * rng.random_range(1..400) as f64);
            match rng.random_range(0..12) {
                0 => arrival.max_wait = Some(wait),
                1 => arrival.deadline = Some(wait),
                2 => arrival.cancel_after = Some(wait),
                _ => {}
            }
            arrival
        })
        .collect()
}

/// The world of a seed.
pub fn world(seed: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let caching = rng.random_range(0..3) == 0;
    let max_model_len = rng.random_range(200..900);
    let least = u64::from(max_model_len as u32).div_ceil(16);
    let blocks = least + rng.random_range(0..least * 3);
    let order = if rng.random_range(0..4) == 0 { QueueOrder::Priority } else { QueueOrder::Fcfs };
    let max_num_seqs = rng.random_range(1..40);
    let vllm = VllmSpec {
        policy: order,
        max_num_batched_tokens: if rng.random_range(0..6) == 0 { rng.random_range(8..64) } else { rng.random_range(64..1024) },
        max_num_scheduled_tokens: (rng.random_range(0..9) == 0).then(|| rng.random_range(8..200)),
        max_num_seqs,
        max_num_active_seqs: (rng.random_range(0..9) == 0).then_some(max_num_seqs.div_ceil(2)),
        long_prefill_token_threshold: if rng.random_range(0..4) == 0 { rng.random_range(16..200) } else { 0 },
        long_prefill_token_threshold_adaptive: rng.random_range(0..2) == 0,
        enable_chunked_prefill: true,
        scheduler_reserve_full_isl: rng.random_range(0..3) > 0,
        watermark: [0.0, 0.01, 0.1][rng.random_range(0..3)],
        prefill_schedule_interval: if rng.random_range(0..6) == 0 { 4 } else { 1 },
        async_scheduling: rng.random_range(0..2) == 0,
        enable_prefix_caching: caching,
    };
    let scheduler = if rng.random_range(0..10) == 0 {
        SchedulerSpec::Static(StaticSpec { batch_size: rng.random_range(1..12) })
    } else {
        SchedulerSpec::Vllm(vllm)
    };
    let limits = Limits {
        blocks,
        block_tokens: 16,
        max_model_len: max_model_len as u32,
        prefix_caching: scheduler.prefix_caching(),
        depth: scheduler.depth(),
        order: scheduler.queue_order(),
    };
    let routers = [
        RouterSpec::RoundRobin,
        RouterSpec::Random,
        RouterSpec::LeastOutstanding,
        RouterSpec::JoinShortestQueue,
        RouterSpec::PowerOfTwo,
    ];
    let clients = (rng.random_range(0..6) == 0)
        .then(|| Clients { count: rng.random_range(1..12), think_time: Span(rng.random_range(0..40_000_000)) });
    let spec = ClusterSpec {
        replicas: rng.random_range(1..4),
        limits,
        scheduler,
        router: routers[rng.random_range(0..5)],
        output_limit: if rng.random_range(0..6) == 0 { OutputLimit::True } else { OutputLimit::Context },
        patience: Patience::default(),
        clients,
        seed,
        slo: Slo::default(),
        jumps: true,
        audit: false,
        failures: Vec::new(),
        sabotage: None,
    };
    let cost = Affine {
        base_us: rng.random_range(200..4000) as f64 + 0.37,
        seq_us: rng.random_range(0..50) as f64 * 0.71,
        context_ns: rng.random_range(0..400) as f64 * 0.93,
        token_us: rng.random_range(1..60) as f64 * 0.9,
        host_us: rng.random_range(0..3000) as f64 * 0.83,
        grid: if rng.random_range(0..3) == 0 { rng.random_range(50..3000) } else { 0 },
    };
    let n = rng.random_range(20..160);
    let arrivals = arrivals(&mut rng, n, caching, cost.base_us);
    World { spec, cost, arrivals }
}

/// Runs a world and keeps its rows.
pub fn run(world: &World, jumps: bool, audit: bool) -> Result<(RunResult, Keep), RunError> {
    let mut spec = world.spec.clone();
    (spec.jumps, spec.audit) = (jumps, audit);
    let mut rows = Keep::default();
    let mut cost = world.cost;
    let mut workload = Listed::new(world.arrivals.clone());
    let result = Cluster::new(spec)?.run(&mut workload, &mut cost, &mut rows, &mut |_| true)?;
    Ok((result, rows))
}
