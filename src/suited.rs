//! Whether the requests have what the orders of eviction of a scenario go by.

use overbook_scenarios::Point;
use overbook_sim::kv::eviction::EvictionSpec;

use crate::Error;

/// What the orders of eviction of a prefix cache need of the requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    contents: bool,
    categories: Option<&'static str>,
    priorities: Option<&'static str>,
}

impl Wanted {
    fn of(point: &Point) -> Option<Wanted> {
        let cache = point.scenario.engine.prefix_cache.as_ref()?;
        let orders = || std::iter::once(&cache.eviction).chain(cache.tiers.iter().map(|tier| &tier.eviction));
        let categories = orders().find(|order| order.needs().categories).map(EvictionSpec::name);
        let priorities = orders().find(|order| order.needs().priorities).map(EvictionSpec::name);
        Some(Wanted { contents: true, categories, priorities })
    }

    fn is_met(self) -> bool {
        !self.contents && self.categories.is_none() && self.priorities.is_none()
    }

    fn reason(self) -> String {
        match self {
            Wanted { contents: true, .. } => {
                "no request says what its blocks contain, so that nothing is found again: `engine.prefix_cache` has no effect. Traces of \
                 Mooncake and of agents do, and workloads with `sessions`"
                    .to_owned()
            }
            Wanted { categories: Some(name), .. } => {
                format!(
                    "the eviction `{name}` goes by classes and sessions of requests, and all requests have one class and no session"
                )
            }
            Wanted { priorities, .. } => {
                let name = priorities.unwrap_or_default();
                format!("the eviction `{name}` goes by priorities of requests, and all requests have the same")
            }
        }
    }
}

/// Reads the requests as far as is needed to see that they have what the prefix cache goes by.
///
/// # Errors
/// They lack it, or cannot be read.
pub(crate) fn check(point: &Point) -> Result<(), Error> {
    point.quality(std::iter::empty()).map_err(|error| Error::Unsuited(format!("`slo.quality`: {error}")))?;
    let Some(mut wanted) = Wanted::of(point) else { return Ok(()) };
    let mut requests = point.workload()?;
    let mut first = None;
    while !wanted.is_met() {
        let Some(request) = requests.next_arrival().map_err(Error::Requests)? else {
            return Err(Error::Unsuited(wanted.reason()));
        };
        if request.failed_in_trace {
            continue;
        }
        wanted.contents &= request.content.is_none();
        let (class, priority) = *first.get_or_insert((request.class, request.priority));
        if class != request.class || request.session.is_some() {
            wanted.categories = None;
        }
        if priority != request.priority {
            wanted.priorities = None;
        }
    }
    Ok(())
}
