//! What is written as a trace file is read back as the same requests.

use std::fs::File;
use std::path::Path;

use overbook_sim::time::Time;
use overbook_sim::units::Rate;
use overbook_sim::workload::arrival::{Arrival, ClassId, Content, Workload, WorkloadError};
use overbook_traces::{ArrivalSpec, Failures, GenerateSpec, Keep, Layout, LengthSpec, TraceSpec, write_requests};

use crate::drain;

/// Some requests of classes, some of whose names need quotes or are not ASCII.
struct Hard(u64, Vec<String>);

impl Hard {
    fn new() -> Hard {
        Hard(0, ["plain", "with, comma", "GPT-4/api", "grün 😀"].map(str::to_owned).to_vec())
    }
}

impl Workload for Hard {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        self.0 += 1;
        let (at, tokens) = (Time(self.0 * self.0 * 10_000_019), self.0 as u32);
        let arrival = Arrival { class: ClassId((self.0 % 4) as u16), ..Arrival::new(at, tokens, 2 * tokens) };
        Ok((self.0 < 300_000).then_some(arrival))
    }

    fn classes(&self) -> &[String] {
        &self.1
    }
}

fn write(workload: &mut dyn Workload, path: &Path) -> u64 {
    let layout = Layout::of(path).expect("a layout");
    write_requests(workload, layout, &[], File::create(path).expect("made")).expect("written")
}

fn named(workload: &mut dyn Workload) -> Vec<(u64, u32, u32, String)> {
    let arrivals = drain(workload).expect("reads");
    let name = |class: ClassId| workload.classes()[usize::from(class.0)].clone();
    let first = arrivals[0].at.0;
    arrivals.iter().map(|a| (a.at.0 - first, a.prompt_tokens, a.output_tokens, name(a.class))).collect()
}

/// Requests from a list.
struct Listed(std::vec::IntoIter<Arrival>, Vec<String>);

impl Workload for Listed {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, WorkloadError> {
        Ok(self.0.next())
    }

    fn classes(&self) -> &[String] {
        &self.1
    }
}

/// A line of ids that is longer than the block that is read at a time.
#[test]
fn long_lines_are_read_as_they_were_written() {
    let ids = |first: u64, count: u64| {
        let content = Content { block_tokens: 1, ids: (0..count).map(|id| u64::MAX - first - id).collect() };
        let mut arrival = Arrival::new(Time(first), count as u32, 3);
        arrival.content = Some(Box::new(content));
        arrival
    };
    let arrivals = vec![ids(0, 5), ids(1_000_000, 40_000), ids(2_000_000, 7)];
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().expect("a file");
    let mut listed = Listed(arrivals.clone().into_iter(), vec![String::new()]);
    assert_eq!(write(&mut listed, file.path()), 3);
    let text = std::fs::read_to_string(file.path()).expect("text");
    assert!(text.lines().map(str::len).max() > Some(3 << 18), "longer than any block");
    let spec = TraceSpec { block_tokens: 1, ..TraceSpec::new(file.path()) };
    let read = drain(&mut *spec.open().expect("opens")).expect("reads");
    let told = |arrivals: &[Arrival]| -> Vec<_> {
        arrivals.iter().map(|one| (one.at, one.prompt_tokens, one.content.clone())).collect()
    };
    assert_eq!(told(&read), told(&arrivals));
    // What is no object is no such line.
    std::fs::write(file.path(), "a,".repeat(1 << 18)).expect("written");
    let error = spec.open().err().expect("refused").to_string();
    assert!(error.contains("the line is longer than 262144 bytes"), "{error}");
}

#[test]
fn every_layout_keeps_times_lengths_and_classes() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let expected = named(&mut Hard::new());
    for name in ["t.csv", "t.jsonl", "t.parquet", "T.PARQUET"] {
        let path = folder.path().join(name);
        assert_eq!(write(&mut Hard::new(), &path), expected.len() as u64);
        assert_eq!(named(&mut *TraceSpec::new(&path).open().expect("opens")), expected, "{name}");
        let bytes = std::fs::read(&path).expect("read");
        write(&mut Hard::new(), &path);
        assert_eq!(std::fs::read(&path).expect("read"), bytes, "{name}: the same bytes every time");
        let keep = Keep { class: vec!["with, comma".into()], ..Keep::default() };
        let kept = named(&mut *TraceSpec { keep, ..TraceSpec::new(&path) }.open().expect("opens"));
        assert_eq!(kept.len(), expected.iter().filter(|row| row.3 == "with, comma").count());
        let keep = Keep { model: vec!["x".into()], ..Keep::default() };
        let refused = TraceSpec { keep, ..TraceSpec::new(&path) }.open().err().expect("no models here").to_string();
        assert!(refused.contains("format vidur has neither column"), "{refused}");
    }
    assert_eq!(Layout::of(Path::new("t.txt")), None);
    assert_eq!(Layout::of(Path::new("parquet")), None);
}

#[test]
fn a_generator_is_written_as_it_would_be_simulated() {
    let spec = GenerateSpec {
        arrivals: ArrivalSpec::Burstgpt {
            mean_rate: None,
            from_hour: 216,
            hours: Some(2),
            shape: 1.16,
            failures: Failures::Drop,
        },
        lengths: LengthSpec::Burstgpt,
        requests: Some(5_000),
        duration: None,
        sessions: None,
        repeats: None,
        transcripts: None,
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("t.parquet");
    write(&mut *spec.open(3).expect("opens"), &path);
    let written = named(&mut *TraceSpec::new(&path).open().expect("opens"));
    assert_eq!(written, named(&mut *spec.open(3).expect("opens")));
    let fixed = GenerateSpec { arrivals: ArrivalSpec::Poisson { rate: Rate(1.0) }, ..spec };
    write(&mut *fixed.open(3).expect("opens"), &path);
    assert_ne!(named(&mut *TraceSpec::new(&path).open().expect("opens")), written);
}
