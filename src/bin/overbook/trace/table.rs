//! `overbook trace stats --by`: groups of requests, counted and measured.

use crate::cli::StatsBy;
use crate::output::Failure;

use super::source::Requests;

#[cfg(feature = "frames")]
pub(super) fn groups(requests: Requests, by: &[StatsBy]) -> Result<(), Failure> {
    use overbook_sim::time::{NS_PER_S, Time};
    use overbook_sim::workload::arrival::Workload as _;
    use overbook_traces::{By, TraceFrame};

    use super::columns::{number, numbers};

    let (frame, first, clock) = match requests {
        Requests::Recorded(mut replay) => {
            let (first, clock) = (replay.first_at(), replay.clock());
            // The clock of the file, whatever its zone: its dates are read as UTC.
            let ahead_ns = i64::from(clock.ahead_s()) * NS_PER_S as i64;
            let local = Time(first.0.saturating_add_signed(ahead_ns));
            let frame = TraceFrame::read(&mut *replay);
            super::tell_left_out(&replay.rows());
            (frame, local, clock.to_string())
        }
        Requests::Other(mut workload) => {
            (TraceFrame::read(&mut *workload), Time::ZERO, "since the first request".to_owned())
        }
    };
    let hour = format!("hour ({clock})");
    let frame = frame.map_err(Failure::input)?;
    let mut tables = Vec::new();
    for by in by {
        let (name, by) = match by {
            StatsBy::Class => ("class", By::Class),
            StatsBy::Model => ("model", By::Model),
            StatsBy::LogType => ("log type", By::LogType),
            StatsBy::HourOfDay => (hour.as_str(), By::HourOfDay(first)),
        };
        let groups = frame.groups(by).map_err(anyhow::Error::new)?;
        let mut rows = vec![std::iter::once(name.to_owned()).chain(groups.header).collect::<Vec<_>>()];
        rows.extend(groups.rows.into_iter().map(|(name, figures)| {
            let figures = figures.iter().enumerate();
            // The first figure is a count.
            let shown = figures.map(|(at, figure)| if at == 0 { format!("{figure:.0}") } else { number(*figure) });
            std::iter::once(name).chain(shown).collect()
        }));
        tables.push(numbers(&rows));
    }
    crate::output::print(&tables.join("\n\n"))
}

#[cfg(not(feature = "frames"))]
pub(super) fn groups(_: Requests, _: &[StatsBy]) -> Result<(), Failure> {
    Err(super::fit::without_frames("`trace stats --by`"))
}
