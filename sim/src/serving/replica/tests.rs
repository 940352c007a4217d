//! The audit's teeth: every counter that it checks is spoilt once. And what a plan takes back.

use super::*;
use crate::schedulers::SchedulerSpec;
use crate::serving::step::StepBuilder;
use crate::workload::arrival::Content;

fn busy() -> Replica {
    let limits = Limits { prefix_caching: false, ..SchedulerSpec::default().needs().limits(8, 4, 32) };
    let mut replica = Replica::new(0, limits);
    for id in 0..3 {
        replica.enqueue(id, Arrival::new(Time::ZERO, 10, 6)).expect("it fits");
    }
    let mut scheduler = SchedulerSpec::default().build(0, 0);
    for _ in 0..2 {
        assert!(replica.plan(0, Time::ZERO, &mut *scheduler).expect("feasible"));
    }
    replica.audit().expect("sound");
    assert_eq!((replica.running(), replica.waiting()), (2, 1));
    replica
}

type Fault = fn(&mut Replica);

#[test]
fn a_fault_in_any_counter_is_noticed() {
    let faults: [(&str, Fault); 14] = [
        ("a lost block", |r| r.kv.take(1)),
        ("a block too many", |r| r.kv.pool_mut().give_back(1)),
        ("a lost request", |r| r.outstanding -= 1),
        ("a request out of the queue", |r| _ = r.waiting.take(2, &r.requests)),
        ("a running request forgotten", |r| _ = r.lanes[0].running.pop()),
        ("the running list out of order", |r| r.lanes[0].running.swap(0, 1)),
        ("a member too many", |r| r.lanes[0].members += 1),
        ("a token computed twice", |r| r.requests[0].kv.spoil(1, 0, 0)),
        ("a slot too many", |r| r.requests[0].kv.spoil(0, 1, 0)),
        ("a block too many in a holding", |r| r.requests[0].kv.spoil(0, 0, 1)),
        ("an illegal phase", |r| r.requests[0].phase = Phase::Waiting),
        ("a block on the host that no request holds", |r| r.kv.spoil_swapped()),
        ("KV on the host of a request that runs", |r| r.requests[0].kv.misplace(1)),
        ("a step lost in flight", |r| _ = r.lanes[0].flights.pop_back()),
    ];
    for (what, fault) in faults {
        let mut replica = busy();
        fault(&mut replica);
        assert!(replica.audit().is_err(), "the audit does not notice {what}");
    }
}

/// Admits what waits; in its last plan it decodes the request in seat 0, which fills a block, and preempts it then.
#[derive(Debug)]
struct TakesBack {
    plans: u32,
}

impl Scheduler for TakesBack {
    fn plan(&mut self, step: &mut StepBuilder<'_>) -> Result<Horizon, Infeasible> {
        self.plans += 1;
        while let Some(head) = step.head() {
            step.admit(&head, head.tokens)?;
        }
        for seat in 0..2 {
            if self.plans > 1 {
                assert!(step.decode(seat)?, "blocks are free");
            }
        }
        if self.plans == 3 {
            step.preempt(0)?;
        }
        Ok(Horizon::ONE)
    }
}

#[test]
fn the_cache_knows_nothing_of_tokens_that_a_plan_has_taken_back() {
    let limits = Limits { depth: 1, ..SchedulerSpec::default().needs().limits(8, 4, 32) };
    assert!(limits.prefix_caching);
    let mut replica = Replica::new(0, limits);
    for id in 0..2 {
        let mut arrival = Arrival::new(Time::ZERO, 6, 6);
        let ids = [10, 20, 30].map(|block| block + id).into();
        arrival.content = Some(Box::new(Content { block_tokens: 4, ids }));
        replica.enqueue(id, arrival).expect("it fits");
    }
    let mut scheduler = TakesBack { plans: 0 };
    let mut fills = |replica: &mut Replica| {
        assert!(replica.plan(0, Time::ZERO, &mut scheduler).expect("feasible"));
        replica.audit().expect("sound");
        replica.complete(0, 1, Time::ZERO);
        [10, 20, 11, 21].map(|content| replica.kv.pool().cached(content).is_some())
    };
    assert_eq!(fills(&mut replica), [true, false, true, false], "six tokens fill a block");
    assert_eq!(fills(&mut replica), [true, false, true, false], "seven tokens");
    // The eighth fills another: of the one that is preempted it is never computed.
    assert_eq!(fills(&mut replica), [true, false, true, true]);
}
