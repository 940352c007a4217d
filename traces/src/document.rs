//! JSON that is not one flat object per line: whole documents, requests in lists inside of records, and records of lists.
//!
//! `records` is the path to the requests: keys and positions with points between, `*` for every item of a list and every value
//! of an object, and `a|b` for either key. An empty path means the items of a list. Keys of the object around a request are columns, too. A record
//! whose lists have equal lengths (`input_lens`, `output_lens`) is a table of these lists.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::TraceError;
use crate::header::Header;
use crate::json::{self, BadJson, Place};
use crate::packing::Packing;
use crate::quote::shorten;
use crate::source::Source;

/// Longest document that is read; it is in memory as a whole.
const DOCUMENT_MAX: u64 = 2 << 30;

/// A request, and the object around it [bytes of the document].
struct Item {
    at: Place,
    around: Option<Place>,
}

/// What the rows are.
enum Body {
    /// Objects.
    Items(Vec<Item>),
    /// The values of each column.
    Lists(Vec<Vec<Place>>),
}

/// Number of a record, from 1, and its fields with the bytes that they index.
type Record<'a> = (u64, &'a [u8], &'a [Place]);

/// Columns by name, the values of each, and what is wrong with a list that every run has.
type Lists = (Vec<String>, Vec<Vec<Place>>, Option<String>);

/// Lists of a run with an entry for each request.
const OF_RUNS: [&str; 3] = ["input_lens", "output_lens", "start_times"];

/// A file of JSON that is in memory.
pub(crate) struct Document {
    path: PathBuf,
    bytes: Vec<u8>,
    body: Body,
    next: usize,
    fields: Vec<Place>,
    scratch: Vec<u8>,
}

impl Document {
    /// Reads a file whole. Without `records`, the requests are where a document has its only list of objects.
    pub(crate) fn open(path: &Path, records: Option<&str>) -> Result<(Document, Header), TraceError> {
        let bytes = read(path)?;
        let roots = json::values(&bytes).map_err(|why| bad(path, &bytes, why))?;
        let (records, lists) = match (records, roots.as_slice()) {
            (Some(records), _) => (records.to_owned(), false),
            (None, &[root]) => match place_of_requests(path, &bytes[root.0..root.1])? {
                Some(records) => (records, false),
                None => (String::new(), true),
            },
            (None, several) => {
                let runs = several.iter().filter(|(start, end)| is_record_of_lists(&bytes[*start..*end])).count();
                return Err(if runs > 1 { several_runs(path, runs) } else { no_list(path) });
            }
        };
        let (body, header) = if lists {
            let (names, columns, short) = lists_of(&bytes, roots[0]).map_err(|why| bad(path, &bytes, why))?;
            if let Some(problem) = short {
                return Err(document(
                    path,
                    problem,
                    "the file is damaged, or its run was cut off; run the benchmark again",
                ));
            }
            (Body::Lists(columns), Header::named(names))
        } else {
            let keys: Vec<&str> = records.split('.').map(str::trim).filter(|key| !key.is_empty()).collect();
            let mut items = Vec::new();
            for root in roots {
                select(&bytes, root, &keys, None, &mut items).map_err(|why| bad(path, &bytes, why))?;
            }
            let Some(first) = items.first() else { return Err(nothing_there(path, &records)) };
            let within = |error: BadJson| BadJson { at: first.at.0 + error.at, ..error };
            json::keys(&bytes[first.at.0..first.at.1]).map_err(|error| bad(path, &bytes, within(error)))?;
            let around = first.around.map(|(start, end)| &bytes[start..end]);
            let objects = items.iter().map(|item| &bytes[item.at.0..item.at.1]);
            let not_utf8 = || TraceError::NotUtf8 { path: path.to_owned(), line: 1, column: "(keys)".to_owned() };
            let header = Header::of_objects(objects, around).ok_or_else(not_utf8)?;
            (Body::Items(items), header)
        };
        let fields = vec![(0, 0); header.names().len()];
        let document = Document { path: path.to_owned(), bytes, body, next: 0, fields, scratch: Vec::new() };
        Ok((document, header))
    }

    /// The next record; `None` at the end.
    pub(crate) fn advance(&mut self, header: &Header, paths: &[json::Path]) -> Result<Option<Record<'_>>, TraceError> {
        let at = self.next;
        let number = at as u64 + 1;
        let items = match &self.body {
            Body::Items(items) => items,
            Body::Lists(columns) => {
                if columns.first().is_none_or(|column| at >= column.len()) {
                    return Ok(None);
                }
                self.next += 1;
                for (field, column) in self.fields.iter_mut().zip(columns) {
                    *field = column[at];
                }
                return Ok(Some((number, &self.bytes, &self.fields)));
            }
        };
        let Some(item) = items.get(at) else { return Ok(None) };
        self.next += 1;
        let object = &self.bytes[item.at.0..item.at.1];
        let broken = |object: &[u8], BadJson { at, expected }: BadJson| {
            let found = String::from_utf8_lossy(object.get(at..).unwrap_or_default()).into_owned();
            let found = if found.is_empty() { "the end".to_owned() } else { format!("`{}`", shorten(&found)) };
            TraceError::Json { path: self.path.clone(), line: number, column: at + 1, expected, found }
        };
        let (first, outer) = header.around();
        let Some(around) = item.around.filter(|_| !outer.is_empty()) else {
            let bytes = json::split(object, header.keys(), paths, &mut self.fields, &mut self.scratch)
                .map_err(|why| broken(object, why))?;
            return Ok(Some((number, bytes, &self.fields)));
        };
        // Two objects share the fields: those of each are copied behind each other.
        let mut both = Vec::new();
        let mut places = vec![(0, 0); self.fields.len()];
        let mut copy = |bytes: &[u8], field: Place| {
            both.extend_from_slice(&bytes[field.0..field.1]);
            (both.len() - (field.1 - field.0), both.len())
        };
        let bytes = json::split(object, header.keys(), paths, &mut self.fields, &mut self.scratch)
            .map_err(|why| broken(object, why))?;
        for (place, field) in places.iter_mut().zip(&self.fields).take(first) {
            *place = copy(bytes, *field);
        }
        let object = &self.bytes[around.0..around.1];
        let mut fields = vec![(0, 0); outer.len()];
        let bytes =
            json::split(object, outer, &[], &mut fields, &mut self.scratch).map_err(|why| broken(object, why))?;
        for (place, field) in places[first..].iter_mut().zip(&fields) {
            *place = copy(bytes, *field);
        }
        (self.scratch, self.fields) = (both, places);
        Ok(Some((number, &self.scratch, &self.fields)))
    }
}

/// Whether an object on one line is not a request but a document.
pub(crate) fn is_document(line: &[u8]) -> bool {
    let Ok(entries) = json::entries(line) else { return false };
    let value = |name: &str| entries.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, at)| *at);
    let list = |name: &str| value(name).is_some_and(|at| json::opens(line, at, b'['));
    list("benchmarks") || (list("data") && value("object").is_some()) || is_record_of_lists(line)
}

/// Whether an object is a run of `vllm bench serve` or `sglang.bench_serving` with details.
fn is_record_of_lists(object: &[u8]) -> bool {
    let Ok(entries) = json::entries(object) else { return false };
    let list = |name: &str| entries.iter().any(|(key, at)| *key == name.as_bytes() && json::opens(object, *at, b'['));
    list("input_lens") && list("output_lens")
}

/// Where the requests of a document are; `None` if it is a record of lists.
fn place_of_requests(path: &Path, root: &[u8]) -> Result<Option<String>, TraceError> {
    let why = |why| bad(path, root, why);
    if json::opens(root, (0, root.len()), b'[') {
        return Ok(Some(String::new()));
    }
    if is_record_of_lists(root) {
        return Ok(None);
    }
    let entries = json::entries(root).map_err(why)?;
    let has = |name: &str| entries.iter().any(|(key, at)| *key == name.as_bytes() && json::opens(root, *at, b'['));
    // guidellm's reports, and pages of OpenAI's usage.
    if has("benchmarks") {
        return Ok(Some(of_guidellm(root).map_err(why)?.to_owned()));
    }
    if has("data") && entries.iter().any(|(key, _)| *key == b"object") {
        return Ok(Some("data.*.results.*".to_owned()));
    }
    let (mut of_objects, mut of_values) = (Vec::new(), 0);
    for (key, at) in entries {
        let first = json::items_at(root, at).map_err(why)?.and_then(|items| items.first().copied());
        match first {
            Some(first) if json::opens(root, first, b'{') => of_objects.push(String::from_utf8_lossy(key).into_owned()),
            Some(_) => of_values += 1,
            None => {}
        }
    }
    match of_objects.as_slice() {
        [only] => Ok(Some(only.clone())),
        [] if of_values > 1 => Ok(None),
        [] => Err(no_list(path)),
        several => Err(document(
            path,
            format!("the document has several lists of records: {}", shorten(&several.join(", "))),
            "name one with `columns.records`, as in `records: requests`",
        )),
    }
}

/// Where guidellm's requests are: by how they ended, or in `total` where a report has them there alone. A report that fills both has every
/// request twice (`StatusBreakdown` in guidellm's `utils/pydantic_utils.py`).
fn of_guidellm(root: &[u8]) -> Result<&'static str, BadJson> {
    const PARTS: &str = "benchmarks.*.requests.successful|incomplete|errored";
    let mut parts = Vec::new();
    select(root, (0, root.len()), &PARTS.split('.').collect::<Vec<_>>(), None, &mut parts)?;
    Ok(if parts.is_empty() { "benchmarks.*.requests.total" } else { PARTS })
}

/// Finds the requests that a path leads to.
fn select(bytes: &[u8], at: Place, path: &[&str], around: Option<Place>, found: &mut Vec<Item>) -> Result<(), BadJson> {
    let is_object = json::opens(bytes, at, b'{');
    let Some((key, rest)) = path.split_first() else {
        if is_object {
            found.push(Item { at, around });
        } else if let Some(items) = json::items_at(bytes, at)? {
            let objects = items.into_iter().filter(|item| json::opens(bytes, *item, b'{'));
            found.extend(objects.map(|at| Item { at, around }));
        }
        return Ok(());
    };
    if is_object {
        let within = |error: BadJson| BadJson { at: at.0 + error.at, ..error };
        for (name, (start, end)) in json::entries(&bytes[at.0..at.1]).map_err(within)? {
            if *key == "*" || key.split('|').any(|key| name == key.as_bytes()) {
                select(bytes, (at.0 + start, at.0 + end), rest, Some(at), found)?;
            }
        }
    } else if let Some(items) = json::items_at(bytes, at)? {
        for (number, value) in items.into_iter().enumerate() {
            if *key == "*" || key.parse() == Ok(number) {
                select(bytes, value, rest, around, found)?;
            }
        }
    }
    Ok(())
}

/// The lists of a record that have the length that most of them have, and its single values, as columns.
fn lists_of(bytes: &[u8], at: Place) -> Result<Lists, BadJson> {
    let (mut lists, mut single) = (Vec::new(), Vec::new());
    let within = |error: BadJson| BadJson { at: at.0 + error.at, ..error };
    for (key, (start, end)) in json::entries(&bytes[at.0..at.1]).map_err(within)? {
        let name = String::from_utf8_lossy(key).into_owned();
        let value = (at.0 + start, at.0 + end);
        match json::items_at(bytes, value)? {
            Some(items) => lists.push((name, items)),
            None if !json::opens(bytes, value, b'{') => single.push((name, value)),
            None => {}
        }
    }
    let alike = |length: usize| lists.iter().filter(|(_, list)| list.len() == length).count();
    let length = lists.iter().map(|(_, list)| list.len()).max_by_key(|&length| (alike(length), length)).unwrap_or(0);
    let short = lists.iter().find(|(name, list)| OF_RUNS.contains(&name.as_str()) && list.len() != length);
    let short = short.map(|(name, list)| format!("`{name}` has {} entries, other lists {length}", list.len()));
    lists.retain(|(_, list)| list.len() == length);
    // A `null` is an empty field.
    let empty = |(start, end): Place| if &bytes[start..end] == b"null" { (start, start) } else { (start, end) };
    let lists = lists.into_iter().map(|(name, list)| (name, list.into_iter().map(empty).collect()));
    let single = single.into_iter().map(|(name, value)| (name, vec![empty(value); length]));
    let (names, columns) = lists.chain(single).unzip();
    Ok((names, columns, short))
}

fn read(path: &Path) -> Result<Vec<u8>, TraceError> {
    let Source { packing, stream } = Source::open(path)?;
    let mut bytes = Vec::new();
    stream.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes).map_err(|source| match packing {
        Packing::Plain => TraceError::Read { path: path.to_owned(), line: 1, source },
        packing => TraceError::BrokenStream { path: path.to_owned(), line: 1, packing, source },
    })?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        let problem = format!("the document is longer than {DOCUMENT_MAX} bytes");
        return Err(document(path, problem, "write one request per line, without prompts and answers"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

#[cold]
fn bad(path: &Path, bytes: &[u8], BadJson { at, expected }: BadJson) -> TraceError {
    let line = memchr::memchr_iter(b'\n', &bytes[..at.min(bytes.len())]).count() as u64 + 1;
    let begin = memchr::memrchr(b'\n', &bytes[..at.min(bytes.len())]).map_or(0, |newline| newline + 1);
    let found = bytes.get(at..bytes.len().min(at + 400)).unwrap_or_default();
    let found = String::from_utf8_lossy(found);
    let found = if found.is_empty() { "the end of the file".to_owned() } else { format!("`{}`", shorten(&found)) };
    TraceError::Json { path: path.to_owned(), line, column: at - begin + 1, expected, found }
}

fn document(path: &Path, problem: String, help: &'static str) -> TraceError {
    TraceError::Document { path: path.to_owned(), problem, help }
}

fn no_list(path: &Path) -> TraceError {
    document(
        path,
        "the document has no list of requests at its top".to_owned(),
        "say where they are with `columns.records`, as in `records: results.*.requests`",
    )
}

fn nothing_there(path: &Path, records: &str) -> TraceError {
    let place = if records.is_empty() { "the list".to_owned() } else { format!("`{}`", shorten(records)) };
    document(
        path,
        format!("no record in {place}"),
        "the path has keys and positions with points between, and `*` for all; an empty list holds no requests",
    )
}

fn several_runs(path: &Path, runs: usize) -> TraceError {
    document(
        path,
        format!("the file holds {runs} runs, each with its own clock"),
        "write each run into a file of its own, such as with `sed -n 2p`",
    )
}
