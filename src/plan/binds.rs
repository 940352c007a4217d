//! What binds the steps of a fleet: its arithmetic, its memory, its links, or the host.

use overbook_reports::plan::Binds;
use overbook_scenarios::Point;
use overbook_sim::cost::{CostModel, Parts, PrefillPart, StepShape};
use overbook_sim::results::rows::{RecordError, Recorder, RequestRow, StepRow};

use super::trial::{Bench, Load};
use crate::Error;
use crate::simulate::fleet;

/// Sums the parts of the steps of a run.
struct Sums {
    /// What steps cost on each kind of replica.
    costs: Vec<Box<dyn CostModel>>,
    /// The first replica of each kind.
    firsts: Vec<u32>,
    /// All, arithmetic, memory, links.
    seconds: [f64; 4],
}

impl Bench<'_> {
    /// Runs a fleet on a load once more, and looks at its steps. `None` if the user has stopped it, or if nothing ran.
    pub(crate) fn binds(&self, point: &Point, load: &Load) -> Result<Option<Binds>, Error> {
        let (cluster, mut costs) = fleet(point, self.policies, self.options)?;
        let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
        let replicas = point.kinds().iter().map(|kind| kind.scenario.fleet.replicas);
        let firsts = replicas.scan(0, |next, replicas| {
            let first = *next;
            *next += replicas;
            Some(first)
        });
        let mut sums = Sums { costs: self.policies.costs(point)?, firsts: firsts.collect(), seconds: [0.0; 4] };
        let mut watch = |_| !self.options.cancel.is_cancelled();
        let ran = cluster.run_pools(&mut load.play(), &mut costs, &mut sums, &mut watch)?;
        let [all, compute, memory, link] = sums.seconds;
        let share = |part: f64| part / all;
        Ok((all > 0.0 && !ran.interrupted).then(|| Binds {
            compute: share(compute),
            memory: share(memory),
            link: share(link),
            host: share((all - compute - memory - link).max(0.0)),
        }))
    }
}

impl Sums {
    /// The parts of one of the steps of a segment: that in its middle, whose context is their mean. Of several prompts in a step their sums alone
    /// are known: they are taken to be alike.
    fn parts(&mut self, row: &StepRow) -> Parts {
        let kind = self.firsts.iter().rposition(|first| *first <= row.replica).unwrap_or(0);
        let cost = &mut self.costs[kind];
        let context = row.decode_context + u64::from(row.decode_seqs) * row.steps.saturating_sub(1) / 2;
        if row.prefill_seqs == 0 {
            return cost.decode_parts(row.decode_seqs, context).at(context);
        }
        let seqs = row.prefill_seqs;
        let part = |number: u32| PrefillPart {
            tokens: row.prefill_tokens / seqs + u32::from(number < row.prefill_tokens % seqs),
            past: (row.prefill_context / u64::from(seqs)) as u32,
        };
        let prefill: Vec<PrefillPart> = (0..seqs).map(part).collect();
        let shape =
            StepShape { decode_seqs: row.decode_seqs, decode_context: context, prefill: &prefill, prefill_ends: seqs };
        cost.parts(&shape)
    }
}

impl Recorder for Sums {
    fn request(&mut self, _: &RequestRow) -> Result<(), RecordError> {
        Ok(())
    }

    fn step(&mut self, row: &StepRow) -> Result<(), RecordError> {
        let Parts { whole, compute, memory, link } = self.parts(row);
        for (sum, part) in self.seconds.iter_mut().zip([whole, compute, memory, link]) {
            *sum += part.as_ns_f64() * 1e-9 * row.steps as f64;
        }
        Ok(())
    }

    fn wants_steps(&self) -> bool {
        true
    }
}
