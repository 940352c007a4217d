//! What may be chosen: shapes of fleets, each at any number of replicas.

use overbook_scenarios::scenario::{PlanMode, PlanSpec};
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

/// All of a fleet but its number of replicas.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// In words: `h200, TP 2, together, 2,048 tokens a step`.
    pub(crate) label: String,
    pub(crate) gpu: String,
    pub(crate) tensor_parallel: u32,
    pub(crate) mode: PlanMode,
    /// What else was chosen, as (path, text).
    pub(crate) choices: Vec<(String, String)>,
    /// Settings that make it, as (path, YAML).
    changes: Vec<(String, String)>,
    /// Dollars per GPU and hour.
    pub(crate) price: Option<f64>,
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
    /// Whether it names a link, or a server that has one.
    has_link: bool,
    /// Whether vLLM schedules with its own number of tokens a step.
    plain_vllm: bool,
}

impl Said {
    pub(crate) fn gpu(&self) -> &str {
        &self.gpu
    }

    pub(crate) fn by(source: &Source) -> Said {
        let of_server = || {
            let server = Catalog::embedded().server(source.text_at("fleet.server")?).ok()?;
            Some(server.gpu)
        };
        let named = source.text_at("scheduler");
        let is_vllm = !source.says("scheduler") || named == Some("vllm") || source.says("scheduler.vllm");
        Said {
            gpu: source.text_at("gpu").map(str::to_owned).or_else(of_server).unwrap_or_default(),
            has_link: source.says("fleet.server") || source.says("fleet.controllers.disaggregation.link"),
            plain_vllm: is_vllm && !source.says("scheduler.vllm.max_num_batched_tokens"),
        }
    }
}

/// All shapes, in the order of the values; the mode varies fastest.
///
/// # Errors
/// There are too many: how many.
pub(crate) fn shapes(planned: &Planned, said: &Said) -> Result<Vec<Shape>, String> {
    let Planned { spec, axes } = planned;
    let gpus = spec.gpus_of(&said.gpu);
    let parallel = if spec.tensor_parallel.is_empty() { PARALLEL.to_vec() } else { spec.tensor_parallel.clone() };
    let axes: Vec<Vec<Option<Choice>>> = further(axes, said);
    let combinations = axes.iter().map(Vec::len).product::<usize>();
    let all = gpus.len() * parallel.len() * combinations * spec.modes.len();
    if all > SHAPES_MAX {
        return Err(format!(
            "the plan has {all} shapes of fleets, and may have {SHAPES_MAX}; take values out of its lists"
        ));
    }
    let mut shapes = Vec::with_capacity(all);
    for gpu in &gpus {
        for &tensor_parallel in &parallel {
            for combination in 0..combinations {
                let choices = chosen(&axes, combination);
                for &mode in &spec.modes {
                    shapes.push(shape(spec, said, gpu, tensor_parallel, mode, &choices));
                }
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

fn shape(spec: &PlanSpec, said: &Said, gpu: &str, tensor_parallel: u32, mode: PlanMode, choices: &[Choice]) -> Shape {
    let mut changes = Vec::new();
    if !spec.gpus.is_empty() {
        changes.push(("gpu".to_owned(), json!(gpu).to_string()));
    }
    changes.push(("fleet.tensor_parallel".to_owned(), tensor_parallel.to_string()));
    changes.extend(choices.iter().map(|choice| (choice.path.clone(), choice.value.clone())));
    let link = "fleet.controllers.disaggregation.link".to_owned();
    match (mode, &spec.link) {
        (PlanMode::Together, _) => changes.push(("fleet.controllers.disaggregation".to_owned(), "~".to_owned())),
        (PlanMode::Apart, Some(own)) => changes.push((link, json!(own).to_string())),
        (PlanMode::Apart, None) if !said.has_link => changes.push((link, json!(LINK).to_string())),
        (PlanMode::Apart, None) => {}
    }
    let mode_name = if mode == PlanMode::Together { "together" } else { "apart" };
    let texts = choices.iter().map(|choice| {
        let name = choice.path.rsplit('.').next().unwrap_or(&choice.path);
        format!("{name} {}", choice.text)
    });
    let parts: Vec<String> =
        [gpu.to_owned(), format!("TP {tensor_parallel}"), mode_name.to_owned()].into_iter().chain(texts).collect();
    Shape {
        label: parts.join(", "),
        gpu: gpu.to_owned(),
        tensor_parallel,
        mode,
        choices: choices.iter().map(|choice| (choice.path.clone(), choice.text.clone())).collect(),
        changes,
        price: spec.price_of(gpu),
    }
}
