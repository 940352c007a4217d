//! Policies in boxes: what a scenario names, handed over in a box, does the same; what is different does otherwise. And
//! the lists of examples that other tests run over are whole.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use overbook_sim::cost::CostModel;
use overbook_sim::fleet::{Cluster, Policies, RunError, RunResult};
use overbook_sim::lengths::{Draw, LengthModel, LengthSpec};
use overbook_sim::partitioners::{FirstToken, PartitionPolicy, PartitionSpec, Partitioner, Shares, Sharing};
use overbook_sim::results::rows::{Keep, RequestRow};
use overbook_sim::routers::{FleetView, RequestInfo, Router, RouterNeeds, RouterSpec};
use overbook_sim::schedulers::sjf::Sjf;
use overbook_sim::schedulers::{PastFutureSpec, SchedulerPolicy, SchedulerSpec, SemiPdSpec, SjfSpec};
use overbook_sim::serving::step::RequestView;
use overbook_sim::time::Span;
use serde_json::Value;

use crate::world::{How, Listed, World};
use crate::world_random::world;

/// How often a box was asked.
type Asked = Rc<Cell<u64>>;

fn count(asked: &Asked) {
    asked.set(asked.get() + 1);
}

fn run(world: &World, policies: &Policies<'_>) -> (RunResult, Vec<RequestRow>) {
    let mut cost = world.cost;
    let costs: &mut [&mut dyn CostModel] = &mut [&mut cost];
    let mut rows = Keep::default();
    let cluster = Cluster::with_policies(world.spec.clone(), policies).unwrap();
    let result = cluster.run_pools(&mut Listed::new(world.arrivals.clone()), costs, &mut rows, &mut |_| true).unwrap();
    (result, rows.requests)
}

#[derive(Debug)]
struct Routed {
    named: Box<dyn Router>,
    asked: Asked,
}

impl Router for Routed {
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        count(&self.asked);
        self.named.route(request, fleet)
    }

    fn needs(&self) -> RouterNeeds {
        self.named.needs()
    }
}

/// Always the last replica in view.
#[derive(Debug)]
struct Last;

impl Router for Last {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        fleet.len() - 1
    }
}

#[test]
fn any_router() {
    for (name, router) in RouterSpec::every() {
        let (asked, mut fleets) = (Asked::default(), 0);
        for seed in 0..40 {
            let mut world = world(seed);
            world.spec.router = router;
            let boxed =
                |seed| -> Box<dyn Router> { Box::new(Routed { named: router.build(seed), asked: Rc::clone(&asked) }) };
            let boxed = Policies { router: Box::new(boxed), ..Policies::from(&world.spec) };
            assert_eq!(run(&world, &boxed).0.digest, world.run(How::STEPS).result.digest, "{name}, world {seed}");
            world.spec.controllers.autoscale = None;
            world.spec.controllers.failures.clear();
            world.spec.controllers.faults = None;
            let last = Policies { router: Box::new(|_| Box::new(Last)), ..Policies::from(&world.spec) };
            let (_, rows) = run(&world, &last);
            assert!(rows.iter().all(|row| row.start.is_none() || row.replica == world.spec.replicas - 1));
            fleets += u64::from(world.spec.replicas > 1);
        }
        assert!(asked.get() > 500 && fleets > 10, "{name}: {} decisions, {fleets} fleets", asked.get());
    }
}

/// A replica that is not there.
#[derive(Debug)]
struct Beyond;

impl Router for Beyond {
    fn route(&mut self, _: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        fleet.len()
    }
}

#[test]
fn a_router_that_leaves_its_view_ends_the_run() {
    let mut world = world(0);
    let mut cost = world.cost;
    world.spec.controllers.failures.clear();
    let policies = Policies { router: Box::new(|_| Box::new(Beyond)), ..Policies::from(&world.spec) };
    let cluster = Cluster::with_policies(world.spec.clone(), &policies).unwrap();
    let costs: &mut [&mut dyn CostModel] = &mut [&mut cost];
    let arrivals = &mut Listed::new(world.arrivals.clone());
    let error = cluster.run_pools(arrivals, costs, &mut Keep::default(), &mut |_| true).unwrap_err();
    assert!(matches!(error, RunError::Route { .. }), "{error}");
}

#[derive(Debug)]
struct Parted {
    named: Box<dyn Partitioner>,
    asked: Asked,
}

impl Partitioner for Parted {
    fn first_token(&mut self, seen: FirstToken) {
        self.named.first_token(seen);
    }

    fn finished(&mut self, tpot: Span, shares: Shares) -> Option<Shares> {
        count(&self.asked);
        self.named.finished(tpot, shares)
    }

    fn forget(&mut self) {
        self.named.forget();
    }
}

#[test]
fn any_partitioner() {
    for (name, partition) in PartitionSpec::every() {
        let policy: Box<dyn PartitionPolicy> = match partition.clone() {
            PartitionSpec::Static(shares) => Box::new(shares),
            PartitionSpec::Paper(settings) => Box::new(settings),
            PartitionSpec::Released(settings) => Box::new(settings),
        };
        let spec = SemiPdSpec { partition, ..SemiPdSpec::default() };
        let (asked, mut differ) = (Asked::default(), 0);
        for seed in 0..40 {
            let mut world = world(seed);
            world.set_scheduler(SchedulerSpec::SemiPd(spec.clone()));
            let boxed = |_| {
                let parted = |named| -> Box<dyn Partitioner> { Box::new(Parted { named, asked: Rc::clone(&asked) }) };
                let controller = policy.build().map(parted);
                Some(Sharing::new(spec.scaling, policy.start(), policy.preparation(), controller))
            };
            let named = world.run(How::STEPS).result.digest;
            let boxed = Policies { sharing: Box::new(boxed), ..Policies::from(&world.spec) };
            assert_eq!(run(&world, &boxed).0.digest, named, "{name}, world {seed}");
            let narrow = Shares { prefill: 10, decode: 10 };
            let narrow = |_| Some(Sharing::new(spec.scaling, narrow, Span::ZERO, None));
            let narrow = Policies { sharing: Box::new(narrow), ..Policies::from(&world.spec) };
            differ += u32::from(run(&world, &narrow).0.digest != named);
        }
        let controls = policy.build().is_some();
        assert_eq!(asked.get() > 500, controls, "{name}: {} requests", asked.get());
        assert!(differ > 30, "{name}: {differ} worlds differ");
    }
}

#[derive(Debug)]
struct Predicted {
    named: Box<dyn LengthModel>,
    asked: Asked,
}

impl LengthModel for Predicted {
    fn predict(&self, request: &RequestView, draw: Draw) -> u32 {
        count(&self.asked);
        self.named.predict(request, draw)
    }

    fn finished(&mut self, output_tokens: u32) {
        self.named.finished(output_tokens);
    }

    fn is_random(&self) -> bool {
        self.named.is_random()
    }
}

#[test]
fn any_length_model() {
    for (name, lengths) in LengthSpec::every() {
        let past_future = PastFutureSpec { lengths, reserved: 0.0, ..PastFutureSpec::default() };
        let sjf = SjfSpec { lengths, ..SjfSpec::default() };
        for scheduler in [SchedulerSpec::PastFuture(past_future.clone()), SchedulerSpec::Sjf(sjf.clone())] {
            let asked = Asked::default();
            let model = |seed, replica| -> Box<dyn LengthModel> {
                Box::new(Predicted { named: lengths.build(seed, replica), asked: Rc::clone(&asked) })
            };
            for seed in 0..20 {
                let mut world = world(seed);
                world.set_scheduler(scheduler.clone());
                let mut boxed = Policies::from(&world.spec);
                if scheduler.needs().order == past_future.needs().order {
                    boxed.scheduler = Box::new(|seed, replica| past_future.with_lengths(model(seed, replica)));
                } else {
                    boxed.scheduler = Box::new(|seed, replica| Box::new(Sjf::new(&sjf, model(seed, replica))));
                }
                assert_eq!(run(&world, &boxed).0.digest, world.run(How::STEPS).result.digest, "{name}, world {seed}");
            }
            assert!(asked.get() > 200, "{name}: {} predictions", asked.get());
        }
    }
}

/// The names of the variants of a specification, by its schema.
fn variants<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
    let name = |variant: &Value| {
        variant["const"].as_str().or_else(|| variant["required"][0].as_str()).map(str::to_owned).unwrap()
    };
    schema["oneOf"].as_array().unwrap().iter().map(name).collect()
}

/// The names under which examples are written to a file.
fn written<S: serde::Serialize>(examples: impl IntoIterator<Item = S>) -> BTreeSet<String> {
    let name = |example| match serde_json::to_value(example).unwrap() {
        Value::String(name) => name,
        Value::Object(settings) => settings.keys().next().unwrap().clone(),
        other => panic!("{other}"),
    };
    examples.into_iter().map(name).collect()
}

#[test]
fn examples_cover_every_variant() {
    assert_eq!(written(SchedulerSpec::every().into_iter().map(|of| of.1)), variants::<SchedulerSpec>());
    assert_eq!(written(RouterSpec::every().into_iter().map(|of| of.1)), variants::<RouterSpec>());
    assert_eq!(written(PartitionSpec::every().into_iter().map(|of| of.1)), variants::<PartitionSpec>());
    assert_eq!(written(LengthSpec::every().into_iter().map(|of| of.1)), variants::<LengthSpec>());
    for (name, scheduler) in SchedulerSpec::every() {
        assert_eq!(written([&scheduler]), BTreeSet::from([scheduler.name().to_owned()]), "{name}");
        assert!(name.starts_with(scheduler.name()), "{name}");
    }
}
