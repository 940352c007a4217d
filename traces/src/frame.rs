//! A whole trace as one table (polars): what a single pass in constant memory cannot say. 20 bytes per request.

mod groups;
mod sessions;

use overbook_sim::workload::arrival::{Workload, WorkloadError};
use polars::prelude::*;

use crate::burstiness::{BurstStats, Burstiness};

pub use groups::{By, Groups};
pub(crate) use sessions::SessionTurns;

/// Names of the columns: nanoseconds since the first request, tokens, number of the class.
pub(crate) const AT: &str = "at";
pub(crate) const PROMPT: &str = "prompt";
pub(crate) const OUTPUT: &str = "output";
pub(crate) const CLASS: &str = "class";
/// Whether the request starts a session, or has none.
const STARTS: &str = "starts";

/// Why a trace cannot be made into a table, or a table not evaluated.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The workload is broken at some point; it says where.
    #[error("{0}")]
    Workload(WorkloadError),
    /// The table could not be evaluated.
    #[error("cannot evaluate the table of requests: {0}")]
    Table(#[from] PolarsError),
}

/// All requests of a trace.
pub struct TraceFrame {
    table: DataFrame,
    classes: Vec<String>,
    stats: BurstStats,
    turns: SessionTurns,
}

impl TraceFrame {
    /// Reads a workload to its end. Requests that failed in the trace have no lengths and are left out.
    ///
    /// # Errors
    /// The workload is broken at some point.
    pub fn read(workload: &mut dyn Workload) -> Result<TraceFrame, FrameError> {
        let (mut at, mut prompt, mut output, mut class) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut counter = Burstiness::default();
        let (mut first, mut turns, mut starts) = (None, SessionTurns::default(), Vec::new());
        while let Some(arrival) = workload.next_arrival().map_err(FrameError::Workload)? {
            if arrival.failed_in_trace {
                continue;
            }
            counter.record(&arrival);
            at.push(arrival.at.since(*first.get_or_insert(arrival.at)).0 as i64);
            prompt.push(arrival.prompt_tokens);
            output.push(arrival.output_tokens);
            class.push(u32::from(arrival.class.0));
            starts.push(turns.record(&arrival));
        }
        let tokens = |name: &str, values| UInt32Chunked::from_vec(name.into(), values).into_column();
        let columns = vec![
            Int64Chunked::from_vec(AT.into(), at).into_column(),
            tokens(PROMPT, prompt),
            tokens(OUTPUT, output),
            tokens(CLASS, class),
            BooleanChunked::from_slice(STARTS.into(), &starts).into_column(),
        ];
        let classes = workload.classes().to_vec();
        let stats = counter.finish(&classes);
        Ok(TraceFrame { table: DataFrame::new_infer_height(columns)?, classes, stats, turns })
    }

    /// Requests.
    pub fn requests(&self) -> u64 {
        self.table.height() as u64
    }

    /// Rates, burstiness and lengths of the whole, as the streaming pass counts them.
    pub fn stats(&self) -> &BurstStats {
        &self.stats
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the requests say about sessions.
    pub(crate) fn turns(&self) -> &SessionTurns {
        &self.turns
    }

    /// The requests that start sessions; their sessions are not given any more.
    pub(crate) fn starts(&self) -> Result<TraceFrame, PolarsError> {
        let table = self.lazy().filter(col(STARTS)).collect()?;
        let (classes, stats) = (self.classes.clone(), self.stats.clone());
        let mut starts = TraceFrame { table, classes, stats, turns: SessionTurns::default() };
        starts.table.rechunk_mut();
        Ok(starts)
    }

    pub(crate) fn lazy(&self) -> LazyFrame {
        self.table.clone().lazy()
    }

    /// Arrival times [ns since the first], in order.
    pub(crate) fn arrivals(&self) -> Result<&[i64], PolarsError> {
        self.table.column(AT)?.i64()?.cont_slice()
    }
}
