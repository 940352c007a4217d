//! Mistakes that other simulators made, and the corners around them.

use overbook_sim::cost::Cost;
use overbook_sim::fleet::{Clients, Failure, RunError};
use overbook_sim::results::rows::Outcome;
use overbook_sim::schedulers::{SchedulerSpec, VllmSpec};
use overbook_sim::serving::replica::{Happened, Limits, Replica};
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, ClassId, SessionId};

use crate::world::{Affine, How, MS, Run, World};

/// One replica with 16 blocks of 16 tokens, contexts of up to 256.
fn small(async_scheduling: bool, arrivals: Vec<Arrival>) -> World {
    let vllm = VllmSpec { async_scheduling, max_num_seqs: 8, ..VllmSpec::default() };
    World::vllm(vllm, 16, 16, 256, arrivals)
}

fn request(at_ms: u64, prompt: u32, output: u32) -> Arrival {
    let mut arrival = Arrival::new(Time(at_ms * MS), prompt, output);
    arrival.max_new_tokens = Some(output);
    arrival
}

/// Runs both ways, with audits, and at both depths.
fn both(depths: [bool; 2], arrivals: &[Arrival], tune: impl Fn(&mut World), check: impl Fn(&Run)) {
    for asynchronous in depths {
        let mut world = small(asynchronous, arrivals.to_vec());
        tune(&mut world);
        let slow = world.run(How { audit: true, ..How::STEPS });
        let fast = world.run(How { audit: true, ..How::JUMPS });
        assert_eq!(slow.difference(&fast), None);
        assert_eq!(fast.rows.requests.len(), world.arrivals.len());
        check(&fast);
    }
}

const ANY: [bool; 2] = [false, true];

fn end_ms(run: &Run, request: u64) -> f64 {
    run.row(request).end.0 as f64 / MS as f64
}

#[test]
fn arrivals_at_time_zero_and_at_one_instant() {
    both(ANY, &[request(0, 5, 3)], |_| (), |run| assert_eq!(end_ms(run, 0), 3.0));
    let crowd = vec![request(7, 5, 2); 1000];
    both(
        ANY,
        &crowd,
        |_| (),
        |run| {
            assert_eq!(run.result.summary.count(Outcome::Finished), 1000);
            assert!(run.rows.requests.iter().all(|r| r.arrival == Time(7 * MS)));
            assert_eq!(run.result.summary.load.running_max, 8);
        },
    );
}

/// BLIS #373: a request larger than all KV memory must not be retried for ever.
#[test]
fn larger_than_pool_or_context_is_rejected_and_blocks_nobody() {
    let arrivals = [request(0, 256, 1), request(0, 10_000, 5), request(0, u32::MAX, 5), request(0, 20, 2)];
    both(
        ANY,
        &arrivals,
        |_| (),
        |run| {
            assert_eq!(run.result.summary.count(Outcome::Rejected), 3);
            assert_eq!(end_ms(run, 3), 2.0);
        },
    );
}

#[test]
fn a_pool_smaller_than_the_context_is_refused_with_the_arithmetic() {
    let mut world = small(true, vec![request(0, 5, 3)]);
    world.spec.limits.max_model_len = 257;
    let error = world.try_run(How::JUMPS).unwrap_err();
    assert!(matches!(error, RunError::PoolTooSmall { needed: 17, blocks: 16, fits: 256, .. }), "{error}");
}

/// Times that do not fit end the run: they neither wrap nor stand still.
#[test]
fn steps_and_instants_beyond_the_clock_are_refused() {
    // A step has 2⁶⁴ units, which are 1.76e13 ns or 4.9 hours. The context grows from 21 to 31 tokens.
    for (base_us, context_ns, host_us, fits) in [
        (1e3, 1e11, 0.0, true),
        (1e3, 1e12, 0.0, false),
        (1e10, 0.0, 0.0, true),
        (1e11, 0.0, 0.0, false),
        // Each fits, and their sum does not.
        (1e10, 0.0, 1e10, false),
    ] {
        let mut world = small(false, vec![request(0, 20, 12)]);
        world.cost = Affine { base_us, context_ns, host_us, ..world.cost };
        for how in [How::STEPS, How::JUMPS] {
            let ran = world.try_run(how);
            let refused = matches!(ran, Err(RunError::StepTooLong { replica: 0, .. }));
            assert_eq!((ran.is_ok(), refused), (fits, !fits), "{base_us} {context_ns} {host_us}");
        }
    }
    let mut world = small(false, vec![request(0, 20, 10); 3]);
    world.spec.traffic.clients = Some(Clients { count: 1, think_time: Span(u64::MAX - 1) });
    let error = world.try_run(How::JUMPS).unwrap_err();
    assert!(matches!(error, RunError::EndOfTime { after } if after == Time(10 * MS)), "{error}");
}

/// 255 + 1 tokens and 1 + 255 tokens fill the pool to the last block, side by side with others in the queue.
#[test]
fn exactly_as_large_as_the_pool() {
    let arrivals = [request(0, 255, 1), request(0, 1, 255), request(0, 128, 128), request(0, 200, 1000)];
    both(
        ANY,
        &arrivals,
        |_| (),
        |run| {
            assert_eq!(run.result.summary.count(Outcome::Finished), 4);
            assert_eq!(run.row(1).output_tokens, 255);
            assert_eq!(run.row(3).output_tokens, 56, "cut at the context");
            assert_eq!(run.result.summary.load.kv_usage_max, 1.0);
        },
    );
}

#[test]
fn prompts_and_outputs_of_one_token() {
    let arrivals: Vec<Arrival> = (0..20).map(|i| request(i, 1, 1)).collect();
    both(
        ANY,
        &arrivals,
        |_| (),
        |run| {
            assert!(run.rows.requests.iter().all(|r| r.output_tokens == 1 && Some(r.end) == r.first_token));
            assert_eq!(run.result.summary.single_token, 20);
            assert_eq!(run.result.summary.itl.count(), 0);
        },
    );
    // By end-of-sequence instead of by length.
    let eos: Vec<Arrival> = (0..20).map(|i| Arrival::new(Time(i * MS), 1, 1)).collect();
    both(ANY, &eos, |_| (), |run| assert_eq!(run.result.summary.tokens.output, 20));
}

#[test]
fn nothing_to_do() {
    both(
        ANY,
        &[],
        |_| (),
        |run| {
            assert_eq!((run.result.end, run.result.effort.steps), (Time::ZERO, 0));
            assert_eq!(run.result.summary.metric("utilization"), None);
        },
    );
    let refused = vec![request(3, 300, 1); 5];
    both(
        ANY,
        &refused,
        |_| (),
        |run| {
            assert_eq!(run.result.summary.count(Outcome::Rejected), 5);
            assert_eq!((run.result.end, run.result.effort.plans), (Time(3 * MS), 0));
        },
    );
}

/// At depth 2 the client goes while steps 2 and 3 are planned: it gets the token of the step that ends first and no more.
#[test]
fn a_client_goes_with_steps_in_flight() {
    let mut goes = request(0, 20, 50);
    goes.cancel_after = Some(Span(2 * MS + MS / 2));
    both(
        ANY,
        &[goes.clone(), request(0, 20, 5)],
        |_| (),
        |run| {
            let row = run.row(0);
            assert_eq!((row.outcome, row.end, row.output_tokens), (Outcome::Cancelled, Time(3 * MS), 3));
            assert_eq!(end_ms(run, 1), 5.0);
            assert_eq!(run.result.summary.itl.count(), 2 + 4);
        },
    );
    // It goes while its only step so far, the prefill, is in flight: it gets the first token and ends.
    goes.cancel_after = Some(Span(1));
    both(
        ANY,
        &[goes],
        |_| (),
        |run| {
            assert_eq!((run.row(0).output_tokens, end_ms(run, 0)), (1, 1.0));
        },
    );
}

/// The head of the queue is too large for now and blocks a small request; when it loses patience, the small one starts at
/// the next boundary.
#[test]
fn the_head_that_blocked_the_queue_expires() {
    let mut head = request(1, 200, 5);
    head.max_wait = Some(Span(9 * MS + MS / 2));
    let arrivals = [request(0, 100, 60), head, request(2, 20, 2)];
    let sync = |world: &mut World| world.spec.jumps = true;
    both(ANY, &arrivals, sync, |run| {
        assert_eq!((run.row(1).outcome, end_ms(run, 1)), (Outcome::Expired, 10.5));
        assert_eq!(run.row(1).start, None);
        assert_eq!(run.row(2).start, Some(Time(11 * MS)));
    });
}

#[test]
fn a_replica_fails_with_steps_in_flight_and_goes_on() {
    let arrivals = [request(0, 20, 50), request(0, 200, 50), request(10, 20, 3)];
    both(
        ANY,
        &arrivals,
        |world| {
            world.spec.controllers.failures =
                [2 * MS + 1, 5 * MS].map(|at| Failure { at: Time(at), replicas: vec![0], down_for: Span::ZERO }).into();
        },
        |run| {
            assert_eq!(run.result.summary.count(Outcome::Failed), 2);
            assert_eq!(end_ms(run, 0), 3.0, "running ones end at the boundary");
            assert_eq!((run.row(2).outcome, end_ms(run, 2)), (Outcome::Finished, 13.0));
        },
    );
}

/// Beyond 2⁵³ ns a float clock skips nanoseconds.
#[test]
fn no_float_holds_a_clock() {
    let late = (1 << 53) + 1;
    let mut arrival = request(0, 20, 10_001);
    arrival.at = Time(late);
    let tune = |world: &mut World| {
        world.set_scheduler(SchedulerSpec::Vllm(VllmSpec::default()));
        (world.spec.limits.max_model_len, world.spec.limits.blocks) = (20_000, 1250);
        world.cost.base_us = 1000.001;
        assert_eq!(Cost::from_us(1000.001).0 % (1 << 20), 0);
    };
    both(ANY, &[arrival], tune, |run| {
        let row = run.row(0);
        assert_eq!(row.first_token, Some(Time(late + 1_000_001)));
        assert_eq!(row.end, Time(late + 10_001 * 1_000_001));
        assert_eq!(run.result.summary.itl.sum(), 10_000 * 1_000_001);
    });
}

#[test]
fn more_clients_than_places() {
    let arrivals = vec![request(0, 20, 10); 500];
    let crowd = |world: &mut World| world.spec.traffic.clients = Some(Clients { count: 100, think_time: Span::ZERO });
    both(ANY, &arrivals, crowd, |run| {
        assert_eq!(run.result.summary.count(Outcome::Finished), 500);
        let load = run.result.summary.load;
        assert_eq!((load.running_max, load.waiting_max), (8, 92));
    });
}

/// Memory grows with active requests, not with all that ever were.
#[test]
fn slots_are_used_again() {
    let vllm = SchedulerSpec::default();
    let limits = Limits { depth: 1, ..vllm.needs().limits(16, 16, 256) };
    let mut replica = Replica::new(0, limits);
    let mut scheduler = vllm.build(0, 0);
    let mut ended = 0;
    for id in 0..10_000 {
        replica.enqueue(id, request(0, 20, 1 + (id % 3) as u32)).unwrap();
        if id % 2 == 0 {
            continue;
        }
        while replica.outstanding() > 0 {
            assert!(replica.plan(0, Time(id), &mut *scheduler).unwrap());
            replica.complete(0, 1, Time(id));
        }
        while let Some(happened) = replica.pop_happened() {
            ended += u32::from(matches!(happened, Happened::Ended(_)));
        }
    }
    replica.audit().unwrap();
    assert_eq!((ended, replica.seats(), replica.pool().used()), (10_000, 2, 0));
}

/// A request that failed in the trace ends where it arrives: no router turns, no replica works, no promise counts it.
#[test]
fn what_failed_in_the_trace_is_counted_and_nothing_else() {
    let served = || vec![request(0, 10, 3), request(1, 10, 3), request(2, 10, 3)];
    let run = |arrivals| {
        let mut world = World::vllm(VllmSpec::default(), 64, 16, 256, arrivals);
        world.spec.replicas = 2;
        world.spec.slo.ttft = Some(Span(1000 * MS));
        world.run(How { audit: true, ..How::JUMPS })
    };
    let failed = Arrival { class: ClassId(1), session: Some(SessionId::new(7)), ..Arrival::failed(Time(MS)) };
    let mut arrivals = served();
    arrivals.insert(1, failed);
    let (plain, kept) = (run(served()), run(arrivals));
    let row = kept.row(1);
    assert_eq!((row.outcome, row.arrival, row.end), (Outcome::FailedInTrace, Time(MS), Time(MS)));
    assert_eq!(
        (row.start, row.prompt_tokens, row.output_tokens, row.session.map(SessionId::get)),
        (None, 0, 0, Some(7))
    );
    for (before, after) in [(0, 0), (1, 2), (2, 3)] {
        let (before, after) = (plain.row(before), kept.row(after));
        assert_eq!((before.replica, before.start, before.end), (after.replica, after.start, after.end));
    }
    let summary = &kept.result.summary;
    assert_eq!((summary.ended(), summary.served(), summary.metric("failed_in_trace")), (4, 3, Some(1.0)));
    assert_eq!(
        (summary.metric("goodput_fraction"), summary.classes[1].served()),
        (Some(1.0), summary.classes[1].ended() - 1)
    );
}
