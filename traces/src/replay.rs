//! A trace as a workload: times rebased to the first request, spread, scaled and repeated.

use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};

use crate::agents::SessionReplay;
use crate::arrivals::Arrivals;
use crate::cells::Cells;
use crate::clock::Clock;
use crate::counts::Counts;
use crate::error::TraceError;
use crate::format::Format;
use crate::load::{FACTOR_MAX, ScaleSpec};
use crate::outcome::Recorded;
use crate::reader::Reader;
use crate::rows::{Extent, Rows, extent, salt};
use crate::scale::Scale;
use crate::spec::TraceSpec;
use crate::superpose::Superpose;
use crate::timed::Timed;

impl TraceSpec {
    /// Opens the trace and reads up to its first request, so that a wrong file fails here and not in mid-run.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn open(&self) -> Result<Box<dyn Workload>, TraceError> {
        self.open_seeded(0)
    }

    /// As [`open`](TraceSpec::open), with a seed for what is drawn: `failures: redraw`, `spread`, `multiply`, starts of sessions.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn open_seeded(&self, seed: u64) -> Result<Box<dyn Workload>, TraceError> {
        if self.is_of_sessions()? {
            return Ok(Box::new(SessionReplay::open(self, seed)?));
        }
        if self.sessions.is_some() {
            let why = "has no effect: the trace holds rows, and no sessions with think times; leave it out".to_owned();
            return Err(TraceError::Spec(vec![("sessions".to_owned(), why)]));
        }
        Ok(Box::new(self.replay_seeded(seed)?))
    }

    /// As [`open`](TraceSpec::open), but with the concrete type, which also counts the rows by what became of them.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn replay(&self) -> Result<Replay, TraceError> {
        self.replay_seeded(0)
    }

    /// As [`replay`](TraceSpec::replay), with a seed.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn replay_seeded(&self, seed: u64) -> Result<Replay, TraceError> {
        Replay::open(self, seed)
    }
}

/// A recorded trace that plays as a [`Workload`]; one row is in memory at a time (with `spread` and `multiply`, those of
/// one time step).
pub struct Replay {
    rows: Box<dyn Rows>,
    scale: Scale,
    /// Read ahead when opening.
    pending: Option<Recorded>,
}

impl Replay {
    pub(crate) fn open(spec: &TraceSpec, seed: u64) -> Result<Replay, TraceError> {
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(TraceError::Spec(problems));
        }
        let mut rows: Box<dyn Rows> = match spec.scale {
            Some(ScaleSpec::Superpose { copies, shift }) => Box::new(Superpose::open(spec, seed, copies, shift.0)?),
            _ => Box::new(Copies::open(spec, seed)?),
        };
        if let Some(arrivals) = &spec.arrivals {
            rows = Box::new(Timed::new(rows, Arrivals::new(arrivals, seed)));
        }
        if let Some(Duration(Span(width_ns))) = spec.spread {
            rows = Box::new(Cells::spread(rows, width_ns, seed));
        }
        let mut scale = Scale::IDENTITY;
        match (spec.scale, spec.time_scale, spec.rate) {
            (Some(ScaleSpec::Multiply(factor)), ..) => rows = Box::new(Cells::multiply(rows, factor, seed)),
            (Some(ScaleSpec::MultiplyTo(rate)), ..) => {
                let factor = 1.0 / slowness(spec, seed, rate, "scale.multiply-to")?;
                if factor > FACTOR_MAX {
                    let message = format!("is {factor} times the rate of the trace; at most {FACTOR_MAX} is possible");
                    return Err(TraceError::Spec(vec![("scale.multiply-to".to_owned(), message)]));
                }
                rows = Box::new(Cells::multiply(rows, factor, seed));
            }
            (Some(ScaleSpec::Compress(factor)), ..) | (None, Some(factor), _) => scale = Scale::new(1.0 / factor),
            (None, None, Some(rate)) => scale = Scale::new(slowness(spec, seed, rate, "rate")?),
            _ => {}
        }
        let Some(first) = rows.next_row()? else {
            return Err(rows.reader().no_requests());
        };
        Ok(Replay { rows, scale, pending: Some(first) })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.rows.reader().format()
    }

    /// How many tokens one id of contents stands for in the file [tokens], as its first request has them; `None` if it names no
    /// contents. Blocks of this size lose nothing and split nothing.
    pub fn id_tokens(&self) -> Option<u32> {
        self.rows.reader().id_tokens()
    }

    /// When the first request arrived, by the clock of the file: since 1970 for dates, else since what the file counts from.
    pub fn first_at(&self) -> Time {
        Time(self.rows.reader().first_ns().unwrap_or(0))
    }

    /// The clock of the file, as its first request shows it; [`Replay::first_at`] is in UTC where it is known.
    pub fn clock(&self) -> Clock {
        self.rows.reader().clock()
    }

    /// What became of the rows so far, in the current pass over the file; of the first copy if there are several.
    pub fn counts(&self) -> Counts {
        self.rows.reader().counts()
    }

    /// The next request; see [`Workload::next_arrival`].
    ///
    /// # Errors
    /// The file is broken at this point.
    pub fn next_request(&mut self) -> Result<Option<Arrival>, TraceError> {
        let recorded = match self.pending.take() {
            Some(first) => Some(first),
            None => self.rows.next_row()?,
        };
        let Some(recorded) = recorded else { return Ok(None) };
        let at = self.scale.apply(recorded.at_ns).ok_or_else(|| too_late(self.rows.reader()))?;
        Ok(Some(Arrival {
            class: recorded.class,
            priority: recorded.priority,
            content: recorded.content,
            session: recorded.session,
            recorded_e2el: recorded.e2el,
            failed_in_trace: recorded.failed,
            ..Arrival::new(Time(at), recorded.prompt_tokens, recorded.output_tokens)
        }))
    }
}

impl Workload for Replay {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.next_request()?)
    }

    fn classes(&self) -> &[String] {
        self.rows.classes()
    }

    fn rows(&self) -> Vec<(&'static str, u64)> {
        self.counts().named().to_vec()
    }
}

/// The trace, played once or several times in a row.
struct Copies {
    reader: Reader,
    /// Copies to play, and the one being played (from 0).
    repeat: u64,
    copy: u64,
    /// File time of the first request; it arrives at time zero.
    first_ns: Option<u64>,
    /// Latest file time of this copy, from `first_ns`.
    last_ns: u64,
    /// Where this copy starts [file time].
    offset_ns: u64,
    /// Known after the first full pass.
    extent: Option<Extent>,
}

impl Copies {
    fn open(spec: &TraceSpec, seed: u64) -> Result<Copies, TraceError> {
        let (reader, repeat) = (Reader::open(spec, seed)?, spec.repeat);
        Ok(Copies { reader, repeat, copy: 0, first_ns: None, last_ns: 0, offset_ns: 0, extent: None })
    }

    /// At the end of a copy: rewinds for the next one, if there is one.
    fn start_next_copy(&mut self) -> Result<bool, TraceError> {
        let extent = Extent { requests: self.reader.counts().taken, span_ns: self.last_ns };
        if *self.extent.get_or_insert(extent) != extent {
            return Err(self.changed());
        }
        if extent.requests == 0 || self.copy + 1 >= self.repeat {
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
        self.offset_ns = offset.ok_or_else(|| too_late(&self.reader))?;
        self.copy += 1;
        self.reader.rewind()?;
        Ok(true)
    }

    fn changed(&self) -> TraceError {
        TraceError::Changed { path: self.reader.path().clone() }
    }
}

impl Rows for Copies {
    fn next_row(&mut self) -> Result<Option<Recorded>, TraceError> {
        loop {
            let Some(mut request) = self.reader.next_request()? else {
                if self.start_next_copy()? {
                    continue;
                }
                return Ok(None);
            };
            let first_ns = *self.first_ns.get_or_insert(request.at_ns);
            self.last_ns = request.at_ns.checked_sub(first_ns).ok_or_else(|| self.changed())?;
            request.at_ns = self.offset_ns.checked_add(self.last_ns).ok_or_else(|| too_late(&self.reader))?;
            salt(&mut request, self.copy);
            return Ok(Some(request));
        }
    }

    fn reader(&self) -> &Reader {
        &self.reader
    }

    fn classes(&self) -> &[String] {
        self.reader.classes()
    }
}

fn too_late(reader: &Reader) -> TraceError {
    TraceError::TooLate { path: reader.path().clone(), line: reader.line() }
}

/// The mean rate of the file over the rate that is wanted. Reads the file once.
fn slowness(spec: &TraceSpec, seed: u64, Rate(rate): Rate, option: &'static str) -> Result<f64, TraceError> {
    let mut reader = Reader::open(spec, seed)?;
    let (_, extent) = extent(&mut reader)?;
    if extent.span_ns == 0 {
        return Err(no_mean_rate(&reader, option, extent));
    }
    Ok((extent.requests - 1) as f64 * NS_PER_S as f64 / (extent.span_ns as f64 * rate))
}

fn no_mean_rate(reader: &Reader, option: &'static str, extent: Extent) -> TraceError {
    TraceError::NoMeanRate {
        path: reader.path().clone(),
        option,
        requests: extent.requests,
        span: Span(extent.span_ns),
    }
}
