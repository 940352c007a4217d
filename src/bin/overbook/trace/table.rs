//! `overbook trace stats --by`: groups of requests, counted and measured.

use crate::cli::StatsBy;
use crate::output::Failure;

use super::source::Requests;

#[cfg(feature = "frames")]
pub(super) fn groups(requests: Requests, by: &[StatsBy]) -> Result<(), Failure> {
    use overbook_sim::time::Time;
    use overbook_traces::{By, TraceFrame};

    use super::columns::{number, numbers};

    let (frame, first) = match requests {
        Requests::Recorded(mut replay) => (TraceFrame::read(&mut *replay), replay.first_at()),
        Requests::Other(mut workload) => (TraceFrame::read(&mut *workload), Time::ZERO),
    };
    let frame = frame.map_err(Failure::input)?;
    let mut tables = Vec::new();
    for by in by {
        let (name, by) = match by {
            StatsBy::Class => ("class", By::Class),
            StatsBy::Model => ("model", By::Model),
            StatsBy::LogType => ("log type", By::LogType),
            StatsBy::HourOfDay => ("hour", By::HourOfDay(first)),
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
