//! Errors as Python sees them.

use std::sync::{Mutex, PoisonError};

use overbook_sim::fleet::RunError as Stopped;
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{Cancel, Error};

create_exception!(
    overbook,
    ScenarioError,
    PyValueError,
    "The scenario, or what it names, is not valid. The text is the command line's, with lines and columns; `problems` lists what is wrong. \
     `finished` has the other points of a study, or is None."
);
create_exception!(
    overbook,
    RunError,
    PyRuntimeError,
    "A valid scenario stopped on the way. `finished` has what there was by then, or is None."
);
create_exception!(overbook, InfeasiblePlan, RunError, "A scheduler asked for something that cannot be done.");

/// The library's error, with the text of the command line. `paths`: whether the scenario has no file that lines could be of, so that the
/// paths of what is wrong stand first.
pub(super) fn told(py: Python<'_>, error: &Error, paths: bool) -> PyErr {
    let (text, problems) = match error {
        Error::Scenario(problems) => (problems.render(false).trim_end().to_owned(), problems.list()),
        error if error.is_input() => (error.to_string(), &[][..]),
        error if is_infeasible(error) => return InfeasiblePlan::new_err(error.to_string()),
        error => return RunError::new_err(error.to_string()),
    };
    let mut places: Vec<&str> = problems.iter().map(|one| one.path.as_str()).filter(|path| !path.is_empty()).collect();
    places.dedup();
    let text = if paths && !places.is_empty() { format!("at {}:\n{text}", places.join(", ")) } else { text };
    let raised = ScenarioError::new_err(text);
    let listed = problems.iter().map(|one| {
        let problem = PyDict::new(py);
        problem.set_item("path", &one.path)?;
        problem.set_item("file", &one.file)?;
        problem.set_item("line", (one.line > 0).then_some(one.line))?;
        problem.set_item("column", (one.column > 0).then_some(one.column))?;
        problem.set_item("message", &one.message)?;
        problem.set_item("help", one.help.as_ref())?;
        Ok(problem)
    });
    let set = listed.collect::<PyResult<Vec<_>>>().and_then(|list| raised.value(py).setattr("problems", list));
    set.err().unwrap_or(raised)
}

fn is_infeasible(error: &Error) -> bool {
    match error {
        Error::Run(Stopped::Plan(_)) => true,
        Error::Point { source, .. } => is_infeasible(source),
        _ => false,
    }
}

/// The error, with what there was by then.
pub(super) fn with_finished<'py>(py: Python<'py>, error: PyErr, finished: impl IntoPyObject<'py>) -> PyErr {
    error.value(py).setattr("finished", finished).err().unwrap_or(error)
}

/// What Python has raised inside of a run, which cannot pass through it: kept until the run has ended, and the run is asked to end.
#[derive(Debug)]
pub(super) struct Fault {
    raised: Mutex<Option<PyErr>>,
    cancel: Cancel,
}

impl Fault {
    /// Nothing yet; `cancel` ends the run.
    pub(super) fn new(cancel: Cancel) -> Fault {
        Fault { raised: Mutex::new(None), cancel }
    }

    /// Something was raised. The first thing stays: what follows may follow from it.
    pub(super) fn raise(&self, error: PyErr) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(error);
        self.cancel.cancel();
    }

    /// Whether anything was raised.
    pub(super) fn is_raised(&self) -> bool {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What was raised, to be raised again.
    pub(super) fn settle(&self) -> PyResult<()> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
