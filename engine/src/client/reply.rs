//! One request and its answer, with the times at which a client sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode};
use overbook_sim::results::rows::Outcome;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::events::Events;
use super::pool::{Connection, Pool, WireError, whole};
use crate::driver::Clock;

/// A request before it is due.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) arrival: Arrival,
    pub(super) path: &'static str,
    pub(super) body: Bytes,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) number: u64,
    pub(super) arrival: Arrival,
    /// When it was handed to the socket.
    pub(super) sent: Time,
    pub(super) end: Time,
    pub(super) outcome: Outcome,
    /// What the server or the wire said, if it did not finish.
    pub(super) error: Option<String>,
    /// When each piece of text came.
    pub(super) pieces: Vec<Time>,
    pub(super) usage: Option<Usage>,
}

/// Token counts as the server has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
struct Details {
    cached_tokens: Option<u32>,
}

impl Usage {
    /// Prompt tokens that the server had cached, if it says so.
    pub(super) fn cached(&self) -> u32 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    role: Option<String>,
    content: Option<String>,
}

/// How an exchange ended, if not with a whole answer.
enum Trouble {
    Wire(WireError),
    Refused(StatusCode, String),
    Told(String),
    CutShort,
    Nonsense(String),
    Patience(Outcome),
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Trouble::Wire(error)
    }
}

impl Trouble {
    fn told(self) -> (Outcome, Option<String>) {
        match self {
            Trouble::Wire(error) => (Outcome::Failed, Some(error.to_string())),
            // Too many requests, or not now.
            Trouble::Refused(status, text) if status.is_client_error() || status.as_u16() == 503 => {
                (Outcome::Rejected, Some(format!("HTTP {}: {text}", status.as_u16())))
            }
            Trouble::Refused(status, text) => (Outcome::Failed, Some(format!("HTTP {}: {text}", status.as_u16()))),
            Trouble::Told(text) => (Outcome::Failed, Some(format!("error in the stream: {text}"))),
            Trouble::CutShort => (Outcome::Failed, Some("the stream broke off".into())),
            Trouble::Nonsense(text) => (Outcome::Failed, Some(text)),
            Trouble::Patience(outcome) => (outcome, None),
        }
    }
}

/// The message of an error object, or the beginning of whatever was said.
pub(super) fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let told = json.as_ref().and_then(|value| {
        let places = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]];
        places.into_iter().find_map(|place| place.as_str().map(str::to_owned))
    });
    told.unwrap_or_else(|| text.into_owned()).chars().take(200).collect()
}

/// Sends a request on a signal, and reads its answer.
pub(super) struct Exchange {
    pub(super) pool: Arc<Pool>,
    pub(super) clock: Clock,
    /// Pieces that have come so far.
    pub(super) heard: Arc<AtomicU64>,
}

#[derive(Default)]
struct Stream {
    events: Events,
    pieces: Vec<Time>,
    usage: Option<Usage>,
    /// Whether the answer has a finish reason.
    finished: bool,
    /// Whether the last piece was empty.
    empty: bool,
    trouble: Option<String>,
}

impl Exchange {
    /// `None` if the signal never comes.
    pub(super) async fn run(self, job: Job, due: oneshot::Receiver<()>) -> Option<Reply> {
        // Connected ahead, so that a new connection makes no request late.
        let connection = self.pool.connect().await;
        due.await.ok()?;
        let sent = self.clock.now();
        let mut stream = Stream::default();
        let (outcome, error) = match self.talk(&job, connection, &mut stream).await {
            Ok(()) => (Outcome::Finished, None),
            Err(trouble) => trouble.told(),
        };
        let end = self.clock.now();
        if stream.empty && stream.usage.is_some_and(|usage| stream.pieces.len() == usage.completion_tokens as usize + 1)
        {
            // The finish reason came in a chunk of its own.
            stream.pieces.pop();
        }
        let Job { number, arrival, .. } = job;
        let end = if outcome == Outcome::Finished { stream.pieces.last().copied().unwrap_or(end) } else { end };
        Some(Reply { number, arrival, sent, end, outcome, error, pieces: stream.pieces, usage: stream.usage })
    }

    async fn talk(
        &self,
        job: &Job,
        connection: Result<Connection, WireError>,
        stream: &mut Stream,
    ) -> Result<(), Trouble> {
        let request = self.pool.request(Method::POST, job.path, job.body.clone())?;
        let mut connection = connection?;
        let answer = self.patient(job, false, Pool::send(&mut connection, request)).await??;
        self.listen(job, answer, stream).await?;
        self.pool.give_back(connection);
        Ok(())
    }

    async fn listen(&self, job: &Job, answer: Response<Incoming>, stream: &mut Stream) -> Result<(), Trouble> {
        let status = answer.status();
        if status != StatusCode::OK {
            let body = self.patient(job, false, whole(answer.into_body())).await??;
            return Err(Trouble::Refused(status, message(&body)));
        }
        let mut body = answer.into_body();
        loop {
            let frame = self.patient(job, !stream.pieces.is_empty(), body.frame()).await?;
            let now = self.clock.now();
            match frame {
                None => break,
                Some(Err(error)) => return Err(Trouble::Wire(WireError::Broken(error))),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        stream.take(bytes, now);
                        self.heard.store(stream.pieces.len() as u64, Ordering::Relaxed);
                    }
                }
            }
            if let Some(told) = stream.trouble.take() {
                return Err(Trouble::Told(told));
            }
        }
        match (stream.finished, stream.pieces.is_empty()) {
            (true, false) => Ok(()),
            (_, true) => Err(Trouble::Nonsense("an answer without a single event of a stream".into())),
            (false, false) => Err(Trouble::CutShort),
        }
    }

    /// Waits as long as the request's client would.
    async fn patient<T>(&self, job: &Job, begun: bool, what: impl Future<Output = T>) -> Result<T, Trouble> {
        let Arrival { at, max_wait, deadline, cancel_after, .. } = job.arrival;
        let limits = [
            // A client sees a start only by its first token.
            (max_wait.filter(|_| !begun), Outcome::Expired),
            (deadline, Outcome::Expired),
            (cancel_after, Outcome::Cancelled),
        ];
        let limits = limits.into_iter().filter_map(|(span, outcome)| Some((at + span?, outcome)));
        let Some((until, outcome)) = limits.min_by_key(|&(until, _)| until) else { return Ok(what.await) };
        timeout_at(self.clock.instant(until).into(), what).await.map_err(|_| Trouble::Patience(outcome))
    }
}

impl Stream {
    fn take(&mut self, bytes: &[u8], now: Time) {
        let Stream { events, pieces, usage, finished, empty, trouble } = self;
        events.push(bytes, |data| {
            if data == "[DONE]" {
                return;
            }
            let chunk: Chunk = match serde_json::from_str(data) {
                Ok(chunk) => chunk,
                Err(error) => {
                    trouble
                        .get_or_insert(format!("no chunk ({error}): {}", data.chars().take(100).collect::<String>()));
                    return;
                }
            };
            if let Some(error) = chunk.error {
                let told = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
                trouble.get_or_insert(told);
            }
            *usage = chunk.usage.or(*usage);
            let Some(choice) = chunk.choices.first() else { return };
            *finished |= choice.finish_reason.is_some();
            let delta = choice.delta.as_ref();
            let content = choice.text.as_deref().or_else(|| delta.and_then(|delta| delta.content.as_deref()));
            let said = content.is_some_and(|text| !text.is_empty());
            if !said && delta.is_some_and(|delta| delta.role.is_some()) {
                // A role is no token.
                return;
            }
            *empty = !said;
            pieces.push(now);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from `vllm serve` 0.32: a token a piece, and its count in a piece of its own.
    #[test]
    fn a_real_vllms_stream_has_a_piece_for_each_token() {
        let text = include_bytes!("../../tests/data/vllm-0.32/stream.txt");
        let mut stream = Stream::default();
        for (number, part) in (0..).zip(text.chunks(100)) {
            stream.take(part, Time(number));
        }
        assert!(stream.finished && !stream.empty && stream.trouble.is_none());
        assert_eq!(stream.pieces.len(), 6);
        let usage = stream.usage.expect("it was asked for");
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached()), (5, 6, 0));
    }
}
