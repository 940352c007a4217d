//! The life of one request: tokens in, pieces of text out.
//!
//! Each request has a task of its own between the driver and its connection, so that a stop text or a client that has left
//! is noticed at once, whatever the connection is doing. The connection takes pieces from a bounded queue: a
//! reader that falls [`BEHIND_MAX`] tokens behind is cancelled, so that no stream takes more memory than that.

use std::sync::Arc;

use axum::http::StatusCode;
use overbook_sim::results::rows::{Outcome, RequestRow};
use overbook_sim::time::Time;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::error::ApiError;
use super::metrics::Reason;
use super::service::{Service, Submitted};
use super::stops::Stops;
use super::tokenizer::Decoder;
use crate::driver::{Event, Message};

/// Tokens that a reader may be behind, beyond what the sockets hold.
pub(super) const BEHIND_MAX: usize = 1024;

/// What one token adds to the answer; the last piece says how it ended.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Output tokens so far.
    pub(super) tokens: u32,
    pub(super) end: Option<End>,
}

/// How an answer ends.
#[derive(Debug)]
pub(super) enum End {
    /// With its finish reason, and what stopped it: a stop text, or a token other than the end of text.
    Finished(Reason, Option<Value>),
    /// Without being complete.
    Failed(ApiError),
}

/// Follows a request to its end. Its pieces come as they are made.
pub(super) fn start(
    service: Arc<Service>,
    submitted: Submitted,
    prompt: &[u32],
    stop: Vec<String>,
) -> mpsc::Receiver<Piece> {
    let (out, pieces) = mpsc::channel(BEHIND_MAX);
    let decoder = Decoder::new(&service.settings.tokenizer, prompt);
    let generation = Generation {
        service,
        submitted,
        out: Some(out),
        id: None,
        tokens: 0,
        last: Time::ZERO,
        decoder,
        stops: Stops::new(stop),
        stopped_by: None,
        rest: String::new(),
    };
    tokio::spawn(generation.run());
    pieces
}

struct Generation {
    service: Arc<Service>,
    submitted: Submitted,
    /// The connection's queue, until nothing more is to be said.
    out: Option<mpsc::Sender<Piece>>,
    /// The driver's number, once it is known.
    id: Option<u64>,
    tokens: u32,
    /// When the last token was delivered.
    last: Time,
    decoder: Decoder,
    stops: Stops,
    /// The token that ended it, if it was not the end of text.
    stopped_by: Option<Value>,
    /// Text of the last token.
    rest: String,
}

impl Generation {
    async fn run(mut self) {
        let mut reason = None;
        let row = loop {
            match self.next().await {
                None => break None,
                Some(Event::Accepted { id }) => self.id = Some(id),
                Some(Event::Token { token, at }) => {
                    self.count(at);
                    if self.out.is_some() {
                        reason = self.token(token).or(reason);
                    }
                }
                Some(Event::Ended(row)) => break Some(row),
            }
        };
        self.finish(row.as_deref(), reason);
    }

    /// The next event. If the client has left, the request is cancelled first.
    async fn next(&mut self) -> Option<Event> {
        if let (Some(out), Some(_)) = (&self.out, self.id) {
            tokio::select! {
                biased;
                () = out.closed() => self.give_up(Outcome::Cancelled),
                event = self.submitted.events.recv() => return event,
            }
        }
        self.submitted.events.recv().await
    }

    /// Nothing more is said to the client, and the driver need not go on.
    fn give_up(&mut self, outcome: Outcome) {
        self.out = None;
        if let Some(id) = self.id {
            // A driver that has stopped has ended all requests.
            let _ = self.service.inbox.send(Message::End { id, outcome });
        }
    }

    fn count(&mut self, at: Time) {
        self.tokens += 1;
        let mut metrics = self.service.metrics.lock();
        if self.tokens == 1 {
            metrics.first_token(at.since(self.submitted.sent));
            self.service.begun();
        } else {
            metrics.next_token(at.since(self.last));
        }
        self.last = at;
    }

    /// Says what a token adds. Returns the finish reason if it is the last one.
    fn token(&mut self, token: u32) -> Option<Reason> {
        let stop = &self.submitted.stop;
        if self.tokens >= stop.min_tokens && stop.tokens.contains(&token) {
            // As in vLLM: the end-of-text token is not named as stop reason.
            let is_end = self.service.settings.tokenizer.ends().first() == Some(&token);
            self.stopped_by = (!is_end || self.submitted.ignore_eos).then(|| json!(token));
            return Some(Reason::Stop);
        }
        let free = self.tokens > stop.min_tokens || stop.min_tokens == 0;
        let text = self.decoder.push(token);
        let (text, found) = if free { self.stops.push(&text) } else { (text, None) };
        if let Some(found) = found {
            self.say(text, Some(End::Finished(Reason::Stop, Some(json!(found)))));
            self.give_up(Outcome::Finished);
            return Some(Reason::Stop);
        }
        if self.tokens == self.submitted.max_tokens {
            // It shows with the finish reason, as soon as the driver has booked the end.
            self.rest = text;
            return Some(Reason::Length);
        }
        self.say(text, None);
        None
    }

    fn say(&mut self, text: String, end: Option<End>) {
        let piece = Piece { text, tokens: self.tokens, end };
        if self.out.as_ref().is_some_and(|out| out.try_send(piece).is_err()) {
            self.give_up(Outcome::Cancelled);
        }
    }

    fn finish(&mut self, row: Option<&RequestRow>, reason: Option<Reason>) {
        let left = self.out.is_none() && reason.is_none();
        let (reason, error) = match row.map(|row| row.outcome) {
            Some(Outcome::Finished) => (reason.unwrap_or(Reason::Length), None),
            _ if left => (Reason::Abort, None),
            Some(Outcome::Expired) => {
                let most = self.service.settings.request_timeout;
                let message = format!("The request was not finished within {most:?}.");
                (Reason::Abort, Some(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message)))
            }
            Some(Outcome::Rejected) => {
                (Reason::Abort, Some(ApiError::bad("The engine refused the request: it can never run here.")))
            }
            _ => match self.service.gone().unwrap_or_else(ApiError::dead) {
                gone if gone == ApiError::draining() => (Reason::Abort, Some(gone)),
                dead => (Reason::Error, Some(dead)),
            },
        };
        let end = error.map_or(End::Finished(reason, self.stopped_by.take()), End::Failed);
        let (more, stop) = self.stops.push(&self.decoder.finish());
        let held = if stop.is_some() { String::new() } else { self.stops.finish() };
        let text = std::mem::take(&mut self.rest) + &more + &held;
        self.say(text, Some(end));
        self.out = None;
        if let Some(row) = row {
            let Submitted { sent, max_tokens, .. } = self.submitted;
            self.service.metrics.lock().ended(row, sent, max_tokens, reason);
        }
        if self.tokens == 0 {
            self.service.begun();
        }
        self.service.ended();
    }
}
