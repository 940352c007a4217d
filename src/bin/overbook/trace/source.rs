//! Where the requests of a command come from: a trace file, or a scenario.

use overbook_scenarios::Point;
use overbook_scenarios::yaml::{self, SourceId};
use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Columns, Replay, TraceSpec};

use crate::check::load;
use crate::cli::{Globals, ScenarioArgs, TraceArgs};
use crate::output::Failure;

/// Requests to be read.
#[cfg_attr(not(feature = "frames"), expect(dead_code, reason = "only fits read them"))]
pub(crate) enum Requests {
    /// Of a trace, which also knows what became of its rows.
    Recorded(Box<Replay>),
    /// Of any other workload.
    Other(Box<dyn Workload>),
}

impl Requests {
    pub(crate) fn open(args: &TraceArgs, globals: &Globals) -> Result<Requests, Failure> {
        let recorded = |trace: &TraceSpec, seed| {
            let replay = trace.replay_seeded(seed).map_err(Failure::input)?;
            Ok(Requests::Recorded(Box::new(replay)))
        };
        let Some(point) = point(args, globals)? else { return recorded(&plain(args)?, 0) };
        Requests::of(&point)
    }

    fn of(point: &Point) -> Result<Requests, Failure> {
        let recorded = |trace: &TraceSpec, seed| {
            let replay = trace.replay_seeded(seed).map_err(Failure::input)?;
            Ok(Requests::Recorded(Box::new(replay)))
        };
        match &point.scenario.workload.trace {
            Some(trace) => recorded(trace, point.scenario.seed),
            None => point.workload().map(Requests::Other).map_err(Failure::input),
        }
    }

    /// As [`Requests::open`], sessions included: their requests at the recorded times.
    pub(super) fn read_on(args: &TraceArgs, globals: &Globals) -> Result<Box<dyn Workload>, Failure> {
        let Some(point) = point(args, globals)? else { return plain(args)?.open().map_err(Failure::input) };
        match &point.scenario.workload.trace {
            Some(trace) => trace.open_seeded(point.scenario.seed).map_err(Failure::input),
            None => point.workload().map_err(Failure::input),
        }
    }
}

/// A trace file as the command line describes it.
pub(super) fn plain(args: &TraceArgs) -> Result<TraceSpec, Failure> {
    if !args.set.is_empty() || args.seed.is_some() {
        let message = "--set and --seed change a scenario, and this is a trace file; write a scenario with `trace:`";
        return Err(Failure::Input(format!("{}: {message}", args.source.display())));
    }
    let mut trace = TraceSpec::new(&args.source);
    let Some(text) = &args.columns else { return Ok(trace) };
    let (tree, mut faults) = yaml::parse(SourceId::default(), &format!("{{ {} }}", bare(text)));
    let decoded = tree.map(|tree| yaml::decode::<Columns>(&tree));
    if let Some(decoded) = decoded {
        trace.columns = decoded.value;
        faults.extend(decoded.faults);
    }
    match faults.first() {
        None => Ok(trace),
        Some(fault) => Err(Failure::Input(format!("--columns {text}: {}", fault.detail))),
    }
}

/// The workload, with other bounds if it is generated.
pub(super) fn bounded(
    args: &TraceArgs,
    (requests, duration): (Option<u64>, Option<Span>),
    globals: &Globals,
) -> Result<Box<dyn Workload>, Failure> {
    let Some(mut point) = point(args, globals)? else {
        return Requests::read_on(args, globals);
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
pub(super) fn point(args: &TraceArgs, globals: &Globals) -> Result<Option<Point>, Failure> {
    let scenario = args.source.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if !scenario {
        return Ok(None);
    }
    if args.columns.is_some() {
        return Err(Failure::Input(
            "--columns describes a trace file; a scenario has `workload.trace.columns`".to_owned(),
        ));
    }
    let scenario = ScenarioArgs { scenario: args.source.clone(), set: args.set.clone(), seed: args.seed };
    Ok(load(&scenario, globals)?.points().first().cloned())
}

/// The columns without the braces around them, which a scenario has.
fn bare(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text)
}
