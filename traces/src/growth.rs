//! What "twice the load" may mean: three ways in which held requests grow, nested so that a larger load holds the smaller one's
//! requests.

use overbook_sim::counter;
use overbook_sim::time::{NS_PER_S, Span, Time};
use overbook_sim::workload::arrival::{Arrival, SessionId};

use crate::held::Held;
use crate::rows::{salt_of, salted};
use crate::scale::Scale;

/// A way in which a load grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Growth {
    /// The same requests in less time.
    Faster,
    /// Each request so many times, within the second in which it came.
    Clones,
    /// So many times the users: each session, or request without one, again at a time of its own.
    Others,
}

impl Growth {
    /// All ways.
    pub const ALL: [Growth; 3] = [Growth::Faster, Growth::Clones, Growth::Others];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Growth::Faster => "faster",
            Growth::Clones => "clones",
            Growth::Others => "others",
        }
    }

    /// What twice the load is, in words.
    pub fn twice(self) -> &'static str {
        match self {
            Growth::Faster => "the same requests in half the time",
            Growth::Clones => "each request twice within its second",
            Growth::Others => "each session again at a time of its own",
        }
    }
}

/// Draws in [0, 1), the same for the same numbers.
fn draw(seed: u64, key: u64, purpose: u64) -> f64 {
    let bits = counter::draw(counter::keyed(seed, key), purpose);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

impl Held {
    /// These requests at `factor` times the load, in the way of `growth`; `length` is the time over which they come, around whose end
    /// those of [`Growth::Others`] wrap. Copies share no prefix and no session with the original. Below 1 requests are left out, but
    /// for [`Growth::Faster`], which stretches.
    #[must_use]
    pub fn grown(&self, growth: Growth, factor: f64, length: Span, seed: u64) -> Held {
        if growth == Growth::Faster {
            let scale = Scale::new(1.0 / factor);
            let faster = |arrival: &Arrival| Arrival {
                at: Time(scale.apply(arrival.at.0).unwrap_or(u64::MAX)),
                ..arrival.clone()
            };
            return self.with(self.arrivals().iter().map(faster).collect());
        }
        let copies = factor.ceil() as u64;
        let mut arrivals: Vec<(Time, u64, Arrival)> =
            Vec::with_capacity((self.arrivals().len() as f64 * factor) as usize + 1);
        for (index, arrival) in (0u64..).zip(self.arrivals()) {
            let user = arrival.session.map_or(index | 1 << 63, SessionId::get);
            let key = if growth == Growth::Others { user } else { index };
            let chance = draw(seed, key, 0);
            for copy in 0..copies {
                // The last copy of a fraction is there for a share of the keys.
                if copy as f64 + chance >= factor && factor < (copy + 1) as f64 {
                    continue;
                }
                let at = match growth {
                    _ if copy == 0 => arrival.at,
                    Growth::Others => {
                        let phase = (draw(seed, key, copy) * length.0 as f64) as u64;
                        Time((arrival.at.0 + phase) % length.0.max(1))
                    }
                    _ => Time(arrival.at.0 / NS_PER_S * NS_PER_S + (draw(seed, key, copy) * NS_PER_S as f64) as u64),
                };
                let mut own = Arrival { at, ..arrival.clone() };
                if copy > 0 {
                    own.session = own.session.map(|session| salted(session, copy));
                    if let Some(content) = &mut own.content {
                        content.ids.iter_mut().for_each(|id| *id = id.wrapping_add(salt_of(copy)));
                    }
                }
                arrivals.push((at, index * copies + copy, own));
            }
        }
        arrivals.sort_unstable_by_key(|(at, order, _)| (*at, *order));
        self.with(arrivals.into_iter().map(|(.., arrival)| arrival).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOUR: Span = Span(3600 * NS_PER_S);

    fn held() -> Held {
        let request = |n: u64| Arrival {
            session: n.is_multiple_of(2).then(|| SessionId::new(1 + n / 10)),
            ..Arrival::new(Time(n * 3 * NS_PER_S), 100, 10)
        };
        Held::of((0..1200).map(request).collect(), vec![String::new()])
    }

    fn times(held: &Held) -> BTreeSet<u64> {
        held.arrivals().iter().map(|arrival| arrival.at.0).collect()
    }

    #[test]
    fn the_load_is_the_factor_and_a_larger_load_holds_the_smaller_one() {
        let held = held();
        for growth in [Growth::Clones, Growth::Others] {
            let mut before = BTreeSet::new();
            for factor in [0.5, 0.8, 1.0, 1.3, 2.0, 2.4, 3.0] {
                let grown = held.grown(growth, factor, HOUR, 7);
                let share = grown.arrivals().len() as f64 / held.arrivals().len() as f64;
                assert!((share - factor).abs() < 0.08 * factor.max(1.0), "{growth:?} {factor}: {share}");
                assert!(grown.arrivals().is_sorted_by_key(|arrival| arrival.at), "{growth:?} {factor}");
                let now = times(&grown);
                assert!(before.is_subset(&now), "{growth:?} {factor} lost requests of the smaller load");
                before = now;
            }
        }
        assert_eq!(held.grown(Growth::Clones, 1.0, HOUR, 1), held);
    }

    #[test]
    fn each_way_moves_requests_as_it_says() {
        let held = held();
        let faster = held.grown(Growth::Faster, 2.0, HOUR, 0);
        assert_eq!(faster.arrivals().len(), held.arrivals().len());
        assert_eq!(faster.arrivals()[7].at.0 * 2, held.arrivals()[7].at.0);
        let seconds = |held: &Held| -> BTreeSet<u64> { times(held).iter().map(|ns| ns / NS_PER_S).collect() };
        assert_eq!(seconds(&held.grown(Growth::Clones, 2.0, HOUR, 0)), seconds(&held));
        let others = held.grown(Growth::Others, 2.0, HOUR, 0);
        assert!(others.arrivals().iter().all(|arrival| arrival.at.0 < HOUR.0));
        assert!(seconds(&others).len() > seconds(&held).len() * 3 / 2, "other times");
        // A session moves as one: its copies keep their gaps.
        let of = |held: &Held, session| -> Vec<u64> {
            held.arrivals().iter().filter(|a| a.session == Some(session)).map(|a| a.at.0).collect()
        };
        let copy = of(&others, salted(SessionId::new(1), 1));
        let original = of(&held, SessionId::new(1));
        let gaps = |times: &[u64]| -> Vec<u64> { times.windows(2).map(|pair| pair[1] - pair[0]).collect() };
        assert_eq!(gaps(&copy), gaps(&original));
        assert_ne!(copy, original);
    }
}
