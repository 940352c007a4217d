//! Routers in Python.

use std::sync::Arc;

use overbook_sim::routers::{self, FleetView, RequestInfo, RouterNeeds};
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;

use super::error::Fault;
use super::reach::{ROUTED, Routed};
use super::scheduler::next_key;
use crate::Router;

/// What a router may see of a replica.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct ReplicaView {
    /// Its number in the whole fleet.
    number: usize,
    /// Waiting requests, preempted ones included.
    waiting: u32,
    /// Waiting and running requests.
    outstanding: u32,
    /// Prompt tokens not computed yet, of waiting and running requests.
    pending_tokens: u64,
    /// KV blocks that requests hold.
    used_blocks: u64,
    /// All KV blocks.
    blocks: u64,
    /// Tokens per block.
    block_tokens: u32,
    /// What load on it counts: at twice the weight half as much.
    weight: u64,
}

/// What a router may see of an arriving request; never its output length.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Arriving {
    key: u64,
}

/// The replicas among which a router chooses. Valid during `route` only.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Fleet {
    key: u64,
}

fn routed<R>(key: u64, look: impl FnOnce(Routed<'_>) -> R) -> PyResult<R> {
    let found = if ROUTED.is_set() { ROUTED.with(|routed| (routed.key == key).then(|| look(routed))) } else { None };
    found.ok_or_else(|| {
        PyRuntimeError::new_err("this is over: requests and fleets are valid while `route` looks at them")
    })
}

#[pymethods]
impl Arriving {
    /// Prompt length [tokens].
    #[getter]
    fn prompt_tokens(&self) -> PyResult<u32> {
        routed(self.key, |it| it.request.prompt_tokens)
    }

    /// Contents of the full blocks of the prompt that a cache may hold; empty where the workload does not say.
    #[getter]
    fn prefix(&self) -> PyResult<Vec<u64>> {
        routed(self.key, |it| it.request.prefix.to_vec())
    }
}

#[pymethods]
impl Fleet {
    fn __len__(&self) -> PyResult<usize> {
        routed(self.key, |it| it.fleet.len())
    }

    fn __getitem__(&self, at: isize) -> PyResult<ReplicaView> {
        let found = routed(self.key, |it| {
            let fleet = it.fleet;
            position(at, fleet).map(|at| {
                let routers::ReplicaView { waiting, outstanding, pending_tokens, used_blocks, blocks, block_tokens } =
                    fleet.replica(at);
                let (number, weight) = (fleet.number(at), fleet.weight(at));
                ReplicaView { number, waiting, outstanding, pending_tokens, used_blocks, blocks, block_tokens, weight }
            })
        })?;
        found.ok_or_else(|| none(at))
    }

    /// Leading blocks of the request's prompt that a replica has cached.
    fn hits(&self, at: isize) -> PyResult<u32> {
        let found = routed(self.key, |it| position(at, it.fleet).map(|at| it.fleet.hits(at, it.request.prefix)))?;
        found.ok_or_else(|| none(at))
    }
}

fn position(at: isize, fleet: FleetView<'_>) -> Option<usize> {
    let at = if at < 0 { fleet.len().checked_add_signed(at) } else { usize::try_from(at).ok() };
    at.filter(|&at| at < fleet.len())
}

fn none(at: isize) -> PyErr {
    PyIndexError::new_err(format!("no replica {at} in view"))
}

/// The router of a run.
#[derive(Debug)]
pub(super) struct RouterIn {
    /// Its method `route`, and what it is called with; none if it could not be made.
    route: Option<(Py<PyAny>, Py<Arriving>, Py<Fleet>)>,
    key: u64,
    fault: Arc<Fault>,
}

impl RouterIn {
    /// Calls `make` with the seed. What that raises ends the run.
    pub(super) fn make(make: &Py<PyAny>, seed: u64, fault: Arc<Fault>) -> RouterIn {
        let key = next_key();
        let made = Python::attach(|py| {
            let router = make.bind(py).call1((seed,))?;
            Ok((router.getattr("route")?.unbind(), Py::new(py, Arriving { key })?, Py::new(py, Fleet { key })?))
        });
        RouterIn { route: made.map_err(|error| fault.raise(error)).ok(), key, fault }
    }
}

impl Router for RouterIn {
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        // No replica has this number: the run ends, and what was raised is told.
        let nowhere = usize::MAX;
        let Some((route, arriving, view)) = self.route.as_ref().filter(|_| !self.fault.is_raised()) else {
            return nowhere;
        };
        let key = self.key;
        let chosen = Python::attach(|py| {
            let chosen = ROUTED.set(Routed { key, request, fleet }, || route.bind(py).call1((arriving, view)))?;
            let chosen = chosen.extract::<isize>()?;
            // What the kernel says of a wrong choice has no sign.
            usize::try_from(chosen).map_err(|_| PyIndexError::new_err(format!("the router chose replica {chosen}")))
        });
        chosen.unwrap_or_else(|error| {
            self.fault.raise(error);
            nowhere
        })
    }

    /// It may look at everything.
    fn needs(&self) -> RouterNeeds {
        RouterNeeds { blocks: true, prefixes: true, own_weights: false }
    }
}
