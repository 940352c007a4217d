//! Tests of the traces crate against real files, broken files and statistics.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the laws bind the library; its tests read files"
)]

mod agents;
mod broken;
mod burstgpt_whole;
mod burstiness;
mod columnar;
mod export;
mod files;
#[cfg(feature = "frames")]
mod fit;
mod formats;
mod fuzz;
mod generator;
mod guess;
mod load;
mod mooncake;
mod own_log;
mod population;
mod prometheus;
mod quirks;
mod real;
mod records;
mod serde_forms;
mod sessions;
mod transform;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use overbook_sim::workload::arrival::{Arrival, Workload, WorkloadError};
use overbook_traces::{TraceError, TraceSpec};
use tempfile::NamedTempFile;

/// A packed file of `traces/data`, unpacked.
fn unpacked(path: &Path) -> String {
    let bytes = zstd::decode_all(File::open(path).expect("opens")).expect("unpacks");
    String::from_utf8(bytes).expect("text")
}

/// A temporary file with the given bytes.
fn file(bytes: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("temporary file");
    file.write_all(bytes.as_ref()).expect("written");
    file
}

fn drain(workload: &mut dyn Workload) -> Result<Vec<Arrival>, WorkloadError> {
    let mut arrivals = Vec::new();
    while let Some(arrival) = workload.next_arrival()? {
        arrivals.push(arrival);
    }
    Ok(arrivals)
}

fn all(spec: &TraceSpec) -> Vec<Arrival> {
    drain(&mut *spec.open().expect("opens")).expect("reads")
}

/// The error of reading a file with this content to its end.
fn error_of(bytes: impl AsRef<[u8]>, change: impl FnOnce(&mut TraceSpec)) -> TraceError {
    let file = file(bytes);
    let mut spec = TraceSpec::new(file.path());
    change(&mut spec);
    first_error(&spec)
}

/// The error of reading a trace to its end.
fn first_error(spec: &TraceSpec) -> TraceError {
    let mut replay = match spec.replay() {
        Ok(replay) => replay,
        Err(error) => return error,
    };
    loop {
        match replay.next_request() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the file is fine"),
            Err(error) => return error,
        }
    }
}

const BURSTGPT: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
const VIDUR: &str = "arrived_at,num_prefill_tokens,num_decode_tokens\n";
