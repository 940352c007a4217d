//! Fleets that were tried, over what their replicas run on and their GPUs, as a table whose cells are shaded by the worst figure over its bound.

use super::Plan;
use crate::figure::escaped;
use crate::format::number;

/// GPU counts and kinds of replicas that stand side by side at most.
const COLUMNS: usize = 12;
const ROWS: usize = 24;

/// The least and the most of a colour that a cell has [%].
const SHADE: (f64, f64) = (8.0, 60.0);

/// Figures above this many times their bound are shaded alike.
const MOST: f64 = 2.0;

/// What is known of the fleets of a cell.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cell {
    /// The least, over its fleets, of the worst figure over its bound; whether that fleet keeps the promises.
    Ratio(f64, bool),
    /// Every fleet was stopped: the promises could not be kept any more.
    Stopped,
}

/// The kind of a ledger row: what its replicas run on, and how they work.
fn kind(row: &super::LedgerRow) -> String {
    let stands = |gpu: &str, parallel: u32| format!("{gpu} TP {parallel}");
    let first = stands(&row.gpu, row.tensor_parallel);
    match (&row.decode_gpu, row.decode_tensor_parallel) {
        (Some(gpu), Some(parallel)) => format!("{first} → {}", stands(gpu, parallel)),
        _ => format!("{first}, {}", row.mode),
    }
}

/// The cell with another fleet.
fn better(known: Option<Cell>, new: Cell) -> Cell {
    match (known, new) {
        (Some(Cell::Ratio(old, held)), Cell::Ratio(ratio, holds)) => {
            let take = (holds, -ratio) > (held, -old);
            if take { new } else { Cell::Ratio(old, held) }
        }
        (Some(old @ Cell::Ratio(..)), Cell::Stopped) => old,
        (_, new) => new,
    }
}

/// Kinds, GPU counts, and the cells in rows of them.
type Map = (Vec<String>, Vec<u32>, Vec<Vec<Option<Cell>>>);

fn map(plan: &Plan) -> Map {
    let tried: Vec<(&super::LedgerRow, u32)> =
        plan.ledger.iter().filter(|row| row.stage == "window").filter_map(|row| Some((row, row.gpus?))).collect();
    let mut gpus: Vec<u32> = tried.iter().map(|(_, gpus)| *gpus).collect();
    gpus.sort_unstable();
    gpus.dedup();
    // Those nearest to the answer say most.
    let center = plan.answer.as_ref().map_or(0, |fleet| fleet.gpus);
    while gpus.len() > COLUMNS {
        let far = |at: usize| gpus[at].abs_diff(center);
        let drop = if far(0) >= far(gpus.len() - 1) { 0 } else { gpus.len() - 1 };
        gpus.remove(drop);
    }
    let mut kinds: Vec<String> = Vec::new();
    for (row, _) in tried.iter().filter(|(_, count)| gpus.contains(count)) {
        let own = kind(row);
        if !kinds.contains(&own) {
            kinds.push(own);
        }
    }
    kinds.truncate(ROWS);
    let mut cells = vec![vec![None; gpus.len()]; kinds.len()];
    for (row, count) in tried {
        let place =
            kinds.iter().position(|known| *known == kind(row)).zip(gpus.iter().position(|known| *known == count));
        let Some((down, across)) = place else { continue };
        let new = row.nearest_to_bound.map_or(Cell::Stopped, |ratio| Cell::Ratio(ratio, row.outcome != "lost"));
        cells[down][across] = Some(better(cells[down][across], new));
    }
    (kinds, gpus, cells)
}

/// The section; empty where no two kinds or no two counts were tried.
pub(super) fn html(plan: &Plan) -> String {
    let (kinds, gpus, cells) = map(plan);
    if gpus.len() < 2 || kinds.is_empty() {
        return String::new();
    }
    let cell = |cell: &Option<Cell>| match cell {
        None => "<td>–</td>".to_owned(),
        Some(Cell::Stopped) => format!("<td class=\"missed\" style=\"--heat:{}%\">miss</td>", SHADE.1),
        Some(Cell::Ratio(ratio, held)) => {
            let share = (ratio / MOST).clamp(0.0, 1.0);
            let shade = (SHADE.0 + (SHADE.1 - SHADE.0) * share).round();
            let missed = if *held { "" } else { " class=\"missed\"" };
            format!("<td{missed} style=\"--heat:{shade}%\">{}</td>", number(*ratio))
        }
    };
    let head: Vec<String> = gpus.iter().map(|gpus| format!("<th scope=\"col\">{gpus}</th>")).collect();
    let head = head.concat();
    let rows: Vec<String> = kinds
        .iter()
        .zip(&cells)
        .map(|(kind, row)| {
            let row: String = row.iter().map(cell).collect();
            format!("<tr><th scope=\"row\">{}</th>{row}</tr>\n", escaped(kind))
        })
        .collect();
    let rows = rows.concat();
    format!(
        "<div class=\"heat\">\n<p class=\"soft\">The figure that comes nearest to its bound, over that bound: 1 at the limit, the best of the fleets of a \
         cell. Miss: stopped, since the promises could not be kept any more. –: not tried, since bounds, a larger fleet that fails or a cheaper one that holds had \
         decided.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Replicas of ↓  GPUs →</th>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table></div>\n</div>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fleet_of_a_cell_counts_and_one_that_holds_before_all() {
        let (held, missed) = (Cell::Ratio(0.9, true), Cell::Ratio(0.8, false));
        assert_eq!(better(None, Cell::Stopped), Cell::Stopped);
        assert_eq!(better(Some(Cell::Stopped), missed), missed);
        assert_eq!(better(Some(missed), held), held);
        assert_eq!(better(Some(held), missed), held);
        assert_eq!(better(Some(held), Cell::Ratio(0.7, true)), Cell::Ratio(0.7, true));
        assert_eq!(better(Some(held), Cell::Stopped), held);
    }
}
