//! What can be wrong with a trace, said so that the reader knows where to look and what to do.

use std::io;
use std::path::PathBuf;

use crate::replay::Counts;
use crate::source::Packing;
use crate::spec::Format;

/// A problem in a specification: the dotted path of the setting, and what is wrong with it.
pub type Problem = (String, String);

/// Why a trace cannot be replayed. Lines count from 1, the header is line 1.
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
        counts: Counts,
        /// What to change.
        help: String,
    },
    /// The header is that of no known format.
    #[error("{path}:1: unknown header `{found}`; expected the columns of one of: {}; help: {help}", crate::spec::needs(), path = path.display())]
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
    /// A line is longer than the reading buffer.
    #[error("{path}:{line}: the line is longer than {limit} bytes; help: this is not a CSV trace", path = path.display())]
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
    /// A row is earlier than the row above it.
    #[error("{path}:{line}: column `{column}`: time goes backwards: expected at least `{before}` (the row above), found `{found}`; help: sort the file by `{column}`", path = path.display())]
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
    /// More classes than a trace can have.
    #[error("{path}:{line}: column `{column}`: more than {limit} different pairs of model and log type, the newest `{found}`; help: the fields may be shifted against the header", path = path.display())]
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
    #[error("{path}: the file changed while it was being replayed; help: replay a copy that nobody writes to", path = path.display())]
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

fn list(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(|(path, message)| format!("{path}: {message}")).collect();
    texts.join("; ")
}
