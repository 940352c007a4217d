//! Where the requests of a command come from: a trace file, or a scenario.

use overbook_scenarios::Point;
use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Replay, TraceSpec};

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, TraceArgs};
use crate::output::Failure;

/// Requests to be read.
pub(super) enum Requests {
    /// Of a trace, which also knows what became of its rows.
    Recorded(Box<Replay>),
    /// Of any other workload.
    Other(Box<dyn Workload>),
}

impl Requests {
    pub(super) fn open(args: &TraceArgs, globals: &Globals) -> Result<Requests, Failure> {
        let recorded = |trace: &TraceSpec, seed| {
            let replay = trace.replay_seeded(seed).map_err(Failure::input)?;
            Ok(Requests::Recorded(Box::new(replay)))
        };
        let Some(point) = point(args, globals)? else { return recorded(&TraceSpec::new(&args.source), 0) };
        match &point.scenario.workload.trace {
            Some(trace) => recorded(trace, point.scenario.seed),
            None => point.workload().map(Requests::Other).map_err(Failure::input),
        }
    }

    pub(super) fn into_workload(self) -> Box<dyn Workload> {
        match self {
            Requests::Recorded(replay) => replay,
            Requests::Other(workload) => workload,
        }
    }
}

/// The workload, with other bounds if it is generated.
pub(super) fn bounded(
    args: &TraceArgs,
    (requests, duration): (Option<u64>, Option<Span>),
    globals: &Globals,
) -> Result<Box<dyn Workload>, Failure> {
    let Some(mut point) = point(args, globals)? else {
        return Requests::open(args, globals).map(Requests::into_workload);
    };
    if let Some(generate) = &mut point.scenario.workload.generate
        && (requests.is_some() || duration.is_some())
    {
        (generate.requests, generate.duration) = (requests, duration.map(Duration));
    }
    point.workload().map_err(Failure::input)
}

/// The requests of a scenario's trace as the file has them, if the scenario plays them in another way.
pub(super) fn recorded(args: &TraceArgs, globals: &Globals) -> Result<Option<Box<dyn Workload>>, Failure> {
    point(args, globals)?.map_or(Ok(None), |point| point.recorded().map_err(Failure::input))
}

/// The scenario, if the source is one.
fn point(args: &TraceArgs, globals: &Globals) -> Result<Option<Point>, Failure> {
    let yaml = args.source.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if !yaml {
        return Ok(None);
    }
    let scenario = ScenarioArgs { scenario: args.source.clone(), set: args.set.clone(), seed: args.seed };
    Ok(load(&scenario, globals)?.points().first().cloned())
}
