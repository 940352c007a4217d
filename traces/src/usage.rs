//! OpenAI's usage exports: requests and tokens summed over hours or days, as CSV or as pages of the API
//! (`/v1/organization/usage/completions`). They are no requests, but they say a rate profile and mean lengths.

use std::collections::BTreeMap;
use std::path::Path;

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::{Duration, Rate};

use crate::arrivals::{ArrivalSpec, GapFamily};
use crate::error::TraceError;
use crate::generate::GenerateSpec;
use crate::layout::SUMS;
use crate::lengths::LengthSpec;
use crate::number::TOKENS_MAX;
use crate::table::Table;

/// Numbers of requests and tokens that a row may state.
const NUMBERS: std::ops::RangeInclusive<f64> = 0.0..=1e15;

/// Requests per second of a window at most: what a generator can draw.
const RATE_MAX: f64 = 1e9;

/// Times that a row may state [s since 1970].
const TIMES: std::ops::RangeInclusive<f64> = 0.0..=1.8e10;

/// Windows of a profile at most: 114 years of hours.
const WINDOWS_MAX: u64 = 1_000_000;

/// Usage summed over windows of time.
#[derive(Clone, PartialEq, Debug)]
pub struct Usage {
    /// Requests in all.
    pub requests: u64,
    /// Length of a window.
    pub window: Duration,
    /// Requests per second of each window, from the first with a request to the last one.
    pub rates: Vec<Rate>,
    /// Mean tokens of a prompt, cached ones included, and of an answer.
    pub mean_tokens: (f64, f64),
}

impl Usage {
    /// Whether a file is such an export.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_in(path: &Path) -> Result<bool, TraceError> {
        let table = Table::open(path)?;
        Ok(SUMS.iter().any(|name| table.header().position(name).is_some()))
    }

    /// Reads an export. Rows of one window, of several models or keys, are added up.
    ///
    /// # Errors
    /// A column is missing, a row is broken, or the windows do not have one length.
    pub fn read(path: &Path) -> Result<Usage, TraceError> {
        let mut table = Table::open(path)?;
        let wrong = |problem: String, help| TraceError::Document { path: path.to_owned(), problem, help };
        let names = [
            "start_time",
            "end_time",
            "num_model_requests|n_requests",
            "input_tokens|n_context_tokens_total",
            "output_tokens|n_generated_tokens_total",
        ];
        let found: Vec<Option<usize>> = names.iter().map(|name| table.header().one_of(name)).collect();
        let [Some(start), Some(end), Some(count), Some(input), Some(output)] = found[..] else {
            let missing = names.iter().zip(&found).filter(|(_, at)| at.is_none()).map(|(name, _)| *name);
            let missing = missing.collect::<Vec<_>>().join(", ");
            return Err(wrong(format!("the usage export lacks {missing}"), "export with times and tokens"));
        };
        table.want(&[start, end, count, input, output])?;
        let mut windows: BTreeMap<u64, f64> = BTreeMap::new();
        let (mut lasts, mut sums) = (None, [0.0; 3]);
        while let Some(row) = table.next_row()? {
            let time = |column| row.number(column, &TIMES, "a time in seconds since 1970");
            let number = |column| if row.is_empty(column) { Ok(0.0) } else { row.number(column, &NUMBERS, "a number") };
            let (from, to) = (time(start)? as u64, time(end)? as u64);
            let length = to.checked_sub(from).filter(|length| *length > 0);
            if length.is_none() || *lasts.get_or_insert(length) != length {
                return Err(row.bad(
                    end,
                    "the end of a window as long as the first one",
                    "export hours, or days, and not both",
                ));
            }
            let counted = number(count)?;
            *windows.entry(from).or_default() += counted;
            for (sum, value) in sums.iter_mut().zip([counted, number(input)?, number(output)?]) {
                *sum += value;
            }
        }
        let empty = || wrong("the usage export has no requests".to_owned(), "choose a time with traffic");
        windows.retain(|_, requests| *requests > 0.0);
        let (Some((&first, _)), Some((&last, _)), Some(Some(length))) =
            (windows.first_key_value(), windows.last_key_value(), lasts)
        else {
            return Err(empty());
        };
        let several = (last - first) / length + 1;
        if several > WINDOWS_MAX || windows.keys().any(|at| !(at - first).is_multiple_of(length)) {
            return Err(wrong("the windows do not follow on one another".to_owned(), "export one stretch of time"));
        }
        for (what, tokens) in [("prompts", sums[1]), ("answers", sums[2])] {
            let mean = tokens / sums[0];
            if !(0.5..=f64::from(TOKENS_MAX)).contains(&mean) {
                let problem = format!("{what} have {mean:.3} tokens on average ({tokens} of {} requests)", sums[0]);
                let help = "a request to an engine has 1 to 16777216 tokens of both; take out rows of embeddings and of images, or mend the export";
                return Err(wrong(problem, help));
            }
        }
        if let Some(most) = windows.values().copied().reduce(f64::max).filter(|most| most / length as f64 > RATE_MAX) {
            let problem = format!("a window of {length} s has {most} requests");
            return Err(wrong(problem, "no service has that many; mend the export"));
        }
        let rate = |at| windows.get(&(first + at * length)).copied().unwrap_or(0.0) / length as f64;
        Ok(Usage {
            requests: sums[0] as u64,
            window: Duration(Span(length * NS_PER_S)),
            rates: (0..several).map(|at| Rate(rate(at))).collect(),
            mean_tokens: (sums[1] / sums[0], sums[2] / sums[0]),
        })
    }

    /// A workload with this rate, window by window, and all requests of the mean lengths: an export says no more of them.
    pub fn workload(&self) -> GenerateSpec {
        // `read` has seen to the range.
        let tokens = |mean: f64| mean.round().max(1.0) as u32;
        let windows = self.rates.len() as u64;
        GenerateSpec {
            arrivals: ArrivalSpec::Profile {
                rates: self.rates.clone(),
                window: self.window,
                shape: 1.0,
                gaps: GapFamily::Gamma,
            },
            lengths: LengthSpec::Fixed { prompt: tokens(self.mean_tokens.0), output: tokens(self.mean_tokens.1) },
            sessions: None,
            repeats: None,
            transcripts: None,
            requests: None,
            duration: Some(Duration(Span(self.window.0.0.saturating_mul(windows)))),
        }
    }
}
