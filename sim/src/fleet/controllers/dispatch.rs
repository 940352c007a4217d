//! Routing: the router chooses among the replicas that take requests, as it sees them live or as they last reported.

use crate::fleet::controller::{Action, Controller, Event, Placement, Tick, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::{ClusterSpec, RunError};
use crate::routers::{FleetView, Reports, RequestInfo, Router, RouterView};
use crate::time::Time;
use crate::workload::arrival::Arrival;

#[derive(Debug)]
pub(super) struct Control {
    router: Box<dyn Router>,
    /// How old its view is; none if it sees the replicas live.
    view: Option<RouterView>,
    /// Whether reports say which blocks are cached.
    follow: bool,
    /// What the router knows, if it does not see the replicas live.
    reports: Option<Reports>,
}

impl Control {
    pub(super) fn new(spec: &ClusterSpec, router: Box<dyn Router>) -> Control {
        let follow = router.needs().prefixes;
        Control { router, view: spec.controllers.router_view, follow, reports: None }
    }

    /// Every replica reports.
    fn report(&mut self, kernel: &mut Kernel<'_>) -> Result<(), RunError> {
        let (Some(view), Some(reports)) = (self.view, &mut self.reports) else { return Ok(()) };
        for at in 0..kernel.replicas.len() {
            kernel.settle(at)?;
            reports.take(at, kernel.now, &mut kernel.replicas[at]);
        }
        reports.deliver(kernel.now);
        kernel.tick(kernel.now + view.interval, Tick::Report);
        Ok(())
    }
}

impl Controller for Control {
    fn hears(&self) -> Topics {
        if self.view.is_some() { Topics::PLACING.and(Topics::TICKS) } else { Topics::PLACING }
    }

    fn on(&mut self, event: Event<'_>, kernel: &mut Kernel<'_>) -> Result<Vec<Action>, RunError> {
        match (event, self.view) {
            (Event::Start, Some(view)) => {
                self.reports = Some(Reports::new(view.delay, &mut kernel.replicas, self.follow));
                kernel.tick(Time::ZERO + view.interval, Tick::Report);
            }
            (Event::Tick(Tick::Report), _) => self.report(kernel)?,
            _ => {}
        }
        Ok(Vec::new())
    }

    fn place(
        &mut self,
        arrival: &mut Arrival,
        placement: &mut Placement,
        kernel: &mut Kernel<'_>,
    ) -> Result<(), RunError> {
        if kernel.open().is_empty() {
            return Ok(());
        }
        if let Some(reports) = &mut self.reports {
            reports.deliver(kernel.now);
        } else if self.router.needs().blocks {
            kernel.settle_all()?;
        }
        let request = RequestInfo::of(arrival);
        let view = FleetView::new(&kernel.replicas, self.reports.as_ref(), kernel.open(), kernel.pools.weights());
        let chosen = self.router.route(request, view);
        let open = kernel.open();
        let Some(&at) = open.get(chosen) else {
            return Err(RunError::Route { chosen, of: open.len(), at: kernel.now });
        };
        let at = at as usize;
        if let Some(reports) = &mut self.reports {
            reports.chosen(at, kernel.now, request);
        }
        placement.replica = Some(at);
        Ok(())
    }
}
