//! A study: the runs that a scenario stands for, checked and complete, and what is expected of them.

mod axes;
mod check;
mod draw;
mod expectation;
mod fit;
mod hash;
mod planned;
mod suited;

use serde_json::Value;

use crate::catalog::Catalog;
use crate::defaults;
use crate::diagnostics::Problems;
use crate::point::Point;
use crate::scenario::{ExpectSpec, Scenario};
use crate::source::{Source, renamed};
use crate::yaml::{self, Entry, Node, NodeKind, Span};

use axes::Kind;
pub use expectation::{Expectation, Judgement};
pub use planned::{Choice, Planned};

/// The runs that a scenario stands for.
#[derive(Clone, Debug)]
pub struct Study {
    name: String,
    points: Vec<Point>,
    expectations: Vec<Expectation>,
    notes: Vec<String>,
    /// Seeds that every setting is run with; the last axis.
    replicates: usize,
    /// What it was resolved from.
    source: Source,
}

impl Study {
    /// What the user should know of the scenario, though nothing is wrong with it.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Name of the scenario.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The runs, the last axis varying fastest; at least one.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// What is expected of the results.
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Runs that differ in their seed alone, by `sweep.seeds`: 1 without it. Those of one setting stand together.
    pub fn replicates(&self) -> usize {
        self.replicates
    }

    /// Whether there is a sweep.
    pub fn is_sweep(&self) -> bool {
        self.points.iter().any(|point| !point.coordinates.is_empty())
    }
}

impl Scenario {
    /// The scenario as YAML text that reads back as the same scenario.
    pub fn to_yaml(&self) -> String {
        // Our own types always have a JSON form: no map with keys that are not text.
        let value = serde_json::to_value(self).unwrap_or(Value::Null);
        yaml::emit(&value)
    }
}

impl Source {
    /// Checks everything and expands the sweep.
    ///
    /// # Errors
    /// Every problem found, each with its place.
    pub fn resolve(&self) -> Result<Study, Problems> {
        resolve(self)
    }
}

/// Checks and expands a scenario.
fn resolve(source: &Source) -> Result<Study, Problems> {
    let mut problems = Problems::new(source.sources.clone());
    problems.extend(source.faults.clone());
    let Some(mut tree) = source.tree.clone() else { return Err(problems) };
    if !matches!(tree.kind, NodeKind::Map(_)) {
        let message = "a scenario is a mapping that begins with `version: 1`";
        problems.add("", tree.span, message, None);
        return Err(problems);
    }
    let sweep = tree.take("sweep");
    let expect = tree.take("expect");
    let mut planned_elsewhere = None;
    if let Some(entry) = tree.take("plan") {
        planned::read(&entry.value, &mut problems);
        planned_elsewhere =
            Some("`plan:` is for `overbook plan`; everything else plays the scenario as it stands".to_owned());
    }
    let axes = sweep.as_ref().map_or_else(Vec::new, |entry| axes::read(&entry.value, source.seed(), &mut problems));
    let mut study = Study {
        name: String::new(),
        points: Vec::new(),
        expectations: Vec::new(),
        notes: source.notes.iter().cloned().chain(planned_elsewhere).collect(),
        replicates: axes.last().filter(|axis| axis.kind == Kind::Seeds).map_or(1, |axis| axis.steps.len()),
        source: source.clone(),
    };
    let settings = axes.iter().filter_map(|axis| axis.steps.first()).flat_map(|step| &step.0);
    study.notes.extend(settings.filter_map(|setting| renamed::note(&setting.path)));
    for steps in axes::product(&axes) {
        let point = resolve_point(&tree, &steps, source, &mut problems, &mut study.notes);
        study.points.extend(point);
        // Drawn values that do not go are all wrong in the same way.
        let drawn = axes.iter().any(|axis| axis.kind == Kind::Drawn) && !problems.is_empty();
        if drawn || problems.list().len() >= yaml::FAULTS_MAX {
            break;
        }
    }
    if problems.is_empty() && study.points.is_empty() {
        // What is valid can be run.
        problems.add("", tree.span, "the scenario describes no run", None);
    }
    if let Some(entry) = &expect {
        study.expectations = resolve_expectations(entry, &axes, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut seen = std::collections::BTreeSet::new();
    study.notes.retain(|note| seen.insert(note.clone()));
    if let Some(point) = study.points.first() {
        point.scenario.name.clone_into(&mut study.name);
    }
    Ok(study)
}

/// The document with the swept values of a point set; else the setting that cannot be, and why.
fn swept<'s>(tree: &Node, steps: &[&'s axes::Step]) -> Result<Node, (&'s axes::Setting, String)> {
    let mut tree = tree.clone();
    for setting in steps.iter().flat_map(|step| &step.0) {
        let path = renamed::canonical(&setting.path);
        let set = tree.set(&path, setting.value.clone(), setting.key_span);
        set.map_err(|error| (setting, error.to_string()))?;
    }
    Ok(tree)
}

/// Sets the swept values and decodes the result. Problems at a swept value are located in the sweep.
fn resolve_point(
    tree: &Node,
    steps: &[&axes::Step],
    source: &Source,
    problems: &mut Problems,
    notes: &mut Vec<String>,
) -> Option<Point> {
    let settings = steps.iter().flat_map(|step| &step.0);
    let coordinates = settings.map(|setting| (setting.path.clone(), setting.text.clone())).collect();
    let mut tree = match swept(tree, steps) {
        Ok(tree) => tree,
        Err((setting, message)) => {
            problems.add(&setting.path, setting.key_span, message, None);
            return None;
        }
    };
    // A value that was set may hold old keys too.
    match renamed::move_keys(&mut tree) {
        Ok(moved) => notes.extend(moved),
        Err((span, message)) => {
            problems.add("", span, message, None);
            return None;
        }
    }
    let decoded = yaml::decode::<Scenario>(&tree);
    problems.extend(decoded.faults.clone());
    let pools = decoded.value.iter().flat_map(|scenario| &scenario.fleet.pools);
    let named: Vec<bool> = pools.map(|pool| pool.gpu.is_some() || pool.server.is_some()).collect();
    let all_named = !named.is_empty() && named.into_iter().all(|named| named);
    if !all_named
        && tree.entry("gpu").is_none()
        && tree.entry("fleet").is_none_or(|fleet| fleet.value.entry("server").is_none())
    {
        let help = "or name a server that has them: fleet: { server: dgx-h100 }".to_owned();
        problems.add("", Span { end: tree.span.start + 1, ..tree.span }, "missing key `gpu`", Some(help));
    }
    let mut scenario = decoded.value.clone()?;
    if !scenario.fleet.pools.is_empty()
        && tree.entry("fleet").is_none_or(|fleet| fleet.value.entry("replicas").is_none())
    {
        scenario.fleet.replicas = scenario.fleet.pools.iter().fold(0, |sum, pool| pool.replicas.saturating_add(sum));
    }
    let mut check = check::PointCheck { tree: &tree, decoded: &decoded, problems, sound: true, pool: None };
    check.ranges(&scenario);
    check.files(&mut scenario, &source.base);
    let check::Hardware { model, gpu, topology, kv_link, profile, pools, assumed } =
        check.hardware(&mut scenario, Catalog::embedded())?;
    if pools.is_empty() {
        notes.extend(defaults::without_effect(&scenario, &model));
    }
    let of_pools: Vec<_> = pools.iter().map(|pool| defaults::without_effect(&pool.scenario, &model)).collect();
    for (number, own) in of_pools.iter().enumerate() {
        let shared = |note: &String| of_pools.iter().all(|other| other.contains(note));
        notes.extend(own.iter().map(|note| if shared(note) { note.clone() } else { format!("pool {number}: {note}") }));
    }
    let point = Point { coordinates, scenario, model, gpu, topology, kv_link, profile, pools, assumed };
    check.servers(&point);
    check.power(&point);
    check.economics(&point);
    if check.sound {
        check.draft(&point);
        check.longest(&point);
        check.tiers(&point);
        check.prefixes(&point);
    }
    if check.sound {
        notes.extend(too_long(&point));
        if point.scenario.engine.prefix_cache.is_some() && !suited::can_be_read_ahead(&point) {
            let told = "the requests come through a pipe, which is read once: whether they have what `engine.prefix_cache` goes by is \
                        not looked at";
            notes.push(told.to_owned());
        }
    }
    let sound = check.sound && decoded.faults.is_empty();
    sound.then_some(point)
}

/// Fixed lengths that no replica takes whole: such requests are rejected, or their answers cut.
fn too_long(point: &Point) -> Vec<String> {
    let longest = point.kinds().iter().filter_map(|kind| Some(kind.limits().ok()?.0.max_model_len)).max();
    let (Some(longest), Some(generate)) = (longest, &point.scenario.workload.generate) else { return Vec::new() };
    let note = |(class, prompt, output): (Option<&str>, u32, Option<u32>)| {
        let whose = class.map_or_else(|| "all requests".to_owned(), |class| format!("all requests of class `{class}`"));
        let most = format!("and a sequence has at most {longest} (`engine.max_model_len`, or what the KV pool holds)");
        if prompt >= longest {
            return Some(format!("{whose} are rejected: their prompts have {prompt} tokens, {most}"));
        }
        let output = output.filter(|output| u64::from(prompt) + u64::from(*output) > u64::from(longest))?;
        Some(format!(
            "the answers to {whose} are cut to {} of {output} tokens: their prompts have {prompt}, {most}",
            longest - prompt
        ))
    };
    generate.lengths.fixed().into_iter().filter_map(note).collect()
}

fn resolve_expectations(entry: &Entry, axes: &[axes::Axis], problems: &mut Problems) -> Vec<Expectation> {
    let decoded = yaml::decode::<Vec<ExpectSpec>>(&entry.value);
    problems.extend(decoded.faults.clone());
    let NodeKind::List(items) = &entry.value.kind else { return Vec::new() };
    let coordinates: Vec<Vec<(&str, &str)>> = axes::product(axes)
        .map(|steps| steps.iter().flat_map(|step| &step.0).map(|s| (s.path.as_str(), s.text.as_str())).collect())
        .collect();
    // A faulty item was cut out of the value: what is left is matched to the items in order.
    let whole = items.iter().filter(|item| !decoded.patched.contains(&item.path));
    let specs = decoded.value.iter().flatten();
    if decoded.faults.iter().any(|fault| fault.path == entry.value.path) {
        return Vec::new();
    }
    let mut expectations = Vec::new();
    for (item, spec) in whole.zip(specs) {
        let touched = decoded.patched.iter().any(|path| yaml::leads_to(&item.path, path));
        match expectation::resolve(spec, &coordinates) {
            Ok(expectation) => expectations.push(expectation),
            Err(_) if touched => {}
            Err(found) => {
                for (path, message, help) in found {
                    let path = yaml::join(&item.path, &path);
                    problems.add(&path, entry.value.place(&path), message, help);
                }
            }
        }
    }
    expectations
}
