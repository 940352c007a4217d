//! Requests as JSON lines.

use std::io::{self, Write};

use overbook_sim::workload::arrival::{Arrival, Content};

use super::{BLOCK_TOKENS, COLUMNS, ELAPSED, PRIORITY, SESSION, seconds};
use crate::mooncake::HASH_IDS;

/// Writes a request; `class` is its name in quotes. The first line has all keys, since readers take it for a header; later
/// ones have what is known.
pub(super) fn write(file: &mut impl Write, arrival: &Arrival, class: &str, all: bool) -> io::Result<()> {
    let [at, prompt, output, class_key] = COLUMNS;
    let (time, prompts, outputs) = (seconds(arrival.at.0), arrival.prompt_tokens, arrival.output_tokens);
    let class = if class.is_empty() { "null" } else { class };
    write!(file, "{{\"{at}\": {time}, \"{prompt}\": {prompts}, \"{output}\": {outputs}, \"{class_key}\": {class}")?;
    let content = arrival.content.as_deref();
    let more = [
        (PRIORITY, (arrival.priority != 0).then(|| arrival.priority.to_string())),
        (SESSION, arrival.session.map(|session| session.get().to_string())),
        (ELAPSED, arrival.recorded_e2el.map(|span| seconds(span.0))),
        (BLOCK_TOKENS, content.map(|content| content.block_tokens.to_string())),
        (HASH_IDS, content.map(list)),
    ];
    for (key, value) in more {
        match value {
            Some(value) => write!(file, ", \"{key}\": {value}")?,
            None if all => write!(file, ", \"{key}\": null")?,
            None => {}
        }
    }
    writeln!(file, "}}")
}

/// The ids as a JSON list.
pub(super) fn list(content: &Content) -> String {
    let ids: Vec<String> = content.ids.iter().map(u64::to_string).collect();
    format!("[{}]", ids.join(","))
}
