//! Many runs.

use std::num::NonZeroUsize;

use overbook_reports::points::Points;
use overbook_reports::study as reports;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::asked::{Asked, Ready};
use super::error::with_finished;
use super::run::loads;
use super::supervised::aside;
use super::table::Table;
use crate::study::{Asked as Wanted, Records, judged_all};
use crate::{Error, Options, PointDone, StudyOutcome};

/// What a study gives.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Study {
    points: crate::Study,
    records: Records,
    table: reports::Study,
}

/// Runs all points of a scenario's sweep.
#[pyfunction]
#[pyo3(signature = (asked, *, jobs, audit, step_by_step, progress))]
pub(super) fn sweep(
    py: Python<'_>,
    asked: Asked,
    jobs: Option<NonZeroUsize>,
    audit: bool,
    step_by_step: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Study> {
    let ready = asked.experiment(py)?;
    let options = Options { audit, step_by_step, jobs, cancel: ready.cancel.clone(), ..Options::default() };
    let study = aside(py, &ready, || ready.experiment.study())?.map_err(|error| ready.told(py, &error))?;
    let tell = |done: PointDone| {
        let Some(progress) = &progress else { return };
        let told = Python::attach(|py| progress.bind(py).call1((done.finished, done.of)).map(drop));
        if let Err(error) = told {
            ready.fault.raise(error);
        }
    };
    match aside(py, &ready, || study.run(&options, &tell))? {
        Ok(outcome) => Ok(Study::of(study, &outcome)),
        Err(error) => Err(refused(py, &ready, study, error)),
    }
}

/// A point could not be run: the error, with what the others gave.
fn refused(py: Python<'_>, ready: &Ready, study: crate::Study, mut error: Error) -> PyErr {
    let finished = error.take_finished().map(|outcome| Study::of(study, &outcome));
    with_finished(py, ready.told(py, &error), finished)
}

impl Study {
    fn of(study: crate::Study, outcome: &StudyOutcome) -> Study {
        let records = outcome.records(&study);
        let wanted = Wanted { metrics: &Wanted::SWEEP, command: String::new(), by_load: false };
        let table = records.table(&study, &wanted);
        Study { points: study, records, table }
    }
}

#[pymethods]
impl Study {
    /// Points in the order of the sweep: the columns of `points.parquet`. Points that could not be run are left out.
    #[getter]
    fn points(&self) -> PyResult<Table> {
        let mut points = Points::new(self.table.axes.clone());
        for (record, row) in self.records.points.iter().zip(&self.table.points) {
            let Some(record) = record else { continue };
            let pushed = points.push(row.coordinates.clone(), record.figures(), &record.summary);
            pushed.map_err(|error| super::error::RunError::new_err(error.to_string()))?;
        }
        Table::points(&points)
    }

    /// Per point, its place (`coordinates`) and its figures (`summary`), as `overbook run --json` prints them.
    #[getter]
    fn runs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let runs = PyList::empty(py);
        for (point, record) in self.points.points().iter().zip(&self.records.points) {
            let Some(record) = record else { continue };
            let coordinates = PyDict::new(py);
            point.coordinates.iter().try_for_each(|(path, value)| coordinates.set_item(path, value))?;
            let run = PyDict::new(py);
            run.set_item("coordinates", coordinates)?;
            run.set_item("summary", loads(py, &record.summary)?)?;
            runs.append(run)?;
        }
        Ok(runs)
    }

    /// The text of `study.csv`, as the command line writes it for this scenario.
    #[getter]
    fn csv(&self) -> String {
        self.table.csv()
    }

    /// The text of `replicates.csv`; None without `sweep.seeds`.
    #[getter]
    fn replicates_csv(&self) -> Option<String> {
        self.table.replicates_csv()
    }

    /// Per point, the scenario with all defaults filled in, as YAML: `overbook.run` takes it.
    #[getter]
    fn resolved(&self) -> Vec<String> {
        self.points.points().iter().map(|point| point.scenario.to_yaml()).collect()
    }

    /// The figures of `expect:`, judged, a line each.
    #[getter]
    fn expected(&self) -> Vec<String> {
        judged_all(&self.records.expected).iter().map(reports::Judged::line).collect()
    }

    /// Whether the study shows what it should: what it expects, else the targets of all points.
    #[getter]
    fn passes(&self) -> bool {
        self.records.passes()
    }

    /// Which points miss a target of `slo:`, a line each.
    #[getter]
    fn missed(&self) -> Vec<String> {
        self.records.missed(&self.points)
    }

    /// What the user should know of the scenario, though nothing is wrong with it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.points.plan().notes().to_vec()
    }

    fn __len__(&self) -> usize {
        self.points.points().len()
    }

    /// The table that the command line prints.
    fn __str__(&self) -> String {
        self.table.terminal()
    }

    fn __repr__(&self) -> String {
        format!("Study({} points over {})", self.points.points().len(), self.table.axes.join(", "))
    }
}
