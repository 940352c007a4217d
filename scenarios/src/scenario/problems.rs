//! What the types cannot say: ranges, and settings that exclude or need each other.
//!
//! What a policy says of its own settings is asked of it.

mod pools;

use overbook_sim::check::{Check, Problem};
use overbook_sim::kv::retention::RetentionPolicy;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::time::Span;
use overbook_sim::units::Duration;

use super::{
    Clients, CostSpec, DisaggregationSpec, EarlyRejectionSpec, EngineSpec, FailureSpec, FleetSpec, GoodputSpec,
    GrowthSpec, MaxModelLen, MaxNewTokens, PipelineSpec, RowSpec, ScaleTargetSpec, Scenario, VERSION, WorkloadSpec,
};
use crate::yaml::join;

/// The last key of a path, as messages begin with it; of a list item, the list's key and the number.
pub(crate) fn key_of(path: &str) -> &str {
    let start = path.rmatch_indices('.').map(|(dot, _)| dot + 1);
    let named = |&at: &usize| !path[at..].starts_with(|c: char| c.is_ascii_digit());
    start.chain([0]).find(named).map_or(path, |at| &path[at..])
}

impl Scenario {
    /// Everything that is out of range or does not fit together, as (dotted path, message after the key's name).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut list = Vec::new();
        let mut check = Check::new("", &mut list);
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
        if let Some(cache) = &self.engine.prefix_cache {
            cache.check(&self.scheduler, self.fleet.pools.is_empty(), &mut Check::new("engine", &mut list));
        }
        if let Some(row) = &self.fleet.row {
            row.check(&mut Check::new("fleet.row", &mut list));
        }
        if let Some(economics) = &self.economics {
            economics.check(&mut Check::new("economics", &mut list));
        }
        if let Some(limiter) = &self.fleet.limiter {
            let row = self.fleet.row.clone().or_else(|| self.power.map(|_| RowSpec::default()));
            limiter.check(row.as_ref(), &mut Check::new("fleet.limiter", &mut list));
        }
        if let Some(retention) = &self.engine.retention {
            let mut check = Check::new("engine", &mut list);
            let told = "cannot be combined with this scheduler, which counts tokens of requests where only slots are kept: vllm, sarathi, \
                        orca and static count slots";
            check.that(self.scheduler.needs().counts_slots, "retention", told);
            let told =
                "is `oracle`, which knows all attention to come: it has a row in quality tables, and none in a run";
            check.that(retention.policy != RetentionPolicy::Oracle, "retention.policy", told);
            let told = "has no effect with this scheduler, which reserves what a request may take and preempts none";
            let preempts = self.scheduler.needs().reserves.is_none();
            check.that(retention.shrink_to.is_none() || preempts, "retention.shrink_to", told);
            retention.check(&mut check.below("retention"));
        }
        if let Some(speculation) = &self.engine.speculation {
            speculation.check(self, &mut Check::new("engine", &mut list));
        }
        self.scheduler.check(&mut Check::new("scheduler", &mut list));
        for (metric, bound) in self.slo.bounds() {
            Check::new("slo", &mut list).that(bound.0.0 > 0, metric, "is 0; it must be above 0");
        }
        if let Some(least) = self.slo.quality.as_ref().and_then(|quality| quality.at_least) {
            let told = format!("is {least}; a share of the answers of full caches, as 0.99 for 99 %, from 0 to 2");
            Check::new("slo.quality", &mut list).that((0.0..=2.0).contains(&least), "at_least", told);
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
        let mut check = Check::new("workload", list);
        let told = "must be from 0 to 2, as servers take it";
        check.that(self.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "temperature", told);
        let known = !self.ignore_eos || self.max_new_tokens == MaxNewTokens::True;
        check.that(known, "ignore_eos", "needs `max_new_tokens: true`: outputs end at their limits");
        if let MaxNewTokens::Fixed(tokens) = self.max_new_tokens {
            check.positive("max_new_tokens.fixed", tokens);
        }
        if self.per_replica {
            let told = "needs `generate`: traces and populations have one stream of requests for all replicas";
            check.that(self.generate.is_some(), "per_replica", told);
            let sessions = self.generate.as_ref().is_some_and(|generate| generate.sessions.is_some());
            let told = "cannot be combined with sessions: their requests follow on one another wherever they go";
            check.that(!sessions, "per_replica", told);
            let told = "cannot be combined with `clients`, whose arrival times do not count";
            check.that(self.clients.is_none(), "per_replica", told);
        }
        if let Some(Clients { count, .. }) = self.clients {
            check.range("clients.count", u64::from(count), 1, 1_000_000);
        }
        if let Some(sessions) = self.trace.as_ref().and_then(|trace| trace.sessions.as_ref()) {
            let told = "cannot be combined with `clients`, each of whom opens a session when the last one is over";
            check.that(sessions.rate.is_none() || self.clients.is_none(), "trace.sessions.rate", told);
            let told = "holds requests back in the order of a trace, and those of sessions wait for their own answers: bound the sessions \
                        at once with `clients`";
            check.that(self.max_concurrency.is_none(), "max_concurrency", told);
        }
        if let Some(most) = self.max_concurrency {
            check.positive("max_concurrency", most);
            let told = "cannot be combined with `clients`: each of them has one request under way";
            check.that(self.clients.is_none(), "max_concurrency", told);
        }
        if let Some(retry) = &self.retry {
            check.range("retry.attempts", u64::from(retry.attempts), 1, 1000);
            check.share("retry.jitter", retry.jitter);
            check.that(!retry.on.is_empty(), "retry.on", "is empty; leave `retry` out if nothing is sent again");
        }
        let limits = [("deadline", self.limits.deadline), ("cancel_after", self.limits.cancel_after)].into_iter();
        for (key, limit) in limits.filter_map(|(key, limit)| Some((key, limit?))) {
            check.time(&join("limits", key), limit);
        }
    }
}

fn below(prefix: &'static str, problems: Vec<Problem>) -> impl Iterator<Item = Problem> {
    problems.into_iter().map(move |(path, message)| (join(prefix, &path), message))
}

/// Least time between two reports of replicas, or two decisions of an autoscaler: below it a run does little else, and no system does it.
const INTERVAL_MIN: Span = Span(1_000_000);

fn told_interval(interval: Duration) -> String {
    format!("is {interval}; it must be at least {}", Duration(INTERVAL_MIN))
}

impl FleetSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let mut check = Check::new("fleet", list);
        check.range("replicas", u64::from(self.replicas), 1, 4096);
        self.router.check(&mut check.below("router"));
        for (number, failure) in self.controllers.failures.iter().enumerate() {
            let FailureSpec { replica, server, .. } = *failure;
            if let Some(replica) = replica {
                let told = format!("is {replica}; there are {} replicas, counted from 0", self.replicas);
                check.that(
                    replica < self.replicas || self.replicas == 0,
                    &format!("controllers.failures.{number}.replica"),
                    told,
                );
            }
            let told = "names one of `replica` and `server`: what fails?";
            check.that(replica.is_some() != server.is_some(), &format!("controllers.failures.{number}"), told);
        }
        if let Some(faults) = self.controllers.faults {
            check.time("controllers.faults.mtbf", faults.mtbf);
            check.time("controllers.faults.mttr", faults.mttr);
        }
        if let Some(view) = self.controllers.router_view {
            let key = "controllers.router_view.interval";
            check.that(view.interval.0.0 > 0, key, "is 0; without `router_view` the router sees all live");
            check.that(view.interval.0.0 == 0 || view.interval.0 >= INTERVAL_MIN, key, told_interval(view.interval));
        }
        if self.pools.is_empty() {
            let told = "cannot be combined with `disaggregation` here: replicas of two kinds scale apart, so make them `pools` and give each \
                        its own `autoscale`";
            check.that(
                self.controllers.autoscale.is_none() || self.controllers.disaggregation.is_none(),
                "controllers.autoscale",
                told,
            );
            self.check_autoscale(list);
            self.check_replica(list);
        }
    }

    /// When replicas come and go.
    fn check_autoscale(&self, list: &mut Vec<Problem>) {
        let mut check = Check::new("fleet", list);
        if let Some(auto) = self.controllers.autoscale {
            check.range("controllers.autoscale.min", u64::from(auto.min), 1, u64::from(self.replicas.max(1)));
            let told = told_interval(auto.interval);
            check.that(auto.interval.0 >= INTERVAL_MIN, "controllers.autoscale.interval", told);
            let (key, target, most) = match auto.target {
                ScaleTargetSpec::Outstanding(target) => {
                    ("controllers.autoscale.target.outstanding", target, f64::INFINITY)
                }
                ScaleTargetSpec::KvUse(target) => ("controllers.autoscale.target.kv-use", target, 1.0),
                ScaleTargetSpec::Waiting(target) => ("controllers.autoscale.target.waiting", target, f64::INFINITY),
                ScaleTargetSpec::QueueTime(target) => {
                    ("controllers.autoscale.target.queue-time", target.0.as_secs_f64(), f64::INFINITY)
                }
            };
            let told = format!("is {target}; it must be above 0{}", if most > 1.0 { "" } else { " and at most 1" });
            check.that(target > 0.0 && target <= most && target.is_finite(), key, told);
            let told = format!("is {}; it must be at least 0 and below 1", auto.tolerance);
            check.that((0.0..1.0).contains(&auto.tolerance), "controllers.autoscale.tolerance", told);
            if let GrowthSpec::Limited { replicas, percent, .. } = auto.growth {
                let told = format!("is {percent}; it must be a number from 0 on");
                check.that(percent >= 0.0 && percent.is_finite(), "controllers.autoscale.growth.limited.percent", told);
                let told = "adds nothing: let `replicas` or `percent` be above 0".to_owned();
                check.that(replicas > 0 || percent > 0.0, "controllers.autoscale.growth.limited", told);
            }
        }
    }

    /// What a replica is made of.
    fn check_replica(&self, list: &mut Vec<Problem>) {
        let mut check = Check::new("fleet", list);
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
        let (ranks, group) = (self.dp_attention, self.tensor_parallel);
        check.range("dp_attention", u64::from(ranks), 1, 64);
        let told = format!(
            "is {ranks}; it must divide `tensor_parallel` ({group}), the GPUs of all ranks together: for vLLM's \
             `--data-parallel-size {ranks}` that is {ranks} × its `--tensor-parallel-size`"
        );
        check.that(ranks == 0 || group.is_multiple_of(ranks), "dp_attention", told);
    }
}

impl FleetSpec {
    fn check_roles(&self, scheduler: &SchedulerSpec, list: &mut Vec<Problem>) {
        if let Some(EarlyRejectionSpec { ttft, tbt }) = self.controllers.early_rejection {
            let mut check = Check::new("fleet.controllers.early_rejection", list);
            for (key, limit) in [("ttft", ttft), ("tbt", tbt)] {
                check.that(limit.is_none_or(|limit| limit.0.0 > 0), key, "is 0; it must be above 0");
            }
            if ttft.is_none() && tbt.is_none() {
                list.push((
                    "fleet.controllers.early_rejection".to_owned(),
                    "promises nothing; set ttft or tbt".to_owned(),
                ));
            }
        }
        let Some(DisaggregationSpec { prefill, .. }) = self.controllers.disaggregation else { return };
        let mut check = Check::new("fleet.controllers.disaggregation", list);
        let told = format!("is {prefill} of {} replicas; some must compute prompts and some decode", self.replicas);
        check.that((1..self.replicas).contains(&prefill), "prefill", told);
        let told = "needs a scheduler that admits by free blocks (vllm, vllm-v0, sglang, sarathi, trtllm with max-utilization): one that reserves whole outputs, or forms whole batches, would be passed over by requests that come from other replicas";
        if !scheduler.needs().serves_apart {
            list.push(("fleet.controllers.disaggregation".to_owned(), told.to_owned()));
        }
    }
}

impl EngineSpec {
    fn check(&self, list: &mut Vec<Problem>) {
        let mut check = Check::new("engine", list);
        check.share_above_zero("gpu_memory_utilization", self.gpu_memory_utilization);
        check.range("block_tokens", u64::from(self.block_tokens), 1, 512);
        if let Some(tokens) = self.kv_tokens {
            let block = u64::from(self.block_tokens);
            check.that(tokens >= block, "kv_tokens", format!("is {tokens}; one block alone holds {block} tokens"));
            check.that(tokens <= 1 << 40, "kv_tokens", format!("is {tokens}; at most 2^40 tokens"));
        }
        if let Some(MaxModelLen::Tokens(tokens)) = self.max_model_len {
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
        let mut check = Check::new("slo.goodput", list);
        let promises = [("ttft", self.ttft), ("tpot", self.tpot), ("mtpot", self.mtpot), ("e2el", self.e2el)];
        for (key, bound) in promises.into_iter().filter_map(|(key, bound)| Some((key, bound?))) {
            check.time(key, bound);
        }
        check.share_above_zero("share", self.share);
        let any = promises.iter().any(|(_, bound)| bound.is_some());
        if !any {
            list.push(("slo.goodput".to_owned(), "promises nothing; set ttft, tpot, mtpot or e2el".to_owned()));
        }
    }
}
