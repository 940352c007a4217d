//! Policies and cost models of one's own, beside those that a scenario can name.

use std::fmt;
use std::sync::Arc;

use overbook_scenarios::hull::{Figure, FigureError};
use overbook_scenarios::{Point, facts};
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::{Cluster, ClusterSpec, Policies as FleetPolicies};
use overbook_sim::kv::eviction::BlockEviction;
use overbook_sim::results::summary::Summary;
use overbook_sim::results::trust::Trust;
use overbook_sim::routers::Router;
use overbook_sim::serving::Scheduler;

use crate::Error;

/// Makes the scheduler of one replica.
type MakeScheduler = dyn Fn(Place) -> Box<dyn Scheduler> + Send + Sync;
/// Makes the router of a run from the scenario's seed.
type MakeRouter = dyn Fn(u64) -> Box<dyn Router> + Send + Sync;
/// Makes the step costs of one kind of replica.
type MakeCost = dyn Fn(&Point) -> Box<dyn CostModel> + Send + Sync;

/// Makes the eviction policy of one replica, which has so many blocks.
type MakeEviction = dyn Fn(Place, u32) -> Box<dyn BlockEviction> + Send + Sync;

/// Which replica a policy is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Seed of the scenario. A policy that draws should draw from a stream of this seed and `replica`.
    pub seed: u64,
    /// Number of the replica in the fleet, from 0.
    pub replica: u32,
}

/// Something of one's own, and what reports call it.
struct Own<F: ?Sized> {
    name: String,
    make: Arc<F>,
}

impl<F: ?Sized> Clone for Own<F> {
    fn clone(&self) -> Self {
        Own { name: self.name.clone(), make: Arc::clone(&self.make) }
    }
}

/// What runs in place of the scenario's own policies. Every run of a study makes its own ones.
#[derive(Clone, Default)]
pub(crate) struct Policies {
    scheduler: Option<Own<MakeScheduler>>,
    router: Option<Own<MakeRouter>>,
    cost: Option<Own<MakeCost>>,
    eviction: Option<Own<MakeEviction>>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheduler = self.scheduler.as_ref().map(|own| &own.name);
        let router = self.router.as_ref().map(|own| &own.name);
        let cost = self.cost.as_ref().map(|own| &own.name);
        let eviction = self.eviction.as_ref().map(|own| &own.name);
        let mut shown = f.debug_struct("Policies");
        shown.field("scheduler", &scheduler).field("router", &router).field("cost", &cost);
        shown.field("eviction", &eviction).finish()
    }
}

impl Policies {
    pub(crate) fn set_scheduler(&mut self, name: String, make: Arc<MakeScheduler>) {
        self.scheduler = Some(Own { name, make });
    }

    pub(crate) fn set_router(&mut self, name: String, make: Arc<MakeRouter>) {
        self.router = Some(Own { name, make });
    }

    pub(crate) fn set_cost(&mut self, name: String, make: Arc<MakeCost>) {
        self.cost = Some(Own { name, make });
    }

    pub(crate) fn set_eviction(&mut self, name: String, make: Arc<MakeEviction>) {
        self.eviction = Some(Own { name, make });
    }

    /// The fleet, with these policies where there are some.
    pub(crate) fn cluster(&self, spec: ClusterSpec) -> Result<Cluster, Error> {
        let mut policies = FleetPolicies::from(&spec);
        if let Some(own) = &self.scheduler {
            policies.scheduler = Box::new(|seed, replica| (own.make)(Place { seed, replica }));
        }
        if let Some(own) = &self.router {
            policies.router = Box::new(|seed| (own.make)(seed));
        }
        if let Some(own) = &self.eviction {
            policies.eviction = Some(Box::new(|seed, replica, blocks| (own.make)(Place { seed, replica }, blocks)));
        }
        Ok(Cluster::with_policies(spec, &policies)?)
    }

    /// What steps cost, for each kind of replica.
    pub(crate) fn costs(&self, point: &Point) -> Result<Vec<Box<dyn CostModel>>, Error> {
        match &self.cost {
            None => Ok(point.costs()?),
            Some(own) => Ok(point.kinds().iter().map(|kind| (own.make)(kind)).collect()),
        }
    }

    /// Corrects the main facts of a scenario where it is not the scenario's policies that run.
    pub(crate) fn correct(&self, assumptions: &mut Vec<(String, String)>) {
        let mut put = |what: &str, text: String| match assumptions.iter_mut().find(|(name, _)| name == what) {
            Some((_, fact)) => *fact = text,
            None => assumptions.push((what.to_owned(), text)),
        };
        if let Some(Own { name, .. }) = &self.scheduler {
            put("Scheduler", format!("{name}, outside the scenario, with the limits of the scenario's scheduler"));
        }
        if let Some(Own { name, .. }) = &self.router {
            put("Router", format!("{name}, outside the scenario, in place of its router"));
        }
        if let Some(Own { name, .. }) = &self.eviction {
            put("Eviction", format!("{name}, outside the scenario, in place of its policy for the blocks of the GPUs"));
        }
        if let Some(Own { name, .. }) = &self.cost {
            put("Step cost", format!("{name}, outside the scenario"));
        }
    }

    /// Takes back what is said of the scenario's scheduler where another one runs.
    pub(crate) fn withdraw(&self, remarks: &mut Vec<String>) {
        if self.scheduler.is_some() {
            remarks.clear();
        }
    }

    /// Where the step costs come from.
    pub(crate) fn calibration(&self, point: &Point) -> String {
        match &self.cost {
            None => facts::calibration(point),
            Some(Own { name, .. }) => {
                format!("step costs of {name}, given from outside the scenario; how far they are off is not known")
            }
        }
    }

    /// How far measured runs are off in these figures; nothing where parts are from outside the scenario.
    pub(crate) fn figure_errors(&self, point: &Point, figures: &[Figure]) -> Vec<FigureError> {
        let own = self.cost.is_some() || self.scheduler.is_some() || self.router.is_some() || self.eviction.is_some();
        if own { Vec::new() } else { facts::figure_errors(point, figures) }
    }

    /// How far the figures of a point are to be trusted: what is from outside the scenario was never compared with a measured run.
    pub(crate) fn trust(&self, point: &Point, summary: Option<&Summary>) -> Trust {
        let own = [
            self.cost.as_ref().map(|own| ("step costs", &own.name)),
            self.scheduler.as_ref().map(|own| ("scheduler", &own.name)),
            self.router.as_ref().map(|own| ("router", &own.name)),
            self.eviction.as_ref().map(|own| ("eviction policy", &own.name)),
        ];
        match own.into_iter().flatten().next() {
            None => facts::trust(point, summary),
            Some((what, name)) => Trust::prior(format!("no measured run with the {what} {name}")),
        }
    }
}
