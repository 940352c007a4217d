//! Replicas that are down, and clients that try again: worked out by hand.

use overbook_sim::fleet::{Failure, Faults, Retry};
use overbook_sim::results::rows::Outcome;
use overbook_sim::routers::RouterSpec;
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Content};

use crate::world::{How, MS, Run, World};

/// Replicas of vLLM with steps of 1 ms, planned one by one, behind a router that goes round.
fn fleet(replicas: u32, arrivals: Vec<Arrival>) -> World {
    let spec = VllmSpec { async_scheduling: false, ..VllmSpec::default() };
    let mut world = World::vllm(spec, 4096, 16, 8192, arrivals);
    world.spec.replicas = replicas;
    world.spec.router = RouterSpec::LeastOutstanding;
    world
}

fn at(ms: u64, output: u32) -> Arrival {
    Arrival::new(Time(ms * MS), 10, output)
}

fn down(ms: u64, replica: u32, span: u64) -> Failure {
    Failure { at: Time(ms * MS), replicas: vec![replica], down_for: Span(span * MS) }
}

fn retry(attempts: u32) -> Retry {
    Retry {
        attempts,
        backoff: Span(10 * MS),
        max_backoff: Span(20 * MS),
        jitter: 0.0,
        on_failed: true,
        on_expired: true,
        on_rejected: false,
    }
}

/// (outcome, replica, end [ms], attempts) of a request.
fn of(run: &Run, request: u64) -> (Outcome, u32, u64, u32) {
    let row = run.row(request);
    (row.outcome, row.replica, row.end.0 / MS, row.attempts)
}

#[test]
fn a_replica_that_is_down_is_passed_over_until_it_is_back() {
    let mut world = fleet(2, vec![at(0, 500), at(20, 5), at(30, 5), at(60, 5)]);
    world.spec.controllers.failures = vec![down(10, 0, 45)];
    let run = world.run(How { audit: true, ..How::JUMPS });
    // The first one is lost with its replica, at the end of the step of 1 ms.
    assert_eq!(of(&run, 0), (Outcome::Failed, 0, 10, 1));
    assert_eq!(of(&run, 1), (Outcome::Finished, 1, 25, 1));
    assert_eq!(of(&run, 2), (Outcome::Finished, 1, 35, 1));
    assert_eq!(of(&run, 3), (Outcome::Finished, 0, 65, 1), "back at 55 ms");
}

#[test]
fn with_no_replica_up_requests_fail_where_they_arrive() {
    let mut world = fleet(1, vec![at(20, 5), at(40, 5)]);
    world.spec.controllers.failures = vec![down(10, 0, 20)];
    let run = world.run(How::JUMPS);
    assert_eq!(of(&run, 0), (Outcome::Failed, 0, 20, 1));
    assert_eq!(of(&run, 1), (Outcome::Finished, 0, 45, 1));
    // A client that tries again 10 and 20 ms later finds it up the first time: at 30 ms, the moment at which it is back.
    world.spec.controllers.retry = Some(retry(3));
    let run = world.run(How::JUMPS);
    assert_eq!(of(&run, 0), (Outcome::Finished, 0, 35, 2));
    assert_eq!(run.row(0).arrival, Time(20 * MS), "its first arrival");
    assert_eq!((run.result.summary.attempts, run.result.summary.ended()), (3, 2));
}

#[test]
fn clients_whose_patience_ends_try_again_and_give_up() {
    // A deadline of 15 ms and 30 ms of output: never in time. Pauses of 10, 20 and again 20 ms.
    let impatient = Arrival { deadline: Some(Span(15 * MS)), ..at(0, 30) };
    let mut world = fleet(1, vec![impatient]);
    world.spec.controllers.retry = Some(retry(4));
    let run = world.run(How { audit: true, ..How::JUMPS });
    // Attempts from 0, 25, 60 and 95 ms, each of which ends after 15 ms.
    assert_eq!(of(&run, 0), (Outcome::Expired, 0, 110, 4));
    assert_eq!(run.row(0).start, Some(Time(0)));
    assert!(run.result.summary.tokens.output >= 4 * 14, "tokens in vain count");
}

#[test]
fn what_was_cached_is_lost() {
    let saying = |ms| {
        let content = Content { block_tokens: 16, ids: (0..10).collect() };
        Arrival { content: Some(Box::new(content)), prompt_tokens: 161, ..at(ms, 3) }
    };
    let mut world = fleet(1, vec![saying(0), saying(50), saying(100)]);
    world.spec.controllers.failures = vec![down(70, 0, 5)];
    let run = world.run(How { audit: true, ..How::JUMPS });
    let cached: Vec<u32> = (0..3).map(|request| run.row(request).cached_tokens).collect();
    assert_eq!(cached, [0, 160, 0]);
}

#[test]
fn random_faults_come_as_often_as_they_should() {
    let mut world = fleet(4, (0..2000).map(|i| at(i * 50, 10)).collect());
    world.spec.controllers.faults = Some(Faults { mtbf: Span(900 * MS), mttr: Span(100 * MS), domains: Vec::new() });
    let run = world.run(How::JUMPS);
    // A replica is up 90 % of the time: at random, 1 in 10,000 requests would find all four down, and about
    // 10 of 900 are cut off on the replica that serves them.
    let failed = run.rows.requests.iter().filter(|row| row.outcome == Outcome::Failed).count();
    assert!((4..60).contains(&failed), "{failed} of 2000 failed");
    let on_last = run.rows.requests.iter().filter(|row| row.replica > 0).count();
    assert!(
        (100..350).contains(&on_last),
        "{on_last} of 2000 went past the first replica, which is down 10 % of the time"
    );
    let again = world.run(How::JUMPS);
    assert_eq!(run.difference(&again), None);
}
