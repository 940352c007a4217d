//! A scenario with `sweep:`: many runs, one study.

use std::collections::BTreeMap;

use overbook::study::{Asked, Records, judged_all};
use overbook::{Options, Status, Study};
use overbook_reports::manifest::Start;
use overbook_reports::points::{POINTS, Points};
use overbook_reports::study::{REPLICATES, STUDY};
use overbook_reports::{RunDir, study as reports};
use overbook_scenarios::Judgement;

use crate::cli::{Globals, RunArgs};
use crate::facts;
use crate::output::{DONE, FAILED, Failure, GATE_FAILED, INTERRUPTED, note, print};
use crate::place;
use crate::run::target;

/// Missed targets of `slo:` that are shown before the rest is only counted.
const MISSED_SHOWN: usize = 20;

pub(crate) fn run(
    study: &Study,
    asked: &Asked<'_>,
    options: &Options,
    args: &RunArgs,
    globals: &Globals,
) -> Result<u8, Failure> {
    let start = Start::now();
    let (out, force) = target(study, args);
    let dir = place::run_dir(&out, force)?;
    let outcome = study.run(options, &|done| {
        if !globals.quiet && !args.no_progress {
            note(&format!("point {} of {} done", done.point + 1, done.of));
        }
    });
    let (outcome, refused) = match outcome {
        Ok(outcome) => (outcome, None),
        // What is finished is kept.
        Err(mut error) => match error.take_finished() {
            Some(outcome) => (outcome, Some(Failure::of(error, globals))),
            None => return Err(Failure::of(error, globals)),
        },
    };
    let told = Told { json: args.json, gate: args.gate, no_report: args.no_report };
    let code = finish(study, &outcome.records(study), asked, (dir, start), &told, refused.as_ref())?;
    if !globals.quiet {
        let (cpu, jobs) = (start.cpu_s().unwrap_or(f64::NAN), study.jobs(options));
        note(&format!("{} runs in {cpu:.2} CPU s on {jobs} thread(s)", study.points().len()));
    }
    if let Some(failure) = refused {
        failure.tell();
        note("the results are those of the other points");
    }
    Ok(code)
}

/// What is told of a study, and what is written.
pub(crate) struct Told {
    /// One JSON document instead of the tables.
    pub(crate) json: bool,
    /// Whether the exit code is to say that the study does not show what it should.
    pub(crate) gate: bool,
    /// No page.
    pub(crate) no_report: bool,
}

/// Writes the directory of a study whose points are known, and prints its table. Some points may have been refused.
pub(crate) fn finish(
    study: &Study,
    records: &Records,
    asked: &Asked<'_>,
    (dir, start): (RunDir, Start),
    told: &Told,
    refused: Option<&Failure>,
) -> Result<u8, Failure> {
    let table = records.table(study, asked);
    write_files(&dir, study, records, &table, told.no_report)?;
    let halted: Vec<_> =
        records.points.iter().map(|point| point.as_ref().and_then(|point| point.halted.as_ref())).collect();
    let failed = halted.iter().any(Option::is_some);
    let (status, code) = match (records.is_complete(), told.gate && !records.passes()) {
        _ if refused.is_some() => (Status::Failed, refused.map_or(FAILED, Failure::code)),
        _ if failed => (Status::Failed, FAILED),
        (false, _) => (Status::Interrupted, INTERRUPTED),
        (true, true) => (Status::Complete, GATE_FAILED),
        (true, false) => (Status::Complete, DONE),
    };
    let (ended, of) = (records.whole().flatten().count(), records.points.len());
    if ended < of && refused.is_none() {
        note(&format!(
            "interrupted: {ended} of {of} points have ended; what those under way had is in their summaries alone"
        ));
    }
    let first = &study.points()[0].scenario;
    let traces = first.inputs();
    let plan = (study.plan().plan_hash(), first.seed);
    let mut manifest = start.manifest(&facts::BUILD, facts::command(), plan, &traces, (status, code));
    manifest.trace_rows = trace_rows(records);
    let out = dir.finish(&manifest).map_err(anyhow::Error::new)?;
    if told.json {
        print(&json(study, records)?)?;
    } else {
        print(&table.terminal())?;
    }
    // A comparison says up to which load each keeps its promise, and of those that keep it at none why; a gate that fails says where.
    let all = !asked.by_load || told.json || told.gate;
    tell_missed(&if all { records.missed(study) } else { records.missed_everywhere(study) }, told.json)?;
    if told.json {
        table.depends_on_seed.iter().for_each(|line| note(line));
    }
    tell_verdicts(&records.expected, told.json)?;
    if !told.json {
        print(&format!("results: {}", out.display()))?;
    }
    for (number, halt) in (1..).zip(halted).filter_map(|(number, halt)| Some((number, halt?))) {
        note(&format!("error: point {number}: {halt}; its results end there"));
    }
    Ok(code)
}

/// What became of the rows of the trace, where it is the same at all points; else the summary of each says it.
fn trace_rows(records: &Records) -> BTreeMap<String, u64> {
    let mut all = records.points.iter().flatten().map(|point| &point.trace_rows);
    all.next().filter(|first| all.all(|rows| rows == *first)).cloned().unwrap_or_default()
}

fn write_files(
    dir: &RunDir,
    study: &Study,
    records: &Records,
    table: &reports::Study,
    no_report: bool,
) -> Result<(), Failure> {
    let mut side_by_side = Points::new(table.axes.clone());
    for (index, record) in records.points.iter().enumerate() {
        let Some(record) = record else { continue };
        let places = table.points[index].coordinates.clone();
        if record.status != Status::Interrupted {
            side_by_side.push(places, record.figures(), &record.summary).map_err(anyhow::Error::new)?;
        }
        dir.write(&format!("point-{index:04}.summary.json"), &record.summary).map_err(anyhow::Error::new)?;
        let scenario = study.points()[index].scenario.to_yaml();
        dir.write(&format!("point-{index:04}.resolved.yaml"), scenario).map_err(anyhow::Error::new)?;
    }
    dir.write(STUDY, table.csv()).map_err(anyhow::Error::new)?;
    if let Some(csv) = table.replicates_csv() {
        dir.write(REPLICATES, csv).map_err(anyhow::Error::new)?;
    }
    dir.write(POINTS, side_by_side.parquet().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    dir.write(reports::MARKDOWN, table.markdown()).map_err(anyhow::Error::new)?;
    if !no_report {
        dir.write("report.html", table.html().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    }
    Ok(())
}

fn json(study: &Study, records: &Records) -> Result<String, Failure> {
    let mut list = Vec::new();
    for (point, record) in study.points().iter().zip(&records.points) {
        let Some(record) = record else { continue };
        let summary: serde_json::Value = serde_json::from_str(&record.summary).map_err(anyhow::Error::new)?;
        let coordinates: serde_json::Map<_, _> =
            point.coordinates.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        list.push(serde_json::json!({ "coordinates": coordinates, "summary": summary }));
    }
    Ok(serde_json::to_string_pretty(&list).map_err(anyhow::Error::new)?)
}

/// Prints which points miss a target of `slo:`, on stderr if stdout holds a JSON document.
fn tell_missed(missed: &[String], json: bool) -> Result<(), Failure> {
    for line in missed.iter().take(MISSED_SHOWN) {
        tell(&format!("✗ {line}"), json)?;
    }
    if missed.len() > MISSED_SHOWN {
        tell(&format!("  and {} more targets missed", missed.len() - MISSED_SHOWN), json)?;
    }
    Ok(())
}

/// Prints target, got and verdict of every expectation, on stderr if stdout holds a JSON document.
pub(crate) fn tell_verdicts(verdicts: &[Judgement], json: bool) -> Result<(), Failure> {
    let verdicts = judged_all(verdicts);
    verdicts.iter().try_for_each(|judged| tell(&judged.line(), json))?;
    let tally = reports::Judged::tally(&verdicts);
    if tally.is_empty() { Ok(()) } else { tell(&tally, json) }
}

fn tell(line: &str, json: bool) -> Result<(), Failure> {
    if json {
        note(line);
        return Ok(());
    }
    print(line)
}
