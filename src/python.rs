//! The extension module `overbook._overbook` of the Python package: feature `python`, built by `scripts/build-wheel.sh`.
//!
//! ```text
//! overbook/__init__.py ─► asked ─► Experiment ─► run | study | plan ─► tables (Arrow), figures (JSON)
//!                           ▲                          │
//!             scheduler, router, eviction ◄─ scoped ───┘   objects in Python, which see what Rust's policies see
//! ```
//!
//! What is borrowed for the length of a call (the step being built, the fleet in view) stays in a scoped variable of the thread;
//! Python's objects are keys to it, which open nothing once the call has ended.

// Functions that Python calls own what they are called with; methods of types with lifetimes are not general enough without closures.
#![allow(clippy::needless_pass_by_value, clippy::redundant_closure_for_method_calls)]

mod asked;
mod error;
mod eviction;
mod plan;
mod reach;
mod router;
mod run;
mod scheduler;
mod step;
mod study;
mod supervised;
mod table;
mod views;

use pyo3::prelude::*;

/// Simulation of LLM serving; use it through the package `overbook`.
#[pymodule]
mod _overbook {
    #[pymodule_export]
    use super::error::{InfeasiblePlan, RunError, ScenarioError};
    #[pymodule_export]
    use super::eviction::BlockView;
    #[pymodule_export]
    use super::plan::{Plan, plan};
    #[pymodule_export]
    use super::router::{Arriving, Fleet, ReplicaView};
    #[pymodule_export]
    use super::run::{Run, run};
    #[pymodule_export]
    use super::scheduler::Horizon;
    #[pymodule_export]
    use super::step::Step;
    #[pymodule_export]
    use super::study::{Study, sweep};
    #[pymodule_export]
    use super::table::Table;
    #[pymodule_export]
    use super::views::{Head, Limits, Place, Request};

    use pyo3::prelude::*;

    /// The JSON Schema of scenario files, as text.
    #[pyfunction]
    fn schema() -> String {
        overbook_scenarios::scenario_schema()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // What an error has that says no more than its text.
        let py = module.py();
        let (scenario, run) = (py.get_type::<ScenarioError>(), py.get_type::<RunError>());
        scenario.setattr("problems", ())?;
        scenario.setattr("finished", py.None())?;
        run.setattr("finished", py.None())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
