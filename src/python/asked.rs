//! What Python asks for, as an experiment.

use std::path::PathBuf;
use std::sync::Arc;

use overbook_scenarios::yaml;
use pyo3::prelude::*;

use super::error::{Fault, ScenarioError, told};
use super::eviction::EvictionIn;
use super::router::RouterIn;
use super::scheduler::SchedulerIn;
use crate::{Cancel, Error, Experiment};

/// A policy in Python: what reports call it, and what makes it.
#[derive(FromPyObject)]
struct Made(String, Py<PyAny>);

/// The scenario and its changes, as the package hands them over: attributes of one object.
#[derive(FromPyObject)]
pub(super) struct Asked {
    /// A file, or none.
    path: Option<PathBuf>,
    /// YAML, if there is no file.
    text: Option<String>,
    /// JSON of a dict, if there is neither.
    json: Option<String>,
    /// Paths and values (JSON), in order.
    changes: Vec<(String, String)>,
    /// Axes of the sweep that are added: paths, and lists or maps of values (JSON).
    axes: Vec<(String, String)>,
    scheduler: Option<Made>,
    router: Option<Made>,
    eviction: Option<Made>,
}

/// An experiment, and what it was asked with.
pub(super) struct Ready {
    pub(super) experiment: Experiment,
    /// Ends its runs.
    pub(super) cancel: Cancel,
    /// What its policies in Python raise.
    pub(super) fault: Arc<Fault>,
    /// Whether it has policies in Python.
    pub(super) calls_back: bool,
    /// Whether the scenario has no text of its own.
    paths: bool,
}

impl Asked {
    /// The experiment. What is wrong with the scenario is told when it is resolved.
    pub(super) fn experiment(self, py: Python<'_>) -> PyResult<Ready> {
        let cancel = Cancel::new();
        let fault = Arc::new(Fault::new(cancel.clone()));
        let paths = self.json.is_some();
        let loaded = match (self.path, self.text, self.json) {
            (Some(path), ..) => Experiment::load(path),
            (None, Some(text), _) => Ok(Experiment::from_text("scenario", &text)),
            (None, None, Some(json)) => Ok(Experiment::from_text("scenario", &yaml_of(&json)?)),
            (None, None, None) => Ok(Experiment::from_text("scenario", "")),
        };
        let mut experiment = loaded.map_err(|error| told(py, &error, paths))?;
        for (path, value) in &self.changes {
            experiment = experiment.set_yaml(path, value);
        }
        for (path, values) in &self.axes {
            experiment = experiment.vary(path, values);
        }
        let calls_back = self.scheduler.is_some() || self.router.is_some() || self.eviction.is_some();
        if let Some(Made(name, make)) = self.scheduler {
            let fault = Arc::clone(&fault);
            experiment = experiment
                .with_scheduler(&name, move |place| Box::new(SchedulerIn::make(&make, place, Arc::clone(&fault))));
        }
        if let Some(Made(name, make)) = self.router {
            let fault = Arc::clone(&fault);
            experiment =
                experiment.with_router(&name, move |seed| Box::new(RouterIn::make(&make, seed, Arc::clone(&fault))));
        }
        if let Some(Made(name, make)) = self.eviction {
            let fault = Arc::clone(&fault);
            experiment = experiment.with_eviction(&name, move |place, blocks| {
                Box::new(EvictionIn::make(&make, place, blocks, Arc::clone(&fault)))
            });
        }
        Ok(Ready { experiment, cancel, fault, calls_back, paths })
    }
}

impl Ready {
    /// The library's error as Python sees it.
    pub(super) fn told(&self, py: Python<'_>, error: &Error) -> PyErr {
        told(py, error, self.paths)
    }
}

/// A dict as the YAML that messages show.
fn yaml_of(json: &str) -> PyResult<String> {
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| ScenarioError::new_err(format!("not a scenario: {error}")))?;
    Ok(yaml::emit(&value))
}
