//! The step under construction, for schedulers in Python: the calls of [`StepBuilder`], each checked and applied at once.

use overbook_sim::serving::QueueOrder;
use overbook_sim::serving::step::{self, Infeasible, StepBuilder};
use overbook_sim::time::Time;
use pyo3::exceptions::{PyIndexError, PyRuntimeError};
use pyo3::prelude::*;

use super::error::InfeasiblePlan;
use super::reach::{Done, PLANNED};
use super::views::{Head, Limits, Request, work};

/// A step plan in the making: what a scheduler sees and the only ways in which it can change the world. Each call is checked and
/// applied at once. What cannot be done raises `InfeasiblePlan` and ends the run. Valid during `plan` only.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Step {
    /// That of the scheduler that may use it.
    pub(super) key: u64,
}

impl Step {
    /// Does something with the builder.
    fn with<R>(&self, work: impl FnOnce(&mut StepBuilder<'_>, &mut Done) -> Result<R, Infeasible>) -> PyResult<R> {
        let gone = || {
            PyRuntimeError::new_err(
                "this step is over: a step is valid while `plan` builds it, on the thread that called `plan`",
            )
        };
        if !PLANNED.is_set() {
            return Err(gone());
        }
        PLANNED.with(|planned| {
            if planned.key != self.key {
                return Err(gone());
            }
            let (done, mut work, mut result) = (planned.done, Some(work), None);
            planned.builder.build(&mut |builder| result = work.take().map(|work| work(builder, done)));
            match result {
                Some(Ok(result)) => Ok(result),
                Some(Err(refused)) => {
                    let raised = InfeasiblePlan::new_err(refused.to_string());
                    done.refused.get_or_insert(refused);
                    Err(raised)
                }
                None => Err(gone()),
            }
        })
    }

    /// Looks at the builder.
    fn see<R>(&self, look: impl FnOnce(&mut StepBuilder<'_>) -> R) -> PyResult<R> {
        self.with(|step, _| Ok(look(step)))
    }
}

fn refuse<R>(why: String) -> Result<R, Infeasible> {
    Err(Infeasible(why))
}

/// The seat of a request, if it is still there.
fn seat(step: &StepBuilder<'_>, request: &Request) -> Result<u32, Infeasible> {
    if step.is_here(request.seat, request.id) {
        return Ok(request.seat);
    }
    refuse(format!("request {} is not on this replica any more", request.id))
}

/// The head as it is now. One that was looked at before something else changed may say what is no longer true.
fn fresh(step: &StepBuilder<'_>, head: &Head) -> Result<step::Head, Infeasible> {
    let now = step.look(seat(step, head.request.get())?)?;
    if (now.tokens, now.cached) == (head.tokens, head.cached) {
        return Ok(now);
    }
    let (id, then, now) = (head.request.get().id, head.cached, now.cached);
    refuse(format!("of request {id} {now} tokens are cached by now, not {then}: ask for the head again"))
}

/// Refuses what only a queue in the order of keys can do.
fn keyed(step: &StepBuilder<'_>) -> Result<(), Infeasible> {
    if step.limits().order == QueueOrder::Keyed {
        return Ok(());
    }
    refuse(
        "the queue has no order of keys here: name a scheduler in the scenario that ranks requests, such as sjf"
            .to_owned(),
    )
}

fn once(seats: &mut Vec<u32>, request: &Request, what: &str) -> Result<(), Infeasible> {
    if seats.contains(&request.seat) {
        return refuse(format!("request {} {what} in this step already", request.id));
    }
    seats.push(request.seat);
    Ok(())
}

impl Done {
    /// A request is off this step.
    fn forget(&mut self, seat: u32) {
        self.decoded.retain(|&other| other != seat);
        self.chunked.retain(|&other| other != seat);
    }
}

#[pymethods]
impl Step {
    // What a scheduler sees.

    /// Time of planning [ns].
    #[getter]
    fn now_ns(&self) -> PyResult<u64> {
        self.see(|step| step.now().0)
    }

    /// The replica's limits.
    #[getter]
    fn limits(&self) -> PyResult<Limits> {
        self.see(|step| Limits::of(step.limits()))
    }

    /// What the lane does that is planned: `all`, `prefill` or `decode`.
    #[getter]
    fn work(&self) -> PyResult<&'static str> {
        self.see(|step| work(step.work()))
    }

    /// Free blocks, cached ones included.
    #[getter]
    fn free_blocks(&self) -> PyResult<u64> {
        self.see(|step| step.free_blocks())
    }

    /// Requests in the running list.
    #[getter]
    fn running(&self) -> PyResult<usize> {
        self.see(|step| step.running())
    }

    /// Waiting requests.
    #[getter]
    fn waiting(&self) -> PyResult<usize> {
        self.see(|step| step.waiting())
    }

    /// Members of the standing decode set.
    #[getter]
    fn members(&self) -> PyResult<u32> {
        self.see(|step| step.members())
    }

    /// KV tokens of the standing set.
    #[getter]
    fn member_tokens(&self) -> PyResult<u64> {
        self.see(|step| step.member_tokens())
    }

    /// Blocks the standing set needs for one step.
    #[getter]
    fn member_blocks(&self) -> PyResult<u64> {
        self.see(|step| step.member_blocks())
    }

    /// Blocks that requests in prefill still lack for their prompts.
    #[getter]
    fn owed_blocks(&self) -> PyResult<u64> {
        self.see(|step| step.owed_blocks())
    }

    /// Steps with at least one token planned on this lane before this one.
    #[getter]
    fn executed(&self) -> PyResult<u64> {
        self.see(|step| step.executed())
    }

    /// Prompt tokens that this step computes so far.
    #[getter]
    fn prefill_tokens(&self) -> PyResult<u64> {
        self.see(|step| step.prefill_tokens())
    }

    /// Output lengths [tokens] of the requests that have finished since the last plan, in order.
    #[getter]
    fn finished(&self) -> PyResult<Vec<u32>> {
        self.see(|step| step.finished().to_vec())
    }

    /// Running requests with prefill left, in running order.
    #[getter]
    fn prefilling(&self) -> PyResult<Vec<Request>> {
        self.see(|step| step.prefilling().iter().map(|&seat| Request::of(&step.view(seat))).collect())
    }

    /// The running requests, in the order in which they were admitted.
    fn requests(&self) -> PyResult<Vec<Request>> {
        self.see(|step| (0..step.running()).map(|at| Request::of(&step.running_at(at))).collect())
    }

    /// The running requests that may be preempted, in the order in which they were admitted.
    fn preemptible(&self) -> PyResult<Vec<Request>> {
        self.see(|step| step.preemptible().map(|(_, view)| Request::of(&view)).collect())
    }

    /// The request at a position of the running list; from the end, if it is negative.
    fn running_at(&self, position: isize) -> PyResult<Request> {
        let found = self.see(|step| {
            let running = step.running();
            let at = if position < 0 { running.checked_add_signed(position) } else { usize::try_from(position).ok() };
            at.filter(|&at| at < running).map(|at| Request::of(&step.running_at(at)))
        })?;
        found.ok_or_else(|| PyIndexError::new_err(format!("no request at {position} of the running list")))
    }

    /// What is known of a request by now.
    fn view(&self, request: &Request) -> PyResult<Request> {
        self.with(|step, _| Ok(Request::of(&step.view(seat(step, request)?))))
    }

    /// Blocks that it takes to compute a prompt of `tokens` tokens.
    fn blocks_for(&self, tokens: u32) -> PyResult<u64> {
        self.see(|step| step.blocks_for(tokens))
    }

    /// Blocks that it takes to compute the first `tokens` tokens of a waiting request.
    fn blocks_of(&self, head: &Head, tokens: u32) -> PyResult<u64> {
        self.with(|step, _| Ok(step.blocks_of(&fresh(step, head)?, tokens)))
    }

    /// Blocks that a request takes at most while its first `prompt` tokens are computed as a prompt, and the rest of its `tokens`
    /// one by one.
    fn blocks_over(&self, prompt: u32, tokens: u32) -> PyResult<u64> {
        self.see(|step| step.blocks_over(prompt, tokens))
    }

    /// Blocks that a running prompt takes to compute `tokens` more tokens.
    fn blocks_to_prefill(&self, request: &Request, tokens: u32) -> PyResult<u64> {
        self.with(|step, _| Ok(step.blocks_to_prefill(seat(step, request)?, tokens)))
    }

    /// Free blocks it takes to give the head its first `tokens` tokens in one step, the cached ones included.
    fn blocks_to_hold(&self, head: &Head, tokens: u32) -> PyResult<u64> {
        self.with(|step, _| {
            let head = fresh(step, head)?;
            let (id, least) = (head.request.id, head.cached);
            if tokens < least {
                return refuse(format!("request {id} has {least} cached tokens, which its first {tokens} do not hold"));
            }
            Ok(step.blocks_to_hold(&head, tokens))
        })
    }

    /// Free blocks it takes to compute all of the head, the cached ones included.
    fn blocks_to_compute(&self, head: &Head) -> PyResult<u64> {
        self.with(|step, _| Ok(step.blocks_to_compute(&fresh(step, head)?)))
    }

    // What it can do: admission and tokens.

    /// The request that is next in the waiting queue, or None. If KV of it lies in a tier below and is to be loaded, that begins now.
    fn head(&self, py: Python<'_>) -> PyResult<Option<Head>> {
        self.see(|step| step.head())?.map(|head| Head::of(py, &head)).transpose()
    }

    /// A waiting request with its prefix-cache hit.
    fn look(&self, py: Python<'_>, request: &Request) -> PyResult<Head> {
        let head = self.with(|step, _| {
            let seat = seat(step, request)?;
            step.look(seat)
        })?;
        Head::of(py, &head)
    }

    /// Admits the head (in the order of keys: any waiting request) and computes `tokens` tokens of it after its cached ones.
    fn admit(&self, head: &Head, tokens: u32) -> PyResult<()> {
        self.with(|step, done| {
            let fresh = fresh(step, head)?;
            let left = fresh.tokens - fresh.cached;
            if tokens == 0 || tokens > left {
                return refuse(format!("request {} has {left} tokens to compute, not {tokens}", fresh.request.id));
            }
            step.admit(&fresh, tokens)?;
            done.chunked.push(fresh.request.seat);
            Ok(())
        })
    }

    /// Computes `tokens` more prompt tokens of a running request; False if their blocks are not free.
    fn prefill(&self, request: &Request, tokens: u32) -> PyResult<bool> {
        self.with(|step, done| {
            let seat = seat(step, request)?;
            once(&mut done.chunked, request, "has a chunk")?;
            let took = step.prefill(seat, tokens)?;
            if !took {
                done.chunked.pop();
            }
            Ok(took)
        })
    }

    /// Decodes one token of every member of the standing set. Look at `member_blocks` first.
    fn decode_all(&self) -> PyResult<()> {
        self.with(|step, done| {
            if done.all || !done.decoded.is_empty() {
                return refuse("members of the standing set decode in this step already".to_owned());
            }
            step.decode_all()?;
            done.all = true;
            Ok(())
        })
    }

    /// Decodes one token of one member; False if its block is not free.
    fn decode(&self, request: &Request) -> PyResult<bool> {
        self.with(|step, done| {
            let seat = seat(step, request)?;
            if done.all {
                return refuse("the whole standing set decodes in this step already".to_owned());
            }
            once(&mut done.decoded, request, "decodes")?;
            let took = step.decode(seat)?;
            if !took {
                done.decoded.pop();
            }
            Ok(took)
        })
    }

    /// Frees all blocks of a running request and puts it back into the waiting queue. Returns the tokens that this step had already
    /// scheduled for it.
    fn preempt(&self, request: &Request) -> PyResult<u32> {
        self.with(|step, done| {
            let seat = leaves(step, done, request)?;
            let refund = step.preempt(seat)?;
            done.forget(seat);
            Ok(refund)
        })
    }

    /// As `preempt`, but back to the end of the queue, and only what its last prefill has computed stays in the prefix cache.
    fn retract(&self, request: &Request) -> PyResult<u32> {
        self.with(|step, done| {
            let seat = leaves(step, done, request)?;
            let refund = step.retract(seat)?;
            done.forget(seat);
            Ok(refund)
        })
    }

    /// Preempts a running request and keeps its KV on the host; False if the host has no room for it.
    fn swap_out(&self, request: &Request) -> PyResult<bool> {
        self.with(|step, done| {
            let seat = leaves(step, done, request)?;
            step.swap_out(seat)
        })
    }

    /// Takes the head, whose KV waits on the host, back into the running list.
    fn swap_in(&self, head: &Head) -> PyResult<()> {
        self.with(|step, _| {
            let head = fresh(step, head)?;
            step.swap_in(&head)
        })
    }

    /// Rejects a waiting request that was never served.
    fn reject(&self, request: &Request) -> PyResult<()> {
        self.with(|step, _| {
            let seat = seat(step, request)?;
            step.reject(seat)
        })
    }

    /// Ends this plan's certificate at a moment [ns]: the next plan is made at the first step boundary then or later.
    fn wake_at(&self, at_ns: u64) -> PyResult<()> {
        self.see(|step| step.wake_at(Time(at_ns)))
    }

    // What it can do: the order of the queue, and lanes.

    /// The next arrival that the policy has not seen yet, in order. Until it is ranked, it stands behind all others.
    fn newcomer(&self) -> PyResult<Option<Request>> {
        self.with(|step, _| {
            keyed(step)?;
            Ok(step.newcomer().map(|view| Request::of(&view)))
        })
    }

    /// Gives a request its key: smaller is served first, equal ones by arrival. One that is preempted later keeps it.
    fn rank(&self, request: &Request, key: u64) -> PyResult<()> {
        self.with(|step, _| {
            keyed(step)?;
            let seat = seat(step, request)?;
            step.rank(seat, key);
            Ok(())
        })
    }

    /// The waiting requests, in the order of their keys.
    fn queue(&self) -> PyResult<Vec<Request>> {
        self.with(|step, _| {
            keyed(step)?;
            Ok(step.queue().map(|view| Request::of(&view)).collect())
        })
    }

    /// Requests that wait, prefilled, for a lane that decodes.
    #[getter]
    fn ready(&self) -> PyResult<usize> {
        self.see(|step| step.ready())
    }

    /// The one of them that has waited longest, or None.
    fn next_ready(&self) -> PyResult<Option<Request>> {
        self.see(|step| step.next_ready().map(|view| Request::of(&view)))
    }

    /// Takes the request that `next_ready` has returned into the standing set of this lane.
    fn take_over(&self, request: &Request) -> PyResult<()> {
        self.with(|step, _| {
            let seat = seat(step, request)?;
            step.take_over(seat)
        })
    }

    fn __repr__(&self) -> String {
        match self.see(|step| (step.running(), step.waiting(), step.free_blocks())) {
            Ok((running, waiting, free)) => format!("Step(running={running}, waiting={waiting}, free_blocks={free})"),
            Err(_) => "Step(over)".to_owned(),
        }
    }
}

/// The seat of a request that leaves the running list. A member of a set that decodes as a whole cannot: its token is planned.
fn leaves(step: &StepBuilder<'_>, done: &Done, request: &Request) -> Result<u32, Infeasible> {
    let seat = seat(step, request)?;
    if done.all && step.view(seat).phase == overbook_sim::serving::request::Phase::Decode {
        return refuse(format!(
            "request {} decodes with the standing set in this step: preempt before `decode_all`",
            request.id
        ));
    }
    Ok(seat)
}
