//! Watts of real runs beside those of their simulation: energy of a run, power second by second.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Bar, Finding, REPEATS_MIN, Trial, mean, signed};

/// What a run drew.
#[derive(Clone, PartialEq, Debug)]
pub struct Drawn {
    /// Its energy [J].
    pub joules: f64,
    /// Whether that is from a counter of energy; else readings of power times their time.
    pub counted: bool,
    /// Mean of each whole second [W]; `None` where nothing was read.
    pub watts: Vec<Option<f64>>,
}

/// Power of a load.
#[derive(Clone, PartialEq, Debug)]
pub enum Power {
    /// Not compared, and why.
    NotMeasured(String),
    /// Compared.
    Measured(Box<PowerTrial>),
}

impl Power {
    /// Judgements of all its figures; none where it was not measured.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        let measured = if let Power::Measured(power) = self { Some(power) } else { None };
        measured.into_iter().flat_map(|power| power.findings())
    }

    /// Its figures; none where it was not measured.
    pub(super) fn trials(&self) -> &[Trial] {
        if let Power::Measured(power) = self { &power.trials } else { &[] }
    }
}

impl Default for Power {
    fn default() -> Self {
        Power::NotMeasured("not asked for".to_owned())
    }
}

/// Largest mean error of the power of a second that passes.
const MAPE_MAX: f64 = 0.10;

/// Figures of the power of a load, with their bars.
const BARS: [(&str, Option<Bar>); 3] = [
    ("energy", Some(Bar { error: 0.04, open: 0.04 })),
    ("watts_mean", None),
    ("watts_p99", Some(Bar { error: 0.05, open: 0.05 })),
];

/// Power of real runs of a load and of its simulation.
#[derive(Clone, PartialEq, Debug)]
pub struct PowerTrial {
    /// Energy of a run [J], mean power, 99th percentile of the power of a second [W].
    pub trials: Vec<Trial>,
    /// Mean of `|simulated / measured - 1|` over the seconds that both have, run by run.
    pub mape: Vec<f64>,
    /// Seconds that were compared, of all runs.
    pub seconds: usize,
    /// Whether energies are from a counter.
    pub counted: bool,
    /// Where the law is from.
    pub law: String,
    /// There was no GPU: watts are made up.
    pub emulated: bool,
    /// Draw of the GPU without a context [W], or why it was not read.
    pub bare: Result<f64, String>,
    /// Draw with the model resident and nothing running [W], and what the law says of it.
    pub idle: (Option<f64>, f64),
}

/// The value below which 99 of 100 lie, by nearest rank; none of nothing.
fn p99(values: &[Option<f64>]) -> Option<f64> {
    let mut known: Vec<f64> = values.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    let rank = (known.len() as f64 * 0.99).ceil() as usize;
    known.get(rank.max(1) - 1).copied()
}

impl PowerTrial {
    /// Real runs beside a simulation; `idle`: what the law says of the idle GPU [W].
    pub fn new(runs: &[Drawn], simulated: &Drawn, idle: f64) -> PowerTrial {
        let level = |drawn: &Drawn| {
            let known: Vec<f64> = drawn.watts.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| mean(&known))
        };
        let trial = |(metric, bar): (&'static str, Option<Bar>), of: &dyn Fn(&Drawn) -> Option<f64>| {
            let measured = runs.iter().map(of).collect::<Option<Vec<f64>>>()?;
            Some(Trial { metric, bar, measured, simulated: of(simulated)? })
        };
        let [energy, middle, tail] = BARS;
        let trials = [
            trial(energy, &|drawn| Some(drawn.joules)),
            trial(middle, &level),
            trial(tail, &|drawn| p99(&drawn.watts)),
        ];
        let errors = |drawn: &Drawn| -> Vec<f64> {
            let both = drawn.watts.iter().zip(&simulated.watts).filter_map(|(a, b)| a.zip(*b));
            both.map(|(measured, simulated)| (simulated / measured - 1.0).abs()).collect()
        };
        let errors: Vec<Vec<f64>> = runs.iter().map(errors).collect();
        PowerTrial {
            trials: trials.into_iter().flatten().collect(),
            mape: errors.iter().filter(|errors| !errors.is_empty()).map(|errors| mean(errors)).collect(),
            seconds: errors.iter().map(Vec::len).sum(),
            counted: runs.iter().all(|run| run.counted),
            law: String::new(),
            emulated: false,
            bare: Err("not read".to_owned()),
            idle: (None, idle),
        }
    }

    /// With where its law is from, whether watts are made up, and what the idle GPU drew without and with a context [W].
    #[must_use]
    pub fn told(self, law: String, emulated: bool, (bare, idle): (Result<f64, String>, Option<f64>)) -> PowerTrial {
        PowerTrial { law, emulated, bare, idle: (idle, self.idle.1), ..self }
    }

    /// Mean error of the power of a second, over the runs; `None` of runs shorter than a second.
    pub fn mean_error(&self) -> Option<f64> {
        (!self.mape.is_empty()).then(|| mean(&self.mape))
    }

    /// What the power of seconds shows.
    pub fn mape_finding(&self) -> Finding {
        match self.mean_error() {
            Some(error) if self.mape.len() >= REPEATS_MIN => {
                if error <= MAPE_MAX {
                    Finding::Passed
                } else {
                    Finding::Failed
                }
            }
            _ => Finding::Inconclusive,
        }
    }

    /// Judgements of all its figures.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.trials.iter().filter_map(Trial::finding).chain([self.mape_finding()])
    }

    /// What it was measured and simulated with, in words.
    pub fn conditions(&self) -> String {
        let bare = match &self.bare {
            Ok(watts) => format!("without a context {watts:.1} W"),
            Err(why) => format!("without a context not measured ({why})"),
        };
        let idle = self.idle.0.map_or_else(|| "not measured".to_owned(), |watts| format!("{watts:.1} W"));
        format!(
            "{}energies by {}; idle {idle} with the model on it (law {:.1} W), {bare}; law: {}",
            if self.emulated { "EMULATED, no GPU: a stand-in draws by the catalog's H100; " } else { "" },
            if self.counted { "the counter" } else { "readings of power" },
            self.idle.1,
            self.law
        )
    }

    /// The error of the power of a second, in words.
    pub fn seconds_text(&self) -> String {
        match self.mean_error() {
            Some(error) => format!(
                "power second by second: mean error {:.1} % over {} seconds, bar {:.0} %",
                error * 100.0,
                self.seconds,
                MAPE_MAX * 100.0
            ),
            None => "power second by second: no whole second was measured".to_owned(),
        }
    }
}

/// Power as JSON; `show` writes a trial.
pub(super) fn value(power: &Power, finding: impl Fn(Finding) -> Finding, show: impl Fn(&Trial) -> Value) -> Value {
    #[derive(Serialize)]
    struct Idle<'a> {
        bare_w: Option<f64>,
        bare_not_read: Option<&'a str>,
        resident_w: Option<f64>,
        law_w: f64,
    }
    match power {
        Power::NotMeasured(why) => json!({ "not_measured": why }),
        Power::Measured(power) => json!({
            "emulated": power.emulated,
            "law": power.law,
            "counted": power.counted,
            "idle": Idle {
                bare_w: power.bare.as_ref().ok().copied(),
                bare_not_read: power.bare.as_ref().err().map(String::as_str),
                resident_w: power.idle.0,
                law_w: power.idle.1,
            },
            "figures": power.trials.iter().map(show).collect::<Vec<_>>(),
            "seconds": {
                "compared": power.seconds,
                "mape": power.mape,
                "mean": power.mean_error(),
                "bar": MAPE_MAX,
                "finding": finding(power.mape_finding()),
            },
        }),
    }
}

/// Errors for the table on top: of the energy and of the power of seconds.
pub(super) fn headline(power: &Power) -> [String; 2] {
    let Power::Measured(power) = power else { return ["–".to_owned(), "–".to_owned()] };
    let energy = power.trials.iter().find(|trial| trial.metric == "energy");
    [
        energy.map_or_else(|| "–".to_owned(), |trial| signed(trial.error())),
        power.mean_error().map_or_else(|| "–".to_owned(), |error| format!("{:.1} %", error * 100.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(joules: f64, watts: &[f64]) -> Drawn {
        Drawn { joules, counted: true, watts: watts.iter().map(|&watts| Some(watts)).collect() }
    }

    fn trial(factor: f64) -> PowerTrial {
        let seconds = [400.0, 410.0, 500.0, 405.0];
        let runs: Vec<Drawn> = (0..5).map(|run| drawn(1715.0 + f64::from(run), &seconds)).collect();
        let simulated: Vec<f64> = seconds.iter().map(|watts| watts * factor).collect();
        PowerTrial::new(&runs, &drawn(1717.0 * factor, &simulated), 120.0)
    }

    #[test]
    fn a_right_law_passes_and_a_wrong_one_fails() {
        let right = trial(1.02);
        assert!(right.findings().all(|finding| finding == Finding::Passed), "{right:?}");
        assert!((right.mean_error().unwrap_or(1.0) - 0.02).abs() < 1e-9 && right.seconds == 20);
        let wrong = trial(1.12);
        assert!(wrong.findings().all(|finding| finding == Finding::Failed), "{wrong:?}");
        assert_eq!(wrong.findings().count(), 3);
    }

    #[test]
    fn what_was_not_read_is_not_judged() {
        let gaps = Drawn { joules: 100.0, counted: false, watts: vec![None, None] };
        let none = PowerTrial::new(&vec![gaps; 5], &drawn(100.0, &[400.0, 400.0]), 120.0);
        assert_eq!(none.trials.iter().map(|trial| trial.metric).collect::<Vec<_>>(), ["energy"]);
        assert_eq!((none.mape_finding(), none.seconds), (Finding::Inconclusive, 0));
        assert!(none.conditions().contains("readings of power") && none.seconds_text().contains("no whole second"));
        let one = PowerTrial::new(&[drawn(100.0, &[400.0])], &drawn(100.0, &[400.0, 9.0]), 120.0);
        assert_eq!(one.mape_finding(), Finding::Inconclusive, "one run shows nothing");
    }

    #[test]
    fn the_tail_is_the_nearest_rank() {
        let values: Vec<Option<f64>> = (1..=200).map(|watts| Some(f64::from(watts))).collect();
        assert_eq!(p99(&values), Some(198.0));
        assert_eq!((p99(&[Some(7.0), None]), p99(&[])), (Some(7.0), None));
    }
}
