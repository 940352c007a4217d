//! Further axes for a scenario, from the command line: what is compared, and against which loads.

use overbook_sim::units::Rate;
use serde::Deserialize as _;

use super::Source;
use crate::scenario::Coordinate;
use crate::yaml::{self, Detail, Entry, Fault, Node, NodeKind, Span, join, leads_to};

/// Where the new axis stands: figures are drawn against the first one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    First,
    Last,
}

/// Why no load can be varied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("--load {load}: {message}")]
pub struct LoadError {
    load: String,
    message: String,
}

impl Source {
    /// Adds an axis to the sweep: `values` is a list in YAML, with or without brackets, or a map from names to values. A name
    /// of a policy that the scenario sets already (`scheduler: { vllm: { … } }` and `vllm`) stands for it as it is set. What is
    /// wrong with it is reported by [`Source::resolve`].
    pub fn vary(&mut self, path: &str, values: &str) {
        let values = values.trim();
        let listed = values.starts_with('[') || values.starts_with('{') && names_values(values);
        let text = if listed { values.to_owned() } else { format!("[{values}]") };
        self.add_axis("--over", path, &text, Place::Last);
    }

    /// Adds the load as the first axis: rates (`2/s`), factors of what the scenario says (`0.5x`), or numbers of clients in a
    /// closed loop (`16`).
    ///
    /// # Errors
    /// The workload has no such load, or one of the loads is none.
    pub fn vary_load(&mut self, loads: &[String]) -> Result<(), LoadError> {
        let mut path = String::new();
        let mut values = Vec::new();
        for load in loads {
            let wrong = |message: String| LoadError { load: load.clone(), message };
            let (at, value) = self.load_value(load.trim()).map_err(wrong)?;
            path = at;
            values.push(format!("\"{}\": {value}", load.trim()));
        }
        self.add_axis("--load", &path, &format!("{{ {} }}", values.join(", ")), Place::First);
        Ok(())
    }

    /// Leaves out the figures that the scenario expects: they are about the points of its own sweep.
    pub fn forget_expectations(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.take("expect");
        }
    }

    fn add_axis(&mut self, flag: &str, path: &str, values: &str, place: Place) {
        let id = self.sources.add(flag, &format!("{path}={values}"));
        let key_span = Span { source: id, start: 0, end: path.len() };
        let (node, mut faults) = yaml::parse(id, values);
        for fault in &mut faults {
            fault.span.shift(path.len() + 1);
        }
        self.faults.extend(faults);
        let (Some(mut node), Some(tree)) = (node, &mut self.tree) else { return };
        node.shift(path.len() + 1);
        let named = match name_values(node, tree.at(path)) {
            Ok(named) => named,
            Err((span, message)) => return self.faults.push(Fault::new(Detail::Message(message), span)),
        };
        let inside = |other: &str| leads_to(other, path) || leads_to(path, other);
        if let Some(other) = tree.swept().into_iter().find(|other| inside(other)) {
            let message = if other == path {
                format!("`{path}` is swept already")
            } else {
                format!("`{other}` is swept already, and one would overwrite the other")
            };
            return self.faults.push(Fault::new(Detail::Message(message), key_span));
        }
        let mut value = named;
        value.relabel(&join("sweep.axes", path));
        let entry = Entry { key: path.to_owned(), key_span, value };
        if let Some(axes) = tree.axes(key_span) {
            let at = if place == Place::First { 0 } else { axes.len() };
            axes.insert(at, entry);
        }
    }

    /// The setting that a load is about, and its value in YAML.
    fn load_value(&self, load: &str) -> Result<(String, String), String> {
        let Some(tree) = &self.tree else { return Ok(("workload".to_owned(), String::new())) };
        let factor = load.strip_suffix('x').map(|factor| factor.trim().parse::<f64>());
        let factor = factor.transpose().map_err(|_| "a factor is a number before the x, e.g. 1.5x".to_owned())?;
        if factor.is_some_and(|factor| !(factor > 0.0 && factor.is_finite())) {
            return Err("a factor must be above 0".to_owned());
        }
        let path = |below: &str| format!("workload.{below}");
        if let Some(count) = tree.scalar("workload.clients.count") {
            let clients = match factor {
                Some(factor) => count.parse::<f64>().map(|count| (count * factor).round().max(1.0).to_string()).ok(),
                None => load.parse::<u32>().map(|count| count.to_string()).ok(),
            };
            let told = "in a closed loop the load is a number of clients, e.g. 16, or a factor, e.g. 2x";
            return Ok((path("clients.count"), clients.ok_or_else(|| told.to_owned())?));
        }
        if tree.at("workload.trace").is_some() {
            let scale = match factor {
                Some(factor) => format!("{{ compress: {factor} }}"),
                None => format!("{{ multiply-to: {} }}", rate(load)?),
            };
            return Ok((path("trace.scale"), scale));
        }
        let profile = "generate.arrivals.profile.rates";
        if let Some(rates) = tree.at(&path(profile)) {
            return Ok((path(profile), rates.scaled_rates(load, factor)?));
        }
        let at = if tree.at("workload.population").is_some() {
            path("population.rate")
        } else {
            tree.arrival_rate().ok_or("the scenario's arrivals have no rate that could be varied")?
        };
        let value = match factor {
            None => rate(load)?.to_string(),
            Some(factor) => {
                let now = tree.scalar(&at).ok_or_else(|| format!("`{at}` is not set; give rates, e.g. 2/s"))?;
                Rate(rate(now)?.0 * factor).to_string()
            }
        };
        Ok((at, value))
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    text.parse::<Rate>().map_err(|error| format!("{error}; a load is a rate, e.g. 2/s, or a factor, e.g. 1.5x"))
}

/// Whether a flow mapping has more than one entry or is no variant with settings of its own: then its keys are names.
fn names_values(text: &str) -> bool {
    let (node, _) = yaml::parse(crate::yaml::SourceId::FILE, text);
    matches!(node.map(|node| node.kind), Some(NodeKind::Map(entries)) if entries.len() != 1)
}

/// The values with their names. One that is only the name of a policy that stands here already, with settings, is that policy.
fn name_values(node: Node, here: Option<&Node>) -> Result<Node, (Span, String)> {
    let NodeKind::List(items) = node.kind else { return Ok(node) };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let name = Coordinate::deserialize(&item).map_or_else(|_| String::new(), |place| place.0);
        if entries.iter().any(|entry| entry.key == name) {
            return Err((item.span, format!("`{name}` is there twice")));
        }
        let kept = here.filter(|here| matches!(&here.kind, NodeKind::Map(own) if own.len() == 1 && own[0].key == name));
        let key_span = item.span;
        let value = match (&item.kind, kept) {
            (NodeKind::Scalar { .. }, Some(kept)) => kept.clone(),
            _ => item,
        };
        entries.push(Entry { key: name, key_span, value });
    }
    Ok(Node { path: node.path, span: node.span, kind: NodeKind::Map(entries) })
}

impl Node {
    /// The node at a dotted path.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, key| node.entry(key).map(|entry| &entry.value))
    }

    /// The scalar at a dotted path.
    pub(crate) fn scalar(&self, path: &str) -> Option<&str> {
        match &self.at(path)?.kind {
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Where the rate of generated arrivals is set.
    fn arrival_rate(&self) -> Option<String> {
        let arrivals = "workload.generate.arrivals";
        let kind = match &self.at(arrivals)?.kind {
            NodeKind::Map(entries) if entries.len() == 1 => entries[0].key.as_str(),
            NodeKind::Scalar { text, .. } => text,
            _ => return None,
        };
        match kind {
            "constant" | "poisson" | "gamma" | "weibull" => Some(format!("{arrivals}.{kind}.rate")),
            "burstgpt" | "burstgpt-day" => Some(format!("{arrivals}.{kind}.mean_rate")),
            _ => None,
        }
    }

    /// A list of rates times `factor`, or with the mean `load`.
    fn scaled_rates(&self, load: &str, factor: Option<f64>) -> Result<String, String> {
        let NodeKind::List(items) = &self.kind else { return Err(format!("`{}` is not a list", self.path)) };
        let text = |item: &Node| match &item.kind {
            NodeKind::Scalar { text, .. } => rate(text),
            _ => Err(format!("`{}` is not a rate", item.path)),
        };
        let rates: Vec<f64> = items.iter().map(|item| text(item).map(|rate| rate.0)).collect::<Result<_, _>>()?;
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let factor = match factor {
            Some(factor) => factor,
            None if mean > 0.0 => rate(load)?.0 / mean,
            None => return Err(format!("`{}` has only zeros", self.path)),
        };
        let scaled: Vec<String> = rates.iter().map(|rate| Rate(rate * factor).to_string()).collect();
        Ok(format!("[{}]", scaled.join(", ")))
    }

    /// The paths that are swept.
    fn swept(&self) -> Vec<&str> {
        let sweep = self.entry("sweep").map(|entry| &entry.value);
        let over = |key: &str| sweep?.entry(key)?.value.entry("over");
        let lists = ["axes", "zip"]
            .into_iter()
            .filter_map(|key| sweep?.entry(key))
            .chain(["random", "lhs"].into_iter().filter_map(over));
        let entries = lists.flat_map(|list| match &list.value.kind {
            NodeKind::Map(entries) => entries.as_slice(),
            _ => &[],
        });
        let seeds = sweep.and_then(|sweep| sweep.entry("seeds")).map(|_| "seed");
        entries.map(|entry| entry.key.as_str()).chain(seeds).collect()
    }

    /// The axes of the sweep, made if there are none; `None` if something else stands in their place.
    fn axes(&mut self, key_span: Span) -> Option<&mut Vec<Entry>> {
        let mut node = self;
        for key in ["sweep", "axes"] {
            let NodeKind::Map(entries) = &mut node.kind else { return None };
            let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                let path = join(&node.path, key);
                let value = Node { path, span: key_span, kind: NodeKind::Map(Vec::new()) };
                entries.push(Entry { key: key.to_owned(), key_span, value });
                entries.len() - 1
            });
            node = &mut entries[at].value;
        }
        match &mut node.kind {
            NodeKind::Map(entries) => Some(entries),
            _ => None,
        }
    }
}
