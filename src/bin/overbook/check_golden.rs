//! `overbook check-golden`: every line of recorded schedules, against ours.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use overbook_sim::golden::sglang::{SglangReplay, SglangWorkload};
use overbook_sim::golden::{GoldenReplay, GoldenWorkload};
use overbook_sim::serving::step::Infeasible;

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
            Failure::Input(format!(
                "cannot open {}: {e}; a folder of golden schedules holds {name}[.zst]",
                path.display()
            ))
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
        loop {
            let mut line = String::new();
            self.number += 1;
            let read = self.reader.read_line(&mut line).map_err(|error| self.broken(error))?;
            line.truncate(line.trim_end().len());
            if read == 0 || !line.is_empty() {
                return Ok((read > 0).then_some(line));
            }
        }
    }

    /// A failure at the line read last.
    fn broken(&self, what: impl Display) -> Failure {
        Failure::Input(format!("{}:{}: {what}", self.path.display(), self.number))
    }
}

pub(crate) fn run(args: &GoldenArgs) -> Result<u8, Failure> {
    let mut workloads = Lines::open(&args.folder, "workloads.jsonl")?;
    let mut steps = Lines::open(&args.folder, "steps.jsonl")?;
    let (mut count, mut lines, mut wrong) = (0u64, 0u64, 0u64);
    while let Some(text) = workloads.next()? {
        let workload = Workload::read(&text).map_err(|e| workloads.broken(format!("not a workload: {e}")))?;
        if let Some(problem) = workload.problem() {
            return Err(workloads.broken(format!("not a workload: {problem}")));
        }
        count += 1;
        let equal = compare(&workload, &mut steps)?;
        lines += equal.lines;
        if let Some((ours, theirs)) = equal.difference {
            wrong += 1;
            let side = |line: Option<String>| line.unwrap_or_else(|| "(end)".into());
            print(&format!("workload {} ({}): first difference", workload.number(), workload.kind()))?;
            print(&format!("  recorded {}\n  ours     {}", side(theirs), side(ours)))?;
        }
    }
    if count == 0 {
        return Err(workloads.broken("no workload in the file"));
    }
    if let Some(line) = steps.next()? {
        parse(&line, &steps)?;
        return Err(steps.broken("a step of no workload, or of one that comes earlier in workloads.jsonl"));
    }
    print(&format!("{count} workloads, {lines} lines equal, {wrong} workloads differ"))?;
    Ok(if wrong == 0 { DONE } else { GATE_FAILED })
}

/// A recorded workload, by the engine whose scheduler was recorded.
enum Workload {
    Vllm(GoldenWorkload),
    Sglang(SglangWorkload),
}

impl Workload {
    /// Reads a line. SGLang counts memory in pages, vLLM in blocks: their settings tell them apart.
    fn read(text: &str) -> Result<Workload, serde_json::Error> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        if value["cfg"].get("page_size").is_some() {
            serde_json::from_str(text).map(Workload::Sglang)
        } else {
            serde_json::from_str(text).map(Workload::Vllm)
        }
    }

    fn number(&self) -> u64 {
        match self {
            Workload::Vllm(workload) => workload.w,
            Workload::Sglang(workload) => workload.w,
        }
    }

    fn kind(&self) -> &str {
        match self {
            Workload::Vllm(workload) => &workload.kind,
            Workload::Sglang(workload) => &workload.kind,
        }
    }

    fn problem(&self) -> Option<&'static str> {
        match self {
            Workload::Vllm(workload) => workload.problem(),
            Workload::Sglang(workload) => workload.problem(),
        }
    }

    fn replay(&self) -> Replay<'_> {
        match self {
            Workload::Vllm(workload) => Replay::Vllm(Box::new(GoldenReplay::new(workload))),
            Workload::Sglang(workload) => Replay::Sglang(Box::new(SglangReplay::new(workload))),
        }
    }
}

/// Ours, a line at a time.
enum Replay<'a> {
    Vllm(Box<GoldenReplay<'a>>),
    Sglang(Box<SglangReplay<'a>>),
}

impl Replay<'_> {
    fn next_line(&mut self) -> Result<Option<String>, Infeasible> {
        match self {
            Replay::Vllm(replay) => replay.next_line(),
            Replay::Sglang(replay) => replay.next_line(),
        }
    }
}

/// A line of steps as JSON.
fn parse(line: &str, steps: &Lines) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(line).map_err(|e| steps.broken(format!("not a step: {e}")))
}

struct Comparison {
    lines: u64,
    /// Ours and theirs.
    difference: Option<(Option<String>, Option<String>)>,
}

fn compare(workload: &Workload, steps: &mut Lines) -> Result<Comparison, Failure> {
    let mut replay = workload.replay();
    let prefix = format!("{{\"w\":{},", workload.number());
    let mut result = Comparison { lines: 0, difference: None };
    loop {
        let mut theirs = steps.next()?;
        if let Some(line) = theirs.take_if(|line| !line.starts_with(&prefix)) {
            parse(&line, steps)?;
            steps.pending = Some(line);
        }
        let ended = theirs.is_none();
        if result.difference.is_none() {
            let ours = replay.next_line().map_err(anyhow::Error::new)?;
            if ours == theirs {
                result.lines += u64::from(!ended);
            } else {
                if let Some(line) = &theirs {
                    parse(line, steps)?;
                }
                result.difference = Some((ours, theirs));
            }
        }
        if ended {
            return Ok(result);
        }
    }
}
