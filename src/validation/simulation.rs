//! One measured run: simulated as a user would, and compared.

use overbook_reports::validation::{JudgedRun, Level, Observed, Part, Window};
use overbook_scenarios::hull::Case;
use overbook_scenarios::measured::{self, Constants, Imitation, MeasuredRun};
use overbook_scenarios::{Point, Source};
use overbook_sim::fleet::{Cluster, RunResult};
use overbook_sim::results::rows::{Outcome, RecordError, Recorder, RequestRow, StepRow};

use super::ASSUMED_LENGTHS;

/// Levels over time that are laid over the measured ones, and what they are called.
const LEVELS: [(&str, &str); 3] =
    [("running", "running requests"), ("waiting", "waiting requests"), ("kv_usage", "share of KV blocks in use")];

/// A run, simulated.
pub(super) struct Simulation {
    imitation: Imitation,
    /// What was simulated.
    pub(super) point: Point,
    result: RunResult,
    rows: Vec<RequestRow>,
}

/// The scenario of a run as it is written down, resolved; or what is missing.
pub(super) fn point(
    run: &MeasuredRun,
    constants: &Constants,
    changes: &[(&str, &str)],
    prompts: f64,
) -> Result<(Imitation, Point), String> {
    let imitation = run.scenario_with_prompts(constants, prompts).map_err(|gap| gap.to_string())?;
    let text = imitation.scenario.to_yaml();
    let mut source = Source::from_text(run.id(), &text);
    for (path, value) in changes {
        source.set(path.trim(), value);
    }
    let study = source.resolve().map_err(|problems| {
        let first = problems.list().first().map_or_else(String::new, |problem| problem.message.clone());
        format!("its scenario is refused: {first}")
    })?;
    let mut point = study.points()[0].clone();
    constants.apply(&point.scenario.gpu, &mut point.gpu);
    Ok((imitation, point))
}

impl Simulation {
    /// Simulates a run, or says what is missing.
    pub(super) fn of(
        run: &MeasuredRun,
        constants: &Constants,
        changes: &[(&str, &str)],
        prompts: f64,
    ) -> Result<Simulation, String> {
        let (imitation, point) = point(run, constants, changes, prompts)?;
        let cluster = Cluster::new(point.cluster().map_err(|error| error.to_string())?);
        let mut cost = point.cost().map_err(|error| error.to_string())?;
        let mut workload = point.workload().map_err(|error| error.to_string())?;
        let mut rows = Requests::default();
        let result = cluster
            .and_then(|cluster| cluster.run(&mut *workload, &mut *cost, &mut rows, &mut |_| true)?.whole())
            .map_err(|error| error.to_string())?;
        Ok(Simulation { imitation, point, result, rows: rows.0 })
    }

    /// Where it stands, for the hull of what was validated.
    pub(super) fn case(&self) -> Case {
        Case::of(&self.point, &self.result.summary)
    }

    /// All published figures of the run beside the simulated ones.
    pub(super) fn compared(&self, run: &MeasuredRun) -> JudgedRun {
        let text = |column: &str| run.text(column).to_owned();
        let observed = self.observed();
        let overload = run.text("load_class").starts_with("overload");
        let arrivals = overload.then(|| run.ttft_by_arrival()).flatten();
        let level = |&(level, label): &(&str, &str)| {
            let measured = run.level_over_time(level)?;
            Some(Level { label: label.to_owned(), measured, simulated: observed.level(level) })
        };
        JudgedRun {
            id: run.id().to_owned(),
            set: text("set"),
            engine: format!("{} {}", run.text("engine"), run.text("engine_version")),
            gpu: text("gpu"),
            model: text("model"),
            load: text("load_class"),
            // A class of its own: not described completely, and never counted among those that are.
            quality: text("quality") + if self.imitation.assumed_prompt.is_some() { ASSUMED_LENGTHS } else { "" },
            assumptions: self.imitation.assumptions.clone(),
            pairs: observed.pairs(&|metric| run.figure(metric), arrivals.as_deref()),
            levels: LEVELS.iter().filter_map(level).collect(),
            ..JudgedRun::default()
        }
    }

    /// The latencies of a part of its requests, if each was published.
    pub(super) fn part(&self, run: &MeasuredRun, part: Part) -> Option<JudgedRun> {
        let measured: Vec<_> = run.latencies()?.iter().map(|row| (row.ttft, row.tpot, row.e2el)).collect();
        let pairs = self.observed().part(&measured, part);
        let whole = self.compared(run);
        let id = format!("{}, {}", run.id(), part.label());
        Some(JudgedRun { id, pairs, levels: Vec::new(), is_part: true, ..whole })
    }

    fn observed(&self) -> Observed<'_> {
        let blocks = self.result.summary.fleet.blocks;
        let window = match self.imitation.window {
            measured::Window::Whole => Window::Whole,
            measured::Window::Steady => Window::Steady,
            measured::Window::FullBatch { seqs } => Window::FullBatch(seqs as usize),
        };
        Observed { result: &self.result, rows: &self.rows, blocks, window }
    }
}

/// Keeps the finished requests.
#[derive(Default)]
struct Requests(Vec<RequestRow>);

impl Recorder for Requests {
    fn request(&mut self, row: &RequestRow) -> Result<(), RecordError> {
        if row.outcome == Outcome::Finished {
            self.0.push(row.clone());
        }
        Ok(())
    }

    fn step(&mut self, _: &StepRow) -> Result<(), RecordError> {
        Ok(())
    }

    fn wants_steps(&self) -> bool {
        false
    }
}
