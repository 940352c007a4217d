//! One run, simulated.

use overbook_reports::Status;
use overbook_reports::columns::Columns;
use overbook_reports::summary_json::summary_json;
use overbook_sim::results::rows::Discard;
use overbook_sim::results::summary::Summary;
use pyo3::exceptions::{PyKeyError, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::asked::Asked;
use super::error::{RunError, with_finished};
use super::supervised::{aside, here};
use super::table::Table;
use crate::{Error, Options, Outcome, Study};

/// What a run gives.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Run {
    outcome: Outcome,
    resolved: String,
    plan_hash: String,
    notes: Vec<String>,
    rows: Option<[Py<Table>; 3]>,
}

/// JSON as Python's objects.
pub(super) fn loads<'py>(py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (json,))
}

/// A status in a word.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::Complete => "complete",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
    }
}

/// Simulates a scenario without a sweep.
#[pyfunction]
#[pyo3(signature = (asked, *, rows, audit, step_by_step))]
pub(super) fn run(py: Python<'_>, asked: Asked, rows: bool, audit: bool, step_by_step: bool) -> PyResult<Run> {
    let ready = asked.experiment(py)?;
    let options = Options { audit, step_by_step, cancel: ready.cancel.clone(), ..Options::default() };
    let study = aside(py, &ready, || ready.experiment.study())?.map_err(|error| ready.told(py, &error))?;
    let mut columns = rows.then(Columns::default);
    let outcome = if ready.calls_back {
        here(py, &ready, |go_on| record(&study, &options, columns.as_mut(), go_on))
    } else {
        aside(py, &ready, || record(&study, &options, columns.as_mut(), &mut || true))
    };
    let outcome = outcome?.map_err(|error| ready.told(py, &error))?;
    finished(py, &study, outcome, columns)
}

fn record(
    study: &Study,
    options: &Options,
    columns: Option<&mut Columns>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Outcome, Error> {
    let mut watch = |_| go_on();
    match columns {
        Some(columns) => study.record(options, columns, &mut watch),
        None => study.record(options, &mut Discard, &mut watch),
    }
}

fn finished(py: Python<'_>, study: &Study, outcome: Outcome, columns: Option<Columns>) -> PyResult<Run> {
    // All that ends a run from outside has been raised by now.
    if outcome.status == Status::Interrupted {
        return Err(PyKeyboardInterrupt::new_err(()));
    }
    let classes: Vec<String> = outcome.summary.classes.iter().map(|class| class.name.clone()).collect();
    let rows = columns.map(|columns| {
        let (requests, steps, sessions) = columns.into_tables();
        let requests = Py::new(py, Table::rows(requests, Some(&classes))?)?;
        let (steps, sessions) = (Table::rows(steps, None)?, Table::rows(sessions, None)?);
        Ok::<_, PyErr>([requests, Py::new(py, steps)?, Py::new(py, sessions)?])
    });
    let point = &study.points()[0];
    let halted = outcome.halted.as_ref().map(ToString::to_string);
    let run = Run {
        resolved: point.scenario.to_yaml(),
        plan_hash: point.plan_hash(),
        notes: study.plan().notes().to_vec(),
        rows: rows.transpose()?,
        outcome,
    };
    match halted {
        None => Ok(run),
        Some(halted) => Err(with_finished(py, RunError::new_err(halted), run)),
    }
}

#[pymethods]
impl Run {
    /// What was asked, in a few words.
    #[getter]
    fn title(&self) -> &str {
        &self.outcome.title
    }

    /// `complete`, or `failed` where the scheduler did not get on.
    #[getter]
    fn status(&self) -> &'static str {
        word(self.outcome.status)
    }

    /// The text of `summary.json`, as the command line writes it for this scenario.
    #[getter]
    fn summary_json(&self) -> String {
        summary_json(&self.outcome.report("", ""))
    }

    /// The same as a dict.
    #[getter]
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, &self.summary_json())
    }

    /// A figure by its name, in SI units: `run.metric("ttft_p99")`. None if the run does not define it.
    fn metric(&self, name: &str) -> PyResult<Option<f64>> {
        if Summary::metric_names().iter().any(|known| known == name) {
            return Ok(self.outcome.metric(name));
        }
        Err(PyKeyError::new_err(format!("no figure is called `{name}`; docs/metrics.md lists them")))
    }

    /// Equal digests, equal schedules.
    #[getter]
    fn digest(&self) -> String {
        self.outcome.digest.to_string()
    }

    /// Virtual time of the end [ns].
    #[getter]
    fn end_ns(&self) -> u64 {
        self.outcome.end.0
    }

    /// Steps, and plans that they come from: no part of the result.
    #[getter]
    fn effort<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let effort = PyDict::new(py);
        effort.set_item("steps", self.outcome.effort.steps)?;
        effort.set_item("plans", self.outcome.effort.plans)?;
        Ok(effort)
    }

    /// The targets of `slo:`, judged, in the order of the scenario.
    #[getter]
    fn verdicts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let each = self.outcome.verdicts.iter().map(|verdict| {
            let told = PyDict::new(py);
            told.set_item("metric", &verdict.metric)?;
            told.set_item("target", verdict.target_text())?;
            told.set_item("value", verdict.value)?;
            told.set_item("got", verdict.value_text())?;
            told.set_item("met", verdict.met())?;
            Ok(told)
        });
        each.collect()
    }

    /// Whether no target of `slo:` is missed.
    #[getter]
    fn keeps_targets(&self) -> bool {
        self.outcome.keeps_targets()
    }

    /// Whether no target of `slo:` is missed, and all figures of `expect:` are as expected.
    #[getter]
    fn passes(&self) -> bool {
        self.outcome.passes()
    }

    /// How far the figures are to be trusted, by measured runs of real engines.
    #[getter]
    fn trust(&self) -> Option<String> {
        self.outcome.trust.as_ref().map(ToString::to_string)
    }

    /// Where the step costs come from.
    #[getter]
    fn calibration(&self) -> &str {
        &self.outcome.calibration
    }

    /// The main facts of the resolved scenario.
    #[getter]
    fn assumptions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let facts = PyDict::new(py);
        self.outcome.assumptions.iter().try_for_each(|(what, fact)| facts.set_item(what, fact))?;
        Ok(facts)
    }

    /// What the figures alone do not say.
    #[getter]
    fn remarks(&self) -> Vec<String> {
        self.outcome.remarks.clone()
    }

    /// What the user should know of the scenario, though nothing is wrong with it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// What became of the rows of the trace.
    #[getter]
    fn trace_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rows = PyDict::new(py);
        self.outcome.trace_rows.iter().try_for_each(|(what, count)| rows.set_item(what, count))?;
        Ok(rows)
    }

    /// The scenario with all defaults filled in, as YAML.
    #[getter]
    fn resolved(&self) -> &str {
        &self.resolved
    }

    /// BLAKE3 of the resolved scenario, as in manifests.
    #[getter]
    fn plan_hash(&self) -> &str {
        &self.plan_hash
    }

    /// Names of the classes that the column `class` counts.
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.outcome.summary.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// Requests in the order of their end: the columns of `requests.parquet`. None with `rows=False`.
    #[getter]
    fn requests(&self, py: Python<'_>) -> Option<Py<Table>> {
        self.rows.as_ref().map(|rows| rows[0].clone_ref(py))
    }

    /// Segments of equal steps: the columns of `steps.parquet`. None with `rows=False`.
    #[getter]
    fn steps(&self, py: Python<'_>) -> Option<Py<Table>> {
        self.rows.as_ref().map(|rows| rows[1].clone_ref(py))
    }

    /// Sessions in the order of their end: the columns of `sessions.parquet`. None with `rows=False`.
    #[getter]
    fn sessions(&self, py: Python<'_>) -> Option<Py<Table>> {
        self.rows.as_ref().map(|rows| rows[2].clone_ref(py))
    }

    fn __repr__(&self) -> String {
        let Outcome { title, digest, .. } = &self.outcome;
        format!("Run({title:?}, {}, digest {digest})", self.status())
    }
}
