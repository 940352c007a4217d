//! The controllers, one file each, in the order in which they hear events.

mod autoscale;
mod clients;
mod dispatch;
mod faults;
mod gpus;
mod limiter;
mod patience;
mod points;
mod power;
mod readings;
mod rejection;
mod retries;
mod transfers;

use super::controller::Controller;
use super::pools::Pools;
use super::spec::ClusterSpec;
use crate::routers::Router;

pub use autoscale::{Autoscale, Growth, ScaleTarget};
pub use clients::{ClientTime, Clients, Frontend};
pub use faults::{Failure, Faults};
pub use patience::Patience;
pub use points::PointChange;
pub use rejection::EarlyRejection;
pub use retries::Retry;
pub use transfers::Disaggregation;

/// The controllers of a fleet, those that the specification asks for. A request's replica is found by this order: the router
/// chooses, prompts may go to a replica that decodes, what cannot keep its promises is refused. `sessions`: the workload has some.
pub(super) fn build(
    spec: &ClusterSpec,
    router: Box<dyn Router>,
    pools: &Pools,
    sessions: bool,
) -> Vec<Box<dyn Controller>> {
    let mut controllers: Vec<Box<dyn Controller>> = Vec::new();
    if let Some(faults) = faults::Control::new(spec, pools.replicas()) {
        controllers.push(Box::new(faults));
    }
    if let Some(readings) = readings::Control::new(spec) {
        controllers.push(Box::new(readings));
    }
    if let Some(points) = points::Control::new(spec, pools.replicas()) {
        controllers.push(Box::new(points));
    }
    if let Some(autoscale) = autoscale::Control::new(spec, pools.replicas()) {
        controllers.push(Box::new(autoscale));
    }
    if let Some(power) = power::Control::new(spec, pools) {
        controllers.push(Box::new(power));
    }
    if let Some(limiter) = limiter::Control::new(spec, pools) {
        controllers.push(Box::new(limiter));
    }
    controllers.push(Box::new(dispatch::Control::new(spec, router)));
    if let Some(apart) = spec.controllers.disaggregation {
        controllers.push(Box::new(transfers::Control::new(apart, pools.replicas())));
    }
    if let Some(promises) = spec.controllers.early_rejection {
        controllers.push(Box::new(rejection::Control::new(promises)));
    }
    controllers.push(Box::new(patience::Control::new(spec)));
    if let Some(retry) = spec.controllers.retry {
        controllers.push(Box::new(retries::Control::new(retry, spec.seed)));
    }
    if let Some(clients) = clients::Control::new(spec, sessions) {
        controllers.push(Box::new(clients));
    }
    controllers
}
