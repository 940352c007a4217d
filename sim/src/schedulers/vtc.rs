//! Fair shares between tenants: the Virtual Token Counter.

use serde::{Deserialize, Serialize};

use super::chunked::{BatchSpec, Order};
use super::victim::Victim;
use super::{Horizon, Nearest, Needs, QueueOrder, Scheduler, SchedulerPolicy};
use crate::check::Check;
use crate::kv::Seat;
use crate::serving::request::Phase;
use crate::serving::step::{Head, Infeasible, StepBuilder};

/// Settings of VTC, with the defaults of its artifact. A tenant is a class of the workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VtcSpec {
    /// Price of a prompt token.
    #[schemars(range(min = 0, max = 1000))]
    pub input_price: u32,
    /// Price of an output token.
    #[schemars(range(min = 1, max = 1000))]
    pub output_price: u32,
    /// Shares of the tenants, in the order of the workload's classes; 1 for those that are not listed.
    #[schemars(inner(range(min = 0.001, max = 1000)))]
    pub fair_weights: Vec<f64>,
    /// Limits of a batch.
    pub batch: BatchSpec,
}

impl Default for VtcSpec {
    fn default() -> Self {
        VtcSpec { input_price: 1, output_price: 2, fair_weights: Vec::new(), batch: BatchSpec::default() }
    }
}

impl VtcSpec {
    fn fair(&self) -> FairSpec {
        let VtcSpec { input_price, output_price, ref fair_weights, batch: _ } = *self;
        FairSpec { input_price, output_price, fair_weights: fair_weights.clone(), ..FairSpec::default() }
    }
}

impl SchedulerPolicy for VtcSpec {
    fn needs(&self) -> Needs {
        Needs { order: QueueOrder::Keyed, ..self.batch.needs() }
    }

    fn nearest(&self) -> Nearest {
        Nearest::but("vtc has no flag: the engines do not share between tenants")
    }

    fn check(&self, check: &mut Check<'_>) {
        self.batch.check(&mut check.below("batch"));
        self.fair().check(check);
    }

    fn build(&self, _: u64, _: u32) -> Box<dyn Scheduler> {
        Box::new(Vtc::new(self))
    }

    fn examples() -> Vec<(&'static str, Self)> {
        let plain = VtcSpec::default();
        let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 32, watermark: 0.0 };
        let weighted = VtcSpec { fair_weights: vec![1.0, 3.7], batch: few, ..plain.clone() };
        let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
        let dear = VtcSpec { input_price: 3, output_price: 1, batch: roomy, ..plain.clone() };
        vec![("", plain), ("weighted, few places", weighted), ("dear prompts", dear)]
    }
}

/// Shares of tenants where the batches are another scheduler's. A tenant is a class of the workload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FairSpec {
    /// Price of a prompt token.
    #[schemars(range(min = 0, max = 1000))]
    pub input_price: u32,
    /// Price of an output token.
    #[schemars(range(min = 1, max = 1000))]
    pub output_price: u32,
    /// Shares of the tenants, in the order of the workload's classes; 1 for those that are not listed.
    #[schemars(inner(range(min = 0.001, max = 1000)))]
    pub fair_weights: Vec<f64>,
    /// Whether a tenant that begins to wait is lifted to those that do (VTC). Without it is "least counter first" (LCF).
    pub lift: bool,
    /// Whether outputs are charged at admission, by their limits, instead of token by token: VTC with predicted lengths.
    pub foreseen: bool,
}

impl Default for FairSpec {
    fn default() -> Self {
        FairSpec { input_price: 1, output_price: 2, fair_weights: Vec::new(), lift: true, foreseen: false }
    }
}

impl FairSpec {
    /// The rules on its settings.
    pub(crate) fn check(&self, check: &mut Check<'_>) {
        check.range("input_price", self.input_price, 0, 1000);
        check.range("output_price", self.output_price, 1, 1000);
        let weights_ok = self.fair_weights.iter().all(|weight| (1e-3..=1e3).contains(weight));
        check.that(weights_ok, "fair_weights", "must be from 0.001 to 1000 each");
    }
}

/// Parts of one: counters are integers, so that any number of steps at once adds up the same.
const ONE: f64 = (1 << 20) as f64;

/// Keys below this are classes; arrivals that were not looked at yet stand behind.
const NEW: u64 = 1 << 16;

/// What is kept of a tenant.
#[derive(Clone, Copy, Debug)]
struct Tenant {
    /// Service so far, over the weight.
    counter: u64,
    /// What a prompt token and an output token add.
    input: u64,
    output: u64,
    /// Whether it has requests waiting.
    waiting: bool,
    /// Its members in the last step.
    members: u32,
}

/// VTC (Sheng et al., OSDI '24, Algorithm 2; `Ying1123/VTC-artifact`, `vtc_req_queue.py`) over chunked prefill: the next request is
/// that of the waiting tenant that was served least. A prompt is charged when it is first admitted, an output token when it is
/// computed; a tenant that begins to wait is lifted to the least of those that already do, so that no tenant saves up service.
#[derive(Clone, Debug)]
pub struct Vtc {
    fair: FairSpec,
    batch: BatchSpec,
    tenants: Vec<Tenant>,
    /// The tenant whose request was admitted last.
    last: Option<usize>,
    /// Steps executed up to and with the last plan.
    executed: u64,
}

impl Vtc {
    /// A scheduler for one replica.
    pub fn new(spec: &VtcSpec) -> Self {
        Vtc { batch: spec.batch, ..Vtc::sharing(spec.fair()) }
    }

    /// The shares alone, for a scheduler with batches of its own.
    pub(crate) fn sharing(fair: FairSpec) -> Self {
        Vtc { fair, batch: BatchSpec::default(), tenants: Vec::new(), last: None, executed: 0 }
    }

    fn tenant(&self, class: usize) -> Tenant {
        let weight = self.fair.fair_weights.get(class).unwrap_or(&1.0);
        let share = |price: u32| (f64::from(price) * ONE / weight).round() as u64;
        let (input, output) = (share(self.fair.input_price), share(self.fair.output_price));
        Tenant { counter: 0, input, output, waiting: false, members: 0 }
    }

    /// Charges the steps that repeated the last plan.
    pub(crate) fn catch_up(&mut self, step: &StepBuilder<'_>) {
        let repeats = step.executed() - self.executed;
        for tenant in &mut self.tenants {
            tenant.counter += repeats * u64::from(tenant.members) * tenant.output;
        }
    }

    /// Takes in arrivals; the class is the key, so that each tenant's requests stand together.
    pub(crate) fn take_in(&mut self, step: &mut StepBuilder<'_>) {
        self.note_waiting(step);
        while let Some(request) = step.newcomer() {
            let class = usize::from(request.class.0);
            while self.tenants.len() <= class {
                self.tenants.push(self.tenant(self.tenants.len()));
            }
            step.rank(request.seat, class as u64);
            if !self.tenants[class].waiting {
                let least = self.least().or(self.last).filter(|_| self.fair.lift);
                let lift = least.map_or(0, |other| self.tenants[other].counter);
                let tenant = &mut self.tenants[class];
                tenant.counter = tenant.counter.max(lift);
                tenant.waiting = true;
            }
        }
    }

    /// Which tenants have requests waiting.
    fn note_waiting(&mut self, step: &StepBuilder<'_>) {
        for tenant in &mut self.tenants {
            tenant.waiting = false;
        }
        let mut from = 0;
        while let Some(head) = step.first_from(from).filter(|head| step.key(head.request.seat) < NEW) {
            let class = head.request.class.0;
            self.tenants[usize::from(class)].waiting = true;
            from = u64::from(class) + 1;
        }
    }

    /// Charges what this step computes of outputs: one token of each member if it `decodes`, and the first one where a prefill
    /// ends.
    pub(crate) fn charge(&mut self, step: &StepBuilder<'_>, decodes: bool) {
        for tenant in &mut self.tenants {
            tenant.members = 0;
        }
        for at in 0..step.running() {
            let request = step.running_at(at);
            let tenant = &mut self.tenants[usize::from(request.class.0)];
            let member = decodes && !self.fair.foreseen && request.phase == Phase::Decode;
            tenant.members += u32::from(member);
            let ends = request.phase == Phase::Prefill && request.computed == request.target;
            tenant.counter += u64::from(member || ends && !self.fair.foreseen) * tenant.output;
        }
        self.executed = step.executed() + u64::from(step.running() > 0);
    }

    /// The waiting tenant that was served least.
    fn least(&self) -> Option<usize> {
        (0..self.tenants.len()).filter(|&c| self.tenants[c].waiting).min_by_key(|&c| self.tenants[c].counter)
    }

    /// How often this step, charged already, can repeat before another tenant than this one is next.
    fn steps_to_change(&self, next: usize) -> u64 {
        let grows = |t: &Tenant| u64::from(t.members) * t.output;
        let first = &self.tenants[next];
        let others = self.tenants.iter().enumerate().filter(|(class, t)| *class != next && t.waiting);
        let overtakes = others.filter_map(|(class, t)| {
            // Ties go to the lower class: it need only draw level.
            let needed = u64::from(class > next);
            if t.counter + needed <= first.counter {
                return Some(0);
            }
            let closing = grows(first).checked_sub(grows(t)).filter(|&closing| closing > 0)?;
            Some((t.counter + needed - first.counter).div_ceil(closing))
        });
        overtakes.min().unwrap_or(u64::MAX)
    }
}

impl Order for Vtc {
    fn next(&mut self, step: &mut StepBuilder<'_>) -> Result<Option<Head>, Infeasible> {
        self.note_waiting(step);
        Ok(self.least().and_then(|class| step.first_from(class as u64)))
    }

    fn admitted(&mut self, head: &Head) {
        let class = usize::from(head.request.class.0);
        self.last = Some(class);
        if head.request.preemptions == 0 {
            let tenant = &mut self.tenants[class];
            tenant.counter += u64::from(head.request.prompt_tokens) * tenant.input;
            let foreseen = if self.fair.foreseen { head.request.limit } else { 0 };
            tenant.counter += u64::from(foreseen) * tenant.output;
        }
    }

    fn victim(&self, step: &StepBuilder<'_>) -> Seat {
        Victim::LastAdmitted.choose(step)
    }
}

impl Scheduler for Vtc {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.catch_up(step);
        self.take_in(step);
        let limits = self.batch;
        let batch = limits.plan(self, step)?;
        self.note_waiting(step);
        // With a place left the head waits for memory, and the next in turn may need less of it.
        let blocked = self.least().filter(|_| batch.room);
        self.charge(step, true);
        if !batch.pure {
            return Ok(Horizon::ONE);
        }
        let repeats = blocked.map_or(u64::MAX, |class| self.steps_to_change(class));
        // An arrival may begin to wait, which lifts its tenant's counter.
        Ok(Horizon { repeats, wake_on_arrival: true, wake_on_end: step.waiting() > 0 || !batch.room })
    }
}
