//! What is borrowed for the length of a call into Python, in reach of the objects that Python gets.

use overbook_sim::routers::{FleetView, RequestInfo};
use overbook_sim::serving::step::{Infeasible, StepBuilder};
use scoped_tls_hkt::{ReborrowMut, scoped_thread_local};

/// What a plan in Python has done that the builder does not remember.
#[derive(Default, Debug)]
pub(super) struct Done {
    /// Whether the standing set decodes.
    pub(super) all: bool,
    /// Seats that decode on their own.
    pub(super) decoded: Vec<u32>,
    /// Seats whose prompts go on, or begin.
    pub(super) chunked: Vec<u32>,
    /// What could not be done. It ends the run, whether or not Python has caught the exception.
    pub(super) refused: Option<Infeasible>,
}

/// A builder, whatever the lifetime of the replica that it borrows.
pub(super) trait Builds {
    fn build(&mut self, work: &mut dyn FnMut(&mut StepBuilder<'_>));
}

impl Builds for StepBuilder<'_> {
    fn build(&mut self, work: &mut dyn FnMut(&mut StepBuilder<'_>)) {
        work(self);
    }
}

/// The step that is being planned on this thread, and whose it is.
pub(super) struct Planned<'a> {
    pub(super) key: u64,
    pub(super) done: &'a mut Done,
    pub(super) builder: &'a mut (dyn Builds + 'a),
}

impl<'a: 'b, 'b> ReborrowMut<'b> for Planned<'a> {
    type Result = Planned<'b>;

    fn reborrow_mut(&'b mut self) -> Planned<'b> {
        Planned { key: self.key, done: self.done, builder: self.builder }
    }
}

scoped_thread_local!(pub(super) static mut PLANNED: for<'a> Planned<'a>);

/// The request that is being routed on this thread, and whose call it is.
#[derive(Clone, Copy)]
pub(super) struct Routed<'a> {
    pub(super) key: u64,
    pub(super) request: RequestInfo<'a>,
    pub(super) fleet: FleetView<'a>,
}

scoped_thread_local!(pub(super) static ROUTED: for<'a> Routed<'a>);
