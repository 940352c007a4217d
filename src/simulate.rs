//! One point, simulated.

use overbook_scenarios::{Point, facts};
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::{Cluster, Progress};
use overbook_sim::results::rows::Recorder;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Tapped, burstiness};

use crate::policies::Policies;
use crate::{Error, Options, Outcome};

/// The fleet of a point and what steps cost on each kind of replica.
pub(crate) fn fleet(
    point: &Point,
    policies: &Policies,
    options: &Options,
) -> Result<(Cluster, Vec<Box<dyn CostModel>>), Error> {
    let mut spec = point.cluster()?;
    spec.audit |= options.audit;
    spec.jumps = !options.step_by_step;
    let costs = policies.costs(point)?;
    Ok((policies.cluster(spec)?, costs))
}

/// Simulates one point. `open` is asked for its requests once the fleet stands.
pub(crate) fn simulate<R: Recorder>(
    point: &Point,
    policies: &Policies,
    options: &Options,
    open: impl FnOnce() -> Result<Box<dyn Workload>, Error>,
    recorder: &mut R,
    watch: &mut dyn FnMut(Progress) -> bool,
) -> Result<Outcome, Error> {
    let (cluster, mut costs) = fleet(point, policies, options)?;
    let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
    let mut workload = open()?;
    let mut watch = |progress| watch(progress) && !options.cancel.is_cancelled();
    // In a closed loop the workload's own times are not those of the requests.
    let closed = point.scenario.workload.clients.is_some() || workload.sessions().is_some();
    let counted = point.coordinates.is_empty() && !closed;
    let (mut played, mut recorded) = (None, None);
    let (ran, rows) = if counted {
        let mut tapped = Tapped::new(workload);
        let ran = cluster.run_pools(&mut tapped, &mut costs, recorder, &mut watch);
        let rows = tapped.rows();
        played = Some(tapped.stats());
        if let Some(mut workload) = point.recorded()? {
            recorded = Some(burstiness(&mut *workload).map_err(Error::Requests)?);
        }
        (ran, rows)
    } else {
        let ran = cluster.run_pools(&mut *workload, &mut costs, recorder, &mut watch);
        (ran, workload.rows())
    };
    let result = ran?;
    let mut assumptions = facts::assumptions(point)?;
    policies.correct(&mut assumptions);
    let trust = policies.trust(point, Some(&result.summary));
    let mut outcome = Outcome::new(point, result, assumptions, policies.calibration(point));
    policies.withdraw(&mut outcome.remarks);
    Ok(Outcome { trust: Some(trust), trace_rows: rows, traffic: played, recorded_traffic: recorded, ..outcome })
}
