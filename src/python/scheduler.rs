//! Schedulers in Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use super::error::Fault;
use super::reach::{Done, PLANNED, Planned};
use super::step::Step;
use super::views::Place;
use crate::{Infeasible, Scheduler, StepBuilder};

/// The next key of an object that opens something borrowed.
pub(super) fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A certificate that `plan` may return: if none of the named events happens, the next `repeats` plans are this same plan. The simulator
/// then jumps over them. Nothing checks it: compare with `step_by_step=True`.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct Horizon {
    /// Plans after this one that would be the same.
    repeats: u64,
    /// Whether a new arrival in the queue ends the certificate.
    wake_on_arrival: bool,
    /// Whether the end of a request ends it.
    wake_on_end: bool,
}

#[pymethods]
impl Horizon {
    #[new]
    #[pyo3(signature = (repeats = u64::MAX, *, wake_on_arrival = true, wake_on_end = true))]
    fn new(repeats: u64, wake_on_arrival: bool, wake_on_end: bool) -> Horizon {
        Horizon { repeats, wake_on_arrival, wake_on_end }
    }

    fn __repr__(&self) -> String {
        let word = |is: bool| if is { "True" } else { "False" };
        let (arrival, end) = (word(self.wake_on_arrival), word(self.wake_on_end));
        format!("Horizon({}, wake_on_arrival={arrival}, wake_on_end={end})", self.repeats)
    }
}

/// The scheduler of one replica.
#[derive(Debug)]
pub(super) struct SchedulerIn {
    /// Its method `plan` and the step that it is called with; none if it could not be made.
    plan: Option<(Py<PyAny>, Py<Step>)>,
    key: u64,
    fault: Arc<Fault>,
}

impl SchedulerIn {
    /// Calls `make` with the place. What that raises ends the run.
    pub(super) fn make(make: &Py<PyAny>, place: crate::Place, fault: Arc<Fault>) -> SchedulerIn {
        let key = next_key();
        let made = Python::attach(|py| {
            let scheduler = make.bind(py).call1((Place::of(place, 0),))?;
            Ok((scheduler.getattr("plan")?.unbind(), Py::new(py, Step { key })?))
        });
        SchedulerIn { plan: made.map_err(|error| fault.raise(error)).ok(), key, fault }
    }
}

/// What the run is told where Python has raised something; what was raised takes its place.
fn raised() -> Infeasible {
    Infeasible("the scheduler in Python raised an exception".to_owned())
}

impl Scheduler for SchedulerIn {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<crate::Horizon, Infeasible> {
        let Some((plan, object)) = &self.plan else { return Err(raised()) };
        if self.fault.is_raised() {
            return Err(raised());
        }
        let mut done = Done::default();
        let answer = Python::attach(|py| {
            let planned = Planned { key: self.key, done: &mut done, builder: step };
            let answer = PLANNED.set(planned, || plan.bind(py).call1((object,)))?;
            horizon(&answer)
        });
        match (answer, done.refused) {
            (Err(error), _) => {
                self.fault.raise(error);
                Err(raised())
            }
            (Ok(_), Some(refused)) => Err(refused),
            (Ok(horizon), None) => Ok(horizon),
        }
    }
}

/// What `plan` has returned.
fn horizon(answer: &Bound<'_, PyAny>) -> PyResult<crate::Horizon> {
    if answer.is_none() {
        return Ok(crate::Horizon::ONE);
    }
    let horizon = answer.cast::<Horizon>()?.get();
    let Horizon { repeats, wake_on_arrival, wake_on_end } = *horizon;
    Ok(crate::Horizon { repeats, wake_on_arrival, wake_on_end })
}
