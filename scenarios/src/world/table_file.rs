//! The file of a cost table: device times of whole steps on two grids.

use std::path::Path;

use overbook_sim::cost::table::{Grid, Table, TableError};
use overbook_sim::cost::{CostModel, HostCost};
use serde::Deserialize;

use super::WorldError;
use crate::diagnostics::{Problems, Sources};
use crate::small_file;
use crate::yaml::{self, Node};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    /// Decode steps: rows are sequences, columns the mean context per sequence [tokens].
    decode: DecodeGrid,
    /// Prefill steps of one sequence: rows are new tokens, columns tokens present.
    prefill: PrefillGrid,
    /// Host time per step.
    #[serde(default)]
    host: Option<HostCost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecodeGrid {
    seqs: Vec<u32>,
    mean_context: Vec<u32>,
    /// One list per row [µs].
    device_us: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefillGrid {
    tokens: Vec<u32>,
    past: Vec<u32>,
    /// One list per row [µs].
    device_us: Vec<Vec<f64>>,
}

/// What the file calls a grid and its axes.
#[derive(Clone, Copy)]
struct Names {
    grid: &'static str,
    rows: &'static str,
    columns: &'static str,
}

const DECODE: Names = Names { grid: "decode", rows: "seqs", columns: "mean_context" };
const PREFILL: Names = Names { grid: "prefill", rows: "tokens", columns: "past" };

/// Reads a table; `host` outranks the file's. Everything wrong with the file is reported with its place.
pub(super) fn read(path: &Path, host: Option<HostCost>) -> Result<Box<dyn CostModel>, WorldError> {
    let text = small_file::read_text(path, small_file::SETTINGS_MAX)
        .map_err(|source| WorldError::ReadTable { path: path.to_owned(), source })?;
    let mut sources = Sources::default();
    let id = sources.add(&path.display().to_string(), &text);
    let (tree, faults) = yaml::parse(id, &text);
    let mut problems = Problems::new(sources);
    problems.extend(faults);
    let table = tree.and_then(|tree| table(&tree, host, &mut problems));
    match table {
        Some(table) if problems.is_empty() => Ok(Box::new(table)),
        _ => Err(WorldError::TableForm { path: path.to_owned(), problems: problems.render(false) }),
    }
}

fn table(tree: &Node, host: Option<HostCost>, problems: &mut Problems) -> Option<Table> {
    let decoded = yaml::decode::<TableFile>(tree);
    problems.extend(decoded.faults);
    let file = decoded.value.filter(|_| problems.is_empty())?;
    let DecodeGrid { seqs, mean_context, device_us } = file.decode;
    let decode = grid(DECODE, seqs, mean_context, &device_us, tree, problems);
    let PrefillGrid { tokens, past, device_us } = file.prefill;
    let prefill = grid(PREFILL, tokens, past, &device_us, tree, problems);
    Table::new(&decode?, &prefill?, host.or(file.host).unwrap_or_default())
        .map_err(|error| problems.add("", tree.span, error.to_string(), None))
        .ok()
}

/// A grid of the file if it is one; else what is wrong, each at its place.
fn grid(
    names: Names,
    rows: Vec<u32>,
    columns: Vec<u32>,
    device_us: &[Vec<f64>],
    tree: &Node,
    problems: &mut Problems,
) -> Option<Grid> {
    let mut add = |key: &str, message: String| {
        let path = format!("{}.{key}", names.grid);
        problems.add(&path, tree.place(&path), message, None);
    };
    if device_us.len() != rows.len() {
        let (got, wanted) = (device_us.len(), rows.len());
        add("device_us", format!("`device_us` has {got} rows, `{}` has {wanted} values", names.rows));
        return None;
    }
    if let Some((index, row)) = device_us.iter().enumerate().find(|(_, row)| row.len() != columns.len()) {
        let message = format!("the row has {} times, `{}` has {} values", row.len(), names.columns, columns.len());
        add(&format!("device_us.{index}"), message);
        return None;
    }
    let grid = Grid { rows, columns, device_us: device_us.concat() };
    match grid.check(names.grid) {
        Ok(()) => return Some(grid),
        Err(TableError::Empty { axis, .. }) => {
            let key = if axis == "rows" { names.rows } else { names.columns };
            add(key, format!("`{key}` is empty"));
        }
        Err(TableError::Order { axis, line, .. }) => {
            let (key, values) = if axis == "rows" { (names.rows, &grid.rows) } else { (names.columns, &grid.columns) };
            let message = match line.checked_sub(1) {
                Some(before) => format!("`{key}` must ascend; {} stands after {}", values[line], values[before]),
                None => format!("`{key}` starts at 0; the least is 1"),
            };
            add(&format!("{key}.{line}"), message);
        }
        Err(TableError::Time { index, us, .. }) => {
            let (row, column) = (index / grid.columns.len(), index % grid.columns.len());
            add(&format!("device_us.{row}.{column}"), format!("{us} is no step time [us]: above 0 and below an hour"));
        }
        Err(error @ TableError::Size { .. }) => add("device_us", error.to_string()),
    }
    None
}
