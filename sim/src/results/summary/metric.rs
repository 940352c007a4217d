//! Figures of a run by name.

use super::{SessionFigures, Summary};
use crate::power::figures::PowerFigures;
use crate::power::share::Share;
use crate::results::economics::{KWH, per_mtoken};
use crate::results::histogram::Histogram;
use crate::results::rows::Outcome;

/// Names of the latencies, as in `ttft_p99`.
pub const LATENCIES: [&str; 18] = [
    "ttft",
    "tpot",
    "itl",
    "mtpot",
    "e2el",
    "queue_time",
    "client_ttft",
    "client_e2el",
    "first_turn_ttft",
    "later_turn_ttft",
    "session_duration",
    "session_waited",
    "low_ttft",
    "low_tpot",
    "low_e2el",
    "high_ttft",
    "high_tpot",
    "high_e2el",
];

/// Names and values of the percentiles that reports state.
pub const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99_9", 0.999)];

/// Latencies of requests that are promised.
const PROMISED: [&str; 4] = ["ttft", "tpot", "mtpot", "e2el"];

const NS: f64 = 1e-9;

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

impl Summary {
    /// Every name that [`Summary::metric`] knows, in a fixed order.
    pub fn metric_names() -> Vec<String> {
        let statistics = ["mean"].into_iter().chain(QUANTILES.map(|(name, _)| name));
        let latencies = LATENCIES.iter().flat_map(|latency| statistics.clone().map(move |s| format!("{latency}_{s}")));
        latencies.chain(SINGLE.iter().map(|&(name, _)| name.to_owned())).collect()
    }

    /// The latency with this name: one of [`LATENCIES`].
    pub fn latency(&self, name: &str) -> Option<&Histogram> {
        match name {
            "ttft" => Some(&self.latencies.ttft),
            "tpot" => Some(&self.latencies.tpot),
            "itl" => Some(&self.itl),
            "mtpot" => Some(&self.latencies.mtpot),
            "e2el" => Some(&self.latencies.e2el),
            "queue_time" => Some(&self.queue_time),
            "client_ttft" => self.client.as_ref().map(|client| &client.ttft),
            "client_e2el" => self.client.as_ref().map(|client| &client.e2el),
            "first_turn_ttft" => self.sessions.as_ref().map(|sessions| &sessions.first_ttft),
            "later_turn_ttft" => self.sessions.as_ref().map(|sessions| &sessions.later_ttft),
            "session_duration" => self.sessions.as_ref().map(|sessions| &sessions.duration),
            "session_waited" => self.sessions.as_ref().map(|sessions| &sessions.waited),
            "low_ttft" => self.power.as_ref().map(|power| &power.low.latencies.ttft),
            "low_tpot" => self.power.as_ref().map(|power| &power.low.latencies.tpot),
            "low_e2el" => self.power.as_ref().map(|power| &power.low.latencies.e2el),
            "high_ttft" => self.power.as_ref().map(|power| &power.high.latencies.ttft),
            "high_tpot" => self.power.as_ref().map(|power| &power.high.latencies.tpot),
            "high_e2el" => self.power.as_ref().map(|power| &power.high.latencies.e2el),
            _ => None,
        }
    }

    /// A figure by its name, in SI units (times in seconds, rates per second, shares from 0 to 1).
    ///
    /// `None` for an unknown name and for a figure that this run does not define (a percentile without values).
    pub fn metric(&self, name: &str) -> Option<f64> {
        if let Some(&(_, figure)) = SINGLE.iter().find(|&&(known, _)| known == name) {
            return figure(self);
        }
        // "queue_time_p99_9": the latency's name may hold underscores, and so may the percentile's.
        LATENCIES.iter().find_map(|latency| {
            let statistic = name.strip_prefix(latency)?.strip_prefix('_')?;
            let histogram = self.latency(latency)?;
            let ns = match QUANTILES.iter().find(|&&(known, _)| known == statistic) {
                Some(&(_, p)) => histogram.quantile(p)? as f64,
                None if statistic == "mean" => histogram.mean()?,
                None => return None,
            };
            Some(ns * NS)
        })
    }

    /// What a target is judged by: [`Summary::metric`], but for percentiles of requests' latencies with the requests that came to nothing
    /// (expired, rejected, failed) above all others. `None` also where so many came to nothing that the percentile is theirs.
    pub fn judged(&self, name: &str) -> Option<f64> {
        let lost = self.count(Outcome::Expired) + self.count(Outcome::Rejected) + self.count(Outcome::Failed);
        let percentile = PROMISED.iter().find_map(|latency| {
            let statistic = name.strip_prefix(latency)?.strip_prefix('_')?;
            let (_, p) = QUANTILES.iter().find(|(known, _)| *known == statistic)?;
            Some((self.latency(latency)?, *p))
        });
        let Some((histogram, p)) = percentile.filter(|_| lost > 0) else { return self.metric(name) };
        let finished = histogram.count();
        // In integers, as the histogram has it.
        let parts = (p * 1e9).round() as u128;
        let rank = (parts * u128::from(finished + lost)).div_ceil(1_000_000_000).max(1) as u64;
        if rank > finished {
            return None;
        }
        Some(histogram.quantile((rank as f64 - 0.5) / finished as f64)? as f64 * NS)
    }

    /// Itself, if a promise per request was given: without one, no request is good or bad.
    fn promised(&self) -> Option<&Summary> {
        self.slo.is_set().then_some(self)
    }

    fn powered(&self) -> Option<&PowerFigures> {
        self.power.as_ref().map(|power| &power.figures)
    }

    fn per_session(&self, count: impl FnOnce(&SessionFigures) -> &Histogram) -> Option<f64> {
        count(self.sessions.as_ref()?).mean()
    }

    fn per_second(&self, n: u64) -> Option<f64> {
        ratio(n as f64, self.makespan().as_secs_f64())
    }
}

type Figure = fn(&Summary) -> Option<f64>;

/// Figures that are not a statistic of a latency.
const SINGLE: [(&str, Figure); 94] = [
    ("request_throughput", |s| s.per_second(s.count(Outcome::Finished))),
    ("output_throughput", |s| s.per_second(s.tokens.finished_output)),
    ("total_token_throughput", |s| s.per_second(s.tokens.finished_prompt + s.tokens.finished_output)),
    ("request_goodput", |s| s.promised()?.per_second(s.attained.all)),
    ("token_goodput", |s| s.promised()?.per_second(s.tokens.good)),
    ("goodput_fraction", |s| ratio(s.promised()?.attained.all as f64, s.served() as f64)),
    ("finished", |s| Some(s.count(Outcome::Finished) as f64)),
    ("cancelled", |s| Some(s.count(Outcome::Cancelled) as f64)),
    ("expired", |s| Some(s.count(Outcome::Expired) as f64)),
    ("rejected", |s| Some(s.count(Outcome::Rejected) as f64)),
    ("failed", |s| Some(s.count(Outcome::Failed) as f64)),
    ("failed_in_trace", |s| Some(s.count(Outcome::FailedInTrace) as f64)),
    ("attempts", |s| Some(s.attempts as f64)),
    ("preemptions", |s| Some(s.work.preemptions as f64)),
    ("swapped_tokens", |s| Some(s.tokens.swapped as f64)),
    ("recompute_tax", |s| ratio(s.tokens.recomputed as f64, s.tokens.computed as f64)),
    ("prefix_hit_rate", |s| ratio(s.tokens.cached as f64, s.tokens.prompt as f64)),
    ("loaded_tokens", |s| {
        let kv = s.kv.as_ref()?;
        let blocks: u64 = kv.tiers.iter().map(|tier| tier.traffic.loaded).sum();
        Some((blocks * u64::from(kv.block_tokens)) as f64)
    }),
    ("cache_gap", |s| {
        let bound = s.kv.as_ref()?.bound?;
        ratio(bound.belady as f64 - bound.found as f64, bound.asked as f64)
    }),
    ("shrunk", |s| Some(s.retained.as_ref()?.shrunk as f64)),
    ("quality", Summary::quality_share),
    ("quality_unknown", Summary::quality_unknown),
    ("answers_per_gpu_second", Summary::answers_per_gpu_second),
    ("draft_tokens", |s| Some(s.speculation.as_ref()?.draft_tokens as f64)),
    ("accepted_tokens", |s| Some(s.speculation.as_ref()?.accepted_tokens as f64)),
    ("draft_acceptance_rate", |s| s.speculation.as_ref()?.acceptance_rate()),
    ("mean_acceptance_length", |s| s.speculation.as_ref()?.mean_acceptance_length()),
    ("kv_usage_mean", |s| Some(s.load.kv_usage_mean)),
    ("kv_usage_max", |s| Some(s.load.kv_usage_max)),
    ("running_mean", |s| Some(s.load.running_mean)),
    ("running_max", |s| Some(f64::from(s.load.running_max))),
    ("waiting_mean", |s| Some(s.load.waiting_mean)),
    ("waiting_max", |s| Some(f64::from(s.load.waiting_max))),
    ("steps", |s| Some(s.work.steps as f64)),
    ("decode_steps", |s| Some(s.work.decode_steps as f64)),
    ("plans", |s| Some(s.work.plans as f64)),
    ("segments", |s| Some(s.work.segments as f64)),
    ("mean_jump", |s| ratio(s.work.steps as f64, s.work.segments as f64)),
    ("makespan", |s| Some(s.makespan().as_secs_f64())),
    ("replica_hours", |s| Some(s.fleet.replica_seconds(s.makespan()) / 3600.0)),
    ("utilization", |s| {
        let lanes = f64::from(s.fleet.lanes) / f64::from(s.fleet.replicas.max(1));
        ratio(s.work.busy.as_secs_f64(), s.fleet.replica_seconds(s.makespan()) * lanes)
    }),
    ("gpu_hours", |s| Some(s.fleet.gpu_time?.as_secs_f64() / 3600.0)),
    ("gpus_mean", |s| ratio(s.fleet.gpu_time?.as_secs_f64(), s.makespan().as_secs_f64())),
    ("tokens_per_s_per_gpu", |s| ratio(s.tokens.finished_output as f64, s.fleet.gpu_time?.as_secs_f64())),
    ("tokens_per_s_per_user", |s| ratio(1.0, s.metric("tpot_p50")?)),
    ("sessions_over", |s| Some(s.sessions.as_ref()?.over as f64)),
    ("sessions_finished", |s| Some(s.sessions.as_ref()?.finished as f64)),
    ("session_throughput", |s| s.per_second(s.sessions.as_ref()?.finished)),
    ("session_requests", |s| s.per_session(|sessions| &sessions.requests)),
    ("session_prompt_tokens", |s| s.per_session(|sessions| &sessions.prompt)),
    ("session_cached_tokens", |s| s.per_session(|sessions| &sessions.cached)),
    ("session_computed_tokens", |s| s.per_session(|sessions| &sessions.computed)),
    ("session_gpu_seconds", |s| ratio(s.fleet.gpu_time?.as_secs_f64(), s.sessions.as_ref()?.over as f64)),
    ("low_throughput", |s| s.per_second(s.power.as_ref()?.low.tokens)),
    ("high_throughput", |s| s.per_second(s.power.as_ref()?.high.tokens)),
    ("gpu_power_mean", |s| Some(s.limiter.as_ref()?.mean_watts())),
    ("gpu_power_peak", |s| Some(s.limiter.as_ref()?.peak.as_watts_f64())),
    ("gpu_clock_mean", |s| s.limiter.as_ref()?.mean_clock()),
    ("gpu_limited", |s| s.limiter.as_ref()?.limited_share()),
    ("power_mean", |s| Some(s.powered()?.row.mean().as_watts_f64())),
    ("power_peak", |s| Some(s.powered()?.row.peak.as_watts_f64())),
    ("power_load_mean", |s| Some(Share::of(s.powered()?.row.mean(), s.powered()?.budget).as_f64())),
    ("power_load_p50", |s| Some(s.powered()?.row.load_at(0.5).as_f64())),
    ("power_load_p99", |s| Some(s.powered()?.row.load_at(0.99).as_f64())),
    ("power_load_peak", |s| Some(Share::of(s.powered()?.row.peak, s.powered()?.budget).as_f64())),
    ("power_rise_period", |s| Some(s.powered()?.row.rises.0.as_f64())),
    ("power_rise_command", |s| Some(s.powered()?.row.rises.1.as_f64())),
    ("power_limited", |s| Some(s.powered()?.limited)),
    ("power_commands", |s| Some(s.powered()?.control.commands as f64)),
    ("power_cycles", |s| Some(s.powered()?.control.cycles as f64)),
    ("power_cycle", |s| Some(s.powered()?.control.cycle?.as_secs_f64())),
    ("power_brakes", |s| Some(s.powered()?.control.brakes as f64)),
    ("power_braked", |s| Some(s.powered()?.control.braked.as_secs_f64())),
    ("power_capped_low", |s| s.powered()?.low.capped_share(s.powered()?.row.span)),
    ("power_capped_high", |s| s.powered()?.high.capped_share(s.powered()?.row.span)),
    ("power_excursions", |s| Some(s.powered()?.row.excursions.count as f64)),
    ("power_excursion_longest", |s| Some(s.powered()?.row.excursions.longest.as_secs_f64())),
    ("power_excursion_peak", |s| Some(Share::of(s.powered()?.row.excursions.all.most, s.powered()?.budget).as_f64())),
    ("power_breaker", |s| Some(s.powered()?.row.breaker.0)),
    ("energy_gpu_kwh", |s| Some(s.powered()?.gpu_joules() / KWH)),
    ("energy_server_kwh", |s| Some(s.powered()?.server_joules() / KWH)),
    ("energy_facility_kwh", |s| Some(s.facility_joules()? / KWH)),
    ("energy_gpu_per_token", |s| Some(s.joules_per_token()?.0)),
    ("energy_server_per_token", |s| Some(s.joules_per_token()?.1)),
    ("energy_facility_per_token", |s| s.joules_per_token()?.2),
    ("energy_cost", Summary::energy_cost),
    ("energy_carbon_kg", |s| Some(s.carbon_grams()? / 1e3)),
    ("carbon_per_mtoken", |s| per_mtoken(s.carbon_grams()?, s.tokens.finished_output)),
    ("cost_hardware", |s| Some(s.money()?.hardware)),
    ("cost_total", |s| Some(s.money()?.total())),
    ("cost_per_mtoken", |s| per_mtoken(s.money()?.total(), s.tokens.finished_prompt + s.tokens.finished_output)),
    ("cost_per_mtoken_output", Summary::cost_per_mtoken_output),
    ("break_even_input", |s| Some(s.break_even()?.0)),
    ("break_even_output", |s| Some(s.break_even()?.1)),
];
