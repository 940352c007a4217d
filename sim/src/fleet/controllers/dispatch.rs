//! Routing: the router chooses among the replicas that take requests, as it sees them live or as they last reported.

use crate::fleet::controller::{Action, Controller, Event, Placement, Tick, Topics};
use crate::fleet::kernel::Kernel;
use crate::fleet::power::LOW_PRIORITY;
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
    /// Which replicas serve requests of low priority, if those have replicas of their own.
    low: Option<Vec<bool>>,
    /// Replicas that may be chosen, where not all of those that take requests may.
    own: Vec<u32>,
}

impl Control {
    pub(super) fn new(spec: &ClusterSpec, router: Box<dyn Router>) -> Control {
        let follow = router.needs().prefixes;
        let dedicated = spec.power.as_ref().filter(|power| power.dedicated);
        let low = dedicated.map(|power| power.low_replicas(spec.replicas_in_all() as usize));
        Control { router, view: spec.controllers.router_view, follow, reports: None, low, own: Vec::new() }
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
        if let Some(home) = arrival.home {
            placement.replica = kernel.open().contains(&home).then_some(home as usize);
            return Ok(());
        }
        let narrowed = self.low.is_some();
        if let Some(low) = &self.low {
            let is_low = arrival.priority >= LOW_PRIORITY;
            self.own.clear();
            self.own.extend(kernel.open().iter().copied().filter(|&at| low[at as usize] == is_low));
        }
        let none = if narrowed { self.own.is_empty() } else { kernel.open().is_empty() };
        if none {
            return Ok(());
        }
        if let Some(reports) = &mut self.reports {
            reports.deliver(kernel.now);
        } else if self.router.needs().blocks {
            kernel.settle_all()?;
        }
        let request = RequestInfo::of(arrival);
        let open = if narrowed { &self.own[..] } else { kernel.open() };
        let view = FleetView::new(&kernel.replicas, self.reports.as_ref(), open, kernel.pools.weights());
        let chosen = self.router.route(request, view);
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
