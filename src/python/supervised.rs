//! Work without the interpreter's lock, which Ctrl-C ends.

use std::panic;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use super::asked::Ready;

/// Time between two looks at signals.
const LOOK: Duration = Duration::from_millis(20);

/// Does the work on a thread of its own, and looks for signals meanwhile: an exception of their handlers (`KeyboardInterrupt`) cancels
/// it, also where the work itself never looks, and is raised when it has ended, as is what policies in Python have raised.
pub(super) fn aside<T: Send>(py: Python<'_>, ready: &Ready, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    let done = py.detach(|| {
        thread::scope(|scope| {
            let (ended, waits) = sync_channel::<()>(0);
            let worker = scope.spawn(move || {
                // Dropped when the work has ended, also by a panic.
                let _ended = ended;
                work()
            });
            while waits.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                look(ready);
            }
            worker.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    });
    ready.fault.settle()?;
    Ok(done)
}

/// As [`aside`], on the calling thread: for policies in Python, where a debugger expects them, and where Ctrl-C interrupts their endless
/// loops. The work calls what it gets now and then; that says whether to go on.
pub(super) fn here<T: Send>(
    py: Python<'_>,
    ready: &Ready,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> T + Send,
) -> PyResult<T> {
    let mut goes_on = || {
        look(ready);
        !ready.fault.is_raised()
    };
    let done = py.detach(|| work(&mut goes_on));
    ready.fault.settle()?;
    Ok(done)
}

fn look(ready: &Ready) {
    if !ready.fault.is_raised()
        && let Err(interrupt) = Python::attach(|py| py.check_signals())
    {
        ready.fault.raise(interrupt);
    }
}
