//! Synthetic workloads: an arrival process and a distribution of lengths, the same for the same seed.

use overbook_sim::time::{Span, Time};
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::{Arrival, SessionId, Workload, WorkloadError};
use serde::{Deserialize, Serialize};

use crate::arrivals::{ArrivalSpec, Arrivals};
use crate::error::{GenerateError, Problem};
use crate::lengths::{Keeps, LengthSpec, Lengths};
use crate::load::Failures;
use crate::repeats::{RepeatSpec, Repeats};
use crate::sessions::{SessionSpec, Sessions};
use crate::transcripts::{TranscriptSpec, Transcripts};

/// A synthetic workload, bounded by a number of requests, a duration, or both (whichever ends first).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// How requests arrive.
    pub arrivals: ArrivalSpec,
    /// How long they are.
    pub lengths: LengthSpec,
    /// Sessions of several turns: `arrivals` are then the starts of sessions, `lengths` the first prompts and all
    /// outputs. By default every request stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<SessionSpec>,
    /// Prompts that come again. By default no request's prompt is like another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<RepeatSpec>,
    /// Recorded conversations, replayed turn by turn: `lengths` has their first prompts and all outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<TranscriptSpec>,
    /// Requests to make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// No request arrives later than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
}

impl GenerateSpec {
    /// Everything that is wrong with the values, as (path below this specification, message).
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.arrivals.problems("arrivals");
        problems.extend(self.lengths.problems("lengths"));
        problems.extend(self.sessions.iter().flat_map(SessionSpec::problems));
        problems.extend(self.repeats.iter().flat_map(RepeatSpec::problems));
        problems.extend(self.transcripts.iter().flat_map(TranscriptSpec::problems));
        let mut add = |path: &str, message: &str| problems.push((path.to_owned(), message.to_owned()));
        if self.sessions.is_some() && matches!(self.arrivals, ArrivalSpec::Burstgpt { failures: Failures::Keep, .. }) {
            add("arrivals.burstgpt.failures", "is `keep`, which sessions do not have; choose `drop` or `redraw`");
        }
        if self.sessions.is_some() && self.repeats.is_some() {
            add("repeats", "goes with requests that stand alone, and there are `sessions`; leave one of them out");
        }
        if self.transcripts.is_some() && (self.sessions.is_some() || self.repeats.is_some()) {
            let other = if self.sessions.is_some() { "sessions" } else { "repeats" };
            add("transcripts", &format!("says which prompts are alike, and so does `{other}`; leave one of them out"));
        }
        if let Some(repeats) = &self.repeats {
            let shared = repeats.shared_prefix_tokens;
            if let Some((_, prompt, _)) = self.lengths.fixed().into_iter().find(|(_, prompt, _)| *prompt <= shared) {
                let told = format!(
                    "is {shared}, and prompts of {prompt} tokens (`lengths`) cannot begin with so many and go on"
                );
                problems.push(("repeats.shared_prefix_tokens".to_owned(), told));
            }
        }
        let mut add = |path: &str, message: &str| problems.push((path.to_owned(), message.to_owned()));
        if self.requests == Some(0) {
            add("requests", "is 0; make at least 1 request");
        }
        if self.duration == Some(Duration(Span::ZERO)) {
            add("duration", "is 0; a workload must last some time");
        }
        if self.requests.is_none() && self.duration.is_none() {
            add("requests", "is missing and so is `duration`; a generated workload needs one of them to end");
        }
        problems
    }

    /// Starts generating.
    ///
    /// # Errors
    /// [`GenerateError::Spec`] if there are [`problems`](GenerateSpec::problems).
    pub fn open(&self, seed: u64) -> Result<Box<dyn Workload>, GenerateError> {
        Ok(Box::new(self.generator(seed)?))
    }

    /// As [`open`](GenerateSpec::open), but with the concrete type.
    ///
    /// # Errors
    /// [`GenerateError::Spec`] if there are [`problems`](GenerateSpec::problems).
    pub fn generator(&self, seed: u64) -> Result<Generator, GenerateError> {
        self.keeping(seed, Keeps::All)
    }

    /// As [`generator`](GenerateSpec::generator), with only some of the classes of `lengths`, of which there is one.
    pub(crate) fn keeping(&self, seed: u64, keeps: Keeps) -> Result<Generator, GenerateError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(GenerateError::Spec(problems));
        }
        Ok(Generator {
            arrivals: Arrivals::new(&self.arrivals, seed),
            lengths: Lengths::keeping(&self.lengths, seed, keeps),
            sessions: self.sessions.as_ref().map(|sessions| Sessions::new(sessions, seed)),
            repeats: self.repeats.as_ref().map(|repeats| Repeats::new(repeats, seed)),
            transcripts: self.transcripts.as_ref().map(|transcripts| Transcripts::new(transcripts, seed)),
            next_start: None,
            requests: self.requests.unwrap_or(u64::MAX),
            end: Time(self.duration.map_or(u64::MAX, |duration| duration.0.0)),
            made: 0,
        })
    }
}

/// A synthetic workload in the making.
pub struct Generator {
    arrivals: Arrivals,
    lengths: Lengths,
    sessions: Option<Sessions>,
    repeats: Option<Repeats>,
    transcripts: Option<Transcripts>,
    /// When the next session starts, drawn ahead.
    next_start: Option<u64>,
    requests: u64,
    end: Time,
    made: u64,
}

impl Generator {
    /// The next request; see [`Workload::next_arrival`].
    ///
    /// # Errors
    /// [`GenerateError::TooLate`] past the range of virtual time, unless a duration bounds the workload.
    pub fn next_request(&mut self) -> Result<Option<Arrival>, GenerateError> {
        if self.made == self.requests {
            return Ok(None);
        }
        if self.sessions.is_some() {
            return Ok(self.next_turn());
        }
        let at = match self.arrivals.next_ns() {
            Some(ns) => Time(ns),
            None if self.end < Time::MAX => return Ok(self.finish()),
            None => {
                return Err(GenerateError::TooLate { request: self.made + 1 });
            }
        };
        if at > self.end {
            return Ok(self.finish());
        }
        self.made += 1;
        let size = self.lengths.draw(self.arrivals.conversation_share());
        if self.arrivals.failed() {
            return Ok(Some(Arrival { class: size.class, priority: size.priority, ..Arrival::failed(at) }));
        }
        let alike = match (&mut self.repeats, &mut self.transcripts) {
            (Some(repeats), _) => Some(repeats.take(size)),
            (None, Some(transcripts)) => Some(transcripts.take(size)),
            (None, None) => None,
        };
        let (size, content) = alike.map_or((size, None), |(size, content)| (size, Some(Box::new(content))));
        let plain = Arrival::new(at, size.prompt_tokens, size.output_tokens);
        Ok(Some(Arrival { class: size.class, priority: size.priority, content, ..plain }))
    }

    /// The next request of any session: of those going on, or of one that starts.
    fn next_turn(&mut self) -> Option<Arrival> {
        let sessions = self.sessions.as_mut()?;
        // Past the range of virtual time no session starts any more.
        let mut start = *self.next_start.get_or_insert_with(|| self.arrivals.next_ns().unwrap_or(u64::MAX));
        while start < u64::MAX && sessions.next_ns().is_none_or(|next| start <= next) {
            sessions.start(start, &self.lengths.draw(self.arrivals.conversation_share()));
            start = self.arrivals.next_ns().unwrap_or(u64::MAX);
        }
        self.next_start = Some(start);
        let next_output = sessions.next_goes_on().then(|| self.lengths.draw(None).output_tokens);
        let Some(said) = sessions.pop(next_output) else { return self.finish() };
        if Time(said.at_ns) > self.end || said.at_ns == u64::MAX {
            return self.finish();
        }
        self.made += 1;
        let plain = Arrival::new(Time(said.at_ns), said.size.prompt_tokens, said.size.output_tokens);
        let (content, session) = (Some(said.content), Some(SessionId::new(said.session)));
        Some(Arrival { class: said.size.class, priority: said.size.priority, content, session, ..plain })
    }

    fn finish(&mut self) -> Option<Arrival> {
        self.requests = self.made;
        None
    }
}

impl Workload for Generator {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.next_request()?)
    }

    fn classes(&self) -> &[String] {
        self.lengths.classes()
    }
}
