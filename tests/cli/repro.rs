//! What the gates of `scenarios/repro` leave open.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use overbook_scenarios::{Point, Source};
use overbook_sim::fleet::{Cluster, Policies};
use overbook_sim::results::rows::Discard;
use overbook_sim::schedulers::future_peak::{Growth, future_peak};
use overbook_sim::serving::step::{Infeasible, StepBuilder};
use overbook_sim::serving::{Horizon, Scheduler};

use super::home::Home;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/repro").join(name)
}

/// Runs a scenario of `scenarios/repro` with its gate, after some changes to its text; its verdicts.
fn gate(name: &str, changes: &[(&str, &str)], code: i32) -> Vec<String> {
    let mut text = fs::read_to_string(file(name)).expect("the scenario");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let home = Home::new();
    home.write("repro.yaml", text);
    let ran = home.overbook("run repro.yaml --gate --no-report --out a").ends(code);
    ran.out.lines().filter(|line| line.starts_with(['✓', '✗'])).map(str::to_owned).collect()
}

/// First come, first served misses every row.
#[test]
fn past_futures_table_needs_its_schedulers() {
    let table = fs::read_to_string(file("past-future-table.yaml")).expect("the scenario");
    let (_, rest) = table.split_once("    scheduler:\n").expect("the schedulers");
    let (schedulers, _) = rest.split_once("    seed: ").expect("the seeds");
    let names = ["aggressive", "conservative", "past-future", "optimum"];
    let fcfs = names.map(|name| format!("      {name}: {{ vllm: {{ async_scheduling: false }} }}\n")).concat();
    let verdicts =
        gate("past-future-table.yaml", &[(schedulers, &fcfs), ("seed: [1, 2, 3, 4, 5, 6, 7, 8]", "seed: [1]")], 3);
    for name in names {
        for lengths in ["D1", "D2", "D3"] {
            let place = format!("at scheduler={name}, workload.generate.lengths={lengths}");
            assert!(verdicts.iter().any(|v| v.starts_with('✗') && v.contains(&place)), "{place}: {verdicts:#?}");
        }
    }
}

/// The peak of memory that the batch will really reach, as a mean over steps. It stands still while the batch does.
#[derive(Debug)]
struct TruePeak {
    inner: Box<dyn Scheduler>,
    lengths: Rc<[u32]>,
    peak: u64,
    since: u64,
    sum: Rc<std::cell::Cell<(u64, u64)>>,
}

impl Scheduler for TruePeak {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let (steps, sum) = self.sum.get();
        let passed = step.executed() - self.since;
        self.sum.set((steps + passed, sum + passed * self.peak));
        let horizon = self.inner.plan(step)?;
        let running = (0..step.running()).map(|at| step.running_at(at));
        let growth = running.map(|r| Growth {
            held: u64::from(r.prompt_tokens + r.generated),
            left: u64::from(self.lengths[r.id as usize] - r.generated),
        });
        self.peak = future_peak(&mut growth.collect::<Vec<_>>());
        self.since = step.executed();
        Ok(horizon)
    }
}

/// Mean true future peak of a run, over its pool.
fn true_peak(point: &Point) -> f64 {
    let mut workload = point.workload().expect("a workload");
    let mut lengths = Vec::new();
    while let Some(arrival) = workload.next_arrival().expect("an arrival") {
        lengths.push(arrival.output_tokens);
    }
    let spec = point.cluster().expect("a fleet");
    let sum = Rc::new(std::cell::Cell::new((0, 0)));
    let (lengths, named): (Rc<[u32]>, _) = (lengths.into(), spec.scheduler.clone());
    let scheduler = |seed, replica| -> Box<dyn Scheduler> {
        let inner = named.build(seed, replica);
        Box::new(TruePeak { inner, lengths: Rc::clone(&lengths), peak: 0, since: 0, sum: Rc::clone(&sum) })
    };
    let policies = Policies { scheduler: Box::new(scheduler), ..Policies::from(&spec) };
    let pool = spec.limits.blocks as f64;
    let cluster = Cluster::with_policies(spec, &policies).expect("a fleet");
    let mut cost = point.cost().expect("costs");
    let mut workload = point.workload().expect("a workload");
    cluster.run(&mut *workload, &mut *cost, &mut Discard, &mut |_| true).expect("a run");
    let (steps, sum) = sum.get();
    sum as f64 / steps as f64 / pool
}

/// The third column of the table, which no metric states: it needs the true lengths. Within a point.
#[test]
#[expect(clippy::print_stderr, reason = "the figures are worth seeing")]
fn past_futures_true_future_peak() {
    let published = [
        ("aggressive", [1.035, 1.037, 1.002]),
        ("conservative", [0.609, 0.752, 0.617]),
        ("past-future", [0.978, 0.974, 0.966]),
        ("optimum", [0.989, 0.983, 0.987]),
    ];
    let mut source = Source::load(&file("past-future-table.yaml")).expect("the scenario");
    source.set("sweep.axes.seed", "[1, 2, 3]");
    let study = source.resolve().expect("a valid scenario");
    for (scheduler, peaks) in published {
        for (lengths, published) in ["D1", "D2", "D3"].into_iter().zip(peaks) {
            let here = |point: &&Point| {
                let at = |path: &str, value: &str| point.coordinates.contains(&(path.to_owned(), value.to_owned()));
                at("scheduler", scheduler) && at("workload.generate.lengths", lengths)
            };
            let got: Vec<f64> = study.points().iter().filter(here).map(true_peak).collect();
            let mean = got.iter().sum::<f64>() / got.len() as f64;
            eprintln!("true future peak, {lengths} {scheduler}: {mean:.4}, published {published}");
            assert!(got.len() == 3 && (mean - published).abs() <= 0.01, "{lengths} {scheduler}: {mean}");
        }
    }
}

/// A run that plans with true lengths says so.
#[test]
fn oracles_are_printed() {
    let home = Home::small();
    let told = |lengths: &str| {
        let scheduler = format!("scheduler={{ past-future: {{ lengths: {lengths} }} }}");
        home.run(["run", "small.yaml", "--out", "a", "--force", "--set", &scheduler]).ends(0);
        home.json("a/summary.json")["assumptions"]["Predicted lengths"].as_str().expect("an assumption").to_owned()
    };
    assert_eq!(told("oracle"), "ORACLE: the scheduler plans with true lengths; oracle");
    assert!(told("{ noisy-oracle: { sigma: 0.3 } }").starts_with("ORACLE: "));
    assert_eq!(told("{ history: { window: 40 } }"), "history: window: 40, initial: 1024");
}
