//! What can be wrong with a trace, said so that the reader knows where to look and what to do.

use std::io;
use std::path::PathBuf;

use crate::counts::Counts;
use crate::format::Format;
use crate::packing::Packing;
use crate::places::Lines;

/// A problem in a specification: the dotted path of the setting, and what is wrong with it.
pub type Problem = (String, String);

/// Why a trace cannot be replayed. Lines count from 1, the header is line 1; of a Parquet file, rows count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The specification itself is wrong; see [`TraceSpec::problems`](crate::TraceSpec::problems).
    #[error("the trace is not well specified: {}", list(.0))]
    Spec(Vec<Problem>),
    /// The file cannot be opened.
    #[error("{path}: cannot open the trace: {source}; help: check the path and the permissions of the file", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read on.
    #[error("{path}:{line}: cannot read: {source}; help: a trace is one file, not a folder", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The line at which reading stopped.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The compressed stream is damaged or cut off.
    #[error("{path}:{line}: broken {packing} stream: {source}; help: the download may be incomplete, fetch the file again", path = path.display())]
    BrokenStream {
        /// The file.
        path: PathBuf,
        /// The line at which unpacking stopped.
        line: u64,
        /// How the file is packed.
        packing: Packing,
        /// What the unpacker says.
        source: io::Error,
    },
    /// Not a single line.
    #[error("{path}: the file is empty; expected a header line and rows; help: the download may have failed", path = path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// No row is left to replay.
    #[error("{path}: no request to replay after line {line}: {counts}; help: {help}", path = path.display())]
    NoRequests {
        /// The file.
        path: PathBuf,
        /// The last line of the file.
        line: u64,
        /// What became of its rows.
        counts: Box<Counts>,
        /// What to change.
        help: String,
    },
    /// The header is that of no known format.
    #[error("{path}:1: unknown header `{found}`; expected the columns of one of: {}; help: {help}", crate::format::needs(), path = path.display())]
    UnknownHeader {
        /// The file.
        path: PathBuf,
        /// The header.
        found: String,
        /// What to change.
        help: &'static str,
    },
    /// The header lacks columns of the stated format.
    #[error("{path}:1: the header `{found}` lacks {missing} of format {format}; help: leave out `format` to let the header decide", path = path.display())]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// The format that was asked for.
        format: Format,
        /// Names of the missing columns.
        missing: String,
        /// The header.
        found: String,
    },
    /// The file lacks columns that `columns` names.
    #[error("{path}:1: no column {} among `{found}`; help: name {} of these", missing.join(", "), if missing.len() > 1 { "others" } else { "one" }, path = path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The columns named there, with their keys in `columns`: `in` (`columns.prompt`).
        missing: Vec<String>,
        /// The header.
        found: String,
    },
    /// Two columns of the file have the name of one that is read.
    #[error("{path}:1: the column `{name}` stands twice in the header, as number {first} and number {second}; help: rename one of them in the file", path = path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// Where the first one stands, from 1.
        first: usize,
        /// Where the second one stands.
        second: usize,
    },
    /// A column of a Parquet file is of a type that has no meaning in a trace.
    #[error("{path}: column `{column}` holds {found}; expected integers, floats, timestamps or strings; help: choose another column in `columns`, or cast it", path = path.display())]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What its values are.
        found: &'static str,
    },
    /// A Parquet file is damaged, cut off, or packed in a way that is not supported.
    #[error("{path}:{line}: cannot read the Parquet file: {why}; help: the file may be incomplete, or packed in another way than snappy, gzip, zstd or lz4", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The row at which reading stopped; 0 for the footer.
        line: u64,
        /// What the decoder says.
        why: String,
    },
    /// A line is not a JSON object.
    #[error("{path}:{line}:{column}: expected {expected}, found {found}; help: each line must be one JSON object, or the file one document; the line may be cut off", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The byte in the line, from 1.
        column: usize,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A JSON document does not hold requests where they are expected.
    #[error("{path}: {problem}; help: {help}", path = path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to change.
        help: &'static str,
    },
    /// Every row is the sum of several requests.
    #[error("{path}:1: a row is the sum of `{column}` requests, as in OpenAI's usage exports, and no request; help: export the requests themselves, or let `overbook init --log` make a workload of it, with this rate and the mean lengths", path = path.display())]
    Sums {
        /// The file.
        path: PathBuf,
        /// The column with the number of requests.
        column: String,
    },
    /// The file has lengths of requests and no times.
    #[error("{path}: the requests have no times ({why}); help: say when they arrive, as in `workload.trace.arrivals: {{ poisson: {{ rate: {rate} }} }}`, or with `overbook init --rate {rate}`", path = path.display())]
    NoTimes {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
        /// The rate that the file states, or an example.
        rate: String,
    },
    /// Nothing says which column holds what a request needs.
    #[error("{path}:1: no column seems to hold the {what}: {found}; help: name it with `{option} NAME`{}", if *option == "--arrival" { ", or give a log without times arrivals with `--rate 2/s`" } else { "" }, path = path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
        /// The option of `overbook init` that names it.
        option: &'static str,
        /// The columns.
        found: String,
    },
    /// The column that should hold what a request needs does not.
    #[error("{path}:{line}: no column seems to hold the {what}: `{column}` comes nearest, but has `{found}`; help: {help}", path = path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The line of the cell.
        line: u64,
        /// The column that comes nearest.
        column: String,
        /// What is looked for.
        what: &'static str,
        /// The first cell that does not fit.
        found: String,
        /// What to change, and the option of `overbook init` that names a column.
        help: String,
    },
    /// Nothing in a file tells whether its dates have the day or the month first.
    #[error("{path}: column `{column}`: dates {why}; help: say which with `--unit mdy` (the month first) or `--unit dmy` (the day first)", path = path.display())]
    DateOrder {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is not clear, and where.
        why: String,
    },
    /// The times of a log are in several units.
    #[error("{path}: column `{column}`: {what}; help: bring all times to one unit, or take these rows out; `--unit` reads every row in the unit that it names", path = path.display())]
    Mixed {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Which rows disagree.
        what: String,
    },
    /// No row of a log can be read.
    #[error("no request is left: {} of {rows} rows are like the first of these: {first}", alike.len())]
    NoneReadable {
        /// What is wrong with most rows.
        first: Box<TraceError>,
        /// Their lines.
        alike: Lines,
        /// Rows of the file.
        rows: u64,
    },
    /// The block ids cannot be cut into blocks of the wanted size.
    #[error("{path}:1: the block ids stand for {hash_tokens} tokens each, which blocks of {block_tokens} tokens do not divide; help: choose a block size that divides {hash_tokens}: {}", divisors(*hash_tokens), path = path.display())]
    BlockTokens {
        /// The file.
        path: PathBuf,
        /// Tokens per id of the file.
        hash_tokens: u32,
        /// Tokens per block asked for.
        block_tokens: u32,
    },
    /// The trace is too short for so many shifted copies.
    #[error("{path}: {copies} copies shifted by {shift} need a trace of at least {needed}, found {span}; help: choose fewer copies or a smaller `shift`", path = path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Copies asked for.
        copies: u32,
        /// The shift between them.
        shift: overbook_sim::time::Span,
        /// Shift times copies.
        needed: overbook_sim::time::Span,
        /// Time between first and last request.
        span: overbook_sim::time::Span,
    },
    /// A row has more or fewer fields than the header.
    #[error("{path}:{line}: expected {expected} fields as in the header, found {found}; help: the line may be cut off", path = path.display())]
    FieldCount {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Columns of the header.
        expected: usize,
        /// Fields of the row.
        found: usize,
    },
    /// A quote opens in a row and is not closed: the row would go on to the end of the file.
    #[error("{path}:{line}: a quote (\") opens a field and is not closed before a separator or the end of a line; help: a quote inside quotes is written twice; the file may be cut off", path = path.display())]
    OpenQuote {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
    },
    /// A line is longer than the reading buffer.
    #[error("{path}:{line}: the line is longer than {limit} bytes; help: no trace has such rows", path = path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Longest line accepted [bytes].
        limit: usize,
    },
    /// A field is not text.
    #[error("{path}:{line}: column `{column}`: expected UTF-8 text, found other bytes; help: save the file as UTF-8", path = path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
    },
    /// A field does not hold what its column should.
    #[error("{path}:{line}: column `{column}`: expected {expected}, found `{found}`; help: {help}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// What to change.
        help: &'static str,
    },
    /// Nothing says when the sessions of a trace start.
    #[error("{path}: the sessions have times of their own and no common clock: when does each start? help: `workload.clients: {{ count: 8 }}` has 8 at a time go on, one after the other; `workload.trace.sessions: {{ rate: 0.02/s }}` starts them at random", path = path.display())]
    NoStarts {
        /// The file.
        path: PathBuf,
    },
    /// A file of sessions, read as rows.
    #[error("{path}:1: the file holds sessions (format {}), not rows; help: statistics by group and fits need rows: `trace convert` writes the requests at their recorded times", Format::KvCacheTester, path = path.display())]
    HoldsSessions {
        /// The file.
        path: PathBuf,
    },
    /// A row is earlier than the row above it.
    #[error("{path}:{line}: column `{column}`: time goes backwards: expected at least `{before}` (the row above), found `{found}`; help: `sort: true` sorts the rows and counts those out of order, or sort the file by `{column}`", path = path.display())]
    Backwards {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// Timestamp of the row above.
        before: String,
        /// Timestamp of this row.
        found: String,
    },
    /// The files of a population of clients do not fit together, or are not of their form.
    #[error("{place}: {problem}; help: {help}")]
    Population {
        /// The file, with line and column where they are known.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to change.
        help: &'static str,
    },
    /// More classes than a trace can have.
    #[error("{path}:{line}: column `{column}`: more than {limit} different classes, the newest `{found}`; help: the fields may be shifted against the header", path = path.display())]
    TooManyClasses {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column.
        column: String,
        /// Pairs accepted.
        limit: usize,
        /// The pair that was one too many.
        found: String,
    },
    /// `keep` was given for a format without models and log types.
    #[error("{path}:1: `keep` filters by model and log type, but format {format} has neither column; help: remove `keep`", path = path.display())]
    NothingToFilter {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        format: Format,
    },
    /// The mean rate, and so `rate` or `repeat`, is not defined.
    #[error("{path}: `{option}` needs the mean rate of the trace: expected at least 2 requests at different times, found {requests} over {span}; help: remove `{option}` or take more rows", path = path.display())]
    NoMeanRate {
        /// The file.
        path: PathBuf,
        /// The option that needs it.
        option: &'static str,
        /// Requests of one pass.
        requests: u64,
        /// Time between first and last of them.
        span: overbook_sim::time::Span,
    },
    /// The file is not the same in a later pass.
    #[error("{path}: the file changed while it was being replayed; help: replay a copy that does not change", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A scaled or repeated arrival lies beyond the range of virtual time.
    #[error("{path}:{line}: the request arrives more than 584 years after the start; help: choose a larger `rate` or `time_scale`, or a smaller `repeat`", path = path.display())]
    TooLate {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
    },
}

/// Why requests cannot be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The specification is wrong; see [`GenerateSpec::problems`](crate::GenerateSpec::problems).
    #[error("the workload is not well specified: {}", list(.0))]
    Spec(Vec<Problem>),
    /// An arrival lies beyond the range of virtual time.
    #[error(
        "generated request {request} arrives more than 584 years after the start; help: choose a larger rate or bound the duration"
    )]
    TooLate {
        /// Number of the request, from 1.
        request: u64,
    },
}

/// Block sizes that divide a number of tokens, the largest first: `512, 256, 128, 64, 32, 16, 8 or less`.
fn divisors(tokens: u32) -> String {
    const SHOWN: usize = 7;
    let mut sizes: Vec<u32> = (1..=tokens.min(1 << 16)).filter(|size| tokens.is_multiple_of(*size)).collect();
    sizes.reverse();
    let shown: Vec<String> = sizes.iter().take(SHOWN).map(u32::to_string).collect();
    let less = if sizes.len() > SHOWN { " or less" } else { "" };
    format!("{}{less}", shown.join(", "))
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(|(path, message)| format!("{path}: {message}")).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::divisors;

    #[test]
    fn block_sizes_that_are_named_divide() {
        assert_eq!(divisors(527), "527, 31, 17, 1");
        assert_eq!(divisors(512), "512, 256, 128, 64, 32, 16, 8 or less");
        assert_eq!(divisors(1), "1");
    }
}
