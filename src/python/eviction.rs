//! Eviction policies in Python.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::error::{Fault, RunError};
use super::views::Place;
use crate::{Block, BlockEviction};

/// One use of a block by a request. Nothing is of the future.
#[pyclass(frozen, get_all, module = "overbook")]
pub(super) struct BlockView {
    /// Content of the block, chained: equal ids have equal prefixes.
    content: u64,
    /// Content of the block before it in its prefix; None of the first.
    parent: Option<u64>,
    /// Blocks before it in its prefix.
    depth: u32,
    /// Tokens in it.
    tokens: u32,
    /// When [ns].
    at_ns: u64,
    /// Number of the request among those that used the cache; another one whenever a request is admitted again.
    request: u64,
    /// Class of the request, an index into the run's `classes`.
    class_id: u16,
    /// Which turn of its session the request is, from 1.
    turn: u32,
    /// Priority of the request: smaller is more urgent.
    priority: i32,
    /// Work to compute the block anew when its prefix is there [thousandths of what a token at the start of a prompt takes].
    cost: u64,
}

impl BlockView {
    fn of(view: &crate::BlockView) -> BlockView {
        BlockView {
            content: view.content,
            parent: view.parent,
            depth: view.depth,
            tokens: view.tokens,
            at_ns: view.at.0,
            request: view.request,
            class_id: view.class.0,
            turn: view.turn,
            priority: view.priority,
            cost: view.cost,
        }
    }
}

/// Methods of a policy, by their places in [`EvictionIn::calls`].
const METHODS: [&str; 6] = ["admit", "hit", "evictable", "pinned", "victim", "gone"];
const ADMIT: usize = 0;
const HIT: usize = 1;
const EVICTABLE: usize = 2;
const PINNED: usize = 3;
const VICTIM: usize = 4;
const GONE: usize = 5;

/// The policy of one replica's cache.
#[derive(Debug)]
pub(super) struct EvictionIn {
    /// Its methods; none if it could not be made.
    calls: Option<[Py<PyAny>; 6]>,
    /// Its method `missed`, if it has one.
    missed: Option<Py<PyAny>>,
    /// Blocks that may go: what it chooses is checked, and what it has forgotten goes when it has failed.
    evictable: BTreeSet<Block>,
    fault: Arc<Fault>,
}

impl EvictionIn {
    /// Calls `make` with the place. What that raises ends the run.
    pub(super) fn make(make: &Py<PyAny>, place: crate::Place, blocks: u32, fault: Arc<Fault>) -> EvictionIn {
        let made = Python::attach(|py| {
            let policy = make.bind(py).call1((Place::of(place, blocks),))?;
            let mut calls = Vec::with_capacity(METHODS.len());
            for name in METHODS {
                calls.push(policy.getattr(name)?.unbind());
            }
            let missed = policy.getattr_opt("missed")?.map(Bound::unbind);
            Ok((calls.try_into().ok(), missed))
        });
        let (calls, missed) = made.unwrap_or_else(|error| {
            fault.raise(error);
            (None, None)
        });
        EvictionIn { calls, missed, evictable: BTreeSet::new(), fault }
    }

    /// Calls a method. `None` if that, or something before it, has raised: the run ends soon.
    fn call<R>(
        &self,
        method: Option<&Py<PyAny>>,
        with: impl FnOnce(Python<'_>) -> PyResult<Bound<'_, PyTuple>>,
        read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Option<R> {
        let method = method.filter(|_| !self.fault.is_raised())?;
        let answer = Python::attach(|py| read(&method.bind(py).call1(with(py)?)?));
        answer.map_err(|error| self.fault.raise(error)).ok()
    }

    fn method(&self, at: usize) -> Option<&Py<PyAny>> {
        self.calls.as_ref().map(|calls| &calls[at])
    }

    fn tell(&self, at: usize, block: Block) {
        self.call(self.method(at), |py| PyTuple::new(py, [block]), |_| Ok(()));
    }

    fn show(&self, at: usize, block: Block, view: &crate::BlockView) {
        let view = BlockView::of(view);
        self.call(self.method(at), |py| (block, view).into_pyobject(py), |_| Ok(()));
    }

    /// What the policy chooses, if it may go.
    fn chosen(&self) -> Option<Block> {
        let chosen =
            self.call(self.method(VICTIM), |py| Ok(PyTuple::empty(py)), |answer| answer.extract::<Option<Block>>());
        let refuse = |why: String| {
            self.fault.raise(RunError::new_err(why));
            None
        };
        match chosen? {
            Some(block) if self.evictable.contains(&block) => Some(block),
            Some(block) => refuse(format!(
                "the eviction policy chose block {block}, which may not go: a request holds it, or it is not cached"
            )),
            None if self.evictable.is_empty() => None,
            None => refuse(format!("the eviction policy chose no block, and {} may go", self.evictable.len())),
        }
    }
}

impl BlockEviction for EvictionIn {
    fn missed(&mut self, view: &crate::BlockView) {
        let view = BlockView::of(view);
        self.call(self.missed.as_ref(), |py| (view,).into_pyobject(py), |_| Ok(()));
    }

    fn admit(&mut self, block: Block, view: &crate::BlockView) {
        self.show(ADMIT, block, view);
    }

    fn hit(&mut self, block: Block, view: &crate::BlockView) {
        self.show(HIT, block, view);
    }

    fn evictable(&mut self, block: Block) {
        self.evictable.insert(block);
        self.tell(EVICTABLE, block);
    }

    fn pinned(&mut self, block: Block) {
        self.evictable.remove(&block);
        self.tell(PINNED, block);
    }

    fn victim(&mut self) -> Option<Block> {
        let chosen = self.chosen();
        // Where it has failed, the run goes on to where it can be ended.
        let victim = if self.fault.is_raised() { self.evictable.first().copied() } else { chosen };
        if let Some(block) = victim {
            self.evictable.remove(&block);
        }
        victim
    }

    fn gone(&mut self, block: Block) {
        self.evictable.remove(&block);
        self.tell(GONE, block);
    }
}
