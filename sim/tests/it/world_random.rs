//! Random small worlds that hit every branch of the serving rules. A seed is a world.

use overbook_sim::fleet::{
    Autoscale, Clients, ClusterSpec, Controllers, Failure, Faults, Growth, OutputLimit, Patience, Retry, ScaleTarget,
    Traffic as TrafficSpec,
};
use overbook_sim::kv::retention::{Keep, OutputRule, PromptRule};
use overbook_sim::results::summary::Slo;
use overbook_sim::routers::{RouterSpec, RouterView};
use overbook_sim::schedulers::{SchedulerSpec, StaticSpec, VllmSpec};
use overbook_sim::serving::QueueOrder;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, ClassId, Content, SessionId};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::world::{Affine, MS, World};

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0.random_range(0..n)
    }

    fn within(&mut self, low: u32, high: u32) -> u32 {
        self.0.random_range(low..=high)
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Sizes and tempo of the traffic.
struct Traffic {
    step_ns: f64,
    /// Everything happens at multiples of the step: ties everywhere.
    aligned: bool,
    caching: bool,
    prompt_max: u32,
    output_max: u32,
}

impl Traffic {
    fn span(&self, steps: f64) -> Span {
        let ns = steps * self.step_ns;
        if self.aligned { Span((ns / self.step_ns).round() as u64 * self.step_ns as u64) } else { Span(ns as u64) }
    }

    fn arrivals(&self, draw: &mut Draw, n: usize) -> Vec<Arrival> {
        let gap = draw.pick(&[0.1, 4.0, 40.0, 160.0]);
        let (mut at, mut fresh) = (Time::ZERO, 1000u64);
        let mut arrivals = Vec::with_capacity(n);
        for i in 0..n {
            if !draw.one_in(4) {
                let steps = -draw.0.random::<f64>().max(1e-12).ln() * gap;
                at += self.span(steps);
            }
            let prompt = draw.within(1, self.prompt_max);
            let output = if draw.one_in(8) { 1 } else { draw.within(1, self.output_max) };
            let mut arrival = Arrival::new(at, prompt, output);
            arrival.class = ClassId((i % 2) as u16);
            arrival.priority = draw.within(0, 2) as i32 - 1;
            arrival.max_new_tokens = match draw.below(3) {
                0 => None,
                1 => Some(output),
                _ => Some(draw.within(1, self.output_max)),
            };
            if self.caching {
                arrival.content = Some(Box::new(content(draw, prompt, output, &mut fresh)));
            }
            let patience = Some(self.span(f64::from(draw.within(1, 600))));
            match draw.below(16) {
                0 => arrival.max_wait = patience,
                1 => arrival.deadline = patience,
                2 => arrival.cancel_after = patience,
                _ => {}
            }
            if i % 23 == 11 {
                // Failed in the trace; what else it states must not matter.
                arrival = Arrival { prompt_tokens: 0, output_tokens: 0, failed_in_trace: true, ..arrival };
            }
            arrival.session = (i % 3 == 0).then(|| SessionId::new(i as u64 / 6));
            arrivals.push(arrival);
        }
        arrivals
    }
}

/// Content with a prefix shared by a family; sometimes the family's output too (a later turn of a conversation).
fn content(draw: &mut Draw, prompt: u32, output: u32, fresh: &mut u64) -> Content {
    let prompt_blocks = u64::from(prompt / 16);
    let blocks = u64::from((prompt + output) / 16);
    let most = if draw.one_in(2) { blocks } else { prompt_blocks };
    let shared = draw.below(most.min(8) + 1);
    let family = draw.below(3) * 100;
    let own = *fresh..*fresh + blocks - shared;
    *fresh = own.end;
    Content { block_tokens: 16, ids: (family..family + shared).chain(own).collect() }
}

fn vllm(draw: &mut Draw, caching: bool, max_model_len: u32) -> VllmSpec {
    let max_num_seqs = if draw.one_in(3) { draw.within(1, 6) } else { draw.within(4, 40) };
    let enable_chunked_prefill = !draw.one_in(8);
    let small = enable_chunked_prefill && draw.one_in(6);
    VllmSpec {
        policy: if draw.one_in(4) { QueueOrder::Priority } else { QueueOrder::Fcfs },
        preemption_victim: None,
        // Without chunks a prompt must fit into one step.
        max_num_batched_tokens: if small { draw.within(8, 63) } else { max_model_len.max(draw.within(64, 1024)) },
        max_num_scheduled_tokens: (enable_chunked_prefill && draw.one_in(9)).then(|| draw.within(8, 199)),
        max_num_seqs,
        max_num_active_seqs: draw.one_in(9).then(|| max_num_seqs.div_ceil(2)),
        long_prefill_token_threshold: if draw.one_in(4) { draw.within(16, 200) } else { 0 },
        long_prefill_token_threshold_adaptive: draw.one_in(2),
        enable_chunked_prefill,
        scheduler_reserve_full_isl: !draw.one_in(3),
        watermark: draw.pick(&[0.0, 0.01, 0.1]),
        prefill_schedule_interval: if draw.one_in(12) { 4 } else { 1 },
        async_scheduling: draw.one_in(2),
        enable_prefix_caching: caching,
    }
}

fn cost(draw: &mut Draw) -> Affine {
    let base_us = f64::from(draw.within(200, 4000)) + 0.37;
    Affine {
        base_us,
        seq_us: draw.below(50) as f64 * 0.71,
        context_ns: draw.below(400) as f64 * 0.93,
        token_us: f64::from(draw.within(1, 60)) * 0.9,
        // Often about as long as the device's time, so that one overtakes the other.
        host_us: if draw.one_in(2) { base_us * 1.05 } else { draw.below(3000) as f64 * 0.83 },
        grid: if draw.one_in(3) { u64::from(draw.within(50, 5000)) } else { 0 },
    }
}

/// The world of a seed, where requests have a budget of slots.
pub fn retaining(seed: u64) -> World {
    let mut world = world(seed);
    retain(&mut world, seed);
    world
}

/// Gives the requests of a world a budget, and mostly a pool that is small for it.
pub fn retain(world: &mut World, seed: u64) {
    let draw = &mut Draw(ChaCha8Rng::seed_from_u64(seed ^ 0x0BED));
    let limits = &mut world.spec.limits;
    let budget = draw.within(4, limits.max_model_len / 2);
    let prompt = if draw.one_in(3) { PromptRule::AtEnd } else { PromptRule::EachChunk };
    let output = if draw.one_in(4) { OutputRule::Keep } else { OutputRule::Evict };
    let every = if output == OutputRule::Evict { draw.pick(&[1, 1, 2, 7, 64]) } else { 1 };
    let shrinks = budget > 8 && output == OutputRule::Evict && draw.one_in(3);
    let shrink_to = shrinks.then(|| draw.within(2, budget / 2));
    limits.retention = Keep { budget, every, prompt, output, shrink_to };
    // A request has room by itself, and not much more.
    limits.blocks = u64::from(limits.longest_slots().div_ceil(limits.block_tokens)) + draw.below(60);
}

/// The world of a seed.
#[expect(clippy::too_many_lines, reason = "every choice of a world in the order of its draws")]
pub fn world(seed: u64) -> World {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let caching = draw.one_in(3);
    let max_model_len = draw.within(200, 2000);
    let least = u64::from(max_model_len).div_ceil(16);
    let scheduler = if draw.one_in(10) {
        SchedulerSpec::Static(StaticSpec { batch_size: draw.within(1, 12) })
    } else {
        SchedulerSpec::Vllm(vllm(&mut draw, caching, max_model_len))
    };
    let limits = scheduler.needs().limits(least + draw.below(least * 2), 16, max_model_len);
    let aligned = draw.one_in(5);
    let cost = if aligned { Affine::constant(MS) } else { cost(&mut draw) };
    let traffic = Traffic {
        step_ns: (cost.base_us * 1e3).round(),
        aligned,
        caching,
        prompt_max: max_model_len * draw.within(1, 9) / 8,
        output_max: draw.within(10, 1000),
    };
    let replicas = draw.within(1, 3);
    let clients = draw.one_in(6).then(|| {
        let think = draw.pick(&[0.0, 1.0, 30.0]);
        Clients { count: draw.within(1, 16), think_time: traffic.span(think) }
    });
    let patience = draw.one_in(8).then(|| Some(traffic.span(f64::from(draw.within(300, 3000)))));
    let mut failures: Vec<Failure> = (0..draw.pick(&[0, 0, 0, 1, 3]))
        .map(|_| {
            let at = f64::from(draw.within(0, 3000));
            Failure { at: Time::ZERO + traffic.span(at), replicas: vec![draw.below(3) as u32], down_for: Span::ZERO }
        })
        .collect();
    let n = draw.within(8, 50) as usize;
    // What came later draws from a stream of its own, so that the worlds stay what they were.
    let mut later = Draw(ChaCha8Rng::seed_from_u64(seed ^ 0x5EED));
    let router_view = later.one_in(3).then(|| RouterView {
        interval: traffic.span(f64::from(later.within(1, 200))),
        delay: traffic.span(f64::from(later.within(0, 100))),
    });
    let retry = later.one_in(3).then(|| Retry {
        attempts: later.within(2, 5),
        backoff: traffic.span(f64::from(later.within(0, 300))),
        max_backoff: traffic.span(400.0),
        jitter: later.pick(&[0.0, 0.5]),
        on_failed: true,
        on_expired: later.one_in(2),
        on_rejected: later.one_in(4),
    });
    for failure in &mut failures {
        failure.down_for = traffic.span(f64::from(later.pick(&[0, 1, 200, 2000])));
    }
    let autoscale = later.one_in(5).then(|| Autoscale {
        min: 1,
        start_up: traffic.span(f64::from(later.within(0, 300))),
        interval: traffic.span(f64::from(later.within(1, 100))),
        target: later.pick(&[ScaleTarget::Outstanding(4.0), ScaleTarget::KvUse(0.4)]),
        cool_down: traffic.span(f64::from(later.within(0, 500))),
        tolerance: 0.1,
        growth: Growth { replicas: 1, share: 1.0, per: traffic.span(50.0) },
    });
    let faults = later.one_in(6).then(|| Faults {
        mtbf: traffic.span(f64::from(later.within(200, 3000))),
        mttr: traffic.span(f64::from(later.within(1, 500))),
        domains: Vec::new(),
    });
    let max_concurrency = (later.one_in(5) && clients.is_none()).then(|| later.within(1, 12));
    let spec = ClusterSpec {
        replicas,
        limits,
        scheduler,
        router: draw.pick(&RouterSpec::every()).1,
        traffic: TrafficSpec {
            output_limit: draw.pick(&[
                OutputLimit::Context,
                OutputLimit::Context,
                OutputLimit::Context,
                OutputLimit::True,
                OutputLimit::Fixed(traffic.output_max.div_ceil(2)),
            ]),
            clients,
            max_concurrency,
            ..TrafficSpec::default()
        },
        controllers: Controllers {
            router_view,
            patience: Patience { deadline: patience.flatten(), ..Patience::default() },
            retry,
            failures,
            faults,
            autoscale,
            ..Controllers::default()
        },
        seed,
        slo: Slo::default(),
        ..ClusterSpec::default()
    };
    let arrivals = traffic.arrivals(&mut draw, n);
    World { spec, cost, others: Vec::new(), arrivals }
}
