//! The requests of a run: as published one by one, or as described.

use overbook_sim::units::Rate;
use overbook_traces::{ArrivalSpec, Columns, GenerateSpec, LengthSpec, TraceSpec};

use super::data_sets::DataSet;
use super::gap::Gap;
use super::{MeasuredRun, MeasuredTable, words};
use crate::scenario::{Clients, MaxNewTokens, WorkloadSpec};

/// Requests that a client of an endless closed loop sends.
const ROUNDS: u64 = 20;

/// Share by which the mean output may fall short of the limit and still be taken for all outputs.
const NATURAL: f64 = 0.06;

/// Share of the rate below which a client counts as late.
const LATE: f64 = 0.97;

pub(super) struct Requests {
    pub(super) workload: WorkloadSpec,
    pub(super) window: Window,
    /// The mean prompt, where lengths come from what others published of the data set [tokens].
    pub(super) assumed_prompt: Option<u32>,
}

impl Requests {
    fn of(workload: WorkloadSpec, window: Window) -> Requests {
        Requests { workload, window, assumed_prompt: None }
    }
}

/// The part of a run that its figures are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// All of it.
    Whole,
    /// The steady part of an endless closed loop.
    Steady,
    /// From the first token of the `seqs`-th request until all but `seqs` + 1 have ended: the batch is full in between. Latencies are of the
    /// whole run.
    FullBatch {
        /// Sequences of a full batch.
        seqs: u32,
    },
}

pub(super) fn requests(run: &MeasuredRun, times: f64, notes: &mut Vec<String>) -> Result<Requests, Gap> {
    let max_new_tokens =
        if run.text("engine").starts_with("s-lora") { MaxNewTokens::True } else { MaxNewTokens::Context };
    let workload = WorkloadSpec { max_new_tokens, ..empty() };
    if let Some(trace) = trace(run)? {
        return Ok(Requests::of(WorkloadSpec { trace: Some(trace), ..workload }, Window::Whole));
    }
    let process = run.text("arrival_process");
    if process.starts_with("saturating") {
        return full_batch(run, workload, times, notes);
    }
    let (lengths, limit) = lengths(run, notes)?;
    let workload = WorkloadSpec { max_new_tokens: MaxNewTokens::Fixed(limit), ..workload };
    let generate = |arrivals, requests| {
        Some(GenerateSpec {
            arrivals,
            lengths: lengths.clone(),
            sessions: None,
            repeats: None,
            transcripts: None,
            requests: Some(requests),
            duration: None,
        })
    };
    let rate = || run.number("rate_rps").map(Rate).ok_or_else(|| Gap("the arrival rate is not known".to_owned()));
    let many = || run.whole("n_requests").ok_or_else(|| Gap("the number of requests is not known".to_owned()));
    // Closed loops take no arrival times from their workload.
    let any = ArrivalSpec::Constant { rate: Rate(1.0) };
    let clients = |count: u64| {
        let count = u32::try_from(count).map_err(|_| Gap("more requests at once than clients can be".to_owned()))?;
        Ok(Some(Clients { count, think_time: overbook_sim::units::Duration(overbook_sim::time::Span::ZERO) }))
    };
    if process.starts_with("constant interval") || process.starts_with("poisson") {
        let rate = rate()?;
        let constant = process.starts_with("constant");
        let arrivals = if constant { ArrivalSpec::Constant { rate } } else { ArrivalSpec::Poisson { rate } };
        let max_concurrency = run.whole("max_concurrency").map(|most| most as u32).or_else(|| late_client(run, notes));
        let generate = generate(arrivals, many()?);
        return Ok(Requests::of(WorkloadSpec { generate, max_concurrency, ..workload }, Window::Whole));
    }
    if process.starts_with("burst") || process.starts_with("offline") {
        let many = many()?;
        let generate = generate(any, many);
        return Ok(Requests::of(WorkloadSpec { generate, clients: clients(many)?, ..workload }, Window::Whole));
    }
    if process.starts_with("closed loop") || process.starts_with("one fixed batch") {
        let count = run.whole("max_concurrency").ok_or_else(|| Gap("the number of clients is not known".to_owned()))?;
        let counted = run.whole("n_requests");
        let steady = counted.is_none() && !process.starts_with("one fixed batch");
        let requests = counted.unwrap_or(if steady { count * ROUNDS } else { count });
        let workload =
            WorkloadSpec { generate: generate(any, requests), clients: clients(count)?, drain: !steady, ..workload };
        return Ok(Requests::of(workload, if steady { Window::Steady } else { Window::Whole }));
    }
    Err(Gap(format!("arrivals: {process}")))
}

/// All requests of a data set at once, so many that the batch stays full for a while.
fn full_batch(run: &MeasuredRun, workload: WorkloadSpec, times: f64, notes: &mut Vec<String>) -> Result<Requests, Gap> {
    let set =
        DataSet::of(run.text("prompt_spec")).ok_or_else(|| Gap("prompt lengths were not published".to_owned()))?;
    let seqs = run.whole("max_num_seqs").ok_or_else(|| Gap("the size of the batch is not known".to_owned()))?;
    let output = words::mean(run.text("output_spec"))
        .ok_or_else(|| Gap(format!("output lengths: {}", run.text("output_spec"))))?;
    let plain = GenerateSpec {
        arrivals: ArrivalSpec::Constant { rate: Rate(1.0) },
        lengths: LengthSpec::Fixed { prompt: 1, output: 1 },
        sessions: None,
        repeats: None,
        transcripts: None,
        requests: None,
        duration: None,
    };
    let generate = set.generate(seqs, output, run.text("model"), times, plain);
    let count = u32::try_from(set.requests(seqs)).map_err(|_| Gap("more requests than clients can be".to_owned()))?;
    let seqs = u32::try_from(seqs).map_err(|_| Gap("more sequences than a batch can have".to_owned()))?;
    notes.push(format!(
        "prompt lengths not published with the run: those of the data set as others counted them, mean {}; outputs of the published mean, spread \
         as in the origin's histograms",
        set.mean
    ));
    let workload = WorkloadSpec {
        generate: Some(generate),
        clients: Some(Clients { count, think_time: overbook_sim::units::Duration(overbook_sim::time::Span::ZERO) }),
        max_new_tokens: MaxNewTokens::Fixed(set.limit),
        ..workload
    };
    Ok(Requests { workload, window: Window::FullBatch { seqs }, assumed_prompt: Some(set.mean) })
}

/// The limit of a client that could not send at the rate that it was to send at, and does not state one: by Little's law, the
/// requests that it had under way. Taken from the run's results: its latencies are no independent check then, its throughput is.
fn late_client(run: &MeasuredRun, notes: &mut Vec<String>) -> Option<u32> {
    let sent: f64 = run.text("notes").split("achieved send rate ").nth(1)?.split("/s").next()?.parse().ok()?;
    let late = sent < LATE * run.number("rate_rps")?;
    let under_way = run.number("req_per_s")? * run.number("e2e_mean_ms")? / 1e3;
    let most = late.then_some(under_way.round() as u32)?;
    notes.push(format!("the client had {most} requests under way at most: by Little's law from its own results"));
    Some(most)
}

fn empty() -> WorkloadSpec {
    WorkloadSpec {
        generate: None,
        trace: None,
        population: None,
        per_replica: false,
        clients: None,
        max_concurrency: None,
        client_time: None,
        temperature: None,
        drain: true,
        max_new_tokens: MaxNewTokens::default(),
        ignore_eos: false,
        limits: crate::scenario::Limits::default(),
        retry: None,
    }
}

/// The published requests, if they have all that is needed. Arrivals by the engine's own clock count where there are some.
fn trace(run: &MeasuredRun) -> Result<Option<TraceSpec>, Gap> {
    let Some(path) = run.requests() else { return Ok(None) };
    let table = MeasuredTable::read(&path).map_err(|error| Gap(error.to_string()))?;
    for column in ["arrival_s", "prompt_tokens", "output_tokens"] {
        let known = table.numbers(column).is_some_and(|cells| cells.iter().all(Option::is_some));
        if !known {
            return Err(Gap(format!("`{column}` is not known of every request")));
        }
    }
    let arrival = if table.column("queued_s").is_some() { "queued_s" } else { "arrival_s" };
    let path = path.canonicalize().unwrap_or(path);
    // Clients are classes, which fair orders distinguish.
    let class = table.column("client").map(|_| "client".to_owned());
    let trace = serde_json::json!({
        "path": path,
        "format": "columns",
        "columns": Columns { class, ..Columns::new(arrival, "prompt_tokens", "output_tokens") },
    });
    serde_json::from_value(trace).map(Some).map_err(|error| Gap(error.to_string()))
}

/// Lengths by description, all alike, and the output limit that clients state.
fn lengths(run: &MeasuredRun, notes: &mut Vec<String>) -> Result<(LengthSpec, u32), Gap> {
    let mean = |total: &str| Some(run.number(total)? / run.number("n_requests")?);
    let (prompt_spec, output_spec) = (run.text("prompt_spec"), run.text("output_spec"));
    let described = |text: &str| words::number(text);
    let prompt = match mean("prompt_tokens_total") {
        Some(mean) => mean.round() as u32,
        None if prompt_spec.contains("not published") => {
            return Err(Gap("prompt lengths were not published".to_owned()));
        }
        None => described(prompt_spec).ok_or_else(|| Gap(format!("prompt lengths: {prompt_spec}")))?,
    };
    if described(prompt_spec) != Some(prompt) || prompt_spec.contains("about") {
        notes.push(format!("prompts all of {prompt} tokens, the mean"));
    }
    let limit = described(output_spec).ok_or_else(|| Gap(format!("output lengths: {output_spec}")))?;
    if output_spec.contains("mean") && !output_spec.starts_with("max") {
        return Err(Gap("output lengths are known by their mean only".to_owned()));
    }
    let natural = !output_spec.contains("ignore_eos") || output_spec.contains("ignore_eos off");
    let output = match mean("output_tokens_total").filter(|_| natural) {
        Some(mean) if mean < f64::from(limit) * (1.0 - NATURAL) => {
            return Err(Gap(format!("natural output lengths, mean {mean:.0} of at most {limit}, not published")));
        }
        Some(mean) => mean.round() as u32,
        None => limit,
    };
    if output != limit {
        notes.push(format!("outputs all of {output} tokens, the mean; the limit was {limit}"));
    }
    Ok((LengthSpec::Fixed { prompt: prompt.max(1), output: output.max(1) }, limit))
}
