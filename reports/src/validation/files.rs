//! `validation.json` and `validation.csv`.

use super::{ErrorGroup, JudgedRun, Pair, Validation};
use crate::json::{Json, document};

/// Everything as one JSON document.
pub fn validation_json(validation: &Validation) -> String {
    let object = |entries: Vec<(&str, Json)>| {
        Json::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let group = |group: &ErrorGroup| {
        let rows = group.rows.iter().map(|row| {
            object(vec![
                ("metric", row.metric.as_str().into()),
                ("runs", Json::Int(row.runs as u64)),
                ("bias", Json::Float(row.bias)),
                ("median", Json::Float(row.median)),
                ("p90", Json::Float(row.p90)),
            ])
        });
        object(vec![
            ("name", group.name.as_str().into()),
            ("runs", Json::Int(group.runs as u64)),
            ("errors", Json::List(rows.collect())),
        ])
    };
    let pair = |pair: &Pair| {
        object(vec![
            ("metric", pair.metric.as_str().into()),
            ("measured", Json::Float(pair.measured)),
            ("simulated", Json::Float(pair.simulated)),
            ("error", pair.error().into()),
        ])
    };
    let texts = |texts: &[String]| Json::List(texts.iter().map(|text| text.as_str().into()).collect());
    let run = |run: &JudgedRun| {
        object(vec![
            ("run", run.id.as_str().into()),
            ("set", run.set.as_str().into()),
            ("engine", run.engine.as_str().into()),
            ("gpu", run.gpu.as_str().into()),
            ("model", run.model.as_str().into()),
            ("load", run.load.as_str().into()),
            ("quality", run.quality.as_str().into()),
            ("training", run.training.map_or(Json::Null, Json::Bool)),
            ("assumptions", texts(&run.assumptions)),
            ("figures", Json::List(run.pairs.iter().map(pair).collect())),
        ])
    };
    let missed = validation.missed.iter().map(|run| {
        object(vec![
            ("run", run.id.as_str().into()),
            ("set", run.set.as_str().into()),
            ("quality", run.quality.as_str().into()),
            ("missing", run.missing.as_str().into()),
        ])
    });
    document(&object(vec![
        ("tool", validation.tool.as_str().into()),
        ("command", validation.command.as_str().into()),
        ("complete", group(&validation.complete())),
        ("groups", Json::List(validation.groups().iter().map(group).collect())),
        ("runs", Json::List(validation.worst_first().into_iter().map(run).collect())),
        ("not_simulated", Json::List(missed.collect())),
    ]))
}

/// One line per figure of a run.
pub fn validation_csv(validation: &Validation) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header =
        ["run_id", "set", "quality", "engine", "gpu", "model", "load", "metric", "measured", "simulated", "error"];
    let mut records = vec![header.map(str::to_owned)];
    for run in &validation.runs {
        records.extend(run.pairs.iter().map(|pair| {
            [
                run.id.clone(),
                run.set.clone(),
                run.quality.clone(),
                run.engine.clone(),
                run.gpu.clone(),
                run.model.clone(),
                run.load.clone(),
                pair.metric.clone(),
                pair.measured.to_string(),
                pair.simulated.to_string(),
                pair.error().map_or_else(String::new, |error| error.to_string()),
            ]
        }));
    }
    for record in &records {
        // Writing to memory cannot fail, and all records have the same length.
        let _ = writer.write_record(record);
    }
    writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
