//! A window of a run as a Chrome trace, for <https://ui.perfetto.dev> or `chrome://tracing`.
//!
//! Every replica is a process. Its lanes are threads whose slices are segments (runs of equal steps), named after what they did:
//! "decode 31", "prefill 512 + decode 30". Counters show running and waiting requests and used KV blocks as each segment was
//! planned. Requests are asynchronous slices: queued, prefill (until the first token), decode. What reaches over an end of the
//! window is cut there; the arguments of a slice have the whole.

use std::collections::BTreeSet;
use std::fmt::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use overbook_sim::results::rows::{RequestRow, StepRow};
use overbook_sim::time::Time;

use crate::ReportError;
use crate::read::RunData;

/// Events of a segment: its slice and two counters.
const PER_SEGMENT: usize = 3;
/// Events of a request, at most: beginning and end of three phases.
const PER_REQUEST: usize = 6;

/// An exported window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The trace: JSON in Chrome's trace event format.
    pub json: String,
    /// Segments in it.
    pub segments: u64,
    /// Requests in it.
    pub requests: u64,
    /// Segments and requests of the window that had no room.
    pub left_out: u64,
}

impl Trace {
    /// The trace compressed, as `trace.json.gz`; Perfetto opens it as it is. The same trace gives the same bytes.
    pub fn gzip(&self) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        // Writing into memory cannot fail.
        let written = std::io::Write::write_all(&mut encoder, self.json.as_bytes());
        written.and_then(|()| encoder.finish()).unwrap_or_default()
    }
}

/// Exports what happened from `from` until `to` in at most `max_events` events: half of them for segments, what is left for
/// requests. What finds no room is counted, and the trace says so. An event takes about 150 bytes.
///
/// # Errors
/// The window is empty, or the rows cannot be read. Segments are left out if the run has none; requests are not.
pub fn export(run: &RunData, from: Time, to: Time, max_events: usize) -> Result<Trace, ReportError> {
    if from >= to {
        return Err(ReportError::Asked(format!(
            "the window from {} s to {} s is empty",
            from.as_secs_f64(),
            to.as_secs_f64()
        )));
    }
    let mut writer = Writer::new(from, to);
    let (mut segments, mut requests, mut left_out) = (0, 0, 0);
    if run.has_steps() {
        run.each_step(|row| {
            if row.end > from && row.start < to {
                let room = writer.events + PER_SEGMENT <= max_events / 2;
                if room {
                    writer.segment(row);
                }
                segments += u64::from(room);
                left_out += u64::from(!room);
            }
            true
        })?;
    }
    run.each_request(|row| {
        if row.end > from && row.arrival < to {
            let room = writer.events + PER_REQUEST <= max_events;
            if room {
                writer.request(row);
            }
            requests += u64::from(room);
            left_out += u64::from(!room);
        }
        true
    })?;
    Ok(Trace { json: writer.finish(run.title(), left_out), segments, requests, left_out })
}

struct Writer {
    json: String,
    from: Time,
    to: Time,
    events: usize,
    replicas: BTreeSet<u32>,
    lanes: BTreeSet<(u32, u32)>,
}

impl Writer {
    fn new(from: Time, to: Time) -> Writer {
        let json = "{\"traceEvents\":[\n".to_owned();
        Writer { json, from, to, events: 0, replicas: BTreeSet::new(), lanes: BTreeSet::new() }
    }

    /// One event; `rest` are its further members.
    fn event(&mut self, name: &str, phase: char, at: Time, replica: u32, rest: &str) {
        let (ts, pid) = (microseconds(at.0), replica + 1);
        let comma = if self.events > 0 { ",\n" } else { "" };
        // Names are made of words and numbers. Writing into a String cannot fail.
        let _ = write!(
            self.json,
            "{comma}{{\"name\":\"{name}\",\"ph\":\"{phase}\",\"ts\":{ts},\"pid\":{pid}{}{rest}}}",
            if rest.is_empty() { "" } else { "," }
        );
        self.events += 1;
        self.replicas.insert(replica);
    }

    fn segment(&mut self, row: &StepRow) {
        let (start, end) = (row.start.max(self.from), row.end.min(self.to));
        let name = match (row.prefill_tokens, row.decode_seqs) {
            (0, decode) => format!("decode {decode}"),
            (prefill, 0) => format!("prefill {prefill}"),
            (prefill, decode) => format!("prefill {prefill} + decode {decode}"),
        };
        let rest = format!(
            "\"tid\":{},\"dur\":{},\"args\":{{\"steps\":{},\"start_ns\":{},\"end_ns\":{},\"decode_seqs\":{},\"prefill_seqs\":{},\
             \"prefill_tokens\":{},\"decode_context\":{},\"preempted\":{}}}",
            row.lane + 1,
            microseconds(end.since(start).0),
            row.steps,
            row.start.0,
            row.end.0,
            row.decode_seqs,
            row.prefill_seqs,
            row.prefill_tokens,
            row.decode_context,
            row.preempted
        );
        self.event(&name, 'X', start, row.replica, &rest);
        let requests = format!("\"args\":{{\"running\":{},\"waiting\":{}}}", row.running, row.waiting);
        self.event("requests", 'C', start, row.replica, &requests);
        let blocks = format!("\"args\":{{\"used\":{}}}", row.used_blocks);
        self.event("KV blocks", 'C', start, row.replica, &blocks);
        self.lanes.insert((row.replica, row.lane));
    }

    fn request(&mut self, row: &RequestRow) {
        let start = row.start.unwrap_or(row.end);
        let first = row.first_token.unwrap_or(row.end);
        let args = format!(
            "\"args\":{{\"request\":{},\"class\":{},\"outcome\":\"{}\",\"arrival_ns\":{},\"end_ns\":{},\"prompt_tokens\":{},\
             \"output_tokens\":{},\"cached_tokens\":{},\"preemptions\":{}}}",
            row.request,
            row.class.0,
            row.outcome.name(),
            row.arrival.0,
            row.end.0,
            row.prompt_tokens,
            row.output_tokens,
            row.cached_tokens,
            row.preemptions
        );
        for (name, begin, end) in
            [("queued", row.arrival, start), ("prefill", start, first), ("decode", first, row.end)]
        {
            let (begin, end) = (begin.max(self.from), end.min(self.to));
            if begin < end {
                let id = format!("\"cat\":\"request\",\"id\":\"{}\",\"tid\":0", row.request);
                self.event(name, 'b', begin, row.replica, &format!("{id},{args}"));
                self.event(name, 'e', end, row.replica, &id);
            }
        }
    }

    fn finish(mut self, title: &str, left_out: u64) -> String {
        for replica in std::mem::take(&mut self.replicas) {
            let rest = format!("\"args\":{{\"name\":\"replica {replica}\"}}");
            self.event("process_name", 'M', Time::ZERO, replica, &rest);
        }
        for (replica, lane) in std::mem::take(&mut self.lanes) {
            let rest = format!("\"tid\":{},\"args\":{{\"name\":\"lane {lane}\"}}", lane + 1);
            self.event("thread_name", 'M', Time::ZERO, replica, &rest);
        }
        let title = serde_json::Value::from(title);
        let (from, to) = (self.from.0, self.to.0);
        let _ = write!(
            self.json,
            "\n],\"displayTimeUnit\":\"ms\",\"otherData\":{{\"title\":{title},\"from_ns\":{from},\"to_ns\":{to},\"left_out\":{left_out}}}}}\n"
        );
        self.json
    }
}

/// Nanoseconds as the microseconds of the format, exactly.
fn microseconds(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

#[cfg(test)]
mod tests;
