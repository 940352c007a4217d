//! What the types cannot say: ranges, and settings that exclude or need each other.
//!
//! A problem is (dotted path, message); the message goes on after the key's name: ``("replicas", "must be …")``.

mod lightllm;
mod pools;

use overbook_sim::partitioners::{PartitionSpec, Shares};
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::{BatchSpec, OrcaSpec, PreemptionMode, SchedulerSpec, SemiPdSpec, StaticSpec, VllmSpec};
use overbook_sim::units::Bytes;

use super::{
    Clients, CostSpec, DisaggregationSpec, EarlyRejectionSpec, EngineSpec, FailureSpec, FleetSpec, GoodputSpec,
    MaxNewTokens, PipelineSpec, ScaleTargetSpec, Scenario, VERSION, WorkloadSpec,
};
use crate::yaml::join;

type Problem = (String, String);

/// The last key of a path, as messages begin with it; of a list item, the list's key and the number.
pub(crate) fn key_of(path: &str) -> &str {
    let start = path.rmatch_indices('.').map(|(dot, _)| dot + 1);
    let named = |&at: &usize| !path[at..].starts_with(|c: char| c.is_ascii_digit());
    start.chain([0]).find(named).map_or(path, |at| &path[at..])
}

/// Collects problems below a path.
struct Check<'l> {
    prefix: &'static str,
    list: &'l mut Vec<Problem>,
}

impl Check<'_> {
    fn that(&mut self, holds: bool, key: &str, message: impl Into<String>) {
        if !holds {
            self.list.push((join(self.prefix, key), message.into()));
        }
    }

    fn range(&mut self, key: &str, value: u64, low: u64, high: u64) {
        self.that((low..=high).contains(&value), key, format!("is {value}; it must be from {low} to {high}"));
    }

    fn share(&mut self, key: &str, share: f64) {
        self.that((0.0..=1.0).contains(&share), key, format!("is {share}; it must be from 0 to 1"));
    }

    fn watermark(&mut self, share: f64) {
        self.that((0.0..1.0).contains(&share), "watermark", format!("is {share}; it must be at least 0 and below 1"));
    }

    fn swap(&mut self, mode: PreemptionMode, space: Bytes) {
        let message = "is 0; `preemption_mode: swap` needs memory of the host";
        self.that(mode == PreemptionMode::Recompute || space.0 > 0, "swap_space", message);
    }

    fn batch(&mut self, batch: &BatchSpec) {
        self.positive("batch.max_num_batched_tokens", batch.max_num_batched_tokens);
        self.positive("batch.max_num_seqs", batch.max_num_seqs);
        let share = batch.watermark;
        let message = format!("is {share}; it must be at least 0 and below 1");
        self.that((0.0..1.0).contains(&share), "batch.watermark", message);
    }

    fn shares(&mut self, place: &str, input_price: u32, output_price: u32, weights: &[f64]) {
        self.range(&format!("{place}input_price"), u64::from(input_price), 0, 1000);
        self.range(&format!("{place}output_price"), u64::from(output_price), 1, 1000);
        let weights_ok = weights.iter().all(|weight| (1e-3..=1e3).contains(weight));
        self.that(weights_ok, &format!("{place}fair_weights"), "must be from 0.001 to 1000 each");
    }

    fn positive(&mut self, key: &str, value: impl Into<u64>) {
        self.that(value.into() > 0, key, "is 0; it must be at least 1");
    }
}

impl Scenario {
    /// Everything that is out of range or does not fit together, as (dotted path, message after the key's name).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut list = Vec::new();
        let mut check = Check { prefix: "", list: &mut list };
        check.that(self.version == VERSION, "version", format!("is {}; this Overbook reads {VERSION}", self.version));
        let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name_ok = !self.name.is_empty() && self.name.len() <= 100 && self.name.chars().all(name_fits);
        let name_ok = name_ok && !self.name.starts_with('.');
        check.that(name_ok, "name", "names a folder: 1 to 100 letters, digits, `-`, `_` and `.`, no `.` in front");
        self.workload.check(&mut list);
        self.fleet.check(&mut list);
        self.fleet.check_roles(&self.scheduler, &mut list);
        if self.fleet.pools.is_empty() {
            self.engine.check(&mut list);
        } else {
            self.check_pools(&mut list);
        }
        check_scheduler(&self.scheduler, &mut list);
        for (metric, bound) in self.slo.bounds() {
            Check { prefix: "slo", list: &mut list }.that(bound.0.0 > 0, metric, "is 0; it must be above 0");
        }
        if let Some(goodput) = &self.slo.goodput {
            goodput.check(&mut list);
        }
        list
    }
}

impl WorkloadSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let given = [("generate", self.generate.is_some()), ("trace", self.trace.is_some())];
        let given = given.into_iter().chain([("population", self.population.is_some())]);
        let given: Vec<_> = given.filter(|&(_, given)| given).map(|(name, _)| format!("`{name}`")).collect();
        let message = match given.len() {
            0 => {
                "needs `generate: { … }`, `trace: { path: … }` or `population: { … }`: where do the requests come from?"
                    .to_owned()
            }
            1 => String::new(),
            2 => format!("has both {}; the requests come from one of them", given.join(" and ")),
            _ => format!("has all of {}; the requests come from one of them", given.join(", ")),
        };
        if !message.is_empty() {
            list.push(("workload".to_owned(), message));
        }
        let generated = self.generate.iter().flat_map(|spec| below("workload.generate", spec.problems()));
        let recorded = self.trace.iter().flat_map(|spec| below("workload.trace", spec.problems()));
        let population = self.population.iter().flat_map(|spec| below("workload.population", spec.problems()));
        list.extend(generated.chain(recorded).chain(population));
        let mut check = Check { prefix: "workload", list };
        if let MaxNewTokens::Fixed(tokens) = self.max_new_tokens {
            check.positive("max_new_tokens.fixed", tokens);
        }
        if let Some(Clients { count, .. }) = self.clients {
            check.range("clients.count", u64::from(count), 1, 1_000_000);
        }
        if let Some(most) = self.max_concurrency {
            check.positive("max_concurrency", most);
            let told = "cannot be combined with `clients`: each of them has one request under way";
            check.that(self.clients.is_none(), "max_concurrency", told);
        }
        if let Some(retry) = &self.retry {
            check.range("retry.attempts", u64::from(retry.attempts), 1, 1000);
            let jitter = retry.jitter;
            check.that((0.0..=1.0).contains(&jitter), "retry.jitter", format!("is {jitter}; it must be from 0 to 1"));
            check.that(!retry.on.is_empty(), "retry.on", "is empty; leave `retry` out if nothing is sent again");
        }
        let limits = [("deadline", self.limits.deadline), ("cancel_after", self.limits.cancel_after)].into_iter();
        for (key, limit) in limits.filter_map(|(key, limit)| Some((key, limit?))) {
            check.that(limit.0.0 > 0, &join("limits", key), "is 0; it must be above 0");
        }
    }
}

fn below(prefix: &'static str, problems: Vec<Problem>) -> impl Iterator<Item = Problem> {
    problems.into_iter().map(move |(path, message)| (join(prefix, &path), message))
}

impl FleetSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let mut check = Check { prefix: "fleet", list };
        check.range("replicas", u64::from(self.replicas), 1, 4096);
        if let RouterSpec::PrefixAware(spec) = self.router {
            let weights = [("prefill", spec.prefill), ("decode", spec.decode), ("queue", spec.queue)];
            for (key, value) in weights.into_iter().chain([("temperature", spec.temperature)]) {
                let told = format!("is {value}; it must be a number from 0");
                check.that(value.is_finite() && value >= 0.0, &join("router.prefix-aware", key), told);
            }
        }
        for (number, failure) in self.failures.iter().enumerate() {
            let FailureSpec { replica, server, .. } = *failure;
            if let Some(replica) = replica {
                let told = format!("is {replica}; there are {} replicas, counted from 0", self.replicas);
                check.that(replica < self.replicas || self.replicas == 0, &format!("failures.{number}.replica"), told);
            }
            let told = "names one of `replica` and `server`: what fails?";
            check.that(replica.is_some() != server.is_some(), &format!("failures.{number}"), told);
        }
        if let Some(faults) = self.faults {
            check.that(faults.mtbf.0.0 > 0, "faults.mtbf", "is 0; it must be above 0");
            check.that(faults.mttr.0.0 > 0, "faults.mttr", "is 0; it must be above 0");
        }
        if let Some(view) = self.router_view {
            check.that(
                view.interval.0.0 > 0,
                "router_view.interval",
                "is 0; without `router_view` the router sees all live",
            );
        }
        if self.pools.is_empty() {
            let told = "cannot be combined with `disaggregation` here: replicas of two kinds scale apart, so make them `pools` and give each \
                        its own `autoscale`";
            check.that(self.autoscale.is_none() || self.disaggregation.is_none(), "autoscale", told);
            self.check_autoscale(list);
            self.check_replica(list);
        }
    }

    /// When replicas come and go.
    fn check_autoscale(&self, list: &mut Vec<Problem>) {
        let mut check = Check { prefix: "fleet", list };
        if let Some(auto) = self.autoscale {
            check.range("autoscale.min", u64::from(auto.min), 1, u64::from(self.replicas.max(1)));
            check.that(auto.interval.0.0 > 0, "autoscale.interval", "is 0; it must be above 0");
            let (key, target, most) = match auto.target {
                ScaleTargetSpec::Outstanding(target) => ("autoscale.target.outstanding", target, f64::INFINITY),
                ScaleTargetSpec::KvUse(target) => ("autoscale.target.kv-use", target, 1.0),
            };
            let told = format!("is {target}; it must be above 0{}", if most > 1.0 { "" } else { " and at most 1" });
            check.that(target > 0.0 && target <= most && target.is_finite(), key, told);
        }
    }

    /// What a replica is made of.
    fn check_replica(&self, list: &mut Vec<Problem>) {
        let mut check = Check { prefix: "fleet", list };
        check.range("tensor_parallel", u64::from(self.tensor_parallel), 1, 64);
        if let Some(PipelineSpec { stages, steps_in_flight }) = self.pipeline {
            check.range("pipeline.stages", u64::from(stages), 1, 64);
            let steps = steps_in_flight.unwrap_or(stages);
            let key = if steps_in_flight.is_some() { "pipeline.steps_in_flight" } else { "pipeline" };
            let message = format!(
                "would keep {steps} steps in flight, each with its share of the requests, as vLLM does; lanes cannot do \
                 that yet. Say `steps_in_flight: 1` for stages that wait for each other: right for the latency of a \
                 lone step and where weights dominate, but up to {stages} times too slow where context or prompts do"
            );
            check.that(steps == 1, key, message);
        }
        if let Some(experts) = self.expert_parallel {
            let gpus = f64::from(self.tensor_parallel);
            let told = format!("is {}; it must be from 1 to tensor_parallel ({gpus})", experts.imbalance);
            check.that((1.0..=gpus.max(1.0)).contains(&experts.imbalance), "expert_parallel.imbalance", told);
            let told = "needs `tensor_parallel` above 1: experts are spread over the GPUs of a group";
            check.that(self.tensor_parallel > 1, "expert_parallel", told);
        }
    }
}

impl FleetSpec {
    fn check_roles(&self, scheduler: &SchedulerSpec, list: &mut Vec<Problem>) {
        if let Some(EarlyRejectionSpec { ttft, tbt }) = self.early_rejection {
            let mut check = Check { prefix: "fleet.early_rejection", list };
            for (key, limit) in [("ttft", ttft), ("tbt", tbt)] {
                check.that(limit.is_none_or(|limit| limit.0.0 > 0), key, "is 0; it must be above 0");
            }
            if ttft.is_none() && tbt.is_none() {
                list.push(("fleet.early_rejection".to_owned(), "promises nothing; set ttft or tbt".to_owned()));
            }
        }
        let Some(DisaggregationSpec { prefill, .. }) = self.disaggregation else { return };
        let mut check = Check { prefix: "fleet.disaggregation", list };
        let told = format!("is {prefill} of {} replicas; some must compute prompts and some decode", self.replicas);
        check.that((1..self.replicas).contains(&prefill), "prefill", told);
        let told = "needs a scheduler that admits by free blocks (vllm, vllm-v0, sglang, sarathi, trtllm with                     max-utilization): one that reserves whole outputs, or forms whole batches, would be passed over by                     requests that come from other replicas";
        if !scheduler.serves_apart() {
            list.push(("fleet.disaggregation".to_owned(), told.to_owned()));
        }
    }
}

impl EngineSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let mut check = Check { prefix: "engine", list };
        let share = self.gpu_memory_utilization;
        let share_ok = share > 0.0 && share <= 1.0;
        check.that(share_ok, "gpu_memory_utilization", format!("is {share}; it must be above 0 and at most 1"));
        check.range("block_tokens", u64::from(self.block_tokens), 1, 512);
        if let Some(tokens) = self.kv_tokens {
            let block = u64::from(self.block_tokens);
            check.that(tokens >= block, "kv_tokens", format!("is {tokens}; one block alone holds {block} tokens"));
            check.that(tokens <= 1 << 40, "kv_tokens", format!("is {tokens}; at most 2^40 tokens"));
        }
        if let Some(tokens) = self.max_model_len {
            check.that(tokens >= 2, "max_model_len", "must leave room for a prompt token and an output token");
        }
        check.that(self.host_link.0 > 0.0, "host_link", "is 0; it must be above 0");
        if let CostSpec::Constant(cost) = self.cost {
            check.that(cost.device.0.0 > 0, "cost.constant.device", "is 0; a step must take time");
        }
    }
}

impl GoodputSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let mut check = Check { prefix: "slo.goodput", list };
        let promises = [("ttft", self.ttft), ("tpot", self.tpot), ("mtpot", self.mtpot), ("e2el", self.e2el)];
        for (key, bound) in promises.into_iter().filter_map(|(key, bound)| Some((key, bound?))) {
            check.that(bound.0.0 > 0, key, "is 0; it must be above 0");
        }
        let share_ok = self.share > 0.0 && self.share <= 1.0;
        check.that(share_ok, "share", format!("is {}; it must be above 0 and at most 1", self.share));
        let any = promises.iter().any(|(_, bound)| bound.is_some());
        if !any {
            list.push(("slo.goodput".to_owned(), "promises nothing; set ttft, tpot, mtpot or e2el".to_owned()));
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per scheduler; it is to be split")]
fn check_scheduler(spec: &SchedulerSpec, list: &mut Vec<Problem>) {
    match spec {
        SchedulerSpec::Vllm(vllm) => check_vllm(vllm, list),
        SchedulerSpec::VllmV0(spec) => {
            let mut check = Check { prefix: "scheduler.vllm-v0", list };
            check.positive("max_num_seqs", spec.max_num_seqs);
            check.watermark(spec.watermark);
            if let Some(tokens) = spec.max_num_batched_tokens {
                check.positive("max_num_batched_tokens", tokens);
            }
            check.swap(spec.preemption_mode, spec.swap_space);
        }
        SchedulerSpec::Sglang(spec) => {
            let mut check = Check { prefix: "scheduler.sglang", list };
            check.positive("max_running_requests", spec.max_running_requests);
            check.positive("max_prefill_tokens", spec.max_prefill_tokens);
            check.positive("clip_max_new_tokens", spec.clip_max_new_tokens);
            if let Some(tokens) = spec.chunked_prefill_size {
                check.positive("chunked_prefill_size", tokens);
            }
            let share = spec.schedule_conservativeness;
            let share_ok = share > 0.0 && share.is_finite();
            check.that(share_ok, "schedule_conservativeness", format!("is {share}; it must be above 0"));
        }
        SchedulerSpec::Trtllm(spec) => {
            let mut check = Check { prefix: "scheduler.trtllm", list };
            check.positive("max_batch_size", spec.max_batch_size);
            check.positive("max_num_tokens", spec.max_num_tokens);
        }
        SchedulerSpec::Sarathi(spec) => {
            let mut check = Check { prefix: "scheduler.sarathi", list };
            check.positive("chunk_size", spec.chunk_size);
            check.positive("max_num_seqs", spec.max_num_seqs);
            check.watermark(spec.watermark);
        }
        SchedulerSpec::SemiPd(spec) => check_semi_pd(spec, list),
        SchedulerSpec::Orca(OrcaSpec { max_batch_size }) => {
            Check { prefix: "scheduler.orca", list }.positive("max_batch_size", *max_batch_size);
        }
        SchedulerSpec::Static(StaticSpec { batch_size }) => {
            Check { prefix: "scheduler.static", list }.positive("batch_size", *batch_size);
        }
        SchedulerSpec::PastFuture(spec) => lightllm::past_future(spec, list),
        SchedulerSpec::Aggressive(spec) => lightllm::aggressive(spec, list),
        SchedulerSpec::Conservative(spec) => lightllm::conservative(spec, list),
        SchedulerSpec::LightllmMain(spec) => lightllm::lightllm_main(spec, list),
        SchedulerSpec::Edf(spec) => {
            let mut check = Check { prefix: "scheduler.edf", list };
            check.batch(&spec.batch);
            check.that(spec.ttft.0.0 > 0, "ttft", "is 0; it must be above 0");
            let all_above = spec.class_ttft.iter().all(|promise| promise.0.0 > 0);
            check.that(all_above, "class_ttft", "has a 0; every promise must be above 0");
        }
        SchedulerSpec::Vtc(spec) => {
            let mut check = Check { prefix: "scheduler.vtc", list };
            check.batch(&spec.batch);
            check.shares("", spec.input_price, spec.output_price, &spec.fair_weights);
        }
        SchedulerSpec::Sjf(spec) => {
            let mut check = Check { prefix: "scheduler.sjf", list };
            check.batch(&spec.batch);
            check.lengths("lengths", &spec.lengths);
            let ageing_ok = (0.0..=1e6).contains(&spec.ageing);
            check.that(ageing_ok, "ageing", format!("is {}; it must be from 0 to 1000000", spec.ageing));
        }
        SchedulerSpec::Ltr(spec) => {
            let mut check = Check { prefix: "scheduler.ltr", list };
            check.batch(&spec.batch);
            check.lengths("lengths", &spec.lengths);
            check.positive("period", spec.period);
            check.swap(spec.preemption_mode, spec.swap_space);
        }
        SchedulerSpec::Fastserve(spec) => {
            let mut check = Check { prefix: "scheduler.fastserve", list };
            check.batch(&spec.batch);
            check.that(spec.base_quantum.0.0 > 0, "base_quantum", "is 0; it must be above 0");
            check.range("quantum_ratio", u64::from(spec.quantum_ratio), 2, 100);
            check.that(spec.starvation_threshold.0.0 > 0, "starvation_threshold", "is 0; it must be above 0");
            check.swap(spec.preemption_mode, spec.swap_space);
        }
    }
}

fn check_semi_pd(spec: &SemiPdSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.semi-pd", list };
    check.positive("max_num_seqs", spec.max_num_seqs);
    check.positive("max_prefill_tokens", spec.max_prefill_tokens);
    check.watermark(spec.watermark);
    for (key, part) in [("scaling.prefill", spec.scaling.prefill), ("scaling.decode", spec.scaling.decode)] {
        check.that((0.0..=1.0).contains(&part), key, format!("is {part}; it must be from 0 to 1"));
    }
    let (key, controller) = match &spec.partition {
        PartitionSpec::Static(_) => ("partition.static", None),
        PartitionSpec::Paper(controller) => ("partition.paper", Some(controller)),
        PartitionSpec::Released(controller) => ("partition.released", Some(controller)),
    };
    let Shares { prefill, decode } = spec.partition.start();
    let place = if controller.is_some() { join(key, "start") } else { key.to_owned() };
    check.range(&join(&place, "prefill"), u64::from(prefill), 1, 100);
    check.range(&join(&place, "decode"), u64::from(decode), 1, 100);
    if let Some(controller) = controller {
        for (name, promise) in [("ttft", controller.ttft), ("tpot", controller.tpot)] {
            check.that(promise.0.0 > 0, &join(key, name), "is 0; it must be above 0");
        }
        let share = controller.percentile;
        let told = format!("is {share}; it must be above 0 and at most 1");
        check.that(share > 0.0 && share <= 1.0, &join(key, "percentile"), told);
        check.positive(&join(key, "window"), controller.window);
        check.range(&join(key, "step"), u64::from(controller.step), 1, 100);
        check.positive(&join(key, "max_steps"), controller.max_steps);
    }
}

fn check_vllm(spec: &VllmSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.vllm", list };
    check.positive("max_num_batched_tokens", spec.max_num_batched_tokens);
    check.positive("max_num_seqs", spec.max_num_seqs);
    check.positive("prefill_schedule_interval", spec.prefill_schedule_interval);
    if let Some(tokens) = spec.max_num_scheduled_tokens {
        check.positive("max_num_scheduled_tokens", tokens);
    }
    if let Some(seqs) = spec.max_num_active_seqs {
        check.positive("max_num_active_seqs", seqs);
    }
    check.watermark(spec.watermark);
}
