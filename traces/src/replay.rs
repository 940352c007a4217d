//! A trace as a workload: times rebased to the first request, clipped, scaled and repeated.

use std::fmt;

use overbook_sim::arrival::{Arrival, Workload, WorkloadError};
use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::units::Rate;

use crate::error::TraceError;
use crate::reader::{Reader, Recorded};
use crate::scale::Scale;
use crate::spec::{Format, TraceSpec};

/// What became of the rows in one pass over the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Rows that `keep` does not want.
    pub filtered: u64,
    /// Failed requests: a length of 0, nothing to replay (`BurstGPT`).
    pub failed: u64,
    /// Rows passed over by `skip`.
    pub skipped: u64,
    /// Requests taken.
    pub taken: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { rows, filtered, failed, skipped, taken } = self;
        write!(f, "{rows} rows read, {filtered} filtered out, {failed} failed, {skipped} skipped, {taken} taken")
    }
}

/// Requests and time between the first and the last, of one pass [file time].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Extent {
    requests: u64,
    span_ns: u64,
}

/// A recorded trace that plays as a [`Workload`]; one row is in memory at a time.
pub struct Replay {
    reader: Reader,
    /// Read ahead when opening.
    pending: Option<Recorded>,
    max_prompt_tokens: u32,
    max_output_tokens: u32,
    scale: Scale,
    /// Copies to play, and the one being played (from 0).
    repeat: u64,
    copy: u64,
    /// File time of the first request; it arrives at time zero.
    first_ns: u64,
    /// Latest file time of this copy, from `first_ns`.
    last_ns: u64,
    /// Where this copy starts [file time].
    offset_ns: u64,
    /// Known after the first full pass.
    extent: Option<Extent>,
}

impl Replay {
    pub(crate) fn open(spec: &TraceSpec) -> Result<Replay, TraceError> {
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        let mut reader = Reader::open(spec)?;
        let (scale, extent) = match spec.rate {
            Some(rate) => scale_to_rate(&mut reader, rate)?,
            None => (spec.time_scale.map_or(Scale::IDENTITY, |scale| Scale::new(1.0 / scale)), None),
        };
        let Some(first) = reader.next_request()? else {
            return Err(reader.no_requests());
        };
        Ok(Replay {
            reader,
            pending: Some(first),
            max_prompt_tokens: spec.max_prompt_tokens.unwrap_or(u32::MAX),
            max_output_tokens: spec.max_output_tokens.unwrap_or(u32::MAX),
            scale,
            repeat: spec.repeat,
            copy: 0,
            first_ns: first.at_ns,
            last_ns: 0,
            offset_ns: 0,
            extent,
        })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.reader.format()
    }

    /// What became of the rows so far, in the current pass over the file.
    pub fn counts(&self) -> Counts {
        self.reader.counts()
    }

    /// The next request; see [`Workload::next_arrival`].
    ///
    /// # Errors
    /// The file is broken at this point.
    pub fn next_request(&mut self) -> Result<Option<Arrival>, TraceError> {
        loop {
            let recorded = match self.pending.take() {
                Some(first) => Some(first),
                None => self.reader.next_request()?,
            };
            if let Some(recorded) = recorded {
                return self.arrival(recorded).map(Some);
            }
            if !self.start_next_copy()? {
                return Ok(None);
            }
        }
    }

    fn arrival(&mut self, recorded: Recorded) -> Result<Arrival, TraceError> {
        let Some(since_first) = recorded.at_ns.checked_sub(self.first_ns) else {
            return Err(self.changed());
        };
        self.last_ns = since_first;
        let at = self.offset_ns.checked_add(since_first).and_then(|ns| self.scale.apply(ns));
        let at = at.ok_or_else(|| self.too_late())?;
        let prompt_tokens = recorded.prompt_tokens.min(self.max_prompt_tokens);
        let output_tokens = recorded.output_tokens.min(self.max_output_tokens);
        Ok(Arrival { class: recorded.class, ..Arrival::new(Time(at), prompt_tokens, output_tokens) })
    }

    /// At the end of a copy: rewinds for the next one, if there is one.
    fn start_next_copy(&mut self) -> Result<bool, TraceError> {
        let extent = Extent { requests: self.reader.counts().taken, span_ns: self.last_ns };
        if *self.extent.get_or_insert(extent) != extent {
            return Err(self.changed());
        }
        if self.copy + 1 >= self.repeat {
            return Ok(false);
        }
        let Extent { requests, span_ns } = extent;
        if requests < 2 {
            return Err(no_mean_rate(&self.reader, "repeat", extent));
        }
        // A copy and the mean gap behind it take span + span / (n - 1) = span * n / (n - 1).
        let (n, span) = (u128::from(requests), u128::from(span_ns));
        let offset = u128::from(self.copy + 1).checked_mul(span * n).map(|ns| (ns + (n - 1) / 2) / (n - 1));
        let offset = offset.and_then(|ns| u64::try_from(ns).ok());
        self.offset_ns = offset.ok_or_else(|| self.too_late())?;
        self.copy += 1;
        self.reader.rewind()?;
        Ok(true)
    }

    fn too_late(&self) -> TraceError {
        TraceError::TooLate { path: self.reader.path().clone(), line: self.reader.line() }
    }

    fn changed(&self) -> TraceError {
        TraceError::Changed { path: self.reader.path().clone() }
    }
}

impl Workload for Replay {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.next_request()?)
    }

    fn classes(&self) -> &[String] {
        self.reader.classes()
    }
}

/// Reads the file once to learn its mean rate, and rewinds it.
fn scale_to_rate(reader: &mut Reader, Rate(rate): Rate) -> Result<(Scale, Option<Extent>), TraceError> {
    let Some(first) = reader.next_request()? else {
        return Err(reader.no_requests());
    };
    let mut last_ns = first.at_ns;
    while let Some(request) = reader.next_request()? {
        last_ns = request.at_ns;
    }
    let extent = Extent { requests: reader.counts().taken, span_ns: last_ns - first.at_ns };
    if extent.span_ns == 0 {
        return Err(no_mean_rate(reader, "rate", extent));
    }
    let gaps_ns = (extent.requests - 1) as f64 * NS_PER_S as f64;
    reader.rewind()?;
    Ok((Scale::new(gaps_ns / (extent.span_ns as f64 * rate)), Some(extent)))
}

fn no_mean_rate(reader: &Reader, option: &'static str, extent: Extent) -> TraceError {
    TraceError::NoMeanRate {
        path: reader.path().clone(),
        option,
        requests: extent.requests,
        span: Span(extent.span_ns),
    }
}
