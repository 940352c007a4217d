//! Sends probes, waits for their replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use overbook_sim::results::rows::Outcome;
use overbook_sim::time::Span;
use overbook_sim::workload::arrival::Arrival;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::payload::{Asking, Payloads};
use super::super::pool::Pool;
use super::super::reply::{Exchange, Job, Reply};
use super::super::scrape::{Scrape, scrape};
use super::plan::{BETWEEN, Probe, ProbePlan, shuffled};
use crate::driver::Clock;

/// Time that a request has to end.
const PATIENCE: Duration = Duration::from_secs(180);
/// Time for connections to stand before requests are sent.
const CONNECT: Duration = Duration::from_millis(15);
/// Time for a server to count what it has sent.
const COUNTED: Duration = Duration::from_millis(50);
/// How often a running request is looked at.
const LOOK: Duration = Duration::from_micros(500);
/// Share of an answer's tokens that come in pieces of their own at least.
const APART: f64 = 0.9;
/// Share of them that come at moments of their own at least: a busy client reads some together, a proxy that buffers sends most so.
const AT_ONCE: f64 = 0.5;

/// Sends probes to a server.
pub(super) struct Sender {
    pub(super) pool: Arc<Pool>,
    pub(super) clock: Clock,
    pub(super) payloads: Payloads,
    /// Requests made so far: no two have the same prompt.
    pub(super) made: u64,
}

/// A request that is under way.
struct Pending {
    heard: Arc<AtomicU64>,
    task: JoinHandle<Option<Reply>>,
}

impl Pending {
    async fn reply(self, asking: Asking) -> Result<Reply, String> {
        let reply = self.task.await.map_err(|error| error.to_string())?.ok_or("it was never sent")?;
        check(&reply, asking)?;
        Ok(reply)
    }
}

/// What came back from a probe.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) probe: Probe,
    /// Its requests; of a mixed probe those that decode.
    pub(super) replies: Vec<Reply>,
    /// Prompts sent beside them, with their lengths as they were planned.
    pub(super) beside: Vec<(u32, Reply)>,
    /// Of a single prompt: how long the engine had it until its first token, by its own histograms [µs]. `None` where it has none, or where it
    /// has ended other requests meanwhile.
    pub(super) engine_us: Option<f64>,
}

impl Sender {
    /// Sends requests (prompt, output) all at once.
    async fn send(&mut self, asks: &[(u32, u32)]) -> Vec<Pending> {
        let mut words = Vec::new();
        let mut pending = Vec::new();
        for &(prompt, output) in asks {
            let mut arrival = Arrival::new(self.clock.now(), prompt, output);
            arrival.deadline = Some(Span(PATIENCE.as_nanos() as u64));
            let number = self.made;
            self.made += 1;
            let body = self.payloads.body(&arrival, number, output);
            let job = Job { number, arrival, path: self.payloads.asking.path(), body };
            let (word, due) = oneshot::channel();
            let heard = Arc::new(AtomicU64::new(0));
            let exchange = Exchange { pool: Arc::clone(&self.pool), clock: self.clock, heard: Arc::clone(&heard) };
            pending.push(Pending { heard, task: tokio::spawn(exchange.run(job, due)) });
            words.push(word);
        }
        tokio::time::sleep(CONNECT).await;
        for word in words {
            // A task that has ended already says why in its reply.
            let _ = word.send(());
        }
        pending
    }

    async fn all(&mut self, asks: &[(u32, u32)]) -> Result<Vec<Reply>, String> {
        let mut replies = Vec::new();
        for pending in self.send(asks).await {
            replies.push(pending.reply(self.payloads.asking).await?);
        }
        Ok(replies)
    }

    /// Sends requests that are not measured.
    pub(super) async fn warm_up(&mut self, plan: &ProbePlan) -> Result<(), String> {
        let longest = plan.max_model_len.saturating_sub(2);
        self.all(&[(plan.max_tokens.min(longest), 1)]).await?;
        let seqs = plan.max_seqs.min(8);
        self.all(&vec![(16.min(longest), 12.min(longest)); seqs as usize]).await?;
        Ok(())
    }

    /// Sends a probe.
    pub(super) async fn probe(&mut self, plan: &ProbePlan, probe: &Probe, round: u64) -> Result<Answered, String> {
        let single = matches!(probe, Probe::Prompt { .. });
        let before = self.seen(single).await;
        let (replies, beside) = match *probe {
            Probe::Prompt { tokens } => (self.all(&[(tokens, 1)]).await?, Vec::new()),
            Probe::Decode { seqs, context } => {
                let ask = (context, plan.decode_output(seqs, context));
                (self.all(&vec![ask; seqs as usize]).await?, Vec::new())
            }
            Probe::Mixed { seqs, context } => self.mixed(plan, seqs, context, round).await?,
        };
        let engine_us = before.zip(self.seen(single).await).and_then(|(before, after)| {
            let alone = (after.ended - before.ended - 1.0).abs() < 0.5;
            let time = after.queued_s - before.queued_s + after.prefilled_s - before.prefilled_s;
            (alone && time > 0.0).then_some(time * 1e6)
        });
        Ok(Answered { probe: probe.clone(), replies, beside, engine_us })
    }

    /// What the server has counted since its start, if it is to be asked.
    async fn seen(&self, asked: bool) -> Option<Scrape> {
        if !asked {
            return None;
        }
        // Its counts follow its tokens.
        tokio::time::sleep(COUNTED).await;
        scrape(&self.pool, self.clock).await
    }

    async fn mixed(
        &mut self,
        plan: &ProbePlan,
        seqs: u32,
        context: u32,
        round: u64,
    ) -> Result<(Vec<Reply>, Vec<(u32, Reply)>), String> {
        let running = self.send(&vec![(context, plan.mixed_output(seqs)); seqs as usize]).await;
        let mut beside = Vec::new();
        for tokens in shuffled(plan.beside(seqs), plan.seed ^ u64::from(seqs), round) {
            if !gone_on(&running, u64::from(BETWEEN)).await {
                // Their replies say why, or the prompts took more steps than was thought.
                break;
            }
            beside.push((tokens, self.all(&[(tokens, 1)]).await?.remove(0)));
        }
        let mut replies = Vec::new();
        for pending in running {
            replies.push(pending.reply(self.payloads.asking).await?);
        }
        Ok((replies, beside))
    }
}

/// Waits until every request has so many tokens more, and has begun. `false` if one ends before.
async fn gone_on(running: &[Pending], tokens: u64) -> bool {
    let now = || running.iter().map(|pending| pending.heard.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let from = now();
    loop {
        if now().iter().zip(&from).all(|(now, from)| *now >= from + tokens) {
            return true;
        }
        if running.iter().any(|pending| pending.task.is_finished()) {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a reply shows step times.
fn check(reply: &Reply, asking: Asking) -> Result<(), String> {
    let asked = reply.arrival.output_tokens;
    if reply.outcome != Outcome::Finished {
        return Err(reply.error.clone().unwrap_or_else(|| format!("no whole answer within {PATIENCE:?}")));
    }
    if reply.usage.is_none() && asking != Asking::Tokens {
        return Err("it takes no token ids and sends no usage, so that the length of prompts is unknown".into());
    }
    let pieces = reply.pieces.len();
    let tokens = reply.usage.map_or(pieces as u32, |usage| usage.completion_tokens);
    if tokens != asked {
        return Err(format!(
            "asked for {asked} tokens it gave {tokens}: it does not know `ignore_eos`, and outputs of unknown length tell no step times"
        ));
    }
    let moments = 1 + reply.pieces.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if (pieces as f64) < f64::from(tokens) * APART {
        return Err(format!(
            "{tokens} tokens came in {pieces} pieces, so that the time of a step cannot be identified: let it send every token by itself \
             (no speculative decoding, stream interval 1)"
        ));
    }
    if (moments as f64) < f64::from(tokens) * AT_ONCE {
        return Err(format!(
            "{tokens} tokens came at {moments} moments, so that the time of a step cannot be identified: something on the way holds them back \
             (a proxy that buffers?)"
        ));
    }
    Ok(())
}
