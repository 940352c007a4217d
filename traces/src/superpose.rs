//! Copies of a trace laid over each other, each rotated by a multiple of a shift.
//!
//! The period is the trace's span and its mean gap, so that the mean load is `copies` times the trace's. Where whole shifts add at most a tenth to
//! that, it is whole shifts: copies then meet at the same time of day before and after they wrap around. Copy `k` starts `k` shifts into the trace
//! and wraps around at the end of the period, so that every copy plays every request once.

use overbook_sim::time::Span;
use overbook_sim::workload::arrival::ClassId;

use crate::error::TraceError;
use crate::outcome::Recorded;
use crate::reader::Reader;
use crate::rows::{Extent, Rows, extent, salt};
use crate::spec::TraceSpec;

/// All copies, merged in order of time; of equal times the lower copy is first.
pub(crate) struct Superpose {
    copies: Vec<Copy>,
    classes: Vec<String>,
}

/// One copy, with its own place in the file.
struct Copy {
    number: u64,
    reader: Reader,
    /// Where in the trace this copy starts [ns since the first request].
    start_ns: u64,
    period_ns: u64,
    first_ns: u64,
    wrapped: bool,
    next: Option<Recorded>,
    /// What this copy's classes are called among all.
    classes: Vec<ClassId>,
}

impl Superpose {
    /// Reads the file once to know its span.
    pub(crate) fn open(spec: &TraceSpec, seed: u64, copies: u32, shift: Span) -> Result<Superpose, TraceError> {
        let mut reader = Reader::open(spec, seed)?;
        let (first_ns, extent) = extent(&mut reader)?;
        let span_ns = extent.span_ns;
        let period = period(&extent, shift);
        let needed = u128::from(copies) * u128::from(shift.0);
        let saturated = |ns: u128| u64::try_from(ns).unwrap_or(u64::MAX);
        if needed > period || period > u128::from(u64::MAX / 2) {
            let (path, span, needed) = (spec.path.clone(), Span(span_ns), Span(saturated(needed)));
            return Err(TraceError::TooShort { path, copies, shift, needed, span });
        }
        let mut all = Superpose { copies: Vec::new(), classes: Vec::new() };
        for number in 0..u64::from(copies) {
            let (reader, start_ns) = (Reader::open(spec, seed)?, number * shift.0);
            let (period_ns, next, classes) = (saturated(period), None, Vec::new());
            let mut copy = Copy { number, reader, start_ns, period_ns, first_ns, wrapped: false, next, classes };
            copy.advance(&mut all.classes)?;
            all.copies.push(copy);
        }
        Ok(all)
    }
}

/// After how long a copy begins again [ns].
fn period(extent: &Extent, shift: Span) -> u128 {
    let Extent { requests, span_ns } = *extent;
    let exact = u128::from(span_ns) + u128::from(span_ns / requests.saturating_sub(1).max(1)).max(1);
    let whole = u128::from(span_ns / shift.0 + 1) * u128::from(shift.0);
    if whole <= exact + exact / 10 { whole } else { exact }
}

impl Copy {
    fn advance(&mut self, classes: &mut Vec<String>) -> Result<(), TraceError> {
        self.next = self.read()?;
        if let Some(request) = &mut self.next {
            for name in &self.reader.classes()[self.classes.len()..] {
                let known = classes.iter().position(|class| class == name);
                self.classes.push(ClassId(known.unwrap_or_else(|| {
                    classes.push(name.clone());
                    classes.len() - 1
                }) as u16));
            }
            request.class = self.classes[usize::from(request.class.0)];
            salt(request, self.number);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Recorded>, TraceError> {
        loop {
            let Some(mut request) = self.reader.next_request()? else {
                if self.wrapped || self.start_ns == 0 {
                    return Ok(None);
                }
                self.wrapped = true;
                self.reader.rewind()?;
                continue;
            };
            let changed = || TraceError::Changed { path: self.reader.path().clone() };
            let at_ns = request.at_ns.checked_sub(self.first_ns).ok_or_else(changed)?;
            if self.wrapped && at_ns >= self.start_ns {
                return Ok(None);
            }
            if self.wrapped || at_ns >= self.start_ns {
                let around = if self.wrapped { self.period_ns } else { 0 };
                request.at_ns = at_ns + around - self.start_ns;
                return Ok(Some(request));
            }
        }
    }
}

impl Rows for Superpose {
    fn next_row(&mut self) -> Result<Option<Recorded>, TraceError> {
        let times = self.copies.iter().enumerate().filter_map(|(at, copy)| Some((copy.next.as_ref()?.at_ns, at)));
        let Some((_, at)) = times.min() else { return Ok(None) };
        let copy = &mut self.copies[at];
        let request = copy.next.take();
        copy.advance(&mut self.classes)?;
        Ok(request)
    }

    fn reader(&self) -> &Reader {
        &self.copies[0].reader
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}
