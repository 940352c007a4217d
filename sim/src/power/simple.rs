//! Power laws of others, to compare with: none looks at what a step executes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::units::Watts;

/// What these laws know of a span of time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seen {
    /// Whether prompts are computed in it.
    pub prompt: bool,
    /// Sequences that decode; 0 together with no prompt is idle.
    pub batch: f64,
    /// Operations per second over the peak (model FLOPs utilisation).
    pub mfu: f64,
}

/// A law of others.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SimpleLaw {
    /// A constant for each phase (Splitwise-sim, `power_model.py`).
    Phases(Phases),
    /// A power of the utilisation (Vidur-Energy, arXiv 2507.11417).
    Utilisation(Utilisation),
    /// A logistic curve over the logarithm of the batch (OpenG2G, arXiv 2605.05519; the fleet simulator of vLLM's semantic router).
    Batch(Batch),
}

/// A constant for each phase.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Without work.
    pub idle: Watts,
    /// While prompts are computed.
    pub prompt: Watts,
    /// While tokens are made.
    pub token: Watts,
}

/// `idle + (most − idle) · min(1, (mfu / saturation)^exponent)`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Utilisation {
    /// Without work.
    pub idle: Watts,
    /// From `saturation` on.
    pub most: Watts,
    /// Utilisation from which on the GPU draws the most; Vidur-Energy has 0.45.
    #[schemars(range(min = 0, max = 1))]
    pub saturation: f64,
    /// Vidur-Energy has 0.7.
    #[schemars(range(min = 0, max = 1))]
    pub exponent: f64,
}

/// `least + rise / (1 + exp(−slope · (log2 batch − middle)))`; `idle` without work.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Without work.
    pub idle: Watts,
    /// Towards batches of nothing.
    pub least: Watts,
    /// Between the smallest and the largest batches.
    pub rise: Watts,
    /// Binary logarithm of the batch in the middle of the rise.
    pub middle: f64,
    /// Steepness per doubling.
    #[schemars(range(min = 0))]
    pub slope: f64,
}

impl SimpleLaw {
    /// Draw [W].
    pub fn watts(&self, seen: &Seen) -> f64 {
        let busy = seen.prompt || seen.batch > 0.0;
        match self {
            SimpleLaw::Phases(law) if seen.prompt => law.prompt.0,
            SimpleLaw::Phases(law) if busy => law.token.0,
            SimpleLaw::Phases(law) => law.idle.0,
            SimpleLaw::Utilisation(law) => {
                let share = (seen.mfu / law.saturation).powf(law.exponent).min(1.0);
                law.idle.0 + (law.most.0 - law.idle.0) * share
            }
            // A prompt alone counts as a batch of one.
            SimpleLaw::Batch(law) if busy => {
                let over = seen.batch.max(1.0).log2() - law.middle;
                law.least.0 + law.rise.0 / (1.0 + (-law.slope * over).exp())
            }
            SimpleLaw::Batch(law) => law.idle.0,
        }
    }

    /// The rules on it.
    pub fn check(&self, check: &mut Check<'_>) {
        match self {
            SimpleLaw::Phases(law) => {
                let told = format!("is {}, below idle: {}", law.token, law.idle);
                check.that(law.token.0 >= law.idle.0, "token", told);
                let told = format!("is {}, below idle: {}", law.prompt, law.idle);
                check.that(law.prompt.0 >= law.idle.0, "prompt", told);
            }
            SimpleLaw::Utilisation(law) => {
                let told = format!("is {}, below idle: {}", law.most, law.idle);
                check.that(law.most.0 >= law.idle.0, "most", told);
                check.share_above_zero("saturation", law.saturation);
                check.share_above_zero("exponent", law.exponent);
            }
            SimpleLaw::Batch(law) => {
                let told = format!("is {}; it must be above 0 and finite", law.slope);
                check.that(law.slope > 0.0 && law.slope.is_finite(), "slope", told);
                let told = format!("is {}; it must be a number", law.middle);
                check.that(law.middle.is_finite(), "middle", told);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: Seen = Seen { prompt: false, batch: 16.0, mfu: 0.1 };
    const NOTHING: Seen = Seen { prompt: false, batch: 0.0, mfu: 0.0 };

    #[test]
    fn each_law_has_its_published_figures() {
        let phases = SimpleLaw::Phases(Phases { idle: Watts(75.0), prompt: Watts(700.0), token: Watts(380.0) });
        let of = |law: &SimpleLaw| {
            [NOTHING, TOKENS, Seen { prompt: true, ..TOKENS }].map(|seen| law.watts(&seen).round() as u32)
        };
        assert_eq!(of(&phases), [75, 380, 700]);
        let mfu = Utilisation { idle: Watts(60.0), most: Watts(700.0), saturation: 0.45, exponent: 0.7 };
        let mfu = SimpleLaw::Utilisation(mfu);
        // 60 + 640 · (0.1 / 0.45)^0.7, and full from 0.45 on.
        assert_eq!(of(&mfu), [60, 283, 283]);
        assert!((mfu.watts(&Seen { mfu: 0.6, ..TOKENS }) - 700.0).abs() < 1e-9);
        let batch = Batch { idle: Watts(75.0), least: Watts(300.0), rise: Watts(300.0), middle: 4.2, slope: 1.0 };
        // 300 + 300 / (1 + e^0.2).
        assert_eq!(of(&SimpleLaw::Batch(batch)), [75, 435, 435]);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let told = |law: SimpleLaw| {
            let mut found = Vec::new();
            law.check(&mut Check::new("", &mut found));
            found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let phases = Phases { idle: Watts(75.0), prompt: Watts(70.0), token: Watts(60.0) };
        assert_eq!(told(SimpleLaw::Phases(phases)), ["token", "prompt"]);
        let mfu = Utilisation { idle: Watts(60.0), most: Watts(50.0), saturation: 0.0, exponent: f64::NAN };
        assert_eq!(told(SimpleLaw::Utilisation(mfu)), ["most", "saturation", "exponent"]);
        let batch = Batch { idle: Watts(75.0), least: Watts(300.0), rise: Watts(300.0), middle: f64::NAN, slope: 0.0 };
        assert_eq!(told(SimpleLaw::Batch(batch)), ["slope", "middle"]);
    }
}
