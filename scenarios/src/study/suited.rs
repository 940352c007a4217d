//! Whether the requests of a study have what the prefix caches of its points go by.

use overbook_sim::kv::eviction::{EvictionNeeds, EvictionSpec};

use super::{Study, axes, swept};
use crate::diagnostics::{Problems, Sources};
use crate::point::Point;
use crate::scenario::PrefixCacheSpec;
use crate::world::Requests;

/// What a prefix cache goes by, or what of it the requests do not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    contents: bool,
    categories: bool,
    priorities: bool,
}

/// An order of eviction, and where it stands in a scenario.
fn orders(cache: &PrefixCacheSpec) -> impl Iterator<Item = (String, &EvictionSpec)> {
    let tiers = cache.tiers.iter().enumerate();
    let below = tiers.map(|(number, tier)| (format!("engine.prefix_cache.tiers.{number}.eviction"), &tier.eviction));
    std::iter::once(("engine.prefix_cache.eviction".to_owned(), &cache.eviction)).chain(below)
}

impl Wanted {
    fn of(cache: &PrefixCacheSpec) -> Wanted {
        let any = |needs: fn(EvictionNeeds) -> bool| orders(cache).any(|(_, order)| needs(order.needs()));
        Wanted { contents: true, categories: any(|needs| needs.categories), priorities: any(|needs| needs.priorities) }
    }

    fn is_met(self) -> bool {
        !self.contents && !self.categories && !self.priorities
    }

    /// Reads requests until they have shown all that is wanted; what is left they do not have. Requests that cannot be read are
    /// refused where they are played.
    fn read(mut self, requests: &Requests, go_on: &dyn Fn() -> bool) -> Option<Wanted> {
        let mut requests = requests.open().ok()?;
        let mut first = None;
        while !self.is_met() {
            if !go_on() {
                return None;
            }
            let Some(request) = requests.next_arrival().ok()? else { return Some(self) };
            if request.failed_in_trace {
                continue;
            }
            self.contents &= request.content.is_none();
            let (class, priority) = *first.get_or_insert((request.class, request.priority));
            self.categories &= class == request.class && request.session.is_none();
            self.priorities &= priority == request.priority;
        }
        Some(self)
    }

    /// Each thing that the requests do not have: where it is wanted, what is wrong, and what may help.
    fn problems(self, cache: &PrefixCacheSpec) -> Vec<(String, String, &'static str)> {
        if self.contents {
            let message =
                "`prefix_cache` has no effect: no request says what its blocks contain, so that nothing is found again";
            let help = "traces of Mooncake and of agents do, and workloads with `sessions` or `repeats`; or leave `prefix_cache` out";
            return vec![("engine.prefix_cache".to_owned(), message.to_owned(), help)];
        }
        let lacking = orders(cache).filter_map(|(path, order)| {
            let (name, needs) = (order.name(), order.needs());
            let (what, help) = if needs.categories && self.categories {
                let help = "give the workload classes or `sessions`, or take an order that needs none, such as `lru`";
                ("classes and sessions of requests, and all requests have one class and no session", help)
            } else if needs.priorities && self.priorities {
                let help = "give the requests priorities, or take an order that needs none, such as `lru`";
                ("priorities of requests, and all requests have the same", help)
            } else {
                return None;
            };
            Some((path, format!("the eviction `{name}` goes by {what}"), help))
        });
        lacking.collect()
    }
}

/// Whether the requests of a point can be read more than once: those of a pipe are the run's.
pub(super) fn can_be_read_ahead(point: &Point) -> bool {
    point.scenario.workload.trace.as_ref().is_none_or(|trace| trace.path.is_file())
}

impl Study {
    /// Reads the requests of every point as far as is needed to see that they have what its prefix cache goes by: contents, and
    /// classes, sessions or priorities where an order of eviction looks at them. Requests that come through a pipe are not looked
    /// at. `go_on` is asked now and then; once it says no, nothing more is read.
    ///
    /// # Errors
    /// What they lack, each with its place.
    pub fn check_requests(&self, go_on: &dyn Fn() -> bool) -> Result<(), Problems> {
        let mut problems = Problems::new(self.source.sources.clone());
        let mut read: Vec<(Requests, Wanted, Option<Wanted>)> = Vec::new();
        for (index, point) in self.points.iter().enumerate() {
            let Some(cache) = point.scenario.engine.prefix_cache.as_ref().filter(|_| can_be_read_ahead(point)) else {
                continue;
            };
            let (Ok(requests), wanted) = (point.requests(), Wanted::of(cache)) else { continue };
            let known = read.iter().find(|(other, same, _)| *same == wanted && *other == requests);
            let lacking = if let Some(&(.., lacking)) = known {
                lacking
            } else {
                let lacking = wanted.read(&requests, go_on);
                read.push((requests, wanted, lacking));
                lacking
            };
            for (path, message, help) in lacking.into_iter().flat_map(|lacking| lacking.problems(cache)) {
                self.add_problem(&mut problems, index, &path, message, help);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Adds a problem of a point at its place in the text.
    fn add_problem(&self, problems: &mut Problems, point: usize, path: &str, message: String, help: &str) {
        let Some(mut tree) = self.source.tree.clone() else { return };
        let sweep = tree.take("sweep");
        tree.take("plan");
        let mut told = Problems::new(Sources::default());
        let axes =
            sweep.as_ref().map_or_else(Vec::new, |entry| axes::read(&entry.value, self.source.seed(), &mut told));
        let steps = axes::product(&axes).nth(point).unwrap_or_default();
        // The study was resolved from this: it can be set again.
        if let Ok(tree) = swept(&tree, &steps) {
            problems.add(path, tree.place(path), message, Some(help.to_owned()));
        }
    }
}
