//! `overbook check-golden`: every line of recorded schedules, against ours.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use overbook_sim::golden::{GoldenReplay, GoldenWorkload};

use crate::cli::GoldenArgs;
use crate::output::{DONE, Failure, GATE_FAILED, print};

/// Lines of a JSON-lines file with their numbers.
struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
    /// Read already, wanted by the next workload.
    pending: Option<String>,
}

impl Lines {
    fn open(folder: &Path, name: &str) -> Result<Lines, Failure> {
        let packed = folder.join(format!("{name}.zst"));
        let path = if packed.exists() { packed } else { folder.join(name) };
        let file = File::open(&path).map_err(|e| {
            Failure::Input(format!("cannot open {}: {e}; a folder of golden schedules holds {name}[.zst]", path.display()))
        })?;
        let reader: Box<dyn Read> = if path.extension().is_some_and(|e| e == "zst") {
            Box::new(zstd::Decoder::new(file).with_context(|| path.display().to_string())?)
        } else {
            Box::new(file)
        };
        Ok(Lines { path, reader: Box::new(BufReader::with_capacity(1 << 18, reader)), number: 0, pending: None })
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        if let Some(line) = self.pending.take() {
            return Ok(Some(line));
        }
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        let read = read.map_err(|e| Failure::Input(format!("{}:{}: {e}", self.path.display(), self.number + 1)))?;
        self.number += 1;
        line.truncate(line.trim_end().len());
        Ok((read > 0).then_some(line))
    }
}

pub(crate) fn run(args: &GoldenArgs) -> Result<u8, Failure> {
    let mut workloads = Lines::open(&args.folder, "workloads.jsonl")?;
    let mut steps = Lines::open(&args.folder, "steps.jsonl")?;
    let (mut count, mut lines, mut wrong) = (0u64, 0u64, 0u64);
    while let Some(text) = workloads.next()? {
        let workload: GoldenWorkload = serde_json::from_str(&text).map_err(|e| {
            Failure::Input(format!("{}:{}: not a workload: {e}", workloads.path.display(), workloads.number))
        })?;
        count += 1;
        let equal = compare(&workload, &mut steps)?;
        lines += equal.lines;
        if let Some((ours, theirs)) = equal.difference {
            wrong += 1;
            let side = |line: Option<String>| line.unwrap_or_else(|| "(end)".into());
            print(&format!("workload {} ({}): first difference", workload.w, workload.kind))?;
            print(&format!("  recorded {}\n  ours     {}", side(theirs), side(ours)))?;
        }
    }
    print(&format!("{count} workloads, {lines} lines equal, {wrong} workloads differ"))?;
    Ok(if wrong == 0 { DONE } else { GATE_FAILED })
}

struct Comparison {
    lines: u64,
    /// Ours and theirs.
    difference: Option<(Option<String>, Option<String>)>,
}

fn compare(workload: &GoldenWorkload, steps: &mut Lines) -> Result<Comparison, Failure> {
    let mut replay = GoldenReplay::new(workload);
    let prefix = format!("{{\"w\":{},", workload.w);
    let mut result = Comparison { lines: 0, difference: None };
    loop {
        let mut theirs = steps.next()?;
        if theirs.as_ref().is_some_and(|line| !line.starts_with(&prefix)) {
            steps.pending = theirs.take();
        }
        let ended = theirs.is_none();
        if result.difference.is_none() {
            let ours = replay.next_line().map_err(anyhow::Error::new)?;
            if ours == theirs {
                result.lines += u64::from(!ended);
            } else {
                result.difference = Some((ours, theirs));
            }
        }
        if ended {
            return Ok(result);
        }
    }
}
