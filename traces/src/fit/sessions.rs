//! The sessions of a trace: turns, what each adds to the prompt, and the time to think between them.

use overbook_sim::time::{NS_PER_S, Span};
use overbook_sim::units::Duration;

use super::lengths::Counts;
use crate::frame::SessionTurns;
use crate::sessions::SessionSpec;
use crate::significant::significant;

/// Follow-ups that a fit needs.
const FOLLOW_UPS_MIN: usize = 20;

/// How the requests of a session follow one another.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionFit {
    /// Sessions, those of one turn included.
    pub sessions: u64,
    /// Turns after the first of a session.
    pub follow_ups: u64,
    /// Mean number of turns.
    pub turns_mean: f64,
    /// Whether the times to answer are those that the trace recorded; else the defaults are assumed.
    pub recorded: bool,
    /// Share of the follow-ups that came before the answer can have ended: they have no time to think.
    pub early: f64,
    /// The generator's part.
    pub spec: SessionSpec,
}

impl SessionFit {
    /// Fits the sessions; `None` if too few requests follow others.
    pub(crate) fn of(turns: &SessionTurns) -> Option<SessionFit> {
        if turns.follow_ups.len() < FOLLOW_UPS_MIN {
            return None;
        }
        let default = SessionSpec::default();
        let answer = answer_time(&turns.answers);
        let recorded = answer.is_some();
        let (base, per_token) =
            answer.unwrap_or((default.answer_base.0.as_secs_f64(), default.answer_per_token.0.as_secs_f64()));
        let answered =
            |output: u32, e2el: Option<Span>| e2el.map_or(base + per_token * f64::from(output), Span::as_secs_f64);
        let thoughts = turns.follow_ups.iter().map(|next| next.gap.as_secs_f64() - answered(next.output, next.e2el));
        let logs: Vec<f64> = thoughts.filter(|think| *think > 0.0).map(f64::ln).collect();
        if logs.len() < 2 {
            return None;
        }
        let (median, sigma) = log_normal(&logs);
        let added = turns.follow_ups.iter().map(|next| next.added);
        let dist = |values: &mut dyn Iterator<Item = u32>| {
            Counts::from_values(values).fits().first().map(|fit| fit.dist.clone())
        };
        let sessions = turns.turns().count() as u64;
        let total: u64 = turns.turns().map(u64::from).sum();
        Some(SessionFit {
            sessions,
            follow_ups: turns.follow_ups.len() as u64,
            turns_mean: total as f64 / sessions as f64,
            recorded,
            early: 1.0 - logs.len() as f64 / turns.follow_ups.len() as f64,
            spec: SessionSpec {
                turns: dist(&mut turns.turns())?,
                follow_up: dist(&mut { added })?,
                think_median: seconds(median),
                think_sigma: significant(sigma, 4),
                answer_base: seconds(base),
                answer_per_token: seconds(per_token),
                max_prompt_tokens: turns.longest_prompt,
                ..default
            },
        })
    }
}

/// A time for a scenario, to the microsecond.
fn seconds(s: f64) -> Duration {
    Duration(Span((s * 1e6).round() as u64 * (NS_PER_S / 1_000_000)))
}

/// Median and standard deviation of the logarithm of a log-normal distribution, by maximum likelihood.
fn log_normal(logs: &[f64]) -> (f64, f64) {
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / n;
    (mean.exp(), variance.sqrt())
}

/// Time to answer [s]: at first, and per output token; least squares, neither below 0. `None` without records.
fn answer_time(answers: &[(u32, Span)]) -> Option<(f64, f64)> {
    let n = answers.len() as f64;
    let points = || answers.iter().map(|(output, e2el)| (f64::from(*output), e2el.as_secs_f64()));
    let (x, y) = points().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let xx: f64 = points().map(|(px, _)| (px - x).powi(2)).sum();
    let xy: f64 = points().map(|(px, py)| (px - x) * (py - y)).sum();
    if answers.is_empty() {
        return None;
    }
    let slope = if xx > 0.0 { (xy / xx).max(0.0) } else { 0.0 };
    let base = y - slope * x;
    // Through the origin, where the line would begin below it.
    Some(if base >= 0.0 { (base, slope) } else { (0.0, y / x.max(1.0)) })
}
