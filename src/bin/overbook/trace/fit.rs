//! `overbook trace fit`: a generator fitted to a trace, or to the metrics of a server.

mod metrics;
#[cfg(feature = "frames")]
mod requests;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use overbook_scenarios::yaml;
use overbook_traces::GenerateSpec;

use crate::cli::{FitArgs, Globals};
use crate::output::{Failure, note, print};
use crate::place;

use super::aside;

/// A fitted generator, and remarks on it.
struct Fitted {
    /// How well it fits, in words.
    report: String,
    generate: GenerateSpec,
    /// What it was fitted to, for a comment in the scenario.
    source: String,
    /// Name for the scenario.
    name: String,
    /// What the generator does not have, for comments.
    remarks: Vec<String>,
}

pub(super) fn run(args: &FitArgs, globals: &Globals) -> Result<(), Failure> {
    if let Some(out) = &args.out {
        place::file(out, args.force)?;
    }
    let fitted = match &args.source {
        None => metrics::fit(args)?,
        Some(source) => requests(source, args, globals)?,
    };
    print(&fitted.report)?;
    match &args.out {
        Some(out) => {
            let scenario = fitted.scenario()?;
            aside::write(out, |path| {
                Ok(fs::write(path, scenario).with_context(|| format!("cannot write {}", path.display()))?)
            })?;
            note(&format!("scenario written to {}; its model and gpu are placeholders", out.display()));
            Ok(())
        }
        None => print(&format!("\n{}", fitted.workload()?)),
    }
}

#[cfg(feature = "frames")]
fn requests(source: &Path, args: &FitArgs, globals: &Globals) -> Result<Fitted, Failure> {
    requests::fit(source, args, globals)
}

#[cfg(not(feature = "frames"))]
fn requests(_: &Path, _: &FitArgs, _: &Globals) -> Result<Fitted, Failure> {
    Err(without_frames("`trace fit` of requests"))
}

/// This build lacks a command.
#[cfg(not(feature = "frames"))]
pub(super) fn without_frames(what: &str) -> Failure {
    Failure::Input(format!("{what} needs polars, which this build was made without; build with the feature `frames`"))
}

impl Fitted {
    /// The part of a scenario that was fitted.
    fn workload(&self) -> Result<String, Failure> {
        let generate = serde_json::to_value(&self.generate).map_err(anyhow::Error::new)?;
        Ok(yaml::emit(&serde_json::json!({ "workload": { "generate": generate } })))
    }

    /// A scenario that runs as it is.
    fn scenario(&self) -> Result<String, Failure> {
        let mut lines = vec![format!("# Workload fitted by `overbook trace fit` to {}.", self.source)];
        lines.extend(self.remarks.iter().map(|remark| format!("# {remark}")));
        lines.push("version: 1".to_owned());
        lines.push(format!("name: {}", self.name));
        lines.push(self.workload()?.trim_end().to_owned());
        lines
            .push("# Placeholders: name the model and the GPU that you plan for (`overbook catalog list`).".to_owned());
        lines.push("model: llama-3.1-8b".to_owned());
        lines.push("gpu: h200".to_owned());
        Ok(lines.join("\n") + "\n")
    }
}

/// A name for a scenario, from that of a file.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "fitted".to_owned() } else { format!("{name}-fitted") }
}
