//! The busiest stretch of a workload: where a fleet is tried first.

use std::collections::{BTreeMap, VecDeque};

use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Workload, WorkloadError};

/// Parts of a stretch: it begins at a multiple of one.
const PARTS: u64 = 60;

/// Requests between two looks at whether reading should go on.
const LOOK_EVERY: u64 = 1 << 16;

/// A stretch of a workload, and what the whole of it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Its begin.
    pub from: Time,
    /// Its end; a request that arrives then is no part of it.
    pub to: Time,
    /// Requests that arrive in it.
    pub requests: u64,
    /// Requests of the whole workload.
    pub of: u64,
    /// The last arrival of the whole workload.
    pub last: Time,
}

impl Stretch {
    /// Whether it is the whole workload.
    pub fn is_whole(&self) -> bool {
        self.requests == self.of
    }

    /// Its length.
    pub fn span(&self) -> Span {
        self.to.since(self.from)
    }
}

/// The stretch of this length with the most tokens, prompts and outputs together; the first of those. A workload that is not longer is
/// one stretch. `None` if it has no request, or if `go_on` says no on the way.
///
/// # Errors
/// The workload is broken at some point.
pub fn busiest(
    workload: &mut dyn Workload,
    length: Span,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Stretch>, WorkloadError> {
    let part = (length.0 / PARTS).max(1);
    // Tokens and requests of each part that has any.
    let mut parts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let (mut of, mut first, mut last) = (0, None, Time::ZERO);
    while let Some(arrival) = workload.next_arrival()? {
        if of % LOOK_EVERY == 0 && !go_on() {
            return Ok(None);
        }
        of += 1;
        first.get_or_insert(arrival.at);
        last = arrival.at;
        let held = parts.entry(arrival.at.0 / part).or_default();
        held.0 += u64::from(arrival.prompt_tokens) + u64::from(arrival.output_tokens);
        held.1 += 1;
    }
    let Some(first) = first else { return Ok(None) };
    if last.since(first) <= length {
        return Ok(Some(Stretch { from: first, to: Time(last.0.saturating_add(1)), requests: of, of, last }));
    }
    let mut inside: VecDeque<(u64, u64, u64)> = VecDeque::new();
    let (mut tokens, mut requests, mut best) = (0, 0, (0, 0, 0));
    for (at, (more, count)) in parts {
        inside.push_back((at, more, count));
        (tokens, requests) = (tokens + more, requests + count);
        while let Some(&(oldest, less, gone)) = inside.front().filter(|(oldest, ..)| oldest + PARTS <= at) {
            debug_assert!(oldest < at);
            (tokens, requests) = (tokens - less, requests - gone);
            inside.pop_front();
        }
        if tokens > best.0 {
            best = (tokens, requests, at);
        }
    }
    let to = (best.2 + 1) * part;
    Ok(Some(Stretch { from: Time(to.saturating_sub(PARTS * part)), to: Time(to), requests: best.1, of, last }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::time::NS_PER_S;
    use overbook_sim::workload::arrival::Arrival;

    use super::*;

    struct At(Vec<(u64, u32)>, usize);

    impl Workload for At {
        fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
            self.1 += 1;
            Ok(self.0.get(self.1 - 1).map(|&(s, tokens)| Arrival::new(Time(s * NS_PER_S), tokens, 1)))
        }

        fn classes(&self) -> &[String] {
            &[]
        }
    }

    fn found(requests: &[(u64, u32)], length_s: u64) -> Option<(u64, u64, u64)> {
        let stretch = busiest(&mut At(requests.to_vec(), 0), Span(length_s * NS_PER_S), &|| true).unwrap()?;
        Some((stretch.from.0 / NS_PER_S, stretch.to.0 / NS_PER_S, stretch.requests))
    }

    #[test]
    fn the_most_tokens_decide_and_not_the_most_requests() {
        let requests = [(0, 10), (1, 10), (2, 10), (500, 900), (530, 900), (1000, 5)];
        let (from, to, count) = found(&requests, 60).unwrap();
        assert!(from <= 500 && to > 530 && to - from == 60 && count == 2, "{from} {to} {count}");
    }

    #[test]
    fn a_short_workload_is_one_stretch_and_none_has_none() {
        assert_eq!(found(&[(3, 10), (9, 10)], 60), Some((3, 9, 2)));
        assert_eq!(found(&[], 60), None);
        assert_eq!(busiest(&mut At(vec![(0, 1)], 0), Span(1), &|| false).unwrap(), None);
    }
}
