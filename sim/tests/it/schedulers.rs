//! Schedulers of our own: honest ones that test the interface, and broken ones that must be caught.

use overbook_sim::serving::request::Phase;
use overbook_sim::serving::step::{Infeasible, StepBuilder};
use overbook_sim::serving::{Horizon, Scheduler};

/// Plans as another scheduler does and certifies nothing.
#[derive(Debug)]
pub struct Unsure(pub Box<dyn Scheduler>);

impl Scheduler for Unsure {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.0.plan(step)?;
        Ok(Horizon::ONE)
    }
}

/// Whole prompts, one admission a step, and in every 7th step the newest member pauses: a horizon that is finite and exact.
#[derive(Debug)]
pub struct Pausing;

const PERIOD: u64 = 7;

impl Scheduler for Pausing {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let last = step.running().checked_sub(1).map(|at| step.running_at(at));
        let nth = step.executed() % PERIOD;
        let due = nth == PERIOD - 1 && step.members() > 1 && step.member_blocks() <= step.free_blocks();
        let mut pure = true;
        if let Some(last) = last.filter(|r| due && r.phase == Phase::Decode) {
            pure = false;
            for at in 0..step.running() {
                let request = step.running_at(at);
                if request.phase == Phase::Decode && request.seat != last.seat {
                    step.decode(request.seat)?;
                }
            }
        } else {
            while step.member_blocks() > step.free_blocks() {
                let victim = step.running_at(step.running() - 1);
                step.preempt(victim.seat)?;
                pure = false;
            }
            step.decode_all()?;
        }
        if let (true, Some(head)) = (pure, step.head())
            && step.blocks_to_hold(&head, head.tokens) <= step.free_blocks()
        {
            step.admit(&head, head.tokens - head.cached)?;
            pure = false;
        }
        // Neither what happens without blocks nor a cached prefix that grows is foreseen.
        let blind = !pure || (step.waiting() > 0 && step.is_hashing());
        let repeats = if blind { 0 } else { (PERIOD - 1).saturating_sub(nth + 1) };
        Ok(Horizon { repeats, wake_on_arrival: true, wake_on_end: true })
    }
}

/// Not work conserving: one request at a time.
#[derive(Debug)]
pub struct Timid;

impl Scheduler for Timid {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        step.decode_all()?;
        if let (0, Some(head)) = (step.running(), step.head()) {
            step.admit(&head, head.tokens - head.cached)?;
        }
        Ok(Horizon::ONE)
    }
}

/// Broken: never plans anything.
#[derive(Debug)]
pub struct Lazy;

impl Scheduler for Lazy {
    fn plan(&mut self, _: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        Ok(Horizon::ONE)
    }
}

/// What a [`Greedy`] scheduler does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greed {
    /// Admits without looking at the free blocks, and never preempts.
    Blocks,
    /// Admits more tokens than there are.
    Tokens,
    /// Decodes a request that is still in prefill.
    Decode,
    /// Admits a request that is not at the head any more.
    Head,
}

impl Greed {
    pub const ALL: [Greed; 4] = [Greed::Blocks, Greed::Tokens, Greed::Decode, Greed::Head];
}

/// Broken: asks for the impossible.
#[derive(Debug)]
pub struct Greedy(pub Greed);

impl Scheduler for Greedy {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        step.decode_all()?;
        while let Some(head) = step.head() {
            let tokens = head.tokens - head.cached;
            step.admit(&head, tokens + u32::from(self.0 == Greed::Tokens))?;
            if self.0 == Greed::Decode {
                step.decode(head.request.seat)?;
            }
            if self.0 == Greed::Head {
                step.admit(&head, tokens)?;
            }
        }
        Ok(Horizon::ONE)
    }
}

/// Broken: knows the true lengths, and does not run long outputs beside others.
#[derive(Debug)]
pub struct Clairvoyant {
    pub inner: Box<dyn Scheduler>,
    pub lengths: std::rc::Rc<[u32]>,
}

impl Scheduler for Clairvoyant {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        let long = step.head().is_some_and(|h| self.lengths[h.request.id as usize] > 100);
        if long && step.running() > 0 && step.member_blocks() <= step.free_blocks() && step.prefilling().is_empty() {
            step.decode_all()?;
        } else {
            self.inner.plan(step)?;
        }
        Ok(Horizon::ONE)
    }
}
