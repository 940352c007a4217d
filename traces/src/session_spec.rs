//! What a scenario says of the sessions of a trace.

use overbook_sim::units::{Duration, Rate};
use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::number::TOKENS_MAX;

/// How sessions are played. The file says nothing of when they started: either `rate` does, or `workload.clients` of a closed loop open
/// one after the other.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionTraceSpec {
    /// Starts of sessions, a Poisson process whose first one is at time zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// When a session sends its next request.
    pub pace: Pace,
    /// Longest pause between an answer and the next request; longer ones are cut to it. Only with `pace: answered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_think_time: Option<Duration>,
    /// A session, or a sub-agent, ends before a prompt that is longer [tokens]: a service with a shorter context refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<u32>,
    /// Sessions to pass over at the start.
    pub skip: u64,
    /// Sessions to take after that; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take: Option<u64>,
}

/// When a session sends its next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// The recorded think time after the answer that the simulated service gives: a closed loop per session.
    #[default]
    Answered,
    /// At the recorded time since its start, whatever the service does: an open loop.
    Recorded,
}

impl SessionTraceSpec {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |key: &str, message: String| problems.push((format!("sessions.{key}"), message));
        if let Some(Rate(rate)) = self.rate
            && !(rate.is_finite() && rate > 0.0)
        {
            add("rate", format!("is {rate}/s; it must be above 0"));
        }
        if self.max_prompt_tokens.is_some_and(|tokens| !(1..=TOKENS_MAX).contains(&tokens)) {
            add("max_prompt_tokens", format!("must be between 1 and {TOKENS_MAX} tokens"));
        }
        if self.take == Some(0) {
            add("take", "is 0; take at least 1 session, or leave it out to take all".to_owned());
        }
        if self.max_think_time.is_some() && self.pace == Pace::Recorded {
            add(
                "max_think_time",
                "cuts pauses after answers; with `pace: recorded` no request waits for one".to_owned(),
            );
        }
        problems
    }
}
