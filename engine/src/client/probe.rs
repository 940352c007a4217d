//! Learns from outside what a deployment's steps cost.
//!
//! Nothing is known of the server but what any client sees: when each token comes. Probes are sent whose steps have a known
//! shape: the gaps between the tokens of so many requests are decode steps, and a prompt sent beside them makes the gap longer
//! in which it is computed. Prompts to an idle server show the time between client and engine.

mod inferred;
mod plan;
mod read;
mod send;

use std::sync::Arc;
use std::time::{Duration, Instant};

use overbook_sim::calibrate::AnchorTime;
use overbook_sim::calibrate::inferred::{SeenStep, client_time_us};

use super::payload::{Asking, Payloads};
use super::pool::Pool;
use super::scrape::{Scrape, scrape};
use super::{Found, ReplayError, Server, THREADS, find};
use crate::calibrate::Anchor;
use crate::driver::Clock;
use crate::prompt::unseen;
use crate::run::{Pressure, PressureGauge};
use read::Readings;
use send::Sender;

pub use inferred::Inferred;
pub use plan::{Probe, ProbePlan};

/// How often the watcher is asked.
const LOOK: Duration = Duration::from_millis(100);

/// What the probes of a deployment gave.
#[derive(Clone, PartialEq, Debug)]
pub struct Probed {
    /// What the server says of itself.
    pub found: Found,
    /// Steps by shape.
    pub steps: Vec<SeenStep>,
    /// The shapes that were repeated in every round.
    pub anchors: Vec<Anchor>,
    /// Single steps ÷ the median of their shape.
    pub ratios: Vec<f64>,
    /// Time between client and engine by the server's own histograms [µs]: the median of single prompts, and the quartiles. `None` if it has none.
    pub away_us: Option<(f64, [f64; 2])>,
    /// Steps beyond the one that runs that the server has planned when a prompt comes; `None` where it could not be seen.
    pub planned_ahead: Option<u32>,
    /// Probes that were sent at least once, and all that there are.
    pub probes: (usize, usize),
    /// Requests sent.
    pub requests: u64,
    /// The server's own view before and after; `None` if it has no metrics.
    pub metrics: Option<(Scrape, Scrape)>,
    /// What others took of the client's CPU.
    pub pressure: Option<Pressure>,
    /// What could not be identified, in words.
    pub unidentified: Vec<String>,
    /// What makes the result doubtful, in words.
    pub warnings: Vec<String>,
}

impl Probed {
    /// Probes that did not fit into the budget.
    pub fn missing(&self) -> usize {
        self.probes.1 - self.probes.0
    }
}

/// How far the probing is.
#[derive(Clone, Debug)]
pub struct Probing {
    /// The probe that is under way.
    pub probe: String,
    /// Probes that have ended.
    pub done: usize,
    /// Probes in all rounds.
    pub of: usize,
}

/// Why there is nothing to fit.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The server cannot be asked at all.
    #[error(transparent)]
    Server(#[from] ReplayError),
    /// A probe failed.
    #[error("{target}: probe {number} ({probe}) failed: {what}")]
    Failed {
        /// Where.
        target: String,
        /// Which it was in order, from 1; the warm-up is 0.
        number: usize,
        /// What was sent.
        probe: String,
        /// What the server or the wire said.
        what: String,
    },
    /// The budget was too small.
    #[error("only {done} of {of} probes fitted into the budget, which tells no costs; allow more time")]
    Budget {
        /// Probes that were sent.
        done: usize,
        /// Probes that there are.
        of: usize,
    },
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// Probes a deployment. `watch` is called several times a second; it returns `false` to stop.
///
/// # Errors
/// The server does not answer, or not as it was asked; the budget is too small; it was interrupted.
pub fn probe(server: &Server, plan: &ProbePlan, watch: &mut dyn FnMut(&Probing) -> bool) -> Result<Probed, ProbeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.map_err(ReplayError::Start)?;
    let probed = runtime.block_on(all(server, plan, watch));
    // Requests that still run after a failure are dropped: their connections close.
    runtime.shutdown_background();
    probed
}

/// The anchors of a plan, each probed so many times: how fast a server is now.
///
/// # Errors
/// As [`probe`].
pub fn anchors(
    server: &Server,
    plan: &ProbePlan,
    rounds: u32,
    watch: &mut dyn FnMut() -> bool,
) -> Result<Vec<AnchorTime>, ProbeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.map_err(ReplayError::Start)?;
    let found = runtime.block_on(anchored(server, plan, rounds, watch));
    runtime.shutdown_background();
    found
}

async fn anchored(
    server: &Server,
    plan: &ProbePlan,
    rounds: u32,
    watch: &mut dyn FnMut() -> bool,
) -> Result<Vec<AnchorTime>, ProbeError> {
    let (mut sender, found, before) = begin(server, plan.seed).await?;
    let plan = &within(plan, &found, before);
    let mut readings = Readings::default();
    let mut gauge = PressureGauge::start();
    let mut at = Probing { probe: "warming up".to_owned(), done: 0, of: plan.anchors().len() * rounds as usize };
    let failed = |at: &Probing, what| ProbeError::Failed {
        target: server.target.to_string(),
        number: at.done,
        probe: at.probe.clone(),
        what,
    };
    let mut look = |_: &Probing| watch();
    watched(sender.warm_up(plan), &at, &mut look, &mut gauge).await?.map_err(|what| failed(&at, what))?;
    for round in 0..rounds {
        for probe in plan.anchors() {
            at.probe = probe.name();
            at.done += 1;
            let answered = watched(sender.probe(plan, &probe, u64::from(round)), &at, &mut look, &mut gauge).await?;
            readings.take(plan, &answered.map_err(|what| failed(&at, what))?);
        }
    }
    Ok(readings.anchors().iter().map(Anchor::time).collect())
}

/// A sender to a server, what the server says of itself, and its own view now.
async fn begin(server: &Server, seed: u64) -> Result<(Sender, Found, Option<Scrape>), ProbeError> {
    let pool = Arc::new(Pool::new(server.target.clone(), server.api_key.clone()));
    let found = find(&pool, server).await?;
    let clock = Clock::new(Instant::now());
    let before = scrape(&pool, clock).await;
    let payloads = Payloads {
        asking: found.asking,
        model: found.model.clone(),
        vocab: server.vocab.max(1),
        seed: unseen(seed),
        body: server.body.clone(),
    };
    Ok((Sender { pool, clock, payloads, made: 0 }, found, before))
}

async fn all(server: &Server, plan: &ProbePlan, watch: &mut dyn FnMut(&Probing) -> bool) -> Result<Probed, ProbeError> {
    let until = Instant::now() + plan.budget;
    let (mut sender, found, before) = begin(server, plan.seed).await?;
    let plan = &within(plan, &found, before);
    let mut gauge = PressureGauge::start();
    let of = plan.probes().len();
    let mut readings = Readings::default();
    let mut at = Probing { probe: "warming up".to_owned(), done: 0, of: of * plan.rounds as usize };
    let failed = |at: &Probing, number, what| ProbeError::Failed {
        target: server.target.to_string(),
        number,
        probe: at.probe.clone(),
        what,
    };
    watched(sender.warm_up(plan), &at, watch, &mut gauge).await?.map_err(|what| failed(&at, 0, what))?;
    'rounds: for round in 0..plan.rounds {
        for probe in plan.order(round) {
            if Instant::now() > until {
                break 'rounds;
            }
            at.probe = probe.name();
            let answered = watched(sender.probe(plan, &probe, u64::from(round)), &at, watch, &mut gauge).await?;
            readings.take(plan, &answered.map_err(|what| failed(&at, at.done + 1, what))?);
            at.done += 1;
        }
    }
    let after = scrape(&sender.pool, sender.clock).await;
    let done = at.done.min(of);
    let metrics = before.zip(after);
    let anchors = readings.anchors();
    let steps = readings.steps(plan);
    let unidentified = unidentified(&readings, plan, metrics, anchors.is_empty());
    let warnings = warnings(&readings, &found, metrics, (done, of));
    if !enough(&steps) {
        return Err(ProbeError::Budget { done, of });
    }
    let (requests, pressure) = (sender.made, gauge.read());
    let ratios = std::mem::take(&mut readings.ratios);
    let away_us = quartiles(std::mem::take(&mut readings.away_us));
    let planned_ahead = readings.planned_ahead(away_us.map_or_else(|| client_time_us(&steps), |(middle, _)| middle));
    let probes = (done, of);
    let mut unidentified = unidentified;
    if readings.mixes() == Some(true) && planned_ahead.is_none() {
        unidentified.push(
            "asynchronous scheduling: whether a step is planned while the one before runs; the time between client and engine hides it".to_owned(),
        );
    }
    Ok(Probed {
        found,
        steps,
        anchors,
        ratios,
        away_us,
        planned_ahead,
        probes,
        requests,
        metrics,
        pressure,
        unidentified,
        warnings,
    })
}

/// The median and the quartiles.
fn quartiles(mut values: Vec<f64>) -> Option<(f64, [f64; 2])> {
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values.get(values.len() * quarter / 4).copied();
    Some((at(2)?, [at(1)?, at(3)?]))
}

/// The plan within what the server says of itself.
fn within(plan: &ProbePlan, found: &Found, metrics: Option<Scrape>) -> ProbePlan {
    let max_model_len = found.max_model_len.map_or(plan.max_model_len, |len| plan.max_model_len.min(len as u32));
    let told = metrics.map(|scrape| (scrape.blocks * scrape.block_tokens) as u64).filter(|tokens| *tokens > 0);
    ProbePlan { max_model_len, kv_tokens: told.unwrap_or(plan.kv_tokens), ..plan.clone() }
}

/// Waits for something, and asks the watcher meanwhile.
async fn watched<T>(
    what: impl Future<Output = T>,
    at: &Probing,
    watch: &mut dyn FnMut(&Probing) -> bool,
    gauge: &mut PressureGauge,
) -> Result<T, ProbeError> {
    let mut ticks = tokio::time::interval(LOOK);
    tokio::pin!(what);
    loop {
        tokio::select! {
            got = &mut what => return Ok(got),
            _ = ticks.tick() => {
                gauge.look();
                if !watch(at) {
                    return Err(ProbeError::Interrupted);
                }
            }
        }
    }
}

/// Whether a form can be fitted at all: batches of different size, and prompts of different length.
fn enough(steps: &[SeenStep]) -> bool {
    let samples = || steps.iter().map(|step| &step.sample);
    several(samples().filter(|sample| sample.kind == "decode").map(|sample| sample.decode_seqs))
        && several(samples().flat_map(|sample| &sample.prefill).map(|part| part.tokens))
}

fn several(mut values: impl Iterator<Item = u32>) -> bool {
    let first = values.next();
    first.is_some_and(|first| values.any(|value| value != first))
}

/// What these probes cannot identify.
fn unidentified(
    readings: &Readings,
    plan: &ProbePlan,
    metrics: Option<(Scrape, Scrape)>,
    drifts_unseen: bool,
) -> Vec<String> {
    let mut told = vec![
        "host and device: a step is the whole time from token to token; the host's part of it is not seen, and `host` is zero"
            .to_owned(),
        "client time: which part is the network's, the server's front end's, the scheduler's or this client's".to_owned(),
    ];
    let mut tell = |text: String| told.push(text);
    if metrics.is_none_or(|(_, after)| after.blocks == 0.0) {
        let tokens = plan.kv_tokens;
        tell(format!("KV pool: the server does not tell its size; the scenario's {tokens} tokens were taken"));
    }
    match readings.mixes() {
        Some(true) => {}
        Some(false) => tell(
            "mixed steps: first tokens came in steps of their own, so that prompts are not computed beside sequences that decode; \
             the scenario's scheduler must not do so either"
                .to_owned(),
        ),
        None => tell("mixed steps: no prompt could be sent beside sequences that decode".to_owned()),
    }
    if let Some((tokens, steps)) = readings.other_steps() {
        let thought = plan.max_tokens;
        tell(format!(
            "tokens of a step: a prompt of {tokens} tokens took {steps} steps, so that a step has about {} tokens and not the \
             scenario's {thought}; longer prompts were left out, set the scheduler's limit to the server's",
            tokens.div_ceil(steps.max(1))
        ));
    } else if !readings.chunked {
        tell(
            "tokens of a step, and attention of a prompt to tokens before it: no prompt was seen to take several steps; if the \
             scenario limits a step to fewer tokens than the server does, raise its limit"
                .to_owned(),
        );
    } else if !readings.counted() {
        let thought = plan.max_tokens;
        tell(format!(
            "tokens of a step: no prompt beside sequences that decode could be counted in steps; the scenario's {thought} were taken"
        ));
    }
    if drifts_unseen {
        tell("drift: no batch was measured in more than one round; allow more time".to_owned());
    }
    told
}

/// What happened that should not.
fn warnings(
    readings: &Readings,
    found: &Found,
    metrics: Option<(Scrape, Scrape)>,
    (done, of): (usize, usize),
) -> Vec<String> {
    let mut told = Vec::new();
    if done < of {
        told.push(format!("{} of {of} probes did not fit into the budget", of - done));
    }
    if found.asking != Asking::Tokens {
        told.push(format!("prompts are text, their lengths the server's own count ({})", found.asking.describe()));
    }
    if readings.cached > 0 {
        let cached = readings.cached;
        told.push(format!(
            "{cached} prompt tokens came from a cache although no two prompts are alike: prompts look too cheap"
        ));
    }
    if !readings.short.is_empty() {
        told.push(format!("too few steps with all sequences: {}", readings.short.join("; ")));
    }
    match metrics {
        None => {
            told.push("the server has no metrics of vLLM or SGLang: its KV pool and other load are unknown".to_owned());
        }
        Some((before, after)) => {
            if after.engines > 1.0 {
                told.push(format!(
                    "{} engines behind one address: a batch of n requests is spread over them, so that steps look cheaper than they \
                     are; probe one of them",
                    after.engines
                ));
            }
            if before.running + before.waiting > 0.0 {
                told.push(format!("{} requests of others ran at the beginning", before.running + before.waiting));
            }
            if after.preemptions > before.preemptions {
                told.push(format!(
                    "{} preemptions: the KV pool is smaller than thought",
                    after.preemptions - before.preemptions
                ));
            }
        }
    }
    told
}

#[cfg(test)]
mod tests;
