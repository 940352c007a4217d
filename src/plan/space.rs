//! What may be chosen: shapes of fleets, each at any number of replicas.

use overbook_scenarios::scenario::{PlanMode, PlanObjective};
use overbook_scenarios::{Catalog, Choice, Planned, Point, Problems, Source};
use serde_json::json;

use crate::{Error, Experiment};

/// The link where prompts and decodes are apart, if the scenario names neither one nor a server: one port of 400 Gb/s for each GPU.
pub(crate) const LINK: &str = "infiniband-ndr";

/// Tensor parallelism that is tried if the scenario says nothing.
const PARALLEL: [u32; 4] = [1, 2, 4, 8];

/// Tokens of a step that are tried beside the engine's own number, if no axis is about the scheduler.
const SMALL_STEPS: u32 = 2048;

/// Shapes at most.
const SHAPES_MAX: usize = 10_000;

/// What a replica runs on.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Kind {
    pub(crate) gpu: String,
    /// The server that it stands in, where servers are chosen.
    server: Option<String>,
    pub(crate) tensor_parallel: u32,
    /// Dollars per GPU and hour.
    pub(crate) price: Option<f64>,
    /// The same on demand.
    pub(crate) on_demand: Option<f64>,
}

impl Kind {
    /// The server, or the GPU where no server is chosen.
    fn stands_in(&self) -> &str {
        self.server.as_deref().unwrap_or(&self.gpu)
    }

    fn label(&self) -> String {
        format!("{}, TP {}", self.stands_in(), self.tensor_parallel)
    }

    /// As a pool of so many replicas.
    fn pool(&self, replicas: u32) -> serde_json::Value {
        let key = if self.server.is_some() { "server" } else { "gpu" };
        json!({ "replicas": replicas, key: self.stands_in(), "tensor_parallel": self.tensor_parallel })
    }
}

/// All of a fleet but its number of replicas.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// In words: `h200, TP 2, together, 2,048 tokens a step`.
    pub(crate) label: String,
    /// What all replicas run on, or those that compute prompts.
    pub(crate) kind: Kind,
    /// What those that decode run on, where that is something else.
    pub(crate) decode: Option<Kind>,
    pub(crate) mode: PlanMode,
    /// What else was chosen, as (path, text).
    pub(crate) choices: Vec<(String, String)>,
    /// Settings that make it, as (path, YAML).
    changes: Vec<(String, String)>,
}

/// Replicas of a fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// All alike.
    Together(u32),
    /// For prompts, and for decodes.
    Apart(u32, u32),
}

impl Size {
    pub(crate) fn replicas(self) -> u32 {
        match self {
            Size::Together(replicas) => replicas,
            Size::Apart(prefill, decode) => prefill + decode,
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Size::Together(replicas) => write!(f, "{replicas}"),
            Size::Apart(prefill, decode) => write!(f, "{prefill} + {decode}"),
        }
    }
}

impl Shape {
    /// The settings of a fleet of this shape and size.
    pub(crate) fn settings(&self, size: Size) -> Vec<(String, String)> {
        let mut all = self.changes.clone();
        if let (Some(kind), Size::Apart(prefill, decode)) = (&self.decode, size) {
            let pools = json!([self.kind.pool(prefill), kind.pool(decode)]);
            all.push(("fleet.pools".to_owned(), pools.to_string()));
        }
        all.push(("fleet.replicas".to_owned(), size.replicas().to_string()));
        if let Size::Apart(prefill, _) = size {
            all.push(("fleet.controllers.disaggregation.prefill".to_owned(), prefill.to_string()));
        }
        all
    }

    /// The fleet of this shape and size, complete; or why there is none.
    pub(crate) fn point(&self, base: &Experiment, size: Size) -> Result<Point, Problems> {
        let experiment =
            self.settings(size).iter().fold(base.clone(), |experiment, (path, value)| experiment.set_yaml(path, value));
        match experiment.study() {
            Ok(study) => Ok(study.points()[0].clone()),
            Err(Error::Scenario(problems)) => Err(problems),
            Err(error) => Err(Problems::unplaced(&self.label, error.to_string())),
        }
    }

    /// What its replicas run on, side by side.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        std::iter::once(&self.kind).chain(&self.decode)
    }

    pub(crate) fn smallest(&self) -> Size {
        match self.mode {
            PlanMode::Together => Size::Together(1),
            PlanMode::Apart => Size::Apart(1, 1),
        }
    }
}

/// What the scenario itself says of the things that a plan chooses.
pub(crate) struct Said {
    gpu: String,
    /// The server that it names.
    server: Option<String>,
    /// Whether it says something of watts by itself.
    weighs_watts: bool,
    /// Whether it names a link.
    names_link: bool,
    /// Whether it names a link, or a server that has one.
    has_link: bool,
    /// Whether vLLM schedules with its own number of tokens a step.
    plain_vllm: bool,
}

impl Said {
    pub(crate) fn by(source: &Source) -> Said {
        let of_server = || {
            let server = Catalog::embedded().server(source.text_at("fleet.server")?).ok()?;
            Some(server.gpu)
        };
        let named = source.text_at("scheduler");
        let is_vllm = !source.says("scheduler") || named == Some("vllm") || source.says("scheduler.vllm");
        Said {
            gpu: source.text_at("gpu").map(str::to_owned).or_else(of_server).unwrap_or_default(),
            server: source.text_at("fleet.server").map(str::to_owned),
            weighs_watts: source.says("power") || source.says("fleet.row"),
            names_link: source.says("fleet.controllers.disaggregation.link"),
            has_link: source.says("fleet.server") || source.says("fleet.controllers.disaggregation.link"),
            plain_vllm: is_vllm && !source.says("scheduler.vllm.max_num_batched_tokens"),
        }
    }
}

/// What replicas may run on, in the order of the values.
fn kinds(planned: &Planned, said: &Said) -> Vec<Kind> {
    let spec = &planned.spec;
    let gpu_of = |server: &String| Catalog::embedded().server(server).map(|spec| spec.gpu).unwrap_or_default();
    let places: Vec<(String, Option<String>)> = if spec.servers.is_empty() {
        spec.gpus_of(&said.gpu).into_iter().map(|gpu| (gpu, None)).collect()
    } else {
        spec.servers.iter().map(|server| (gpu_of(server), Some(server.clone()))).collect()
    };
    let parallel = if spec.tensor_parallel.is_empty() { PARALLEL.to_vec() } else { spec.tensor_parallel.clone() };
    let kind = |(gpu, server): &(String, Option<String>), tensor_parallel: u32| Kind {
        tensor_parallel,
        price: planned.price_of(gpu),
        on_demand: planned.on_demand_of(gpu),
        gpu: gpu.clone(),
        server: server.clone(),
    };
    places.iter().flat_map(|place| parallel.iter().map(move |&parallel| kind(place, parallel))).collect()
}

/// All shapes, in the order of the values; the mode varies fastest. Those whose sides differ are the last.
///
/// # Errors
/// There are too many: how many.
pub(crate) fn shapes(planned: &Planned, said: &Said) -> Result<Vec<Shape>, String> {
    let Planned { spec, axes, .. } = planned;
    let kinds = kinds(planned, said);
    let axes: Vec<Vec<Option<Choice>>> = further(axes, said);
    let combinations = axes.iter().map(Vec::len).product::<usize>();
    let pairs = if spec.mixed { kinds.len() * (kinds.len() - 1) } else { 0 };
    let all = (kinds.len() * spec.modes.len() + pairs) * combinations;
    if all > SHAPES_MAX {
        return Err(format!(
            "the plan has {all} shapes of fleets, and may have {SHAPES_MAX}; take values out of its lists"
        ));
    }
    let mut shapes = Vec::with_capacity(all);
    for kind in &kinds {
        for combination in 0..combinations {
            let choices = chosen(&axes, combination);
            for &mode in &spec.modes {
                shapes.push(shape(planned, said, (kind, None), mode, &choices));
            }
        }
    }
    if spec.mixed {
        let others = |kind: &Kind| kinds.iter().filter(|other| *other != kind).cloned().collect::<Vec<Kind>>();
        for (kind, decode) in kinds.iter().flat_map(|kind| others(kind).into_iter().map(move |other| (kind, other))) {
            for combination in 0..combinations {
                let choices = chosen(&axes, combination);
                shapes.push(shape(planned, said, (kind, Some(&decode)), PlanMode::Apart, &choices));
            }
        }
    }
    Ok(shapes)
}

/// The axes that are said, and the main knob of vLLM where none is about the scheduler.
fn further(axes: &[Vec<Choice>], said: &Said) -> Vec<Vec<Option<Choice>>> {
    let mut all: Vec<Vec<Option<Choice>>> = axes.iter().map(|axis| axis.iter().cloned().map(Some).collect()).collect();
    let touched = axes.iter().flatten().any(|choice| choice.path.split('.').next() == Some("scheduler"));
    if !touched && said.plain_vllm {
        let small = Choice {
            path: "scheduler.vllm.max_num_batched_tokens".to_owned(),
            text: SMALL_STEPS.to_string(),
            value: SMALL_STEPS.to_string(),
        };
        all.push(vec![None, Some(small)]);
    }
    all
}

fn chosen(axes: &[Vec<Option<Choice>>], combination: usize) -> Vec<Choice> {
    let mut rest = combination;
    let mut chosen: Vec<Option<Choice>> = Vec::new();
    for axis in axes.iter().rev() {
        chosen.push(axis[rest % axis.len()].clone());
        rest /= axis.len();
    }
    chosen.into_iter().rev().flatten().collect()
}

fn shape(
    planned: &Planned,
    said: &Said,
    (kind, decode): (&Kind, Option<&Kind>),
    mode: PlanMode,
    choices: &[Choice],
) -> Shape {
    let spec = &planned.spec;
    let mut changes = Vec::new();
    if let Some(server) = &kind.server {
        changes.push(("gpu".to_owned(), json!(kind.gpu).to_string()));
        changes.push(("fleet.server".to_owned(), json!(server).to_string()));
    } else if !spec.gpus.is_empty() {
        changes.push(("gpu".to_owned(), json!(kind.gpu).to_string()));
    }
    changes.push(("fleet.tensor_parallel".to_owned(), kind.tensor_parallel.to_string()));
    changes.extend(choices.iter().map(|choice| (choice.path.clone(), choice.value.clone())));
    let link = "fleet.controllers.disaggregation.link".to_owned();
    // Between replicas of two kinds there is no link of one server.
    let has_link = (said.has_link || kind.server.is_some()) && decode.is_none();
    match (mode, &spec.link) {
        (PlanMode::Together, _) => changes.push(("fleet.controllers.disaggregation".to_owned(), "~".to_owned())),
        (PlanMode::Apart, Some(own)) => changes.push((link, json!(own).to_string())),
        (PlanMode::Apart, None) if !has_link && !said.names_link => changes.push((link, json!(LINK).to_string())),
        (PlanMode::Apart, None) => {}
    }
    if weighs_watts(spec.objective, spec.power_most.is_some(), said, [Some(kind), decode]) {
        changes.push(("fleet.row".to_owned(), "{}".to_owned()));
    }
    let mode_name = if mode == PlanMode::Together { "together" } else { "apart" };
    let texts = choices.iter().map(|choice| {
        let name = choice.path.rsplit('.').next().unwrap_or(&choice.path);
        format!("{name} {}", choice.text)
    });
    let stands = decode.map_or_else(|| kind.label(), |decode| format!("{} → {}", kind.label(), decode.label()));
    let parts: Vec<String> = [stands, mode_name.to_owned()].into_iter().chain(texts).collect();
    Shape {
        label: parts.join(", "),
        kind: kind.clone(),
        decode: decode.cloned(),
        mode,
        choices: choices.iter().map(|choice| (choice.path.clone(), choice.text.clone())).collect(),
        changes,
    }
}

/// Whether watts are counted though the scenario says nothing of them: where they decide, and wherever the catalog knows those of the server.
fn weighs_watts(objective: Option<PlanObjective>, limited: bool, said: &Said, kinds: [Option<&Kind>; 2]) -> bool {
    if said.weighs_watts {
        return false;
    }
    let known = |kind: &Kind| {
        let catalog = Catalog::embedded();
        let server = kind.server.as_deref().or(said.server.as_deref());
        let server = server.and_then(|server| catalog.server(server).ok());
        server.is_some_and(|server| {
            let law = catalog.gpu(&server.gpu).is_ok_and(|gpu| gpu.power.is_some());
            server.power.is_some() && server.power_max.is_some() && law
        })
    };
    // Without servers they cannot be counted: that is refused elsewhere.
    let needed = objective == Some(PlanObjective::Kw) || limited;
    let placed = |kind: &Kind| kind.server.is_some() || said.server.is_some();
    kinds.into_iter().flatten().all(|kind| known(kind) || needed && placed(kind))
}
