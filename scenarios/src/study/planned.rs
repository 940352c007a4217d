//! The section `plan:` of a scenario, checked.

use serde::Deserialize as _;
use serde_json::Value;

use super::axes;
use crate::catalog::Catalog;
use crate::diagnostics::Problems;
use crate::nearest::suggestion;
use crate::scenario::{EconomicsSpec, PlanSpec};
use crate::source::Source;
use crate::yaml::{self, Entry, Node, NodeKind, leads_to};

/// What a plan may choose from, checked.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Planned {
    /// What the scenario says.
    pub spec: PlanSpec,
    /// Its further settings, axis by axis.
    pub axes: Vec<Vec<Choice>>,
    /// What the scenario says of prices elsewhere: for GPUs of which `plan` states none.
    pub economics: EconomicsSpec,
}

impl Planned {
    /// What an hour of a GPU costs in which it serves [USD], if that is said.
    pub fn price_of(&self, gpu: &str) -> Option<f64> {
        let own = self.spec.price_of(gpu).map(|price| price / self.economics.utilization.unwrap_or(1.0));
        own.or_else(|| self.economics.useful_hour(gpu))
    }

    /// What an hour of a GPU costs on demand in which it serves [USD], if that is said.
    pub fn on_demand_of(&self, gpu: &str) -> Option<f64> {
        self.spec.on_demand_of(gpu).map(|price| price / self.economics.utilization.unwrap_or(1.0))
    }
}

/// A value that a setting may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Dotted path of the setting.
    pub path: String,
    /// The value as tables show it.
    pub text: String,
    /// The value as YAML in one line.
    pub value: String,
}

impl Source {
    /// The section `plan:`; all defaults if there is none.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place; or the text is no YAML. The rest of the scenario is not looked at.
    pub fn planned(&self) -> Result<Planned, Problems> {
        let mut problems = Problems::new(self.sources.clone());
        problems.extend(self.faults.clone());
        let entry = self.tree.as_ref().and_then(|tree| tree.entry("plan"));
        let mut planned = entry.map(|entry| read(&entry.value, &mut problems)).unwrap_or_default();
        if let Some(economics) = self.tree.as_ref().and_then(|tree| tree.entry("economics")) {
            let decoded = yaml::decode::<EconomicsSpec>(&economics.value);
            problems.extend(decoded.faults);
            planned.economics = decoded.value.unwrap_or_default();
        }
        let retention = planned.axes.iter().flatten().find(|choice| leads_to("engine.retention", &choice.path));
        if let (Some(choice), Some(entry), false) = (retention, entry, self.says("slo.quality.at_least")) {
            let path = format!("plan.axes.{}", choice.path);
            let message = "budgets cost answers: without a promise of quality the smallest would win";
            let help = "say what answers must be worth: slo: { quality: { task: …, at_least: 0.98 } }".to_owned();
            problems.add(&path, entry.value.place(&path), message, Some(help));
        }
        if problems.is_empty() { Ok(planned) } else { Err(problems) }
    }

    /// Leaves out the sweep and the figures that are expected of it: a plan makes its own runs.
    pub fn forget_sweep(&mut self) {
        self.forget_expectations();
        if let Some(tree) = &mut self.tree {
            tree.take("sweep");
        }
    }

    /// A problem with what is written at a dotted path, at its place.
    pub fn refused(&self, path: &str, message: &str, help: &str) -> Problems {
        let mut problems = Problems::new(self.sources.clone());
        let span = self.tree.as_ref().map_or_else(Default::default, |tree| tree.place(path));
        problems.add(path, span, message, Some(help.to_owned()));
        problems
    }

    /// The text at a dotted path of the document, if something is written there that is no list and no mapping.
    pub fn text_at(&self, path: &str) -> Option<&str> {
        self.tree.as_ref()?.scalar(path)
    }

    /// Whether anything is written at a dotted path of the document.
    pub fn says(&self, path: &str) -> bool {
        self.tree.as_ref().is_some_and(|tree| tree.at(path).is_some())
    }
}

/// Reads the section. What is wrong with it is added to the problems.
pub(super) fn read(node: &Node, problems: &mut Problems) -> Planned {
    let decoded = yaml::decode::<PlanSpec>(node);
    problems.extend(decoded.faults.clone());
    let spec = decoded.value.clone().unwrap_or_default();
    let mut add = |path: &str, message: String, help: Option<String>| {
        let path = yaml::join("plan", path);
        if decoded.vouches_for(&path) {
            problems.add(&path, node.place(&path), message, help);
        }
    };
    for (path, message, help) in spec.problems() {
        add(&path, message, help);
    }
    let catalog = Catalog::embedded();
    for (at, gpu) in spec.gpus.iter().enumerate() {
        if catalog.gpu(gpu).is_err() {
            let help = Some(suggestion(gpu, catalog.gpu_names()));
            add(&format!("gpus.{at}"), format!("no GPU is called `{gpu}`"), help);
        } else if spec.gpus[..at].contains(gpu) {
            add(&format!("gpus.{at}"), format!("`{gpu}` is there twice"), None);
        }
    }
    for (key, prices) in [("prices", &spec.prices), ("on_demand_prices", &spec.on_demand_prices)] {
        for gpu in prices.keys().filter(|gpu| catalog.gpu(gpu).is_err()) {
            let help = Some(suggestion(gpu, catalog.gpu_names()));
            add(&format!("{key}.{gpu}"), format!("no GPU is called `{gpu}`"), help);
        }
    }
    for (at, server) in spec.servers.iter().enumerate() {
        if let Err(error) = catalog.server(server) {
            add(&format!("servers.{at}"), error.to_string(), None);
        }
    }
    if let Some(link) = &spec.link
        && let Err(error) = catalog.link(link)
    {
        add("link", error.to_string(), None);
    }
    let axes = further(node, problems);
    Planned { spec, axes, economics: EconomicsSpec::default() }
}

/// The axes of the section, as those of a sweep.
fn further(node: &Node, problems: &mut Problems) -> Vec<Vec<Choice>> {
    let Some(entry) = node.entry("axes") else { return Vec::new() };
    let reserved = [
        ("gpu", "gpus"),
        ("fleet.server", "servers"),
        ("fleet.replicas", "gpus_most"),
        ("fleet.tensor_parallel", "tensor_parallel"),
    ];
    if let NodeKind::Map(entries) = &entry.value.kind {
        for Entry { key, key_span, value } in entries {
            if let Some((_, own)) = reserved.iter().find(|(path, _)| path == key) {
                problems.add(&value.path, *key_span, format!("`{key}` is chosen by `plan.{own}`"), None);
            } else if leads_to("fleet.controllers.disaggregation", key) {
                problems.add(&value.path, *key_span, format!("`{key}` is chosen by `plan.modes`"), None);
            } else if leads_to("workload", key) || leads_to("slo", key) {
                let message = format!("`{key}` is what the plan is for, and no choice of it");
                problems.add(&value.path, *key_span, message, None);
            }
        }
    }
    let only = Node { path: node.path.clone(), span: node.span, kind: NodeKind::Map(vec![entry.clone()]) };
    let choice = |setting: &axes::Setting| Choice {
        path: setting.path.clone(),
        text: setting.text.clone(),
        value: Value::deserialize(&setting.value).unwrap_or_default().to_string(),
    };
    let axes = axes::read(&only, 0, problems);
    axes.iter().map(|axis| axis.steps.iter().flat_map(|step| &step.0).map(choice).collect()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn planned(plan: &str) -> Result<Planned, String> {
        Source::from_text("x", &format!("version: 1\nplan: {plan}\n")).planned().map_err(|p| p.to_string())
    }

    #[test]
    fn choices_are_written_as_a_scenario_takes_them() {
        let plan =
            planned("{ gpus: [h100], axes: { scheduler: { small: { vllm: { max_num_seqs: 8 } }, orca: orca } } }");
        let axes = plan.unwrap().axes;
        let told: Vec<_> = axes[0].iter().map(|choice| (choice.text.as_str(), choice.value.as_str())).collect();
        assert_eq!(told, [("small", "{\"vllm\":{\"max_num_seqs\":8}}"), ("orca", "\"orca\"")]);
        assert_eq!(planned("{}").unwrap(), Planned::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (plan, told) in [
            ("{ gpus: [h1oo] }", "h100"),
            ("{ prices: { h300: 2/gpu-h } }", "no GPU is called `h300`"),
            ("{ price: 2.5 }", "2.5/gpu-h"),
            ("{ axes: { gpu: [h100] } }", "`gpu` is chosen by `plan.gpus`"),
            ("{ axes: { slo.ttft_p99: [1s, 2s] } }", "what the plan is for"),
            ("{ axes: { fleet.controllers.disaggregation.prefill: [1] } }", "plan.modes"),
            ("{ seeds: 1 }", "between 2 and 100"),
            ("{ gpu: h100 }", "gpus"),
            ("{ servers: [dgx-h300] }", "dgx-h300"),
            ("{ servers: [dgx-h100], gpus: [h100] }", "give one of the two"),
            ("{ mixed: true, modes: [together] }", "without the mode `apart`"),
            ("{ power_most: 40 }", "needs a unit, e.g. 700W"),
            ("{ on_demand_prices: { h300: 4/gpu-h } }", "no GPU is called `h300`"),
            ("{ objective: watts }", "kw"),
            ("{ link: nvlink9 }", "no link is called `nvlink9`"),
            ("{ growth: [0.5] }", "between 1 and 100"),
            ("{ axes: { engine.retention.budget: [512, 1024] } }", "at_least: 0.98"),
        ] {
            let problems = planned(plan).unwrap_err();
            // Each with its line.
            assert!(problems.contains(told) && problems.contains("x:2:"), "{plan}: {problems}");
        }
    }
}
