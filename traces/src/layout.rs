//! How a file is read: its format by its columns, and where each column stands.

use crate::burstgpt;
use crate::columns::{Columns, Mapped};
use crate::decoder::Decoder;
use crate::error::TraceError;
use crate::export::{BLOCK_TOKENS, CLASS, ELAPSED, EXTRA, PRIORITY, SESSION};
use crate::format::Format;
use crate::header::Header;
use crate::keep::Keep;
use crate::mooncake::{HASH_IDS, HASH_TOKENS, IdSize, SESSION_ID};
use crate::preset::{Preset, Wanted, preset};
use crate::session::SessionColumn;
use crate::spec::TraceSpec;
use crate::table::Table;

/// How a file is read.
pub(crate) struct Layout {
    pub(crate) format: Format,
    pub(crate) decoder: Decoder,
    /// Position of a column of block ids, and tokens per id.
    pub(crate) ids: Option<(usize, IdSize)>,
    pub(crate) sessions: Option<SessionColumn>,
    pub(crate) elapsed: Option<usize>,
    /// Whether rows of the format come in any order.
    pub(crate) sorts: bool,
}

/// The error for requests that have lengths alone.
#[cold]
pub(crate) fn no_times(table: &mut Table, format: Format) -> TraceError {
    let why = if format == Format::SglangBench {
        "`sglang.bench_serving` does not write them, and `start_times` of `vllm bench serve --save-detailed` is missing"
    } else {
        "`columns.arrival` is missing"
    };
    let path = table.path().to_owned();
    let stated = table.header().position("request_rate").and_then(|column| {
        table.want(&[column]).ok()?;
        let rate = table.next_row().ok()??.text(column).ok()?.into_owned();
        rate.parse::<f64>().ok().filter(|rate| rate.is_finite()).map(|rate| format!("{rate}/s"))
    });
    TraceError::NoTimes { path, why, rate: stated.unwrap_or_else(|| "2/s".to_owned()) }
}

/// How a file is read by a map of its columns.
pub(crate) fn mapped(format: Format, columns: &Columns, table: &Table, keep: &Keep) -> Result<Layout, TraceError> {
    let (decoder, found) = Mapped::new(columns, table.header(), keep, table.path())?;
    let ids = found.hash_ids.map(|column| (column, IdSize::Tokens(columns.hash_tokens)));
    let sessions = found.session.map(|column| SessionColumn::new(column, found.parent));
    Ok(Layout { format, decoder: Decoder::Mapped(decoder), ids, sessions, elapsed: None, sorts: false })
}

/// How a file is read whose columns are those of a format.
pub(crate) fn built_in(spec: &TraceSpec, table: &Table) -> Result<Layout, TraceError> {
    let (format, columns) = match spec.format {
        Format::Auto => detect(table)?,
        format => (format, columns_of(format, table)?),
    };
    if format == Format::Bailian {
        if !(spec.keep.model.is_empty() && spec.keep.log_type.is_empty()) {
            return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
        }
        let has_ids = table.header().position(HASH_IDS).is_some();
        return mapped(format, &Columns::bailian(has_ids), table, &spec.keep);
    }
    if let Some(preset) = preset(format, table.header()) {
        return of_program(spec, table, format, preset);
    }
    // What this program writes has more columns.
    let by_class = spec.keep.model.is_empty() && spec.keep.log_type.is_empty();
    let written = EXTRA.iter().any(|name| table.header().position(name).is_some());
    if format == Format::Vidur && by_class && written {
        let [time, prompt, output] = [0, 1, 2].map(|at| Format::Vidur.columns()[at]);
        let has = |name: &str| table.header().position(name).map(|_| name.to_owned());
        let columns = Columns {
            class: has(CLASS),
            priority: has(PRIORITY),
            hash_ids: has(HASH_IDS),
            ..Columns::new(time, prompt, output)
        };
        let layout = mapped(format, &columns, table, &spec.keep)?;
        let at = |name: &str| table.header().position(name);
        return Ok(Layout {
            ids: layout.ids.map(|(column, size)| (column, at(BLOCK_TOKENS).map_or(size, IdSize::Column))),
            sessions: at(SESSION).map(SessionColumn::written),
            elapsed: at(ELAPSED),
            ..layout
        });
    }
    if format != Format::BurstGpt && !spec.keep.is_all() {
        return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
    }
    let of = |wanted: Format, name: &str| table.header().position(name).filter(|_| format == wanted);
    let session = of(Format::BurstGpt, burstgpt::SESSION).or_else(|| of(Format::Mooncake, SESSION_ID));
    Ok(Layout {
        format,
        decoder: Decoder::new(format, &columns, &spec.keep),
        ids: of(Format::Mooncake, HASH_IDS).map(|column| (column, IdSize::Tokens(HASH_TOKENS))),
        sessions: session.map(|column| SessionColumn::new(column, None)),
        elapsed: of(Format::BurstGpt, burstgpt::ELAPSED),
        sorts: false,
    })
}

/// How a file of another program is read.
fn of_program(spec: &TraceSpec, table: &Table, format: Format, preset: Preset) -> Result<Layout, TraceError> {
    if !(spec.keep.model.is_empty() && spec.keep.log_type.is_empty())
        || (preset.columns.class.is_none() && !spec.keep.class.is_empty())
    {
        return Err(TraceError::NothingToFilter { path: spec.path.clone(), format });
    }
    let layout = mapped(format, &preset.columns, table, &spec.keep)?;
    let size = preset.id_tokens.and_then(|name| table.header().position(name)).map(IdSize::Partial);
    let wanted = preset.wanted.and_then(|wanted| match wanted {
        Wanted::With(name, value) => Some((table.header().position(name)?, value, true)),
        Wanted::Without(name, value) => Some((table.header().position(name)?, value, false)),
    });
    let decoder = match layout.decoder {
        Decoder::Mapped(mapped) => {
            let instead = preset.instead.map(|name| table.header().position(&name?));
            let mapped = mapped.of_program(wanted, instead);
            Decoder::Mapped(if preset.timed { mapped } else { mapped.untimed() })
        }
        other => other,
    };
    Ok(Layout {
        decoder,
        ids: layout.ids.map(|(column, tokens)| (column, size.unwrap_or(tokens))),
        sorts: true,
        ..layout
    })
}

fn columns_of(format: Format, table: &Table) -> Result<Vec<usize>, TraceError> {
    table.header().find(format.columns()).map_err(|missing| TraceError::MissingColumns {
        path: table.path().to_owned(),
        format,
        missing: missing.join(", "),
        found: table.header().text(),
    })
}

/// Columns that count the requests of a row: OpenAI's usage exports, now and until 2024.
pub(crate) const SUMS: [&str; 2] = ["num_model_requests", "n_requests"];

/// The format that the columns are those of, and where these stand.
pub(crate) fn detect(table: &Table) -> Result<(Format, Vec<usize>), TraceError> {
    let header = table.header();
    if let Some(column) = SUMS.into_iter().find(|name| header.position(name).is_some()) {
        return Err(TraceError::Sums { path: table.path().to_owned(), column: column.to_owned() });
    }
    let fits = |format: Format| header.find(format.columns()).ok().map(|columns| (format, columns));
    Format::ALL.into_iter().find_map(fits).ok_or_else(|| TraceError::UnknownHeader {
        path: table.path().to_owned(),
        found: header.text(),
        help: guess(header),
    })
}

/// What a file that is no trace probably is.
fn guess(header: &Header) -> &'static str {
    let text = header.text().to_ascii_lowercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    if starts(&["version https://git-lfs"]) {
        "this is a Git LFS pointer, not the data; run `git lfs pull` or download the file from the release page"
    } else if starts(&["<!doctype", "<html", "<?xml"]) {
        "this is a web page, not the data; use the link to the raw file"
    } else if header.is_json() {
        "name the keys with `columns: { arrival: KEY, prompt: KEY, output: KEY, unit: ms }` in a scenario, or with `trace stats --columns 'arrival: KEY, prompt: KEY, output: KEY, unit: ms'`"
    } else if starts(&["par1"]) {
        "this is Parquet, which can only be read from a plain file; unpack it"
    } else if starts(&["pk"]) {
        "this is a ZIP archive; unpack it"
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        "the header line is missing; add it above the first row"
    } else {
        "name the columns with `columns: { arrival: NAME, prompt: NAME, output: NAME, unit: s }` in a scenario, or with `trace stats --columns 'arrival: NAME, prompt: NAME, output: NAME, unit: s'`"
    }
}
