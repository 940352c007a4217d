//! A shape of fleet under search: what is known of it, and what it may still cost.

use overbook_scenarios::scenario::{PlanMode, PlanObjective, PlanSpec};
use overbook_scenarios::{Point, Problems};

use super::bounds::{Bounds, bounds};
use super::hunt::{Stage, side};
use super::search::{Search, Side};
use super::sides::Sides;
use super::space::{Kind, Shape, Size};
use super::trial::{Bench, Load, Trial};
use super::weigh::{SideWeight, Weight};
use crate::{Error, Experiment};

/// How the sizes of a shape are searched.
#[derive(Clone, Debug)]
pub(crate) enum Sought {
    /// All replicas are of one kind: the fewest are the cheapest.
    Alike(Search),
    /// Each side is of its own kind.
    Mixed(Sides),
}

impl Sought {
    /// The size to try next.
    pub(crate) fn next(&self) -> Option<Size> {
        match self {
            Sought::Alike(search) => search.next(),
            Sought::Mixed(sides) => sides.next().map(|(prefill, decode)| Size::Apart(prefill, decode)),
        }
    }

    /// The cheapest size that is known to hold.
    pub(crate) fn best(&self) -> Option<Size> {
        match self {
            Sought::Alike(search) => search.best(),
            Sought::Mixed(sides) => sides.best().map(|(prefill, decode)| Size::Apart(prefill, decode)),
        }
    }

    /// A size that weighs no more than any that may hold. Of replicas that are alike it is their number alone that counts.
    pub(crate) fn least(&self) -> Size {
        match self {
            Sought::Alike(search) => Size::Together(search.least()),
            Sought::Mixed(sides) => {
                let (prefill, decode) = sides.lightest();
                Size::Apart(prefill, decode)
            }
        }
    }

    pub(crate) fn held(&mut self, size: Size) {
        match (self, size) {
            (Sought::Alike(search), _) => search.held(size),
            (Sought::Mixed(sides), Size::Apart(prefill, decode)) => sides.held((prefill, decode)),
            (Sought::Mixed(_), Size::Together(_)) => {}
        }
    }

    pub(crate) fn failed(&mut self, size: Size, side: Side, came: f64) {
        match (self, size) {
            (Sought::Alike(search), _) => search.failed(size, side, came),
            (Sought::Mixed(sides), Size::Apart(prefill, decode)) => sides.failed((prefill, decode), side, came),
            (Sought::Mixed(_), Size::Together(_)) => {}
        }
    }

    fn refuted(&mut self, size: Size, side: Side) {
        match (self, size) {
            (Sought::Alike(search), _) => search.refuted(size, side),
            (Sought::Mixed(sides), Size::Apart(prefill, decode)) => sides.refuted((prefill, decode), side),
            (Sought::Mixed(_), Size::Together(_)) => {}
        }
    }
}

/// What analytic bounds leave of a shape that can be built.
type Bounded = (Option<Bounds>, Option<Sought>);

/// A shape under search.
pub(crate) struct Candidate {
    pub(crate) shape: Shape,
    /// The smallest fleet of this shape; or why there is none.
    pub(crate) built: Result<Point, String>,
    /// Whether that is a matter of how the scenario is written.
    pub(crate) problems: Option<Problems>,
    pub(crate) bounds: Option<Bounds>,
    pub(crate) search: Option<Sought>,
    pub(crate) weight: Weight,
    /// GPUs of a fleet at most.
    pub(crate) gpus_most: u32,
    /// What its servers may draw at their peak [W].
    power_most: Option<f64>,
    pub(crate) trials: Vec<(Size, Stage, Trial)>,
}

impl Candidate {
    /// Builds the smallest fleet of a shape.
    pub(crate) fn new(shape: Shape, base: &Experiment, spec: &PlanSpec) -> Candidate {
        let built = shape.point(base, shape.smallest());
        let mut problems = None;
        let built = built.map_err(|found| {
            let first = found.list().first().map_or_else(String::new, |one| one.message.clone());
            problems = Some(found);
            first
        });
        let usd = shape.kinds().all(|kind| kind.price.is_some());
        let objective = spec.objective.unwrap_or(if usd { PlanObjective::Usd } else { PlanObjective::Gpus });
        let point = built.as_ref().ok();
        let weight = Weight {
            first: weigh(point, 0, &shape.kind),
            second: shape.decode.as_ref().map(|kind| weigh(point, 1, kind)),
            objective,
        };
        Candidate {
            weight,
            gpus_most: spec.gpus_most,
            power_most: spec.power_most.map(|watts| watts.0),
            shape,
            built,
            problems,
            bounds: None,
            search: None,
            trials: Vec::new(),
        }
    }

    /// Replicas at most, where they are alike.
    pub(crate) fn most(&self) -> u32 {
        self.gpus_most / self.weight.first.gpus.max(1)
    }

    /// What a fleet costs, of what is to be spared: all of it, or of watts the least that it can be.
    pub(crate) fn cost(&self, size: Size) -> f64 {
        self.weight.cost(size)
    }

    /// What a fleet costs that was tried.
    pub(crate) fn cost_of_tried(&self, size: Size) -> Option<f64> {
        match self.weight.objective {
            PlanObjective::Kw => self.peak_watts(size).map(|watts| watts / 1e3),
            _ => Some(self.cost(size)),
        }
    }

    /// The highest reading of its servers in all its runs to the end [W].
    pub(crate) fn peak_watts(&self, size: Size) -> Option<f64> {
        let own = self.trials.iter().filter(|(other, ..)| *other == size);
        own.filter_map(|(.., trial)| trial.watts()).map(|watts| watts.peak).reduce(f64::max)
    }

    /// The peak of a fleet that was tried and what it may be, if it is above that [W].
    pub(crate) fn too_many_watts(&self, size: Size) -> Option<(f64, f64)> {
        let most = self.power_most?;
        self.peak_watts(size).filter(|peak| *peak > most).map(|peak| (peak, most))
    }

    /// The analytic bounds, and the search that begins there if they leave something.
    pub(crate) fn bounded(&self, bench: &Bench<'_>, load: &Load) -> Result<Bounded, Error> {
        let Ok(point) = &self.built else { return Ok((None, None)) };
        let mut costs = bench.policies.costs(point)?;
        let mut found = bounds(point, &mut costs, load, bench.promises, self.shape.mode);
        let least = (found.replicas, found.decode);
        let size =
            if self.shape.mode == PlanMode::Apart { Size::Apart(least.0, least.1) } else { Size::Together(least.0) };
        if let (Some(most), Some(idle)) = (self.power_most, self.weight.idle_watts(size))
            && idle > most
            && found.hopeless.is_none()
        {
            let told = format!("{} with nothing to do, and may draw {}", kilowatts(idle), kilowatts(most));
            found.hopeless = Some(format!("{size} replicas, the fewest that could be enough, draw {told}"));
        }
        let search = if found.hopeless.is_none() { self.search_from(least) } else { None };
        Ok((Some(found), search))
    }

    /// A search over all sizes from these on, of each side; `None` if there are none.
    pub(crate) fn search_from(&self, (least, least_decode): (u32, u32)) -> Option<Sought> {
        if self.weight.second.is_some() {
            let sides = Sides::new(self.weight, (least, least_decode), self.gpus_most);
            return sides.has_room().then_some(Sought::Mixed(sides));
        }
        let (mode, most) = (self.shape.mode, self.most());
        let all = if mode == PlanMode::Apart { least.max(1) + least_decode.max(1) } else { least.max(1) };
        (all <= most).then(|| Sought::Alike(Search::new(mode, (least, least_decode), most)))
    }

    /// Lets the search try what is worth its cost.
    pub(crate) fn within(&mut self, worth: impl Fn(f64) -> bool) {
        let (weight, most) = (self.weight, u64::from(self.most()));
        match &mut self.search {
            Some(Sought::Alike(search)) => {
                let worth = |replicas: u64| worth(weight.cost(Size::Together(replicas as u32)));
                search.within(last_worth(most, worth) as u32);
            }
            Some(Sought::Mixed(sides)) => sides.within(last_worth(UNITS_MOST, |units| worth(Weight::of_units(units)))),
            None => {}
        }
    }

    /// The least that any fleet of this shape which may still hold costs; `None` if there is none.
    pub(crate) fn least_cost(&self) -> Option<f64> {
        let search = self.search.as_ref()?;
        let open = search.best().is_some() || search.next().is_some();
        open.then(|| self.cost(search.least()))
    }

    /// What the cheapest fleet that is known to hold costs, if it draws no more than it may.
    pub(crate) fn best_cost(&self) -> Option<f64> {
        let best = self.search.as_ref()?.best()?;
        if self.too_many_watts(best).is_some() { None } else { self.cost_of_tried(best) }
    }

    pub(crate) fn tell(&mut self, size: Size, stage: Stage, trial: Trial) {
        let Some(search) = &mut self.search else { return };
        match (stage, trial.held()) {
            (Stage::Window, true) => search.held(size),
            (Stage::Window, false) => search.failed(size, side(&trial), trial.came()),
            (Stage::Whole, true) => {}
            (Stage::Whole, false) => search.refuted(size, side(&trial)),
        }
        self.trials.push((size, stage, trial));
    }
}

/// More than any fleet costs, in parts.
const UNITS_MOST: u64 = 1 << 50;

/// The largest number up to `most` that is worth it, where smaller ones are too; 0 if none is.
fn last_worth(most: u64, worth: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most + 1);
    while low + 1 < high {
        let middle = u64::midpoint(low, high);
        if worth(middle) { low = middle } else { high = middle }
    }
    low
}

/// What a replica of the kind with this number takes; a shape that cannot be built takes its GPUs.
fn weigh(point: Option<&Point>, number: usize, kind: &Kind) -> SideWeight {
    let own = point.and_then(|point| point.kinds().get(number));
    let idle = point.and_then(Point::idle_watts_of_servers).and_then(|watts| watts.get(number).copied());
    SideWeight {
        gpus: own.map_or(kind.tensor_parallel, |own| own.scenario.fleet.gpus_per_replica()),
        per_server: own.and_then(|own| own.topology.as_ref()).map(|topology| topology.gpus),
        idle,
        usd: kind.price,
    }
}

/// `12.4 kW`.
pub(crate) fn kilowatts(watts: f64) -> String {
    format!("{} kW", overbook_reports::format::number(watts / 1e3))
}

#[cfg(test)]
mod tests {
    use super::last_worth;

    #[test]
    fn the_last_that_is_worth_it_is_found() {
        for most in [0, 1, 7, 100] {
            for bound in 0..=most {
                assert_eq!(last_worth(most, |n| n <= bound), bound, "{bound} of {most}");
            }
        }
        assert_eq!(last_worth(5, |_| false), 0);
    }
}
