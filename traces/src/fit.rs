//! A generator fitted to a trace, how well it fits, and what it would make.
//!
//! ```text
//!              ┌─► arrivals: rate per window, shape of the gaps within ─┐
//! TraceFrame ──┤                                                        ├─► GenerateSpec ─► generate ─► comparison
//!              ├─► lengths of each class: quantiles or a family ────────┤
//!              └─► sessions: turns, follow-ups, time to think ──────────┘
//! ```
//!
//! What such a generator cannot have: the order of classes (bursts of one kind), the correlation of prompt and output
//! (a remark says so), and anything about the content of prompts.

mod arrivals;
mod comparison;
mod gaps;
mod lengths;
mod sessions;

use overbook_sim::time::Span;
use overbook_sim::units::Duration;
use polars::prelude::*;

use crate::arrivals::GapFamily;
use crate::dist::LengthDist;
use crate::error::GenerateError;
use crate::frame::{CLASS, FrameError, OUTPUT, PROMPT, TraceFrame};
use crate::generate::GenerateSpec;
use crate::lengths::LengthSpec;
use crate::mix::ClassLengths;
use crate::significant::significant;

pub use arrivals::{ArrivalFit, Gaps};
pub use comparison::{Compared, compare};
pub use gaps::GapFit;
pub use lengths::{Counts, LengthFit};
pub use sessions::SessionFit;

/// Gaps above zero that a window must have to be fitted, and all windows together.
pub const GAPS_MIN: usize = 30;

/// Why a generator cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The requests cannot be made into a table.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// There is no rate.
    #[error(
        "a fit needs at least 2 requests at different times, found {requests} over {span}; help: take more of the trace"
    )]
    TooFew {
        /// Requests.
        requests: u64,
        /// Time between the first and the last.
        span: Span,
    },
    /// A profile of so many rates is no model any more.
    #[error("windows of {window} make {windows} rates, more than {limit}; help: choose a longer window")]
    TooManyWindows {
        /// Windows.
        windows: u64,
        /// Windows accepted.
        limit: u64,
        /// Length of a window asked for.
        window: Span,
    },
    /// The fitted generator cannot be run.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl From<PolarsError> for FitError {
    fn from(error: PolarsError) -> Self {
        FitError::Frame(FrameError::Table(error))
    }
}

/// What a fit of lengths is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LengthFamily {
    /// The empirical quantiles.
    #[default]
    Quantiles,
    /// Log-normal.
    LogNormal,
    /// Zipf.
    Zipf,
    /// Log-normal with a Pareto tail.
    ParetoMixture,
}

impl LengthFamily {
    fn is(self, dist: &LengthDist) -> bool {
        match dist {
            LengthDist::Fixed(_) | LengthDist::Quantiles(_) => self == LengthFamily::Quantiles,
            LengthDist::LogNormal { .. } => self == LengthFamily::LogNormal,
            LengthDist::Zipf { .. } => self == LengthFamily::Zipf,
            LengthDist::ParetoMixture { .. } => self == LengthFamily::ParetoMixture,
        }
    }
}

/// The lengths of a class.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassFit {
    /// Name of the class.
    pub class: String,
    /// Prompt lengths and the families fitted to them, the empirical quantiles first.
    pub prompt: (Counts, Vec<LengthFit>),
    /// The same of the output lengths.
    pub output: (Counts, Vec<LengthFit>),
    /// Rank correlation of prompt and output length (Spearman), which the generator does not have.
    pub correlation: f64,
}

/// All that was fitted.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceFit {
    /// Arrivals.
    pub arrivals: ArrivalFit,
    /// Lengths, by class. Where there are sessions: first prompts, and all outputs.
    pub classes: Vec<ClassFit>,
    /// Sessions, if the trace has enough of several turns. The arrivals are then those of their starts.
    pub sessions: Option<SessionFit>,
}

impl TraceFit {
    /// Fits arrivals in windows of this length, and the lengths of every class.
    ///
    /// # Errors
    /// See [`FitError`].
    pub fn of(frame: &TraceFrame, window: Span) -> Result<TraceFit, FitError> {
        let sessions = SessionFit::of(frame.turns());
        let starts = if sessions.is_some() { Some(frame.starts()?) } else { None };
        let starts = starts.as_ref().unwrap_or(frame);
        let arrivals = ArrivalFit::of(starts, window)?;
        let mut classes = Vec::new();
        for (number, name) in frame.classes().iter().enumerate() {
            let class = number as u32;
            let (prompt, output) = (Counts::of(starts, class, PROMPT)?, Counts::of(frame, class, OUTPUT)?);
            if prompt.total() == 0 {
                continue;
            }
            let (prompt_fits, output_fits) = (prompt.fits(), output.fits());
            classes.push(ClassFit {
                class: name.clone(),
                prompt: (prompt, prompt_fits),
                output: (output, output_fits),
                correlation: correlation(frame, class)?,
            });
        }
        Ok(TraceFit { arrivals, classes, sessions })
    }

    /// The generator: gaps of a family (by default the likelier one), lengths of another.
    ///
    /// A class whose lengths the family cannot have keeps its quantiles.
    pub fn spec(&self, gaps: Option<GapFamily>, lengths: LengthFamily) -> GenerateSpec {
        let chosen = |fits: &[LengthFit]| {
            let fit = fits.iter().find(|fit| lengths.is(&fit.dist)).or(fits.first());
            fit.map_or(LengthDist::Fixed(1), |fit| fit.dist.clone())
        };
        let total: u64 = self.classes.iter().map(|class| class.prompt.0.total()).sum();
        let mut classes: Vec<ClassLengths> = Vec::new();
        for fit in &self.classes {
            classes.push(ClassLengths {
                class: fit.class.clone(),
                share: significant(fit.prompt.0.total() as f64 / total as f64, 6),
                prompt: chosen(&fit.prompt.1),
                output: chosen(&fit.output.1),
                priority: 0,
            });
        }
        GenerateSpec {
            arrivals: self.arrivals.spec(gaps),
            lengths: LengthSpec::Classes(classes),
            sessions: self.sessions.as_ref().map(|fit| fit.spec.clone()),
            repeats: None,
            transcripts: None,
            requests: None,
            duration: Some(Duration(self.arrivals.duration())),
        }
    }
}

/// Spearman's rank correlation of prompt and output; 0 if one of them never changes.
fn correlation(frame: &TraceFrame, class: u32) -> Result<f64, FitError> {
    let options = RankOptions { method: RankMethod::Average, descending: false };
    let centred = |column: &str| {
        let rank = col(column).rank(options, None).cast(DataType::Float64);
        (rank.clone() - rank.mean()).alias(column)
    };
    let product = |a: &str, b: &str| (col(a) * col(b)).sum().alias(format!("{a}{b}"));
    let table = frame.lazy().filter(col(CLASS).eq(lit(class))).select([centred(PROMPT), centred(OUTPUT)]);
    let table = table.select([product(PROMPT, PROMPT), product(PROMPT, OUTPUT), product(OUTPUT, OUTPUT)]).collect()?;
    let sum = |at: usize| Ok::<f64, PolarsError>(table.columns()[at].f64()?.get(0).unwrap_or(0.0));
    let [xx, xy, yy] = [sum(0)?, sum(1)?, sum(2)?];
    Ok(if xx * yy > 0.0 { xy / (xx * yy).sqrt() } else { 0.0 })
}
