//! A workload from the metrics of a server of vLLM, `SGLang` or TGI, for operators who have no log of requests.
//!
//! Input is what `/metrics` answers (one or more scrapes) or the JSON of a range query of Prometheus. Of the counters,
//! only increments between scrapes count; a counter that falls has been reset, and starts from zero. Names are those of
//! `server`: of vLLM's v1 engine for instance `vllm:request_success_total` by `finished_reason`, `vllm:request_prompt_tokens` and
//! `vllm:request_generation_tokens` with buckets 1, 2, 5, 10, 20, 50, ... up to the context length.
//!
//! What metrics do not show: requests are counted when they finish, not when they arrive; nothing is known of the gaps
//! between them (they become Poisson within a window) nor of prompt and output of the same request.

mod buckets;
mod json;
mod rates;
mod server;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};

use crate::arrivals::{ArrivalSpec, GapFamily};
use crate::dist::LengthDist;
use crate::generate::GenerateSpec;
use crate::lengths::LengthSpec;
use crate::significant::significant;

pub use buckets::BucketFit;
use server::{Aborted, SERVERS, Server};

/// Why metrics do not make a workload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A line or value that is none of the format.
    #[error("{path}:{line}: expected {expected}, found `{found}`; help: give what /metrics answers, or the JSON of a range query", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Prometheus answered with an error.
    #[error("{path}: Prometheus answers: {message}; help: repeat the query", path = path.display())]
    Answer {
        /// The file.
        path: PathBuf,
        /// What it says.
        message: String,
    },
    /// The result of a function is no counter.
    #[error("{path}: a series has no name; help: query the counters themselves, not rate() or sum() of them", path = path.display())]
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// A metric that is needed is not there.
    #[error("no `{name}`{of}; help: {help}")]
    Missing {
        /// Name of the metric.
        name: String,
        /// Of which model.
        of: String,
        /// What to change.
        help: String,
    },
    /// Metrics of servers of several kinds.
    #[error("there are metrics of {kinds}, which have different buckets; help: give those of one kind of server")]
    Servers {
        /// Names of the kinds.
        kinds: String,
    },
    /// Scrapes without times.
    #[error("the {scrapes} scrapes carry no times; help: give the time between them, e.g. --every 15s")]
    NoTimes {
        /// Scrapes found.
        scrapes: usize,
    },
    /// A rate needs two scrapes.
    #[error(
        "counters need two scrapes at different times, found {scrapes}; help: scrape again later, or query a range"
    )]
    OneScrape {
        /// Different times found.
        scrapes: usize,
    },
    /// Windows that no scrape falls into.
    #[error("windows of {window} are shorter than the {between} between scrapes; help: choose a longer window")]
    ShortWindow {
        /// Length of a window.
        window: Span,
        /// Mean time between scrapes.
        between: Span,
    },
    /// Nothing happened.
    #[error("no request finished between the first and the last scrape; help: take a time with traffic")]
    Idle,
    /// Servers with other buckets.
    #[error("the buckets of `{name}` are not the same in all servers; help: choose one model with --model: {models}")]
    OtherBuckets {
        /// Name of the histogram.
        name: &'static str,
        /// Names of the models found.
        models: String,
    },
    /// The numbers of a histogram contradict one another.
    #[error("the buckets of `{name}` contradict one another: {what}; help: the scrapes may be of different servers")]
    Buckets {
        /// Name of the histogram.
        name: &'static str,
        /// How.
        what: String,
    },
}

/// A series: its name and its labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    name: String,
    labels: BTreeMap<String, String>,
}

/// When a value was scraped.
#[derive(Clone, Copy, PartialEq, Debug)]
enum When {
    /// Seconds since 1970.
    At(f64),
    /// In the scrape of this number.
    Scrape(usize),
}

/// All that was scraped of the series of servers that are known.
#[derive(Default)]
pub struct Metrics {
    series: BTreeMap<Key, Vec<(When, f64)>>,
    scrapes: usize,
}

impl Metrics {
    /// Adds a file: scrapes in the text format, one after the other, or answers of Prometheus in JSON.
    ///
    /// # Errors
    /// It is neither.
    pub fn add(&mut self, path: &Path, content: &str) -> Result<(), MetricsError> {
        if content.trim_start().starts_with('{') {
            json::read(self, path, content)
        } else {
            text::read(self, path, content)
        }
    }

    /// Adds a value of a series, if a server has it.
    fn push(&mut self, name: &str, labels: BTreeMap<String, String>, when: When, value: f64) {
        // Ranks of one group and stages of one pipeline count the same requests (SGLang's `--enable-metrics-for-all-schedulers`); those of data
        // parallelism (`dp_rank`) count their own.
        if ["tp_rank", "pp_rank", "moe_ep_rank"].iter().any(|rank| labels.get(*rank).is_some_and(|rank| rank != "0")) {
            return;
        }
        let Some(name) = SERVERS.iter().find_map(|server| server.named(name)) else { return };
        let key = Key { name, labels };
        self.series.entry(key).or_default().push((when, value));
    }

    /// The kind of server that the series are of; vLLM where there are none.
    fn server(&self) -> Result<&'static Server, MetricsError> {
        let is_of = |server: &&Server| self.series.keys().any(|key| server.named(&key.name).is_some());
        let found: Vec<&'static Server> = SERVERS.iter().filter(is_of).collect();
        match found.as_slice() {
            [] => Ok(&SERVERS[0]),
            [server] => Ok(server),
            several => {
                let kinds = several.iter().map(|server| server.name).collect::<Vec<_>>().join(" and ");
                Err(MetricsError::Servers { kinds })
            }
        }
    }

    /// Names of the models.
    fn models(&self) -> Vec<&str> {
        let mut models: Vec<&str> =
            self.series.keys().filter_map(|key| key.labels.get("model_name")).map(String::as_str).collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    /// The series of a name, in order of time.
    fn series(&self, name: &str, options: &MetricsOptions) -> Result<Vec<Series<'_>>, MetricsError> {
        let wanted = |key: &Key| {
            let model = key.labels.get("model_name");
            key.name == name && options.model.as_ref().is_none_or(|wanted| model == Some(wanted))
        };
        let mut found = Vec::new();
        for (key, values) in self.series.iter().filter(|(key, _)| wanted(key)) {
            let time = |when: When| match (when, options.every) {
                (When::At(at), _) => Ok(at),
                (When::Scrape(scrape), Some(Span(every))) => Ok(scrape as f64 * every as f64 / 1e9),
                (When::Scrape(_), None) if self.scrapes < 2 => Err(MetricsError::OneScrape { scrapes: self.scrapes }),
                (When::Scrape(_), None) => Err(MetricsError::NoTimes { scrapes: self.scrapes }),
            };
            let mut values: Vec<(f64, f64)> =
                values.iter().map(|&(when, value)| Ok((time(when)?, value))).collect::<Result<_, MetricsError>>()?;
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            found.push(Series { labels: &key.labels, values });
        }
        Ok(found)
    }

    fn needed(&self, name: &str, options: &MetricsOptions) -> Result<Vec<Series<'_>>, MetricsError> {
        let found = self.series(name, options)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let models = self.models().join(", ");
        let (of, help) = match &options.model {
            Some(model) if !models.is_empty() => (format!(" of model `{model}`"), format!("there are: {models}")),
            _ => (String::new(), self.server()?.help.to_owned()),
        };
        Err(MetricsError::Missing { name: name.to_owned(), of, help })
    }

    /// The workload of the time between the first and the last scrape.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub fn fit(&self, options: &MetricsOptions) -> Result<MetricsFit, MetricsError> {
        let server = self.server()?;
        let is_there = |name: &&&str| self.series.keys().any(|key| key.name == **name);
        let requests = self.needed(server.requests.iter().find(is_there).unwrap_or(&server.requests[0]), options)?;
        let counted = rates::of(&requests, options.window)?;
        // A sum of nothing is -0.0.
        let gained =
            |series: &[&Series<'_>]| series.iter().map(|series| series.increase().0).fold(0.0, |sum, more| sum + more);
        let aborted = match server.aborted {
            Aborted::Label(label, value) => {
                Some(gained(&requests.iter().filter(|series| series.label(label) == Some(value)).collect::<Vec<_>>()))
            }
            Aborted::Counter(name) => Some(gained(&self.series(name, options)?.iter().collect::<Vec<_>>())),
            Aborted::Uncounted => None,
        };
        let (prompt, output) = (buckets::of(self, server.prompt, options)?, buckets::of(self, server.output, options)?);
        let mean = |name| Ok(rates::mean_sum(&self.series(name, options)?));
        Ok(MetricsFit {
            aborted_share: aborted.map(|aborted| (aborted / counted.count).min(1.0)),
            requests: counted.count,
            resets: counted.resets,
            span: counted.span,
            window: counted.window,
            rates: counted.rates,
            prompt,
            output,
            running: mean(server.running)?,
            waiting: mean(server.waiting)?,
        })
    }
}

/// How metrics are read.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricsOptions {
    /// Length of a window of the rate profile.
    pub window: Span,
    /// Time between scrapes that carry none.
    pub every: Option<Span>,
    /// The model meant, if there are several; by default all together.
    pub model: Option<String>,
}

/// A counter or gauge over time.
struct Series<'a> {
    labels: &'a BTreeMap<String, String>,
    /// Time [s] and value.
    values: Vec<(f64, f64)>,
}

impl Series<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// What a counter has gained from scrape to scrape, and whether it was reset: (from [s], to [s], gain, reset).
    fn steps(&self) -> impl Iterator<Item = (f64, f64, f64, bool)> {
        self.values.windows(2).map(|pair| {
            let ((from, before), (to, after)) = (pair[0], pair[1]);
            let reset = after < before;
            (from, to, if reset { after } else { after - before }, reset)
        })
    }

    /// What a counter has gained, and how often it was reset.
    fn increase(&self) -> (f64, u64) {
        self.steps().fold((0.0, 0), |(sum, resets), (.., gain, reset)| (sum + gain, resets + u64::from(reset)))
    }
}

/// A workload read off metrics.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricsFit {
    /// Requests finished.
    pub requests: f64,
    /// Share of them that were aborted (by their clients); `None` where the server does not count them (TGI).
    pub aborted_share: Option<f64>,
    /// Times that a counter of requests began again from zero.
    pub resets: u64,
    /// Time between the first and the last scrape.
    pub span: Span,
    /// Length of a window; the whole time if it is shorter.
    pub window: Span,
    /// Mean requests per second in each window.
    pub rates: Vec<f64>,
    /// Prompt lengths.
    pub prompt: BucketFit,
    /// Output lengths.
    pub output: BucketFit,
    /// Requests running on all servers, mean over the scrapes; `None` if that was not scraped.
    pub running: Option<f64>,
    /// Requests waiting on all servers.
    pub waiting: Option<f64>,
}

impl MetricsFit {
    /// The generator: Poisson arrivals within windows.
    pub fn spec(&self) -> GenerateSpec {
        let rates: Vec<Rate> = self.rates.iter().map(|rate| Rate(significant(*rate, 6))).collect();
        let window = Duration(self.window);
        let arrivals = match rates.as_slice() {
            [rate] => ArrivalSpec::Poisson { rate: *rate },
            _ => ArrivalSpec::Profile { rates, window, shape: 1.0, gaps: GapFamily::Gamma },
        };
        let lengths = |fit: &BucketFit| LengthDist::Quantiles(fit.points.clone());
        GenerateSpec {
            arrivals,
            lengths: LengthSpec::Independent { prompt: lengths(&self.prompt), output: lengths(&self.output) },
            sessions: None,
            repeats: None,
            transcripts: None,
            requests: None,
            duration: Some(Duration(Span(self.window.0 * self.rates.len() as u64))),
        }
    }
}
