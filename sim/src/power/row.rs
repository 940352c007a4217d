//! A row of racks on one feed: servers add up to racks, racks to the row, and the row to what its site draws.
//!
//! The row is closed once a period. Each server's GPUs hand in their energy exactly, the rest of the server follows
//! ([`crate::power::server`]), and the row's reading is the mean of the sum. So the energy of all readings, of all servers and of all parts
//! is one number (law 10).

use crate::power::excursions::Excursions;
use crate::power::meter::{Energy, MilliWatts};
use crate::power::policies::{Rises, RowReading};
use crate::power::protection::{BREAKER_CURVE, Breaker, Supply, UPS_BANDS};
use crate::power::server::{GpuPeriod, Parts, Server};
use crate::power::share::Share;
use crate::time::{Span, Time};

/// What a row hangs on.
#[derive(Clone, PartialEq, Debug)]
pub struct Feed {
    /// What the row may draw.
    pub budget: MilliWatts,
    /// What its breaker is rated for.
    pub breaker: MilliWatts,
    /// What the supply behind it is rated for, the row's share of it, if that is to be watched.
    pub ups: Option<MilliWatts>,
    /// Servers of a rack.
    pub rack: usize,
    /// Time over which rises are looked at, beside that of a period.
    pub rise: Span,
    /// Rises up to then do not count: they fill an empty fleet.
    pub warm: Time,
}

/// Steps of a histogram of loads: a thousandth of the budget each, the last one open.
const LOADS: usize = 2048;

/// A row that runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    feed: Feed,
    servers: Vec<Server>,
    since: Time,
    figures: RowFigures,
    breaker: Breaker,
    supply: Supply,
    rises: Rises,
}

/// What a row has drawn.
#[derive(Clone, PartialEq, Debug)]
pub struct RowFigures {
    /// Time that it was looked at.
    pub span: Span,
    /// Energy by part.
    pub parts: Parts,
    /// Energy of all readings.
    pub metered: Energy,
    /// The highest reading of the row.
    pub peak: MilliWatts,
    /// The highest reading of a rack.
    pub rack_peak: MilliWatts,
    /// The highest reading of a server.
    pub server_peak: MilliWatts,
    /// Energy of each hour of the run.
    pub hours: Vec<Energy>,
    /// Time by load, in thousandths of the budget.
    pub loads: Vec<Span>,
    /// Highest rise of the load from one period to the next, and over the feed's `rise`.
    pub rises: (Share, Share),
    /// Above the budget.
    pub excursions: Excursions,
    /// How near the breaker came to tripping (1 is there), and how often it would have.
    pub breaker: (f64, u64),
    /// Times that the supply was overloaded for longer than it bears; none if it is not watched.
    pub overloads: Option<u64>,
}

impl RowFigures {
    fn new() -> RowFigures {
        RowFigures {
            span: Span::ZERO,
            parts: Parts::default(),
            metered: Energy::default(),
            peak: MilliWatts(0),
            rack_peak: MilliWatts(0),
            server_peak: MilliWatts(0),
            hours: Vec::new(),
            loads: vec![Span::ZERO; LOADS],
            rises: (Share::default(), Share::default()),
            excursions: Excursions::default(),
            breaker: (0.0, 0),
            overloads: None,
        }
    }

    /// Time with a load above that one, to a thousandth of the budget.
    pub fn above(&self, load: Share) -> Span {
        let from = (load.0 / 1000) as usize + 1;
        Span(self.loads.iter().skip(from).map(|span| span.0).sum())
    }

    /// The load below which the row was for a share of the time, to a thousandth of the budget.
    pub fn load_at(&self, share: f64) -> Share {
        let wanted = (self.span.0 as f64 * share).ceil() as u64;
        let mut sum = 0;
        let at = self.loads.iter().position(|span| {
            sum += span.0;
            sum >= wanted
        });
        Share(at.unwrap_or(LOADS - 1) as u64 * 1000)
    }

    /// Mean power.
    pub fn mean(&self) -> MilliWatts {
        self.parts.total().mean_over(self.span)
    }
}

impl Row {
    /// A row at time zero.
    ///
    /// # Panics
    /// A rack has no server.
    pub fn new(feed: Feed, servers: Vec<Server>) -> Row {
        assert!(feed.rack > 0, "a rack holds servers");
        let breaker = Breaker::through(BREAKER_CURVE).expect("the published curve has the form");
        let rises = Rises::new(feed.rise, feed.warm);
        let supply = Supply::new(&UPS_BANDS);
        Row { feed, servers, since: Time::ZERO, figures: RowFigures::new(), breaker, supply, rises }
    }

    /// The feed.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// A period is over: what the GPUs of each server did in it. Returns the row's mean power; `None` over no time.
    ///
    /// # Panics
    /// There are not as many servers.
    pub fn close(&mut self, now: Time, gpus: &[GpuPeriod]) -> Option<MilliWatts> {
        assert_eq!(gpus.len(), self.servers.len(), "one figure for each server");
        let span = now.since(self.since);
        if span == Span::ZERO {
            return None;
        }
        let figures = &mut self.figures;
        let mut sums = Parts::default();
        let (mut all, mut most, mut most_of_a_rack) = (Energy::default(), Energy::default(), Energy::default());
        for (servers, gpus) in self.servers.chunks_mut(self.feed.rack).zip(gpus.chunks(self.feed.rack)) {
            let mut rack = Energy::default();
            for (server, gpus) in servers.iter_mut().zip(gpus) {
                let parts = server.close(*gpus, span);
                let total = parts.total();
                sums += parts;
                rack += total;
                most = most.max(total);
            }
            most_of_a_rack = most_of_a_rack.max(rack);
            all += rack;
        }
        figures.parts += sums;
        figures.server_peak = figures.server_peak.max(most.mean_over(span));
        figures.rack_peak = figures.rack_peak.max(most_of_a_rack.mean_over(span));
        let power = all.mean_over(span);
        let load = Share::of(power, self.feed.budget);
        figures.span = Span(figures.span.0.saturating_add(span.0));
        figures.metered += all;
        by_hour(&mut figures.hours, self.since, now, all);
        figures.peak = figures.peak.max(power);
        let step = &mut figures.loads[((load.0 / 1000) as usize).min(LOADS - 1)];
        *step = Span(step.0.saturating_add(span.0));
        figures.excursions.period(now, span, power, self.feed.budget);
        self.rises.hear(RowReading { at: now, load });
        self.breaker.advance(Share::of(power, self.feed.breaker), span);
        self.since = now;
        if let Some(rated) = self.feed.ups {
            self.supply.advance(Share::of(power, rated), span);
        }
        Some(power)
    }

    /// What the row has drawn; its last excursion ends.
    pub fn finish(mut self) -> RowFigures {
        self.figures.excursions.finish();
        self.figures.rises = (self.rises.period, self.rises.command);
        self.figures.breaker = (self.breaker.nearest(), self.breaker.trips());
        self.figures.overloads = self.feed.ups.map(|_| self.supply.overloads());
        self.figures
    }
}

/// Nanoseconds in an hour.
const HOUR: u64 = 3_600_000_000_000;

/// Spreads the energy of a period evenly over the hours that it touches; the parts add up exactly.
fn by_hour(hours: &mut Vec<Energy>, from: Time, to: Time, energy: Energy) {
    let (mut start, mut left) = (from.0, energy.0);
    while start < to.0 {
        let hour = (start / HOUR) as usize;
        let end = to.0.min((start / HOUR + 1) * HOUR);
        let part = left / u128::from(to.0 - start) * u128::from(end - start)
            + left % u128::from(to.0 - start) * u128::from(end - start) / u128::from(to.0 - start);
        if hours.len() <= hour {
            hours.resize(hour + 1, Energy::default());
        }
        hours[hour] += Energy(part);
        left -= part;
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::gpu::{Origin, OriginKind};
    use crate::hardware::server_power::{CpuPower, FanPower, ServerPowerSpec};
    use crate::units::{Duration, Watts};

    const S: u64 = 1_000_000_000;

    /// Servers of 100 W beside their GPUs, with supplies that lose a tenth.
    fn row(servers: usize, budget: u64) -> Row {
        let spec = ServerPowerSpec {
            origin: Origin { kind: OriginKind::Inferred, source: "a test".to_owned() },
            base: Watts(100.0),
            cpu: CpuPower { idle: Watts(0.0), busy: Watts(0.0) },
            network: Watts(0.0),
            fans: FanPower { least: Watts(0.0), per_watt: 0.0, above: Watts(0.0), lag: Duration(Span(0)) },
            supply_efficiency: 1.0 / 1.1,
        };
        let budget = MilliWatts(budget * 1000);
        let feed = Feed { budget, breaker: budget, ups: Some(budget), rack: 2, rise: Span(40 * S), warm: Time::ZERO };
        Row::new(feed, vec![Server::new(&spec, 0.0); servers])
    }

    fn gpus(watts: &[u64], span: Span) -> Vec<GpuPeriod> {
        let of = |&watts: &u64| GpuPeriod { energy: MilliWatts(watts * 1000).over(span), busy: span };
        watts.iter().map(of).collect()
    }

    #[test]
    fn servers_add_up_to_racks_and_the_row() {
        let mut row = row(3, 2000);
        let span = Span(2 * S);
        // (400 + 100, 500 + 100, 300 + 100) · 1.1
        let power = row.close(Time(2 * S), &gpus(&[400, 500, 300], span)).expect("a reading");
        assert_eq!(power, MilliWatts(1_650_000));
        let power = row.close(Time(4 * S), &gpus(&[900, 900, 300], span)).expect("a reading");
        assert_eq!(power, MilliWatts(2_640_000));
        assert_eq!(row.close(Time(4 * S), &gpus(&[0, 0, 0], span)), None);
        let figures = row.finish();
        assert_eq!((figures.rack_peak, figures.server_peak), (MilliWatts(2_200_000), MilliWatts(1_100_000)));
        assert_eq!(figures.mean(), MilliWatts(2_145_000));
        assert_eq!(figures.rises, (Share(495_000), Share(495_000)));
        assert_eq!((figures.excursions.count, figures.excursions.all.most), (1, MilliWatts(640_000)));
        assert_eq!((figures.load_at(0.5), figures.load_at(1.0)), (Share(825_000), Share(1_320_000)));
        assert_eq!((figures.above(Share::WHOLE), figures.above(Share(800_000))), (span, Span(4 * S)));
    }

    #[test]
    fn a_period_counts_for_the_hours_that_it_touches() {
        let mut hours = Vec::new();
        by_hour(&mut hours, Time(HOUR / 2), Time(HOUR * 5 / 2), Energy(1001));
        assert_eq!(hours, [Energy(250), Energy(500), Energy(251)]);
    }

    /// Law 10: readings, servers and parts have one energy, whatever the periods.
    #[test]
    fn two_sums_agree() {
        let mut row = row(5, 2000);
        let mut now = Time::ZERO;
        let mut gpu_sum = Energy::default();
        for step in 1..1000_u64 {
            let span = Span(step * 7_919 % 1_000_003 + 1);
            now += span;
            let of = |server: u64| GpuPeriod { energy: Energy(u128::from(step * 31 + server) * 104_729), busy: span };
            let gpus: Vec<GpuPeriod> = (0..5).map(of).collect();
            gpu_sum = gpus.iter().fold(gpu_sum, |sum, gpus| sum + gpus.energy);
            row.close(now, &gpus);
        }
        let figures = row.finish();
        assert_eq!(figures.metered, figures.parts.total());
        assert_eq!(figures.parts.gpus, gpu_sum);
        assert_eq!(figures.span, Span(now.0));
        assert_eq!(figures.hours.iter().fold(Energy::default(), |sum, &hour| sum + hour), figures.metered);
        assert_eq!(figures.loads.iter().map(|span| span.0).sum::<u64>(), now.0);
    }
}
