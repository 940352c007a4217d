//! Promises to the users.

use overbook_sim::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! bounds {
    ($($name:ident: $doc:literal,)*) => {
        /// Upper bounds on latencies over all finished requests, and the definition of goodput. All are optional.
        #[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Slo {
            $(
                #[doc = $doc]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<Duration>,
            )*
            /// What a single request is promised, and how many must get it.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub goodput: Option<GoodputSpec>,
            /// What answers must be worth, where requests keep only some of their tokens.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub quality: Option<QualitySpec>,
        }

        impl Slo {
            /// The bounds that are set, as (metric name, upper bound).
            pub fn bounds(&self) -> Vec<(&'static str, Duration)> {
                let all = [$((stringify!($name), self.$name),)*];
                all.into_iter().filter_map(|(name, bound)| Some((name, bound?))).collect()
            }
        }
    };
}

bounds! {
    ttft_mean: "Mean time to first token.",
    ttft_p50: "Median time to first token.",
    ttft_p90: "90th percentile of the time to first token.",
    ttft_p95: "95th percentile of the time to first token.",
    ttft_p99: "99th percentile of the time to first token.",
    ttft_p99_9: "99.9th percentile of the time to first token.",
    tpot_mean: "Mean time per output token after the first.",
    tpot_p50: "Median time per output token after the first.",
    tpot_p90: "90th percentile of the time per output token after the first.",
    tpot_p95: "95th percentile of the time per output token after the first.",
    tpot_p99: "99th percentile of the time per output token after the first.",
    tpot_p99_9: "99.9th percentile of the time per output token after the first.",
    itl_mean: "Mean gap between two tokens.",
    itl_p50: "Median gap between two tokens.",
    itl_p90: "90th percentile of the gap between two tokens.",
    itl_p95: "95th percentile of the gap between two tokens.",
    itl_p99: "99th percentile of the gap between two tokens.",
    itl_p99_9: "99.9th percentile of the gap between two tokens.",
    e2el_mean: "Mean time from arrival to the last token.",
    e2el_p50: "Median time from arrival to the last token.",
    e2el_p90: "90th percentile of the time from arrival to the last token.",
    e2el_p95: "95th percentile of the time from arrival to the last token.",
    e2el_p99: "99th percentile of the time from arrival to the last token.",
    e2el_p99_9: "99.9th percentile of the time from arrival to the last token.",
}

/// The task whose measured scores say what answers are worth.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualitySpec {
    /// A task of the table, as `MATH-500`.
    pub task: String,
    /// The model that was measured; by default that of the scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Right answers at least, over those that full caches give: a run in which the quality of any request is unknown, or where answers
    /// are worth less, misses this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub at_least: Option<f64>,
    /// Another table of measured scores than the catalog's, relative to the scenario's folder: a CSV file with the columns `model`,
    /// `task`, `policy`, `evicts` (`prompt` or `throughout`), `budget`, `score`, `full`, `samples`, `kind` and `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<std::path::PathBuf>,
}

/// What a single request is promised, and how many must get it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GoodputSpec {
    /// Time to first token at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Duration>,
    /// Time per output token after the first at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpot: Option<Duration>,
    /// Longest gap between two tokens at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtpot: Option<Duration>,
    /// Time from arrival to the last token at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e2el: Option<Duration>,
    /// Share of all requests that must get all of this, above 0 and up to 1.
    pub share: f64,
}

impl Default for GoodputSpec {
    fn default() -> Self {
        GoodputSpec { ttft: None, tpot: None, mtpot: None, e2el: None, share: 0.99 }
    }
}
