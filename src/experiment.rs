//! A scenario with changes, ready to be run.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use overbook_scenarios::{Planned, Point, Source};
use overbook_sim::cost::CostModel;
use overbook_sim::kv::eviction::BlockEviction;
use overbook_sim::routers::Router;
use overbook_sim::serving::Scheduler;
use serde::Serialize;

use crate::policies::{Place, Policies};
use crate::{Cancel, Error, Outcome, Study};

/// A scenario, with changes, and with policies of one's own where it has some.
///
/// ```
/// use overbook::{Experiment, Options};
///
/// # fn main() -> Result<(), overbook::Error> {
/// let scenario = "
/// version: 1
/// name: two-replicas
/// model: llama-3.1-8b
/// gpu: h100
/// workload:
///   generate: { arrivals: { poisson: { rate: 20/s } }, lengths: { fixed: { prompt: 500, output: 100 } }, requests: 200 }
/// ";
/// let outcome = Experiment::from_text("two-replicas", scenario).set("fleet.replicas", 2)?.run(&Options::default())?;
/// assert_eq!(outcome.metric("finished"), Some(200.0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Experiment {
    source: Source,
    policies: Policies,
}

/// How experiments are run. None of it changes a figure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keep all rows of requests and steps in memory: [`Outcome::rows`].
    pub rows: bool,
    /// Check the laws of the simulation at every event (slow).
    pub audit: bool,
    /// Simulate every step on its own (slow; the results are the same).
    pub step_by_step: bool,
    /// Asks runs to stop.
    pub cancel: Cancel,
    /// Points of a study that run at once; by default one per processor.
    pub jobs: Option<NonZeroUsize>,
    /// Memory for requests that points of a study have in common [bytes]. What does not fit is read by each point for itself.
    pub shared_bytes_max: u64,
}

impl Default for Options {
    /// No rows, no checks, one point per processor, half a GiB for shared requests: some four million of them.
    fn default() -> Options {
        Options {
            rows: false,
            audit: false,
            step_by_step: false,
            cancel: Cancel::new(),
            jobs: None,
            shared_bytes_max: 512 << 20,
        }
    }
}

impl Experiment {
    /// Reads a scenario file. Relative paths in it start from its folder.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong with its content is reported by [`Experiment::study`].
    pub fn load(path: impl AsRef<Path>) -> Result<Experiment, Error> {
        Ok(Experiment::from(Source::load(path.as_ref())?))
    }

    /// Takes a scenario as YAML text; `name` is what messages call it. Relative paths start from the working directory. What is
    /// wrong with it is reported by [`Experiment::study`].
    pub fn from_text(name: &str, yaml: &str) -> Experiment {
        Experiment::from(Source::from_text(name, yaml))
    }

    /// Sets the value at a dotted path: a number, a flag, a text, or a specification such as
    /// [`SchedulerSpec`](overbook_sim::schedulers::SchedulerSpec). Later ones win.
    ///
    /// # Errors
    /// The value has no form in YAML. Whether the scenario may have it is reported by [`Experiment::study`].
    pub fn set(self, path: &str, value: impl Serialize) -> Result<Experiment, Error> {
        let value = serde_json::to_value(value);
        let value = value.map_err(|source| Error::Value { path: path.to_owned(), source })?;
        // JSON is YAML, in one line.
        Ok(self.set_yaml(path, &value.to_string()))
    }

    /// Sets the value at a dotted path to YAML text, as `--set` does: `8`, `2s`, `{ vllm: { max_num_seqs: 64 } }`. Later ones
    /// win. What is wrong with it is reported by [`Experiment::study`].
    #[must_use]
    pub fn set_yaml(mut self, path: &str, yaml: &str) -> Experiment {
        self.source.set(path, yaml);
        self
    }

    /// Adds an axis to the sweep: `values` is a list in YAML, with or without brackets, or a map from names to values. Figures
    /// that the scenario expects are left out: they are about its own sweep.
    #[must_use]
    pub fn vary(mut self, path: &str, values: &str) -> Experiment {
        self.source.forget_expectations();
        self.source.vary(path, values);
        self
    }

    /// Adds the load as the first axis: rates (`2/s`), factors of what the scenario says (`0.5x`), or clients of a closed loop
    /// (`16`). Figures that the scenario expects are left out.
    ///
    /// # Errors
    /// The workload has no such load, or one of the loads is none.
    pub fn vary_load(mut self, loads: &[String]) -> Result<Experiment, Error> {
        self.source.forget_expectations();
        self.source.vary_load(loads)?;
        Ok(self)
    }

    /// Plans the steps of every replica with schedulers of one's own; reports call them `name`. The scenario's own scheduler says
    /// no more than the limits: requests at once, tokens of a step, lane depth, prefix caching, order of the queue.
    #[must_use]
    pub fn with_scheduler(
        mut self,
        name: &str,
        make: impl Fn(Place) -> Box<dyn Scheduler> + Send + Sync + 'static,
    ) -> Experiment {
        self.policies.set_scheduler(name.to_owned(), Arc::new(make));
        self
    }

    /// Routes requests with a router of one's own, made from the scenario's seed; reports call it `name`.
    #[must_use]
    pub fn with_router(
        mut self,
        name: &str,
        make: impl Fn(u64) -> Box<dyn Router> + Send + Sync + 'static,
    ) -> Experiment {
        self.policies.set_router(name.to_owned(), Arc::new(make));
        self
    }

    /// Chooses which cached block of a replica's GPUs goes with policies of one's own, made for each replica and its number of blocks;
    /// reports call them `name`. The scenario's own policy goes on in the tiers below. Every step is planned by itself, as the time may
    /// matter to such a policy. A run whose prefix cache is off, or has an order of its own (SGLang's tree), refuses it.
    #[must_use]
    pub fn with_eviction(
        mut self,
        name: &str,
        make: impl Fn(Place, u32) -> Box<dyn BlockEviction> + Send + Sync + 'static,
    ) -> Experiment {
        self.policies.set_eviction(name.to_owned(), Arc::new(make));
        self
    }

    /// Prices steps with a cost model of one's own, made for each kind of replica; reports call it `name`. The scenario's GPU and
    /// model still say how much KV memory a replica has.
    #[must_use]
    pub fn with_cost(
        mut self,
        name: &str,
        make: impl Fn(&Point) -> Box<dyn CostModel> + Send + Sync + 'static,
    ) -> Experiment {
        self.policies.set_cost(name.to_owned(), Arc::new(make));
        self
    }

    /// Name of the scenario, as it is written.
    pub fn name(&self) -> Option<&str> {
        self.source.text_at("name")
    }

    /// BLAKE3 of the scenario's text with all changes, in hex.
    pub fn text_hash(&self) -> String {
        self.source.text_hash()
    }

    /// What a plan may choose from, and the scenario without its sweep.
    pub(crate) fn to_plan(&self) -> Result<(Experiment, Planned), Error> {
        let planned = self.source.planned()?;
        let mut plain = self.clone();
        plain.source.forget_sweep();
        Ok((plain, planned))
    }

    /// The document as it is written.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Checks everything and expands the sweep.
    ///
    /// # Errors
    /// Every problem of the scenario, each with its place; or a cost table that cannot be used.
    pub fn study(&self) -> Result<Study, Error> {
        Study::new(self.source.resolve()?, self.policies.clone())
    }

    /// Runs a scenario without a sweep.
    ///
    /// # Errors
    /// As [`Experiment::study`]; the scenario has a sweep; or the run stopped on the way.
    pub fn run(&self, options: &Options) -> Result<Outcome, Error> {
        self.study()?.run_single(options)
    }
}

impl From<Source> for Experiment {
    fn from(source: Source) -> Experiment {
        Experiment { source, policies: Policies::default() }
    }
}

#[cfg(test)]
mod tests;
