//! When clients send: rate and shape of the gaps, per client and window of 600 s.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use overbook_sim::time::NS_PER_S;

use super::PopulationSpec;
use crate::arrivals::{SHAPES, WEIBULL_SHAPES};
use crate::error::TraceError;
use crate::quote::shorten;
use crate::table::{Row, Table};

/// Length of ServeGen's windows of rates [ns].
pub(super) const WINDOW_NS: u64 = 600 * NS_PER_S;

/// Rates accepted at most [requests/s].
pub(super) const RATE_MAX: f64 = 1e9;

/// Clients have numbers up to this.
const CLIENT_MAX: u32 = (1 << 16) - 1;

const COLUMNS: &[&str] = &["workload", "client", "window_start_s", "rate_rps", "pattern", "param1"];

/// Columns of ServeGen's own `chunk-N-trace.csv`, which have no header line.
const CHUNK_COLUMNS: [&str; 6] = ["window_start_s", "rate_rps", "cv", "pattern", "param1", "param2"];

/// Distribution of a client's gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pattern {
    Gamma,
    Weibull,
}

/// A window in which a client sends.
#[derive(Clone, Debug)]
pub(super) struct RateWindow {
    /// [ns since the start of the file]
    pub(super) start_ns: u64,
    pub(super) length_ns: u64,
    /// Above 0 [requests/s].
    pub(super) rate: f64,
    pub(super) pattern: Pattern,
    pub(super) shape: f64,
}

/// A client and its windows, in order of time.
#[derive(Clone, Debug)]
pub(super) struct ClientRates {
    pub(super) id: u32,
    pub(super) windows: Vec<RateWindow>,
}

impl ClientRates {
    /// Expected requests in all windows.
    pub(super) fn requests(&self) -> f64 {
        self.windows.iter().map(|window| window.rate * (window.length_ns as f64 / NS_PER_S as f64)).sum()
    }
}

/// The part of the file that is played [ns since its start].
#[derive(Clone, Copy, Debug)]
pub(super) struct Span600 {
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

impl Span600 {
    /// Cuts the clients' windows to the part that the specification wants; clients that are silent in it go.
    pub(super) fn cut(
        spec: &PopulationSpec,
        clients: &mut Vec<ClientRates>,
        end_ns: u64,
    ) -> Result<Span600, TraceError> {
        let place = spec.rates.display().to_string();
        let from_ns = spec.window.from.map_or(0, |from| from.0.0);
        let to_ns = spec.window.to.map_or(end_ns, |to| to.0.0);
        if to_ns > end_ns || from_ns >= end_ns {
            let problem = format!("the rates end after {} s, the window goes beyond", end_ns / NS_PER_S);
            return Err(TraceError::Population { place, problem, help: "choose an earlier `window`" });
        }
        for client in &mut *clients {
            client.windows.retain_mut(|window| {
                let (start, end) = (window.start_ns, window.start_ns + window.length_ns);
                window.start_ns = start.max(from_ns);
                window.length_ns = end.min(to_ns).saturating_sub(window.start_ns);
                window.length_ns > 0
            });
        }
        clients.retain(|client| !client.windows.is_empty());
        if clients.is_empty() {
            let problem = "no client sends anything in the window".to_owned();
            return Err(TraceError::Population { place, problem, help: "choose another `window`" });
        }
        Ok(Span600 { from_ns, to_ns })
    }
}

/// Name of the workload, its clients by number, and the end of its last window [ns].
pub(super) fn read(path: &Path, workload: Option<&str>) -> Result<(String, Vec<ClientRates>, u64), TraceError> {
    let mut clients = Clients::default();
    let name = if path.is_dir() { clients.read_folder(path, workload)? } else { clients.read_file(path, workload)? };
    let windows = clients.by_id.into_iter().map(|(id, windows)| ClientRates { id, windows });
    Ok((name, windows.collect(), clients.end_ns))
}

#[derive(Default)]
struct Clients {
    by_id: BTreeMap<u32, Vec<RateWindow>>,
    /// The last window of each client, silent or not.
    last_ns: BTreeMap<u32, u64>,
    end_ns: u64,
}

impl Clients {
    fn read_file(&mut self, path: &Path, wanted: Option<&str>) -> Result<String, TraceError> {
        let mut table = Table::open(path)?;
        let columns = table.header().find(COLUMNS).map_err(|missing| TraceError::Population {
            place: format!("{}:1", path.display()),
            problem: format!("the header `{}` lacks {}", table.header().text(), missing.join(", ")),
            help: "rates are a CSV file with a header, or a folder of ServeGen's `chunk-N-trace.csv`",
        })?;
        table.want(&columns)?;
        let [workload, client, columns @ ..] = columns.as_slice() else { return Ok(String::new()) };
        let mut names: BTreeSet<String> = BTreeSet::new();
        while let Some(row) = table.next_row()? {
            let name = row.text(*workload)?;
            let name = name.trim();
            if !names.contains(name) {
                names.insert(name.to_owned());
            }
            // Without a name it must be the only workload; of more than one nothing is read.
            if wanted.map_or(names.len() == 1, |wanted| wanted.trim().eq_ignore_ascii_case(name)) {
                let id = client_id(&row, *client)?;
                self.window(&row, id, columns)?;
            }
        }
        named(path, names, wanted)
    }

    fn read_folder(&mut self, path: &Path, wanted: Option<&str>) -> Result<String, TraceError> {
        let place = path.display().to_string();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let name = absolute.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        if wanted.is_some_and(|wanted| !wanted.trim().eq_ignore_ascii_case(&name)) {
            let problem = format!("a folder is one workload, and this one is called `{name}`");
            return Err(TraceError::Population { place, problem, help: "leave out `workload`, or name its folder" });
        }
        let chunks = chunks(path, "-trace.csv")?;
        if chunks.is_empty() {
            let problem = "there is no `chunk-N-trace.csv` in this folder".to_owned();
            let help = "ServeGen's folders are called like `data/language/m-small`";
            return Err(TraceError::Population { place, problem, help });
        }
        for (id, file) in chunks {
            let mut table = Table::open_without_header(&file, &CHUNK_COLUMNS)?;
            while let Some(row) = table.next_row()? {
                // Start, rate, pattern, shape.
                self.window(&row, id, &[0, 1, 3, 4])?;
            }
        }
        Ok(name)
    }

    /// One row. The columns: start, rate, pattern, shape.
    fn window(&mut self, row: &Row<'_>, id: u32, columns: &[usize]) -> Result<(), TraceError> {
        let [start, rate, pattern, shape] = [0, 1, 2, 3].map(|at| columns[at]);
        let start_ns = row.seconds(start)?;
        if !start_ns.is_multiple_of(WINDOW_NS) {
            return Err(row.bad(start, "a multiple of 600 s", "ServeGen's windows of rates are 600 s long"));
        }
        if self.last_ns.insert(id, start_ns).is_some_and(|before| before >= start_ns) {
            return Err(row.bad(start, "a later window than in the client's row before", "sort the rows by time"));
        }
        self.end_ns = self.end_ns.max(start_ns.saturating_add(WINDOW_NS));
        let rate = row.number(rate, &(0.0..=RATE_MAX), "a rate from 0 to 10^9 requests/s")?;
        let windows = self.by_id.entry(id).or_default();
        // Silent; the other columns are empty or 0 then.
        if rate <= 0.0 {
            return Ok(());
        }
        let (pattern, shapes, expected) = match row.text(pattern)?.trim() {
            "Gamma" => (Pattern::Gamma, SHAPES, "the shape of a Gamma distribution, from 0.001 to 10^6"),
            "Weibull" => (Pattern::Weibull, WEIBULL_SHAPES, "the shape of a Weibull distribution, from 0.1 to 100"),
            _ => return Err(row.bad(pattern, "`Gamma` or `Weibull`", "the fields may be shifted against the header")),
        };
        let shape = row.number(shape, &shapes, expected)?;
        windows.push(RateWindow { start_ns, length_ns: WINDOW_NS, rate, pattern, shape });
        Ok(())
    }
}

/// The workload's name as the file writes it.
fn named(path: &Path, names: BTreeSet<String>, wanted: Option<&str>) -> Result<String, TraceError> {
    let found = shorten(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    let place = path.display().to_string();
    let problem = match (wanted, names.len()) {
        (_, 0) => "there is a header and no rows".to_owned(),
        (Some(wanted), _) => match names.into_iter().find(|name| name.eq_ignore_ascii_case(wanted.trim())) {
            Some(name) => return Ok(name),
            None => format!("no workload is called `{}`; it has {found}", shorten(wanted)),
        },
        (None, 1) => return Ok(names.into_iter().next().unwrap_or_default()),
        (None, _) => format!("it has several workloads: {found}"),
    };
    Err(TraceError::Population { place, problem, help: "name one of the file's workloads with `workload`" })
}

fn client_id(row: &Row<'_>, column: usize) -> Result<u32, TraceError> {
    let id = row.text(column)?.trim().parse().ok().filter(|&id| id <= CLIENT_MAX);
    id.ok_or_else(|| row.bad(column, "a client's number from 0 to 65535", "the fields may be shifted"))
}

/// The files `chunk-N` with this ending, by N.
pub(super) fn chunks(folder: &Path, ending: &str) -> Result<BTreeMap<u32, PathBuf>, TraceError> {
    let error = |source| TraceError::Open { path: folder.to_owned(), source };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let id = name.strip_prefix("chunk-").and_then(|name| name.strip_suffix(ending)?.parse().ok());
        if let Some(id) = id.filter(|&id| id <= CLIENT_MAX) {
            files.insert(id, path);
        }
    }
    Ok(files)
}
