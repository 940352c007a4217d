//! A population of clients, each with its own rates and lengths: ServeGen's model (arXiv 2505.09999, NSDI'26).
//!
//! A client sends requests with Gamma or Weibull gaps whose rate and shape change every 600 s; a window without a rate
//! is silent. Inside a window the gaps are a stationary renewal process: the first one is drawn in equilibrium, so that
//! the expected number of requests is exactly rate times length. (ServeGen's own generator stretches the gaps of each
//! window until they fill it, with one request more than that at low rates; the file's scale parameter and CV have no
//! effect there and none here.) All clients are merged by time; of equal times the client with the lower number is first.
//!
//! Prompt and output are drawn independently from the client's own distributions of that time of day. (ServeGen's own
//! generator draws all fields with one random number: its longest prompts get the longest answers.)

mod lengths;
mod merge;
mod rates;

use std::path::PathBuf;

use overbook_sim::time::Time;
use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::{Arrival, ClassId, Workload, WorkloadError};
use serde::{Deserialize, Serialize};

use crate::error::{Problem, TraceError};
use crate::lengths::{LengthSpec, Lengths, Size};
use crate::load::Window;
use lengths::ClientLengths;
use merge::Merged;
use rates::{ClientRates, Span600};

/// Client populations in ServeGen's layout.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PopulationSpec {
    /// Rates per client and window of 600 s: a CSV file (`workload, client, window_start_s, rate_rps, pattern, param1`),
    /// plain or packed, or a folder of ServeGen's `chunk-N-trace.csv`.
    pub rates: PathBuf,
    /// Length distributions per client and window of 6 h: JSON lines (`workload, client, window_start_s, field, pmf`),
    /// plain or packed, or a folder of ServeGen's `chunk-N-dataset.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<PathBuf>,
    /// Which workload of the files, e.g. `m-small`; not needed if there is only one. A folder is one workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The part of the file to play, in time since its start; by default all.
    #[serde(default, skip_serializing_if = "Window::is_all")]
    pub window: Window,
    /// Mean requests per second of all clients over the window; by default as recorded. Clients keep their shares of the
    /// load and the shapes of their gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What happens to clients without length distributions.
    #[serde(default, skip_serializing_if = "MissingLengths::is_error")]
    pub missing_lengths: MissingLengths,
    /// What is a request class.
    #[serde(default, skip_serializing_if = "PopulationClasses::is_workload")]
    pub classes: PopulationClasses,
    /// Requests to make; by default all of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// What happens to clients without length distributions (of ServeGen's 422 files, 55 of the largest clients cannot be
/// had everywhere).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MissingLengths {
    /// The population is refused; the message names the clients and their share of the requests.
    #[default]
    Error,
    /// They send nothing, as in ServeGen's own generator; `rate` is then the rate of the others.
    Drop,
    /// Each of their requests has the lengths of another client, drawn by the others' shares of the requests.
    Pool,
    /// Their lengths are drawn from this.
    Draw(LengthSpec),
}

impl MissingLengths {
    fn is_error(&self) -> bool {
        *self == MissingLengths::Error
    }
}

/// What is a request class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PopulationClasses {
    /// The workload: one class.
    #[default]
    Workload,
    /// The client: `m-small/17`.
    Client,
}

impl PopulationClasses {
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_workload(&self) -> bool {
        *self == PopulationClasses::Workload
    }
}

impl PopulationSpec {
    /// All of a file's clients, as recorded.
    pub fn new(rates: impl Into<PathBuf>, lengths: impl Into<PathBuf>) -> PopulationSpec {
        PopulationSpec {
            rates: rates.into(),
            lengths: Some(lengths.into()),
            workload: None,
            window: Window::default(),
            rate: None,
            missing_lengths: MissingLengths::Error,
            classes: PopulationClasses::Workload,
            requests: None,
        }
    }

    /// Everything that is wrong with the values, as (path below this specification, message).
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
        if self.rates.as_os_str().is_empty() {
            add("rates", "is empty; name a file or a folder".to_owned());
        }
        if self.lengths.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            add("lengths", "is empty; name a file or a folder".to_owned());
        }
        if self.lengths.is_none() && !matches!(self.missing_lengths, MissingLengths::Draw(_)) {
            add(
                "lengths",
                "is missing; name ServeGen's length file, or give `missing_lengths: { draw: … }`".to_owned(),
            );
        }
        if let Some(Rate(rate)) = self.rate
            && !(rate > 0.0 && rate <= rates::RATE_MAX)
        {
            add("rate", format!("is {rate}/s; it must be above 0 and at most {}/s", rates::RATE_MAX));
        }
        if self.requests == Some(0) {
            add("requests", "is 0; make at least 1 request, or leave it out".to_owned());
        }
        problems.extend(self.window.problem());
        if let MissingLengths::Draw(lengths) = &self.missing_lengths {
            problems.extend(lengths.problems("missing_lengths.draw"));
        }
        problems
    }

    /// Reads the files and starts generating; equal seeds give equal requests.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn open(&self, seed: u64) -> Result<Box<dyn Workload>, TraceError> {
        Ok(Box::new(self.population(seed)?))
    }

    /// As [`open`](PopulationSpec::open), but with the concrete type.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn population(&self, seed: u64) -> Result<Population, TraceError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        let (workload, mut clients, end) = rates::read(&self.rates, self.workload.as_deref())?;
        let played = Span600::cut(self, &mut clients, end)?;
        let mut lengths = match &self.lengths {
            Some(path) => ClientLengths::read(path, &workload, played, seed)?,
            None => ClientLengths::none(seed),
        };
        let missing: Vec<u32> = clients.iter().map(|client| client.id).filter(|&id| !lengths.has(id)).collect();
        let mut drawn = None;
        match &self.missing_lengths {
            MissingLengths::Draw(spec) => drawn = Some(Lengths::new(spec, seed)),
            _ if missing.is_empty() => {}
            MissingLengths::Error => return Err(self.missing(&clients, &missing)),
            _ if missing.len() == clients.len() => return Err(self.missing(&clients, &missing)),
            MissingLengths::Drop => clients.retain(|client| lengths.has(client.id)),
            MissingLengths::Pool => {}
        }
        lengths.assign(&clients);
        let classes = match self.classes {
            PopulationClasses::Workload => vec![workload],
            PopulationClasses::Client => clients.iter().map(|client| format!("{workload}/{}", client.id)).collect(),
        };
        let merged = Merged::new(clients, played, self.rate, seed);
        let left = self.requests.unwrap_or(u64::MAX);
        Ok(Population { merged, lengths, drawn, classes, left })
    }

    fn missing(&self, clients: &[ClientRates], missing: &[u32]) -> TraceError {
        let requests = |of: &dyn Fn(u32) -> bool| -> f64 {
            clients.iter().filter(|client| of(client.id)).map(ClientRates::requests).sum()
        };
        let share = 100.0 * requests(&|id| missing.contains(&id)) / requests(&|_| true);
        let named: Vec<String> = missing.iter().take(12).map(u32::to_string).collect();
        let more = if missing.len() > named.len() { ", …" } else { "" };
        let (place, of) = (self.lengths.as_ref().unwrap_or(&self.rates).display().to_string(), clients.len());
        let problem = format!(
            "no lengths for {} of {of} clients, with {share:.1} % of the requests: {}{more}",
            missing.len(),
            named.join(", ")
        );
        let help = "say with `missing_lengths` what becomes of them: `drop`, `pool` (the lengths of the others), or \
                    `{ draw: … }`; without lengths of any client only the last is possible";
        TraceError::Population { place, problem, help }
    }
}

/// Requests of a population of clients, in the making.
pub struct Population {
    merged: Merged,
    lengths: ClientLengths,
    /// Lengths for clients that have none of their own.
    drawn: Option<Lengths>,
    classes: Vec<String>,
    left: u64,
}

impl Population {
    /// The next request; `None` after the window or the wanted number of requests.
    pub fn next_request(&mut self) -> Option<Arrival> {
        if self.left == 0 {
            return None;
        }
        let next = self.merged.next_arrival()?;
        self.left -= 1;
        let class = if self.classes.len() == 1 { ClassId(0) } else { ClassId(next.client as u16) };
        let Size { prompt_tokens, output_tokens, .. } = match &mut self.drawn {
            Some(drawn) if !self.lengths.has_at(next.client) => drawn.draw(None),
            _ => self.lengths.draw(next.client, next.window_ns),
        };
        Some(Arrival { class, ..Arrival::new(Time(next.at_ns), prompt_tokens, output_tokens) })
    }
}

impl Workload for Population {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.next_request())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}
