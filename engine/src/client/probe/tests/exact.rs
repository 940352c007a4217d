//! Probes that are answered in virtual time: every step takes exactly what it costs, and the client hears of a token a fixed time
//! later.

use overbook_sim::results::rows::Outcome;
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::Arrival;

use super::super::super::reply::Reply;
use super::super::plan::{BETWEEN, Probe, ProbePlan, shuffled};
use super::super::read::Readings;
use super::super::send::Answered;
use super::{STEP, TOKEN};

/// From the client's socket to the engine, and back [ns].
const THERE: u64 = 120_000;
const BACK: u64 = 180_000;

/// A request at the server.
struct Running {
    sent: Time,
    arrival: Arrival,
    prompt_left: u32,
    pieces: Vec<Time>,
}

impl Running {
    fn is_over(&self) -> bool {
        self.pieces.len() == self.arrival.output_tokens as usize
    }
}

/// A server that computes up to `budget` tokens in a step: one of every sequence that decodes, then prompts in order.
struct Server {
    budget: u32,
    now: u64,
    requests: Vec<Running>,
}

impl Server {
    fn send(&mut self, prompt: u32, output: u32) -> usize {
        let sent = Time(self.now);
        let arrival = Arrival::new(sent, prompt, output);
        self.requests.push(Running { sent, arrival, prompt_left: prompt, pieces: Vec::new() });
        self.requests.len() - 1
    }

    fn step(&mut self) {
        let decodes: Vec<bool> =
            self.requests.iter().map(|request| request.prompt_left == 0 && !request.is_over()).collect();
        let mut tokens = decodes.iter().filter(|&&decodes| decodes).count() as u32;
        let mut begun = Vec::new();
        for request in &mut self.requests {
            let part = request.prompt_left.min(self.budget.saturating_sub(tokens));
            request.prompt_left -= part;
            tokens += part;
            begun.push(part > 0 && request.prompt_left == 0);
        }
        assert!(tokens > 0, "a step of nothing");
        self.now += (STEP + TOKEN * tokens).as_nanos() as u64;
        for (at, request) in self.requests.iter_mut().enumerate() {
            if decodes[at] || begun[at] {
                request.pieces.push(Time(self.now + BACK));
            }
        }
    }

    fn run_to_the_end(&mut self, of: &[usize]) {
        while of.iter().any(|&at| !self.requests[at].is_over()) {
            self.step();
        }
    }

    fn reply(&mut self, at: usize) -> Reply {
        let Running { sent, arrival, pieces, .. } = &self.requests[at];
        Reply {
            number: at as u64,
            arrival: arrival.clone(),
            sent: *sent,
            end: *pieces.last().expect("it has ended"),
            outcome: Outcome::Finished,
            error: None,
            pieces: pieces.clone(),
            usage: None,
        }
    }

    /// How long a single prompt was in the engine.
    fn engine_us(&self, probe: &Probe, running: &[usize]) -> Option<f64> {
        let Probe::Prompt { .. } = probe else { return None };
        let request = &self.requests[*running.first()?];
        Some((request.pieces.first()?.0 - BACK - request.sent.0 - THERE) as f64 / 1e3)
    }

    /// What comes back from a probe, as the sender sends it.
    fn probe(&mut self, plan: &ProbePlan, probe: &Probe) -> Answered {
        self.requests.clear();
        let (running, mut beside) = match *probe {
            Probe::Prompt { tokens } => (vec![self.send(tokens, 1)], Vec::new()),
            Probe::Decode { seqs, context } => {
                let output = plan.decode_output(seqs, context);
                ((0..seqs).map(|_| self.send(context, output)).collect::<Vec<_>>(), Vec::new())
            }
            Probe::Mixed { seqs, context } => {
                let output = plan.mixed_output(seqs);
                let running: Vec<usize> = (0..seqs).map(|_| self.send(context, output)).collect();
                self.now += THERE;
                let mut beside = Vec::new();
                for tokens in shuffled(plan.beside(seqs), plan.seed ^ u64::from(seqs), 0) {
                    let heard = |server: &Server| -> Vec<usize> {
                        running.iter().map(|&at| server.requests[at].pieces.len()).collect()
                    };
                    let from = heard(self);
                    while heard(self).iter().zip(&from).any(|(now, from)| *now < from + BETWEEN as usize) {
                        self.step();
                    }
                    let at = self.send(tokens, 1);
                    // It is there when the next step has begun.
                    let held = std::mem::take(&mut self.requests[at].prompt_left);
                    let pieces = self.requests[at].arrival.output_tokens;
                    self.requests[at].arrival.output_tokens = 0;
                    self.step();
                    self.requests[at].arrival.output_tokens = pieces;
                    self.requests[at].prompt_left = held;
                    self.run_to_the_end(&[at]);
                    beside.push((tokens, at));
                }
                (running, beside)
            }
        };
        if !matches!(probe, Probe::Mixed { .. }) {
            self.now += THERE;
        }
        self.run_to_the_end(&running);
        // The next probe finds it idle.
        self.now += 1_000_000_000;
        let engine_us = self.engine_us(probe, &running);
        let replies: Vec<Reply> = running.into_iter().map(|at| self.reply(at)).collect();
        let beside = beside.drain(..).map(|(tokens, at)| (tokens, self.reply(at))).collect();
        Answered { probe: probe.clone(), replies, beside, engine_us }
    }
}

/// What all probes of a plan show of a server with so many tokens in a step.
pub(super) fn readings(plan: &ProbePlan, budget: u32) -> Readings {
    let mut server = Server { budget, now: 0, requests: Vec::new() };
    let mut readings = Readings::default();
    for probe in plan.order(0) {
        let answered = server.probe(plan, &probe);
        readings.take(plan, &answered);
    }
    readings
}
