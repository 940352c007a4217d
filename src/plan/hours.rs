//! Reserved GPUs beside GPUs on demand: what each hour of the requests needs, and the cheapest split.

use overbook_reports::plan::{Split, SplitSide};
use overbook_sim::time::Span;
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::Held;

use super::answer::MONTH_H;
use super::hunt::Hunt;
use super::space::{Kind, Size};
use super::trial::Load;
use crate::{Error, pool};

/// An hour [ns].
pub(crate) const HOUR: u64 = 3_600_000_000_000;

/// Hours of which the requests are held in memory at once.
const ABREAST: usize = 48;

/// Memory that they may take [bytes].
const BYTES_MOST: u64 = 2 << 30;

/// What an hour needs, of each side; and whether the whole answer is enough.
type Need = ((u32, u32), bool);

/// The cheapest split of the fleet of this shape and size. `None` if the user has stopped it, or if there is nothing to split.
pub(crate) fn split(hunt: &Hunt<'_>, (at, size): (usize, Size)) -> Result<Option<Split>, Error> {
    let candidate = &hunt.candidates[at];
    let kinds: Vec<&Kind> = candidate.shape.kinds().collect();
    let Some(point) = hunt.points(at, size, None).into_iter().flatten().next() else { return Ok(None) };
    let Some(needs) = needs(hunt, (at, size), &mut *point.workload()?)? else { return Ok(None) };
    let hours = needs.len() as u64;
    let missed = needs.iter().filter(|(_, enough)| !enough).count() as u64;
    let apart = matches!(size, Size::Apart(..));
    let mut sides = Vec::new();
    let side_of = |role: &str, kind: &Kind, gpus: u32, needed: Vec<u32>| {
        let (usd_reserved, usd_on_demand) = kind.price.zip(kind.on_demand)?;
        Some(side(role, &kind.gpu, gpus, (usd_reserved, usd_on_demand), needed))
    };
    let gpus = (candidate.weight.first.gpus, candidate.weight.second.unwrap_or(candidate.weight.first).gpus);
    let prompts = needs.iter().map(|((prompts, _), _)| *prompts).collect();
    sides.extend(side_of(if apart { "for prompts" } else { "" }, kinds[0], gpus.0, prompts));
    if apart {
        let decodes = needs.iter().map(|((_, decodes), _)| *decodes).collect();
        sides.extend(side_of("that decode", kinds[kinds.len() - 1], gpus.1, decodes));
    }
    let usd = |of: &dyn Fn(&SplitSide) -> f64| sides.iter().map(of).sum::<f64>() * MONTH_H;
    Ok(Some(Split {
        hours,
        hours_missed: missed,
        usd_per_month: usd(&|side| an_hour(side, side.reserved)),
        usd_per_month_reserved: usd(&|side| an_hour(side, side.reserved + side.on_demand)),
        usd_per_month_on_demand: usd(&|side| an_hour(side, 0)),
        sides,
    }))
}

/// The cheapest split of replicas of so many GPUs: each is reserved if it is needed in so many hours that this costs no more.
fn side(role: &str, gpu: &str, gpus: u32, (reserved_usd, usd): (f64, f64), needed: Vec<u32>) -> SplitSide {
    let most = needed.iter().copied().max().unwrap_or(0);
    let hours = needed.len().max(1) as f64;
    let share = |replicas: u32| needed.iter().filter(|need| **need >= replicas).count() as f64 / hours;
    let reserved = (1..=most).take_while(|&replicas| reserved_usd <= share(replicas) * usd).count() as u32;
    SplitSide {
        role: role.to_owned(),
        gpu: gpu.to_owned(),
        reserved: reserved * gpus,
        on_demand: (most - reserved) * gpus,
        on_demand_hours: if most > reserved { share(reserved + 1) } else { 0.0 },
        usd_reserved: reserved_usd,
        usd_on_demand: usd,
        needed: needed.into_iter().map(|replicas| replicas * gpus).collect(),
    }
}

/// What an hour costs on average with so many GPUs reserved, and beside them on demand what each hour needs.
fn an_hour(side: &SplitSide, reserved: u32) -> f64 {
    let beside = side.needed.iter().map(|needed| f64::from(needed.saturating_sub(reserved))).sum::<f64>();
    f64::from(reserved) * side.usd_reserved + beside / side.needed.len().max(1) as f64 * side.usd_on_demand
}

/// What each hour needs, from the first request's to the last one's. `None` if the user has stopped it.
fn needs(hunt: &Hunt<'_>, found: (usize, Size), workload: &mut dyn Workload) -> Result<Option<Vec<Need>>, Error> {
    let busiest = tokens(hunt.load.arrivals()) / (hunt.load.length_s() / 3600.0).max(1e-9);
    let mut all: Vec<Need> = Vec::new();
    let mut hours = Hours { workload, next: None, hour: None };
    loop {
        let (mut held, mut bytes) = (Vec::new(), 0);
        while held.len() < ABREAST && bytes < BYTES_MOST {
            let Some(hour) = hours.next()? else { break };
            bytes += hour.bytes();
            held.push(hour);
        }
        if held.is_empty() {
            return Ok(Some(all));
        }
        let threads = pool::threads(hunt.bench.options.jobs, held.len());
        let found =
            pool::each(&held, threads, &hunt.bench.options.cancel, |_, hour| need(hunt, found, hour.clone(), busiest));
        for need in found {
            let Some(need) = need.transpose()?.flatten() else { return Ok(None) };
            all.push(need);
        }
    }
}

fn tokens(arrivals: &[Arrival]) -> f64 {
    arrivals.iter().map(|arrival| f64::from(arrival.prompt_tokens) + f64::from(arrival.output_tokens)).sum()
}

/// The fewest replicas of an hour, on each side no more than the answer has. `busiest` are the tokens of the busiest hour.
fn need(hunt: &Hunt<'_>, (at, size): (usize, Size), held: Held, busiest: f64) -> Result<Option<Need>, Error> {
    let share = tokens(held.arrivals()) / busiest.max(1.0);
    if held.arrivals().is_empty() {
        return Ok(Some((if matches!(size, Size::Apart(..)) { (1, 1) } else { (1, 0) }, true)));
    }
    let load = Load::new(held, Span(HOUR), hunt.bench.promises);
    let fails_at = hunt.fails_at.as_deref();
    let holds = |size: Size| -> Result<Option<bool>, Error> {
        for point in hunt.points(at, size, fails_at) {
            let Ok(point) = point else { return Ok(Some(false)) };
            let trial = hunt.bench.on(&point, &load, false)?;
            if trial.interrupted || !trial.held() {
                return Ok((!trial.interrupted).then_some(false));
            }
        }
        Ok(Some(true))
    };
    match size {
        Size::Together(replicas) => {
            let found = fewest(replicas, share, |n| holds(Size::Together(n)))?;
            Ok(found.map(|(fewest, enough)| ((fewest, 0), enough)))
        }
        Size::Apart(prefill, decode) => {
            let Some((first, enough)) = fewest(prefill, share, |n| holds(Size::Apart(n, decode)))? else {
                return Ok(None);
            };
            if !enough {
                return Ok(Some(((prefill, decode), false)));
            }
            let second = fewest(decode, share, |n| holds(Size::Apart(first, n)))?;
            Ok(second.map(|(second, _)| ((first, second), true)))
        }
    }
}

/// The fewest replicas from 1 to `most` for which the rule holds, beginning near a share of them; and whether it holds for any. `None` if stopped.
fn fewest(
    most: u32,
    share: f64,
    holds: impl Fn(u32) -> Result<Option<bool>, Error>,
) -> Result<Option<(u32, bool)>, Error> {
    let (mut failed, mut held) = (0, None);
    let mut at = ((f64::from(most) * share).ceil() as u32).clamp(1, most);
    loop {
        let Some(now) = holds(at)? else { return Ok(None) };
        if now {
            held = Some(at);
        } else {
            failed = at;
        }
        at = match held {
            Some(held) if failed + 1 >= held => return Ok(Some((held, true))),
            // A guess is seldom far off.
            Some(held) if held - failed > 4 => held - 1 - (held - failed) / 4,
            Some(held) => failed.midpoint(held),
            None if failed >= most => return Ok(Some((most, false))),
            None => (failed + 1 + failed / 4).min(most),
        };
    }
}

/// The requests of a workload hour by hour, each from time zero on; hours without any are there, too.
struct Hours<'a> {
    workload: &'a mut dyn Workload,
    /// A request that was read and belongs to a later hour.
    next: Option<Arrival>,
    /// The hour that comes next.
    hour: Option<u64>,
}

impl Hours<'_> {
    fn next(&mut self) -> Result<Option<Held>, Error> {
        let mut of_hour = Vec::new();
        let first = match self.next.take() {
            Some(arrival) => Some(arrival),
            None => self.workload.next_arrival().map_err(Error::Requests)?,
        };
        let Some(first) = first else { return Ok(None) };
        let hour = *self.hour.get_or_insert(first.at.0 / HOUR);
        let mut arrival = Some(first);
        while let Some(one) = arrival.take_if(|one| one.at.0 / HOUR <= hour) {
            let at = overbook_sim::time::Time(one.at.0 - hour * HOUR);
            of_hour.push(Arrival { at, ..one });
            arrival = self.workload.next_arrival().map_err(Error::Requests)?;
        }
        self.next = arrival;
        self.hour = Some(hour + 1);
        Ok(Some(Held::of(of_hour, self.workload.classes().to_vec())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_split_is_the_cheapest_of_all() {
        let needed = vec![2, 2, 3, 9, 12, 12, 7, 1, 1, 4];
        for (reserved, on_demand) in [(1.0, 1.0), (1.0, 1.7), (1.0, 3.0), (2.0, 2.1), (2.0, 1.5), (1.0, 100.0)] {
            let found = side("", "h200", 2, (reserved, on_demand), needed.clone());
            let all = (0..=24).filter(|n| n % 2 == 0).map(|n| an_hour(&found, n));
            let least = all.fold(f64::INFINITY, f64::min);
            assert!((an_hour(&found, found.reserved) - least).abs() < 1e-9, "{reserved} {on_demand}: {found:?}");
            assert_eq!(found.reserved + found.on_demand, 24);
        }
        // On demand costs three times as much: what is needed in a third of the hours is reserved.
        let found = side("", "h200", 1, (1.0, 3.0), needed);
        assert_eq!((found.reserved, found.on_demand, found.on_demand_hours), (7, 5, 0.3));
    }

    #[test]
    fn the_fewest_are_found_from_any_guess() {
        for most in [1, 2, 5, 12, 40] {
            for needed in 1..=most + 1 {
                for share in [0.0, 0.3, 0.8, 1.0, 2.0] {
                    let found = fewest(most, share, |n| Ok(Some(n >= needed))).unwrap();
                    assert_eq!(found, Some((needed.min(most), needed <= most)), "{needed} of {most} from {share}");
                }
            }
        }
        assert_eq!(fewest(4, 0.5, |_| Ok(None)).unwrap(), None);
    }

    #[test]
    fn requests_go_to_their_hours_and_empty_hours_are_there() {
        let at = |hour: f64| Arrival::new(overbook_sim::time::Time((hour * HOUR as f64) as u64), 10, 10);
        let held = Arc::new(Held::of([2.0, 2.5, 2.999, 5.25].map(at).into(), Vec::new()));
        let mut workload = held.play();
        let mut hours = Hours { workload: &mut workload, next: None, hour: None };
        let mut counts = Vec::new();
        while let Some(hour) = hours.next().unwrap() {
            counts.push((hour.arrivals().len(), hour.arrivals().first().map(|one| one.at.0 as f64 / HOUR as f64)));
        }
        assert_eq!(counts, [(3, Some(0.0)), (0, None), (0, None), (1, Some(0.25))]);
    }
}
