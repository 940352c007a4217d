//! How long generated requests are. Prompt and output are drawn independently (their rank correlation is 0.1 to 0.3
//! in `BurstGPT`), each from its own stream.

use overbook_sim::workload::arrival::ClassId;
use rand::rngs::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::dist::{LengthDist, pareto, points_problems, tokens_problem};
use crate::draw::{stream, uniform};
use crate::error::Problem;
use crate::figures::{
    API_CHATGPT, API_OUTPUT, API_PROMPT, API_TAIL_ALPHA, API_TAIL_MAX, CONVERSATION_CHATGPT, CONVERSATION_OUTPUT,
    CONVERSATION_PROMPT, CONVERSATION_SHARE,
};
use crate::mix::{self, ClassLengths};
use crate::quantile::{QuantileTable, mean};

/// How long requests are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LengthSpec {
    /// All alike.
    Fixed {
        /// Prompt length [tokens].
        prompt: u32,
        /// Output length [tokens].
        output: u32,
    },
    /// Drawn from quantiles, linear in between: pairs of probability and tokens, from probability 0 to 1.
    Quantiles {
        /// Prompt length [tokens].
        prompt: Vec<(f64, u32)>,
        /// Output length [tokens].
        output: Vec<(f64, u32)>,
    },
    /// Like all of `BurstGPT_1`: 11 % conversations and 89 % API requests, or the mix of the hour if the arrivals are
    /// `burstgpt`; classes by model and log type.
    ///
    /// The lengths of conversations are measured on slices, the mix is inferred from the hourly counts. The lengths of API
    /// requests are measured up to their median; above it stands a Pareto tail whose exponent is fitted so that the whole
    /// trace has its mean of 734 tokens a request, failed ones (which have none) included.
    Burstgpt,
    /// Like the conversations of `BurstGPT` alone: for a chat service. Measured on slices; classes by model.
    BurstgptConversation,
    /// Several classes, each with a share of the requests and lengths of its own.
    Classes(Vec<ClassLengths>),
    /// Prompt and output by a distribution each.
    Independent {
        /// Prompt length.
        prompt: LengthDist,
        /// Output length.
        output: LengthDist,
    },
}

impl LengthSpec {
    /// Everything that is wrong with the values, as (path below `prefix`, message).
    pub(crate) fn problems(&self, prefix: &str) -> Vec<Problem> {
        match self {
            LengthSpec::Fixed { prompt, output } => [("prompt", *prompt), ("output", *output)]
                .into_iter()
                .filter_map(|(name, tokens)| Some((format!("{prefix}.fixed.{name}"), tokens_problem(tokens)?)))
                .collect(),
            LengthSpec::Quantiles { prompt, output } => {
                let mut problems = points_problems(&format!("{prefix}.quantiles.prompt"), prompt);
                problems.extend(points_problems(&format!("{prefix}.quantiles.output"), output));
                problems
            }
            LengthSpec::Independent { prompt, output } => {
                let mut problems = prompt.problems(&format!("{prefix}.independent.prompt"));
                problems.extend(output.problems(&format!("{prefix}.independent.output")));
                problems
            }
            LengthSpec::Classes(classes) => mix::problems(classes, &format!("{prefix}.classes")),
            LengthSpec::Burstgpt | LengthSpec::BurstgptConversation => Vec::new(),
        }
    }

    /// Lengths that are the same for all requests of a class: its name if there are several, prompt, and output if that is the same
    /// too [tokens].
    pub fn fixed<'s>(&'s self) -> Vec<(Option<&'s str>, u32, Option<u32>)> {
        let fixed = |dist: &LengthDist| if let LengthDist::Fixed(tokens) = dist { Some(*tokens) } else { None };
        match self {
            LengthSpec::Fixed { prompt, output } => vec![(None, *prompt, Some(*output))],
            LengthSpec::Independent { prompt, output } => {
                fixed(prompt).map(|prompt| (None, prompt, fixed(output))).into_iter().collect()
            }
            LengthSpec::Classes(classes) => {
                let of =
                    |one: &'s ClassLengths| Some((Some(one.class.as_str()), fixed(&one.prompt)?, fixed(&one.output)));
                classes.iter().filter_map(of).collect()
            }
            LengthSpec::Quantiles { .. } | LengthSpec::Burstgpt | LengthSpec::BurstgptConversation => Vec::new(),
        }
    }

    /// Mean prompt and output length [tokens].
    pub fn means(&self) -> (f64, f64) {
        match self {
            LengthSpec::Fixed { prompt, output } => (f64::from(*prompt), f64::from(*output)),
            LengthSpec::Quantiles { prompt, output } => (mean(prompt), mean(output)),
            LengthSpec::Independent { prompt, output } => (mean(&prompt.points()), mean(&output.points())),
            LengthSpec::Classes(classes) => {
                let all: f64 = classes.iter().map(|class| class.share).sum();
                let mix = |dist: fn(&ClassLengths) -> &LengthDist| {
                    classes.iter().map(|class| class.share / all * mean(&dist(class).points())).sum()
                };
                (mix(|class| &class.prompt), mix(|class| &class.output))
            }
            LengthSpec::BurstgptConversation => (mean(CONVERSATION_PROMPT), mean(CONVERSATION_OUTPUT)),
            LengthSpec::Burstgpt => {
                let (share, api) = (CONVERSATION_SHARE, api_prompt());
                let mix = |conversation, api| share * mean(conversation) + (1.0 - share) * mean(api);
                (mix(CONVERSATION_PROMPT, &api), mix(CONVERSATION_OUTPUT, API_OUTPUT))
            }
        }
    }
}

/// Prompt lengths of API requests: as measured up to the median, then the fitted tail.
fn api_prompt() -> Vec<(f64, u32)> {
    const MEDIAN: f64 = 0.5;
    let mut points: Vec<(f64, u32)> = API_PROMPT.iter().copied().filter(|&(p, _)| p <= MEDIAN).collect();
    let start = points.last().map_or(1, |&(_, tokens)| tokens);
    points.extend(pareto(MEDIAN, start, API_TAIL_ALPHA, API_TAIL_MAX));
    points
}

/// One kind of request.
struct Component {
    /// Probability of this kind or one before it.
    share_up_to: f64,
    prompt: QuantileTable,
    output: QuantileTable,
    class: ClassId,
    priority: i32,
}

impl Component {
    fn new(share_up_to: f64, prompt: &[(f64, u32)], output: &[(f64, u32)]) -> Component {
        let (prompt, output) = (QuantileTable::new(prompt), QuantileTable::new(output));
        Component { share_up_to, prompt, output, class: ClassId(0), priority: 0 }
    }
}

/// The classes with a priority that is kept, each with its share of them.
fn shared(classes: &[ClassLengths], keeps: Keeps) -> Vec<Component> {
    let kept = || classes.iter().zip(0..).filter(|(class, _)| keeps.keeps(class.priority));
    let all: f64 = kept().map(|(class, _)| class.share).sum();
    let mut up_to = 0.0;
    let component = |(class, number): (&ClassLengths, u16)| {
        up_to += class.share / all;
        let plain = Component::new(up_to, &class.prompt.points(), &class.output.points());
        Component { class: ClassId(number), priority: class.priority, ..plain }
    };
    kept().map(component).collect()
}

/// Which classes of requests a workload has, by their priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keeps {
    /// All of them.
    #[default]
    All,
    /// Those of low priority: 1 and above.
    Low,
    /// The others.
    High,
}

impl Keeps {
    fn keeps(self, priority: i32) -> bool {
        match self {
            Keeps::All => true,
            Keeps::Low => priority > 0,
            Keeps::High => priority <= 0,
        }
    }

    /// Whether there are requests of that kind.
    pub(crate) fn keeps_any(self, lengths: &LengthSpec) -> bool {
        match lengths {
            LengthSpec::Classes(classes) => classes.iter().any(|class| self.keeps(class.priority)),
            _ => self.keeps(0),
        }
    }
}

/// Lengths and class of one request.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) prompt_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) class: ClassId,
    pub(crate) priority: i32,
}

/// Draws lengths: exactly one number per request from each stream.
pub(crate) struct Lengths {
    components: Vec<Component>,
    /// Whether the first half of the components are conversations whose share the arrivals may state.
    takes_share: bool,
    classes: Vec<String>,
    kinds: ChaCha8Rng,
    prompts: ChaCha8Rng,
    outputs: ChaCha8Rng,
}

impl Lengths {
    /// The specification has no problems.
    pub(crate) fn new(spec: &LengthSpec, seed: u64) -> Lengths {
        Lengths::keeping(spec, seed, Keeps::All)
    }

    /// The same with only some of the classes, of which there is one.
    pub(crate) fn keeping(spec: &LengthSpec, seed: u64, keeps: Keeps) -> Lengths {
        let (mut components, classes): (Vec<Component>, &[&str]) = match spec {
            LengthSpec::Classes(classes) => (shared(classes, keeps), &[]),
            LengthSpec::Fixed { prompt, output } => {
                let fixed = |tokens| [(0.0, tokens), (1.0, tokens)];
                (vec![Component::new(1.0, &fixed(*prompt), &fixed(*output))], &["generated"])
            }
            LengthSpec::Quantiles { prompt, output } => (vec![Component::new(1.0, prompt, output)], &["generated"]),
            LengthSpec::Burstgpt | LengthSpec::BurstgptConversation => {
                let conversation = |up_to| Component::new(up_to, CONVERSATION_PROMPT, CONVERSATION_OUTPUT);
                let api = |up_to| Component::new(up_to, &api_prompt(), API_OUTPUT);
                let mut kinds = vec![conversation(CONVERSATION_CHATGPT), conversation(1.0)];
                let classes = &["ChatGPT/conversation", "GPT-4/conversation", "ChatGPT/api", "GPT-4/api"];
                if *spec == LengthSpec::Burstgpt {
                    kinds.extend([api(1.0 + API_CHATGPT), api(2.0)]);
                }
                let classes = &classes[..kinds.len()];
                (kinds, classes)
            }
            LengthSpec::Independent { prompt, output } => {
                (vec![Component::new(1.0, &prompt.points(), &output.points())], &["generated"])
            }
        };
        if !matches!(spec, LengthSpec::Classes(_)) {
            components.iter_mut().zip(0..).for_each(|(component, number)| component.class = ClassId(number));
        }
        Lengths {
            components,
            takes_share: *spec == LengthSpec::Burstgpt,
            classes: match spec {
                LengthSpec::Classes(classes) => classes.iter().map(|class| class.class.clone()).collect(),
                _ => classes.iter().map(|&class| class.to_owned()).collect(),
            },
            kinds: stream(seed, *b"kinds   "),
            prompts: stream(seed, *b"prompts "),
            outputs: stream(seed, *b"outputs "),
        }
    }

    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The next size. The share of conversations is that of the moment, if the arrivals know it.
    pub(crate) fn draw(&mut self, conversation_share: Option<f64>) -> Size {
        let kind = match self.components.len() {
            1 => 0,
            kinds => {
                let mut p = uniform(&mut self.kinds);
                if self.takes_share {
                    // Conversations fill 0 to 1, API requests 1 to 2.
                    let share = conversation_share.unwrap_or(CONVERSATION_SHARE);
                    p = if p < share { p / share } else { 1.0 + (p - share) / (1.0 - share) };
                }
                self.components.iter().position(|kind| p < kind.share_up_to).unwrap_or(kinds - 1)
            }
        };
        let Component { prompt, output, class, priority, .. } = &self.components[kind];
        Size {
            prompt_tokens: prompt.at(uniform(&mut self.prompts)),
            output_tokens: output.at(uniform(&mut self.outputs)),
            class: *class,
            priority: *priority,
        }
    }
}
