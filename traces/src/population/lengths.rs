//! How long a client's requests are: its own distributions, per window of 6 h.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use overbook_sim::time::NS_PER_S;
use overbook_sim::workload::arrival::ClassId;
use rand::rngs::ChaCha8Rng;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::rates::{ClientRates, Span600, chunks};
use crate::draw::{stream, uniform};
use crate::error::TraceError;
use crate::lengths::Size;
use crate::number::TOKENS_MAX;
use crate::quote::shorten;
use crate::source::Source;

/// Probabilities may miss a sum of 1 by this much: those of the files are rounded.
const SUM_TOLERANCE: f64 = 0.01;

/// The longest line, or the largest `chunk-N-dataset.json`, that is read [bytes].
const BYTES_MAX: u64 = 256 << 20;

/// Attachments of a multimodal request: their number, and the tokens of one.
const PARTS: [(&str, &str); 3] =
    [("image_count", "image_tokens"), ("audio_count", "audio_tokens"), ("video_count", "video_tokens")];

/// A distribution over whole numbers.
struct Pmf {
    values: Box<[u32]>,
    /// Probability of a value or one before it; the last is 1.
    up_to: Box<[f64]>,
}

impl Pmf {
    /// Values and probabilities as read; `Err` says what is wrong with them.
    fn new(mut pairs: Vec<(f64, f64)>) -> Result<Pmf, String> {
        pairs.retain(|&(_, p)| p != 0.0);
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        for &(value, p) in &pairs {
            if !(value.fract() == 0.0 && (0.0..=f64::from(TOKENS_MAX)).contains(&value)) {
                return Err(format!("expected whole numbers from 0 to {TOKENS_MAX}, found {value}"));
            }
            if !(p > 0.0 && p.is_finite()) {
                return Err(format!("expected probabilities of at least 0, found {p}"));
            }
        }
        let sum = pairs.iter().fold(0.0, |sum, &(_, p)| sum + p);
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(format!("expected probabilities that sum to 1, found {sum:.4}"));
        }
        let mut below = 0.0;
        let up_to = pairs.iter().map(|&(_, p)| {
            below += p;
            below / sum
        });
        Ok(Pmf { up_to: up_to.collect(), values: pairs.iter().map(|&(value, _)| value as u32).collect() })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        let p = uniform(rng);
        let at = self.up_to.partition_point(|&up_to| up_to <= p);
        self.values[at.min(self.values.len() - 1)]
    }
}

/// Values and probabilities as read, by field.
type ByField = BTreeMap<String, Vec<(f64, f64)>>;

/// The distributions of one client in one window.
struct Fields {
    /// Prompt tokens; of a multimodal request those of its text.
    prompt: Pmf,
    output: Pmf,
    /// Number and size of each kind of attachment.
    parts: Vec<(Pmf, Pmf)>,
}

impl Fields {
    /// `None` if a field has no distribution: ServeGen leaves such windows out. `Err` names a field that is wrong.
    fn new(mut fields: ByField) -> Result<Option<Fields>, (String, String)> {
        if fields.values().any(Vec::is_empty) {
            return Ok(None);
        }
        let mut take = |names: &[&str]| {
            let name = names.iter().find(|&&name| fields.contains_key(name)).unwrap_or(&names[0]);
            let missing = || ((*name).to_owned(), "expected this field, found none".to_owned());
            let pairs = fields.remove(*name).ok_or_else(missing)?;
            Pmf::new(pairs).map_err(|what| ((*name).to_owned(), what))
        };
        let (prompt, output) = (take(&["input_tokens", "text_tokens"])?, take(&["output_tokens"])?);
        let mut parts = Vec::new();
        for (count, tokens) in PARTS {
            if let Ok(count) = take(&[count]) {
                parts.push((count, take(&[tokens])?));
            }
        }
        Ok(Some(Fields { prompt, output, parts }))
    }
}

/// Lengths of all clients.
pub(super) struct ClientLengths {
    /// By client: start of a window [ns since the start of the file], and its distributions, in order of time.
    by_id: BTreeMap<u32, Vec<(u64, Fields)>>,
    /// What the clients that send have, in their order; `None` for those without.
    assigned: Vec<Option<Vec<(u64, Fields)>>>,
    /// Places in `assigned`, each with the share of the requests up to it, of those that have lengths.
    shares: Vec<(f64, usize)>,
    prompts: ChaCha8Rng,
    outputs: ChaCha8Rng,
    attachments: ChaCha8Rng,
    pool: ChaCha8Rng,
}

impl ClientLengths {
    /// No client has lengths of its own.
    pub(super) fn none(seed: u64) -> ClientLengths {
        ClientLengths {
            by_id: BTreeMap::new(),
            assigned: Vec::new(),
            shares: Vec::new(),
            prompts: stream(seed, *b"prompts "),
            outputs: stream(seed, *b"outputs "),
            attachments: stream(seed, *b"attached"),
            pool: stream(seed, *b"pool    "),
        }
    }

    /// Reads what is needed for the part that is played.
    pub(super) fn read(path: &Path, workload: &str, played: Span600, seed: u64) -> Result<ClientLengths, TraceError> {
        let mut lengths = ClientLengths::none(seed);
        if path.is_dir() {
            lengths.read_folder(path)?;
        } else {
            lengths.read_file(path, workload)?;
        }
        for windows in lengths.by_id.values_mut() {
            windows.sort_by_key(|&(start, _)| start);
            // The window in which the part begins stays, and the first one if all are later.
            let first = windows.partition_point(|&(start, _)| start <= played.from_ns).saturating_sub(1);
            windows.drain(..first);
            let last = windows.partition_point(|&(start, _)| start < played.to_ns).max(1);
            windows.truncate(last);
        }
        lengths.by_id.retain(|_, windows| !windows.is_empty());
        Ok(lengths)
    }

    fn read_file(&mut self, path: &Path, workload: &str) -> Result<(), TraceError> {
        let mut lines = BufReader::with_capacity(1 << 18, Source::open(path)?.stream);
        // By client and window: the first line, and the fields.
        let mut rows: BTreeMap<(u32, u64), (u64, ByField)> = BTreeMap::new();
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let read = lines.by_ref().take(BYTES_MAX).read_until(b'\n', &mut line);
            match read.map_err(|source| TraceError::Read { path: path.to_owned(), line: number, source })? {
                0 => break,
                _ if line.trim_ascii().is_empty() => continue,
                _ => {}
            }
            let bad = |error: serde_json::Error, from: usize| TraceError::Population {
                place: format!("{}:{number}:{}", path.display(), from + error.column()),
                problem: json_problem(&error),
                help: HELP,
            };
            let row: Row<'_> = serde_json::from_slice(&line).map_err(|error| bad(error, 0))?;
            // Most lines are of other workloads: their distributions are passed over.
            if row.workload == workload {
                let text = row.pmf.get();
                let from = text.as_ptr().addr() - line.as_ptr().addr();
                let Pairs(pairs) = serde_json::from_str(text).map_err(|error| bad(error, from))?;
                let window = rows.entry((row.client, row.window_start_s.saturating_mul(NS_PER_S)));
                window.or_insert_with(|| (number, ByField::new())).1.insert(row.field.into_owned(), pairs);
            }
        }
        for ((client, start_ns), (number, fields)) in rows {
            self.add(&format!("{}:{number}", path.display()), client, start_ns, fields)?;
        }
        Ok(())
    }

    fn read_folder(&mut self, path: &Path) -> Result<(), TraceError> {
        for (client, file) in chunks(path, "-dataset.json")? {
            let place = file.display().to_string();
            let mut text = String::new();
            let mut stream = Source::open(&file)?.stream.take(BYTES_MAX);
            let read = stream.read_to_string(&mut text);
            read.map_err(|source| TraceError::Read { path: file.clone(), line: 1, source })?;
            let windows: BTreeMap<u64, BTreeMap<String, String>> =
                serde_json::from_str(&text).map_err(|error| TraceError::Population {
                    place: format!("{place}:{}:{}", error.line(), error.column()),
                    problem: json_problem(&error),
                    help: "the download may be incomplete; a Git LFS pointer must be pulled first",
                })?;
            for (start_s, fields) in windows {
                let mut read = ByField::new();
                for (field, text) in fields {
                    let pairs = python_dict(&text).ok_or_else(|| TraceError::Population {
                        place: format!("{place}: window {start_s}, field `{}`", shorten(&field)),
                        problem: format!(
                            "expected a dictionary like {{9: 0.25, 12: 0.75}}, found `{}`",
                            shorten(&text)
                        ),
                        help: HELP,
                    })?;
                    read.insert(field, pairs);
                }
                self.add(&format!("{place}: window {start_s}"), client, start_s.saturating_mul(NS_PER_S), read)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, place: &str, client: u32, start_ns: u64, fields: ByField) -> Result<(), TraceError> {
        let fields = Fields::new(fields).map_err(|(field, what)| {
            let problem = format!("client {client}, window {} s, field `{field}`: {what}", start_ns / NS_PER_S);
            TraceError::Population { place: place.to_owned(), problem, help: HELP }
        })?;
        if let Some(fields) = fields {
            self.by_id.entry(client).or_default().push((start_ns, fields));
        }
        Ok(())
    }

    /// Whether a client has lengths of its own.
    pub(super) fn has(&self, id: u32) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Puts the lengths into the order of the clients that send.
    pub(super) fn assign(&mut self, clients: &[ClientRates]) {
        self.assigned = clients.iter().map(|client| self.by_id.remove(&client.id)).collect();
        let mut below = 0.0;
        for (at, client) in clients.iter().enumerate().filter(|&(at, _)| self.assigned[at].is_some()) {
            below += client.requests();
            self.shares.push((below, at));
        }
    }

    /// As [`has`](ClientLengths::has), by the client's place.
    pub(super) fn has_at(&self, client: usize) -> bool {
        self.assigned[client].is_some()
    }

    /// Lengths of a request that the client at this place sends in the window of rates that starts then [ns]. A client
    /// without lengths takes those of another, by the others' shares.
    pub(super) fn draw(&mut self, client: usize, window_ns: u64) -> Size {
        let of = if self.assigned[client].is_some() { client } else { self.any() };
        let windows = self.assigned[of].as_deref().unwrap_or_default();
        let at = windows.partition_point(|&(start, _)| start <= window_ns).saturating_sub(1);
        let Fields { prompt, output, parts } = &windows[at].1;
        let mut prompt_tokens = prompt.draw(&mut self.prompts);
        for (count, tokens) in parts {
            for _ in 0..count.draw(&mut self.attachments) {
                prompt_tokens = prompt_tokens.saturating_add(tokens.draw(&mut self.attachments));
            }
        }
        // The few draws of 0 stand for the shortest request there is.
        let size = |tokens: u32| tokens.clamp(1, TOKENS_MAX);
        let output_tokens = size(output.draw(&mut self.outputs));
        Size { prompt_tokens: size(prompt_tokens), output_tokens, class: ClassId(0), priority: 0 }
    }

    fn any(&mut self) -> usize {
        let all = self.shares.last().map_or(0.0, |&(share, _)| share);
        let p = uniform(&mut self.pool) * all;
        let at = self.shares.partition_point(|&(share, _)| share <= p).min(self.shares.len() - 1);
        self.shares[at].1
    }
}

const HELP: &str = "lengths are JSON lines with workload, client, window_start_s, field and pmf, or a folder of ServeGen's \
                    `chunk-N-dataset.json`";

/// serde_json's message without the place, which the error states by itself.
fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// A line of the length file.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    workload: Cow<'a, str>,
    client: u32,
    window_start_s: u64,
    #[serde(borrow)]
    field: Cow<'a, str>,
    #[serde(borrow)]
    pmf: &'a RawValue,
}

/// A JSON object from number to number, in its order.
struct Pairs(Vec<(f64, f64)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from value to probability")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some((key, p)) = map.next_entry::<Cow<'de, str>, f64>()? {
                    let value = key.parse().map_err(|_| serde::de::Error::custom(format!("`{key}` is no number")))?;
                    pairs.push((value, p));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// `{9: 0.25, 12: 0.75}`, as Python writes a dictionary of numbers.
fn python_dict(text: &str) -> Option<Vec<(f64, f64)>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    let number = |text: &str| text.trim().parse().ok();
    inner.split(',').map(|pair| pair.split_once(':').and_then(|(v, p)| Some((number(v)?, number(p)?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_of_python() {
        assert_eq!(python_dict("{9: 0.25, 12 : 7.5e-1}"), Some(vec![(9.0, 0.25), (12.0, 0.75)]));
        assert_eq!(python_dict(" {} "), Some(vec![]));
        for bad in ["", "{9}", "{9: x}", "9: 1", "{'a': 1}", "{9: 1,}"] {
            assert_eq!(python_dict(bad), None, "{bad}");
        }
    }

    #[test]
    fn distributions_are_normalised_and_checked() {
        let pmf = Pmf::new(vec![(7.0, 0.5), (3.0, 0.25), (9.0, 0.0), (5.0, 0.2501)]).expect("fine");
        assert_eq!(*pmf.values, [3, 5, 7]);
        assert!((pmf.up_to[0] - 0.25 / 1.0001).abs() < 1e-12 && (pmf.up_to[2] - 1.0).abs() < 1e-12);
        let error = |pairs: Vec<(f64, f64)>| Pmf::new(pairs).err().expect("wrong");
        assert_eq!(error(vec![(7.5, 1.0)]), "expected whole numbers from 0 to 16777216, found 7.5");
        assert_eq!(error(vec![(7.0, -0.5), (8.0, 1.5)]), "expected probabilities of at least 0, found -0.5");
        assert_eq!(error(vec![(7.0, 0.5)]), "expected probabilities that sum to 1, found 0.5000");
        assert_eq!(error(vec![]), "expected probabilities that sum to 1, found 0.0000");
    }
}
