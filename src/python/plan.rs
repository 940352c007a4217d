//! Capacity plans.

use std::num::NonZeroUsize;

use overbook_reports::Status;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use super::asked::Asked;
use super::error::RunError;
use super::run::{loads, word};
use super::supervised::aside;
use super::table::Table;
use crate::{Options, PlanOutcome};

/// What a plan gives.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Plan {
    found: PlanOutcome,
}

/// The cheapest fleet that keeps the promises of a scenario.
#[pyfunction]
#[pyo3(signature = (asked, *, jobs, news))]
pub(super) fn plan(
    py: Python<'_>,
    asked: Asked,
    jobs: Option<NonZeroUsize>,
    news: Option<Py<PyAny>>,
) -> PyResult<Plan> {
    let ready = asked.experiment(py)?;
    let options = Options { jobs, cancel: ready.cancel.clone(), ..Options::default() };
    let tell = |line: &str| {
        let Some(news) = &news else { return };
        if let Err(error) = Python::attach(|py| news.bind(py).call1((line,)).map(drop)) {
            ready.fault.raise(error);
        }
    };
    let found = aside(py, &ready, || ready.experiment.plan(&options, "", &tell))?;
    let found = found.map_err(|error| ready.told(py, &error))?;
    // All that ends a plan from outside has been raised by now.
    match found.plan.status {
        Status::Interrupted => Err(PyKeyboardInterrupt::new_err(())),
        Status::Complete | Status::Failed => Ok(Plan { found }),
    }
}

#[pymethods]
impl Plan {
    /// The answer in a sentence or two.
    #[getter]
    fn sentence(&self) -> &str {
        &self.found.plan.sentence
    }

    /// Whether a fleet keeps the promises.
    #[getter]
    fn found(&self) -> bool {
        self.found.plan.answer.is_some()
    }

    /// Whether the interval of the headroom holds today's load.
    #[getter]
    fn too_close_to_call(&self) -> bool {
        self.found.plan.too_close_to_call
    }

    #[getter]
    fn status(&self) -> &'static str {
        word(self.found.plan.status)
    }

    /// The text of `plan.json`, as the command line writes it for this scenario, but for the command.
    #[getter]
    fn summary_json(&self) -> String {
        self.found.plan.json()
    }

    /// The same as a dict.
    #[getter]
    fn summary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, &self.summary_json())
    }

    /// The fleet that answers, as a scenario that `overbook.run` takes; None if there is none.
    #[getter]
    fn answer(&self) -> Option<String> {
        self.found.point.as_ref().map(|point| point.scenario.to_yaml())
    }

    /// Every candidate that was tried, and why it lost: the columns of `ledger.csv`.
    #[getter]
    fn ledger(&self) -> PyResult<Table> {
        Table::ledger(&self.found.plan.ledger)
    }

    /// The page, in one file.
    #[getter]
    fn report_html(&self) -> PyResult<String> {
        self.found.plan.html().map_err(|error| RunError::new_err(error.to_string()))
    }

    /// What the command line prints.
    fn __str__(&self) -> String {
        self.found.plan.terminal()
    }

    fn __repr__(&self) -> String {
        format!("Plan({:?})", self.found.plan.sentence)
    }
}
