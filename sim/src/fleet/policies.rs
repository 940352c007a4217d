//! What makes the policies of a fleet: those that its specification names, or any others.

use super::ClusterSpec;
use crate::kv::eviction::BlockEviction;
use crate::partitioners::{Sharing, SmShares};
use crate::routers::Router;
use crate::schedulers::Scheduler;

/// Makes the policies of a fleet. By default they are those that the specification names; every one can be replaced:
///
/// ```
/// # use overbook_sim::fleet::{Cluster, ClusterSpec, Policies};
/// # use overbook_sim::routers::{FleetView, RequestInfo, Router};
/// #[derive(Debug)]
/// struct Last;
///
/// impl Router for Last {
///     fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
///         fleet.len() - 1
///     }
/// }
///
/// let spec = ClusterSpec { replicas: 3, ..ClusterSpec::default() };
/// let policies = Policies { router: Box::new(|_| Box::new(Last)), ..Policies::from(&spec) };
/// let cluster = Cluster::with_policies(spec, &policies)?;
/// # Ok::<(), overbook_sim::fleet::RunError>(())
/// ```
///
/// A length model is handed to the scheduler that asks it: [`Sjf::new`](crate::schedulers::sjf::Sjf::new) takes any. What a scheduler
/// needs of its replica is in the limits of the specification ([`Needs::limits`](crate::schedulers::Needs::limits)).
pub struct Policies<'p> {
    /// The scheduler of a replica, by the fleet's seed and the replica's number.
    pub scheduler: Box<dyn Fn(u64, u32) -> Box<dyn Scheduler> + 'p>,
    /// How the two lanes of a replica share its SMs, by its number; `None` where the lanes of the limits are not split.
    pub sharing: Box<dyn Fn(u32) -> Option<Sharing> + 'p>,
    /// The router, by the fleet's seed.
    pub router: Box<dyn Fn(u64) -> Box<dyn Router> + 'p>,
    /// Says which cached block of the GPUs goes, by the fleet's seed, the replica's number and its blocks, in place of the policy of the
    /// specification's store; `None`: that one does. The time may matter to it, so that every step is planned by itself.
    pub eviction: Option<Box<MakeEviction<'p>>>,
}

/// Makes the eviction policy of a replica, by the fleet's seed, the replica's number and its blocks.
pub type MakeEviction<'p> = dyn Fn(u64, u32, u32) -> Box<dyn BlockEviction> + 'p;

impl From<&ClusterSpec> for Policies<'static> {
    fn from(spec: &ClusterSpec) -> Self {
        let (scheduler, router) = (spec.scheduler.clone(), spec.router);
        let shares = scheduler.needs().sm_shares;
        Policies {
            scheduler: Box::new(move |seed, replica| scheduler.build(seed, replica)),
            sharing: Box::new(move |_| shares.as_ref().map(SmShares::build)),
            router: Box::new(move |seed| router.build(seed)),
            eviction: None,
        }
    }
}

impl std::fmt::Debug for Policies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}
