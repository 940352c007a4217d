//! What all requests share: the driver's inbox, the counts, the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::Arrival;
use tokio::sync::{Semaphore, mpsc};

use super::ask::Ask;
use super::error::ApiError;
use super::hosts::Hosts;
use super::metrics::Shared;
use super::{Settings, prefix};
use crate::driver::{Clock, Event, Message, Stop, Submission};
use crate::executor::{Bans, Sampling};

use axum::http::StatusCode;

/// Long bodies that are read at once: what each takes for that while is many times its size.
const READERS: usize = 2;

/// The server's state.
pub(super) struct Service {
    pub(super) settings: Settings,
    pub(super) hosts: Hosts,
    pub(super) clock: Clock,
    pub(super) inbox: Sender<Message>,
    pub(super) metrics: Shared,
    /// Room for bodies [bytes].
    pub(super) bodies: Arc<Semaphore>,
    /// Places for bodies that are being read.
    pub(super) readers: Arc<Semaphore>,
    /// Requests without a first token.
    waiting: AtomicUsize,
    /// Requests that have not ended.
    active: AtomicUsize,
    draining: AtomicBool,
    /// The driver has failed.
    dead: AtomicBool,
    requests: AtomicU64,
    /// When the server began [s since 1970].
    pub(super) started: u64,
}

/// A request that the driver has got.
pub(super) struct Submitted {
    /// Number of the request here, from 0.
    pub(super) number: u64,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// When the HTTP request was there.
    pub(super) sent: Time,
    pub(super) prompt_tokens: u32,
    pub(super) max_tokens: u32,
    /// Its end tokens, which count from `min_tokens` on.
    pub(super) stop: Stop,
    /// Whether the end of text ends it only if it was asked for.
    pub(super) ignore_eos: bool,
}

/// Seconds since 1970.
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Service {
    pub(super) fn new(settings: Settings, hosts: Hosts, clock: Clock, inbox: Sender<Message>, metrics: Shared) -> Self {
        let room = settings.max_bodies.max(settings.max_body).min(Semaphore::MAX_PERMITS);
        Service {
            settings,
            hosts,
            clock,
            inbox,
            metrics,
            bodies: Arc::new(Semaphore::new(room)),
            readers: Arc::new(Semaphore::new(READERS)),
            waiting: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            started: unix_time(),
        }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The driver has failed: what was under way failed too, whether the server was being stopped or not.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Why there is no answer any more, if that is so.
    pub(super) fn gone(&self) -> Option<ApiError> {
        if self.dead.load(Ordering::Acquire) {
            Some(ApiError::dead())
        } else {
            self.draining.load(Ordering::Acquire).then(ApiError::draining)
        }
    }

    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// A request has its first token, or ends without one.
    pub(super) fn begun(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn ended(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// Hands a request to the driver.
    ///
    /// # Errors
    /// It can never run here, too many wait, or the server or the engine is about to end.
    pub(super) fn submit(&self, ask: &Ask, sent: Time) -> Result<Submitted, ApiError> {
        if let Some(gone) = self.gone() {
            return Err(gone);
        }
        let max_tokens = self.fit(ask)?;
        let bans = self.bans(ask)?;
        self.queue_up()?;
        self.active.fetch_add(1, Ordering::AcqRel);
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let prompt_tokens = ask.prompt.len() as u32;
        let content = self
            .settings
            .limits
            .prefix_caching
            .then(|| prefix::content(&ask.prompt, self.settings.limits.block_tokens));
        let arrival = Arrival {
            max_new_tokens: Some(max_tokens),
            priority: ask.priority,
            content: content.map(Box::new),
            deadline: Some(Span(self.settings.request_timeout.as_nanos() as u64)),
            ..Arrival::new(sent, prompt_tokens, max_tokens)
        };
        let (client, events) = mpsc::unbounded_channel();
        let mut stop = Stop { tokens: ask.stop_tokens.clone(), min_tokens: ask.min_tokens };
        if !ask.ignore_eos {
            stop.tokens.extend(self.settings.tokenizer.ends());
        }
        let sampling = Sampling {
            temperature: ask.temperature,
            top_k: ask.top_k,
            top_p: ask.top_p,
            // Without a seed a request gets its own; the order of requests decides.
            seed: ask
                .seed
                .unwrap_or_else(|| self.settings.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
        };
        let submission = Submission {
            arrival,
            prompt: ask.prompt.clone(),
            sampling,
            bans,
            stop: stop.clone(),
            client: Some(client),
        };
        if self.inbox.send(Message::Submit(Box::new(submission))).is_err() {
            self.begun();
            self.ended();
            return Err(ApiError::dead());
        }
        Ok(Submitted { number, events, sent, prompt_tokens, max_tokens, stop, ignore_eos: ask.ignore_eos })
    }

    /// Whether a request would find no place, so that it need not be read.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn has_room(&self) -> Result<(), ApiError> {
        if self.waiting.load(Ordering::Acquire) < self.settings.max_waiting { Ok(()) } else { Err(self.full()) }
    }

    fn full(&self) -> ApiError {
        let most = self.settings.max_waiting;
        let message = format!("The server is overloaded: {most} requests wait for their first token already.");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// Takes a place among the requests that wait for their first token.
    fn queue_up(&self) -> Result<(), ApiError> {
        let most = self.settings.max_waiting;
        let room = |waiting: usize| (waiting < most).then_some(waiting + 1);
        let got = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        got.map(|_| ()).map_err(|_| self.full())
    }

    /// What is not drawn for a request. As in vLLM: neither its own end tokens nor the end of text are drawn before they would count.
    ///
    /// # Errors
    /// Nothing is left to draw.
    fn bans(&self, ask: &Ask) -> Result<Bans, ApiError> {
        if ask.min_tokens == 0 {
            return Ok(Bans::default());
        }
        let mut tokens = ask.stop_tokens.clone();
        tokens.extend(self.settings.tokenizer.ends());
        let bans = Bans { tokens, until: (ask.prompt.len() as u32).saturating_add(ask.min_tokens) };
        if bans.leave_none(self.settings.vocab) {
            let message = "stop_token_ids and the end of text are all tokens of the vocabulary; with min_tokens none of them may be drawn.";
            return Err(ApiError::field("stop_token_ids", message));
        }
        Ok(bans)
    }

    /// The output limit of a request that fits into the longest sequence and the pool.
    fn fit(&self, ask: &Ask) -> Result<u32, ApiError> {
        let prompt = ask.prompt.len() as u64;
        let context = u64::from(self.settings.limits.max_model_len);
        let pool = self.settings.limits.blocks * u64::from(self.settings.limits.block_tokens);
        let longest = context.min(pool);
        if let Some(&token) = ask.prompt.iter().chain(&ask.stop_tokens).find(|&&token| token >= self.settings.vocab) {
            return Err(ApiError::field(
                "prompt",
                format!("Token id {token} is out of vocabulary ({}).", self.settings.vocab),
            ));
        }
        let limit = ask.max_tokens.map(u64::from);
        let room = longest.saturating_sub(prompt);
        if room == 0 || limit.is_some_and(|limit| limit > room) {
            let asked = limit.map_or(String::new(), |limit| format!(" and {limit} in the completion"));
            let why = if pool < context { ", which is what its KV cache holds" } else { "" };
            let message = format!(
                "This model's maximum context length is {longest} tokens{why}. However, you requested {} tokens ({prompt} \
                 in the prompt{asked}). Please reduce the length of the prompt or completion.",
                prompt + limit.unwrap_or(1)
            );
            return Err(ApiError::field("prompt", message));
        }
        Ok(limit.unwrap_or(room) as u32)
    }
}
