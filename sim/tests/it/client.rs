//! The client's own time: what it states, and what it must leave alone.

use overbook_sim::fleet::{ClientTime, Frontend};
use overbook_sim::results::rows::Outcome;
use overbook_sim::time::{Span, Time};

use crate::world::How;
use crate::world_random::world;

const TIME: ClientTime = ClientTime { base: Span(5_000), per_concurrent: Span(700) };

/// In open loop nothing moves; the client's latencies are the engine's and its own time by the requests under way.
#[test]
fn an_open_loop_client_sees_more_and_moves_nothing() {
    let mut seen = 0;
    for seed in 0..200 {
        let mut world = world(seed);
        if world.spec.traffic.clients.is_some() || world.spec.controllers.retry.is_some() {
            continue;
        }
        let plain = world.run(How::JUMPS);
        world.spec.traffic.client_time = Some(TIME);
        let run = world.run(How::JUMPS);
        assert_eq!(plain.result.digest, run.result.digest, "world {seed}");
        assert_eq!(plain.result.summary.latencies, run.result.summary.latencies, "world {seed}");
        let rows = &run.rows.requests;
        let finished = || rows.iter().filter(|row| row.outcome == Outcome::Finished);
        let Some(client) = &run.result.summary.client else {
            assert_eq!(finished().count(), 0, "world {seed}");
            continue;
        };
        assert_eq!(client.e2el.count(), finished().count() as u64);
        // What ends as another is sent may be counted or not: the order of the two within a moment is the calendar's.
        let (mut least, mut most) = (0u128, 0u128);
        for row in finished() {
            let before = |ends: &dyn Fn(Time) -> bool| {
                rows.iter().filter(|other| other.request < row.request && ends(other.end)).count() as u64
            };
            let own = row.e2el().0 + TIME.base.0 + TIME.per_concurrent.0;
            least += u128::from(own + TIME.per_concurrent.0 * before(&|end| end > row.arrival));
            most += u128::from(own + TIME.per_concurrent.0 * before(&|end| end >= row.arrival));
        }
        assert!((least..=most).contains(&client.e2el.sum()), "world {seed}: {} {least} {most}", client.e2el.sum());
        seen += client.e2el.count();
    }
    eprintln!("client's time: {seen} requests in open loop");
    assert!(seen > 1000);
}

/// The server's front end is part of its latencies, moves nothing in open loop, and is the same in jumps.
#[test]
fn a_front_end_is_in_the_latencies_and_moves_nothing() {
    const FRONT: Frontend = Frontend { base: Span(9_000), per_running: Span(300), per_prompt_token: Span(7) };
    let (mut seen, mut beside) = (0u64, 0u64);
    for seed in 0..200 {
        let mut world = world(seed);
        let open = world.spec.traffic.clients.is_none();
        let plain = world.run(How::JUMPS);
        world.spec.traffic.frontend = Some(FRONT);
        let run = world.run(How::JUMPS);
        let steps = world.run(How::STEPS);
        assert_eq!(run.rows.requests, steps.rows.requests, "world {seed}: jumps");
        assert!(!open || plain.result.digest == run.result.digest, "world {seed}");
        for row in &run.rows.requests {
            if row.outcome != Outcome::Finished {
                assert_eq!(row.frontend, Span::ZERO, "world {seed}: {row:?}");
                continue;
            }
            let least = FRONT.base + FRONT.per_running + Span(7 * u64::from(row.prompt_tokens));
            assert!(row.frontend >= least, "world {seed}: {row:?}");
            assert_eq!(row.e2el(), row.end - row.arrival + row.frontend, "world {seed}");
            beside += u64::from(row.frontend > least);
            seen += 1;
        }
    }
    eprintln!("front end: {seen} requests, {beside} of them with others beside");
    assert!(seen > 1000 && beside > 300);
}

/// In closed loop the next request is sent when the client knows of the end of the last one.
#[test]
fn a_closed_loop_client_sends_later() {
    let (mut seen, mut worlds) = (0, 0);
    for seed in 0..400 {
        let mut world = world(seed);
        let Some(clients) = world.spec.traffic.clients else { continue };
        world.spec.controllers.retry = None;
        world.spec.traffic.client_time = Some(ClientTime { per_concurrent: Span::ZERO, ..TIME });
        worlds += 1;
        let run = world.run(How::JUMPS);
        let rows = &run.rows.requests;
        let tail = |outcome| if outcome == Outcome::FailedInTrace { Span::ZERO } else { TIME.base };
        for row in rows.iter().filter(|row| row.request >= u64::from(clients.count)) {
            let freed = |end: Time, outcome| end + (clients.think_time + tail(outcome)).max(Span(1)) == row.arrival;
            assert!(rows.iter().any(|other| freed(other.end, other.outcome)), "world {seed}: {row:?}");
            seen += 1;
        }
        assert_eq!(run.result.digest, world.run(How::STEPS).result.digest, "world {seed}: jumps");
    }
    eprintln!("client's time: {seen} requests in closed loop, {worlds} worlds");
    assert!(seen > 300 && worlds > 40);
}
