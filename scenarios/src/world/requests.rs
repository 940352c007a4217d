//! Where the requests of a point come from.

use overbook_sim::time::NS_PER_S;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{Clock, GenerateSpec, Keeps, PerReplica, PopulationSpec, ScaleSpec, TraceSpec};

use super::WorldError;
use crate::point::Point;

/// All that decides which requests arrive, and when. Points whose `Requests` are equal get the same ones.
#[derive(Clone, PartialEq, Debug)]
pub struct Requests {
    origin: Origin,
    seed: u64,
}

#[derive(Clone, PartialEq, Debug)]
enum Origin {
    Generate(GenerateSpec),
    /// Once for each replica.
    Each(GenerateSpec, Vec<Keeps>),
    Trace(Box<TraceSpec>),
    Population(PopulationSpec),
}

impl Requests {
    /// Opens the trace, or begins to generate.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn open(&self) -> Result<Box<dyn Workload>, WorldError> {
        match &self.origin {
            Origin::Generate(generate) => Ok(generate.open(self.seed)?),
            Origin::Each(generate, replicas) => Ok(Box::new(PerReplica::open(generate, self.seed, replicas)?)),
            Origin::Trace(trace) => Ok(trace.open_seeded(self.seed)?),
            Origin::Population(population) => Ok(population.open(self.seed)?),
        }
    }
}

impl Point {
    /// Where the requests come from.
    ///
    /// # Errors
    /// The scenario names no origin.
    pub fn requests(&self) -> Result<Requests, WorldError> {
        let workload = &self.scenario.workload;
        let block_tokens = self.scenario.engine.block_tokens;
        let origin = match (&workload.generate, &workload.trace, &workload.population) {
            (Some(generate), ..) => {
                let mut generate = generate.clone();
                if let Some(sessions) = &mut generate.sessions {
                    sessions.block_tokens = block_tokens;
                }
                if let Some(repeats) = &mut generate.repeats {
                    repeats.block_tokens = block_tokens;
                }
                if workload.per_replica {
                    Origin::Each(generate, self.kept_by_replica()?)
                } else {
                    Origin::Generate(generate)
                }
            }
            (None, Some(trace), _) => Origin::Trace(Box::new(self.played(trace))),
            (None, None, Some(population)) => Origin::Population(population.clone()),
            (None, None, None) => return Err(WorldError::NoWorkload),
        };
        Ok(Requests { origin, seed: self.scenario.seed })
    }

    /// A trace as this point plays it: contents are identified by the engine's own blocks.
    pub fn played(&self, trace: &TraceSpec) -> TraceSpec {
        TraceSpec { block_tokens: self.scenario.engine.block_tokens, ..trace.clone() }
    }

    /// Whether the workload says which prompts begin alike. Of a trace the first request is read.
    ///
    /// # Errors
    /// As [`Point::workload`], and if the first request cannot be read.
    pub fn tells_prefixes(&self) -> Result<bool, WorldError> {
        let workload = &self.scenario.workload;
        if let Some(generate) = &workload.generate {
            return Ok(generate.sessions.is_some() || generate.repeats.is_some());
        }
        if workload.trace.is_none() {
            return Ok(false);
        }
        let first = self.workload()?.next_arrival().map_err(|error| WorldError::FirstRequest(error.to_string()))?;
        Ok(first.is_some_and(|arrival| arrival.content.is_some()))
    }

    /// When the run begins, by the clock of the trace: seconds after the beginning of 1970 on that clock. `None` where the trace has no dates, cannot
    /// be read, is not played as fast as it was recorded, or clients of a closed loop set the times.
    pub fn began_at(&self) -> Option<i64> {
        let workload = &self.scenario.workload;
        let trace = workload.trace.as_ref().filter(|trace| trace.path.is_file() && workload.clients.is_none())?;
        let moved = match &trace.scale {
            None | Some(ScaleSpec::Multiply(_) | ScaleSpec::MultiplyTo(_)) => {
                trace.time_scale.is_some() || trace.rate.is_some()
            }
            // Copies meet at other times of the day, unless they are whole days apart.
            Some(ScaleSpec::Superpose { shift, .. }) => shift.0.0 % (86_400 * NS_PER_S) != 0,
            Some(ScaleSpec::Compress(_)) => true,
        };
        if moved || trace.arrivals.is_some() || trace.sessions.is_some() {
            return None;
        }
        let replay = self.played(trace).replay_seeded(self.scenario.seed).ok()?;
        let dated = replay.clock() != Clock::Elapsed;
        let first = i64::try_from(replay.first_at().0 / NS_PER_S).ok()?;
        dated.then(|| first + i64::from(replay.clock().ahead_s()))
    }

    /// The requests of a trace as the file has them, if the scenario plays them in another way: to compare.
    ///
    /// # Errors
    /// As [`Point::workload`].
    pub fn recorded(&self) -> Result<Option<Box<dyn Workload>>, WorldError> {
        let recorded = self.scenario.workload.trace.as_ref().and_then(TraceSpec::recorded);
        // A pipe can be read only once.
        let Some(trace) = recorded.filter(|trace| trace.path.is_file()) else { return Ok(None) };
        Ok(Some(self.played(&trace).open_seeded(self.scenario.seed)?))
    }
}
