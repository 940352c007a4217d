//! The names of the figures that promises and expectations are about, and what they are measured in.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a figure is measured in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dimension {
    /// Seconds; written with a unit (`250ms`).
    Time,
    /// Per second (requests, tokens); written with a unit (`30/s`).
    Rate,
    /// A count, a share, a ratio; written as a number or in percent.
    Plain,
}

/// Every metric name, in the order of reports.
pub const NAMES: &[&str] = &[
    "ttft_mean",
    "ttft_p50",
    "ttft_p90",
    "ttft_p95",
    "ttft_p99",
    "ttft_p99_9",
    "tpot_mean",
    "tpot_p50",
    "tpot_p90",
    "tpot_p95",
    "tpot_p99",
    "tpot_p99_9",
    "itl_mean",
    "itl_p50",
    "itl_p90",
    "itl_p95",
    "itl_p99",
    "itl_p99_9",
    "mtpot_mean",
    "mtpot_p50",
    "mtpot_p90",
    "mtpot_p95",
    "mtpot_p99",
    "mtpot_p99_9",
    "e2el_mean",
    "e2el_p50",
    "e2el_p90",
    "e2el_p95",
    "e2el_p99",
    "e2el_p99_9",
    "queue_time_mean",
    "queue_time_p50",
    "queue_time_p90",
    "queue_time_p95",
    "queue_time_p99",
    "queue_time_p99_9",
    "client_ttft_mean",
    "client_ttft_p50",
    "client_ttft_p90",
    "client_ttft_p95",
    "client_ttft_p99",
    "client_ttft_p99_9",
    "client_e2el_mean",
    "client_e2el_p50",
    "client_e2el_p90",
    "client_e2el_p95",
    "client_e2el_p99",
    "client_e2el_p99_9",
    "first_turn_ttft_mean",
    "first_turn_ttft_p50",
    "first_turn_ttft_p90",
    "first_turn_ttft_p95",
    "first_turn_ttft_p99",
    "first_turn_ttft_p99_9",
    "later_turn_ttft_mean",
    "later_turn_ttft_p50",
    "later_turn_ttft_p90",
    "later_turn_ttft_p95",
    "later_turn_ttft_p99",
    "later_turn_ttft_p99_9",
    "session_duration_mean",
    "session_duration_p50",
    "session_duration_p90",
    "session_duration_p95",
    "session_duration_p99",
    "session_duration_p99_9",
    "session_waited_mean",
    "session_waited_p50",
    "session_waited_p90",
    "session_waited_p95",
    "session_waited_p99",
    "session_waited_p99_9",
    "low_ttft_mean",
    "low_ttft_p50",
    "low_ttft_p90",
    "low_ttft_p95",
    "low_ttft_p99",
    "low_ttft_p99_9",
    "low_tpot_mean",
    "low_tpot_p50",
    "low_tpot_p90",
    "low_tpot_p95",
    "low_tpot_p99",
    "low_tpot_p99_9",
    "low_e2el_mean",
    "low_e2el_p50",
    "low_e2el_p90",
    "low_e2el_p95",
    "low_e2el_p99",
    "low_e2el_p99_9",
    "high_ttft_mean",
    "high_ttft_p50",
    "high_ttft_p90",
    "high_ttft_p95",
    "high_ttft_p99",
    "high_ttft_p99_9",
    "high_tpot_mean",
    "high_tpot_p50",
    "high_tpot_p90",
    "high_tpot_p95",
    "high_tpot_p99",
    "high_tpot_p99_9",
    "high_e2el_mean",
    "high_e2el_p50",
    "high_e2el_p90",
    "high_e2el_p95",
    "high_e2el_p99",
    "high_e2el_p99_9",
    "request_throughput",
    "output_throughput",
    "total_token_throughput",
    "request_goodput",
    "token_goodput",
    "goodput_fraction",
    "finished",
    "cancelled",
    "expired",
    "rejected",
    "failed",
    "failed_in_trace",
    "attempts",
    "preemptions",
    "swapped_tokens",
    "recompute_tax",
    "prefix_hit_rate",
    "loaded_tokens",
    "cache_gap",
    "shrunk",
    "quality",
    "quality_unknown",
    "answers_per_gpu_second",
    "draft_tokens",
    "accepted_tokens",
    "draft_acceptance_rate",
    "mean_acceptance_length",
    "kv_usage_mean",
    "kv_usage_max",
    "running_mean",
    "running_max",
    "waiting_mean",
    "waiting_max",
    "steps",
    "decode_steps",
    "plans",
    "segments",
    "mean_jump",
    "makespan",
    "replica_hours",
    "utilization",
    "gpu_hours",
    "gpus_mean",
    "tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "sessions_over",
    "sessions_finished",
    "session_throughput",
    "session_requests",
    "session_prompt_tokens",
    "session_cached_tokens",
    "session_computed_tokens",
    "session_gpu_seconds",
    "low_throughput",
    "high_throughput",
    "gpu_power_mean",
    "gpu_power_peak",
    "gpu_clock_mean",
    "gpu_limited",
    "power_mean",
    "power_peak",
    "power_load_mean",
    "power_load_p50",
    "power_load_p99",
    "power_load_peak",
    "power_rise_period",
    "power_rise_command",
    "power_limited",
    "power_commands",
    "power_cycles",
    "power_cycle",
    "power_brakes",
    "power_braked",
    "power_capped_low",
    "power_capped_high",
    "power_excursions",
    "power_excursion_longest",
    "power_excursion_peak",
    "power_breaker",
    "energy_gpu_kwh",
    "energy_server_kwh",
    "energy_facility_kwh",
    "energy_gpu_per_token",
    "energy_server_per_token",
    "energy_facility_per_token",
    "energy_cost",
    "energy_carbon_kg",
    "carbon_per_mtoken",
    "cost_hardware",
    "cost_total",
    "cost_per_mtoken",
    "cost_per_mtoken_output",
    "break_even_input",
    "break_even_output",
];

/// The name of a metric, known to exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Metric(&'static str);

impl Metric {
    /// The metric with this name.
    pub fn named(name: &str) -> Option<Metric> {
        NAMES.iter().find(|&&known| known == name).map(|&known| Metric(known))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its dimension.
    pub fn dimension(self) -> Dimension {
        const LATENCIES: [&str; 18] = [
            "ttft_",
            "tpot_",
            "itl_",
            "mtpot_",
            "e2el_",
            "queue_time_",
            "client_ttft_",
            "client_e2el_",
            "first_turn_ttft_",
            "later_turn_ttft_",
            "session_duration_",
            "session_waited_",
            "low_ttft_",
            "low_tpot_",
            "low_e2el_",
            "high_ttft_",
            "high_tpot_",
            "high_e2el_",
        ];
        match self.0 {
            "makespan" | "power_cycle" | "power_braked" | "power_excursion_longest" => Dimension::Time,
            "request_goodput" | "token_goodput" | "tokens_per_s_per_gpu" | "tokens_per_s_per_user" => Dimension::Rate,
            name if name.ends_with("_throughput") => Dimension::Rate,
            name if LATENCIES.iter().any(|latency| name.starts_with(latency)) => Dimension::Time,
            _ => Dimension::Plain,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
        let name = String::deserialize(deserializer)?;
        Metric::named(&name).ok_or_else(|| de::Error::unknown_variant(&name, NAMES))
    }
}

impl JsonSchema for Metric {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": NAMES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_summary() {
        assert_eq!(NAMES, overbook_sim::results::summary::Summary::metric_names());
    }

    #[test]
    fn dimensions() {
        let dimension = |name| Metric::named(name).map(Metric::dimension);
        assert_eq!(dimension("queue_time_p99_9"), Some(Dimension::Time));
        assert_eq!(dimension("output_throughput"), Some(Dimension::Rate));
        assert_eq!(dimension("kv_usage_max"), Some(Dimension::Plain));
        assert_eq!(dimension("ttft"), None);
    }
}
