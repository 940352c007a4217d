//! The laws, attacked with random worlds. Every test states its coverage.

#[allow(dead_code, unreachable_pub, reason = "shared by several test binaries")]
mod worlds;

use overbook_sim::rows::Outcome;
use worlds::{run, world};

/// Law 13: jumping over equal steps changes nothing that anybody can see.
#[test]
fn jumps_equal_step_by_step() {
    let (mut steps, mut plans, mut preempting, mut worlds) = (0, 0, 0, 0);
    for seed in 0..400 {
        let world = world(seed);
        let (slow, slow_rows) = run(&world, false, false).unwrap_or_else(|e| panic!("world {seed}: {e}"));
        let (fast, fast_rows) = run(&world, true, true).unwrap_or_else(|e| panic!("world {seed}: {e}"));
        if slow_rows.requests != fast_rows.requests {
            let first = slow_rows.requests.iter().zip(&fast_rows.requests).position(|(a, b)| a != b).unwrap_or(0);
            let (slow, fast) = (&slow_rows.requests[first..], &fast_rows.requests[first..]);
            panic!("world {seed}: rows differ from row {first}:\nslow {:?}\nfast {:?}\n{:?}", &slow[..2.min(slow.len())], &fast[..2.min(fast.len())], world.spec);
        }
        assert_eq!(slow.digest, fast.digest, "world {seed}");
        assert_eq!(slow.effort.steps, fast.effort.steps, "world {seed}");
        assert_eq!(slow.summary.itl, fast.summary.itl, "world {seed}");
        assert_eq!(slow_rows.requests.len(), world.arrivals.len(), "law 1 in world {seed}");
        let preempted = fast_rows.requests.iter().any(|r| r.preemptions > 0);
        (steps, plans) = (steps + fast.effort.steps, plans + fast.effort.plans);
        preempting += u32::from(preempted);
        worlds += 1;
    }
    eprintln!("{worlds} worlds, {steps} steps, {plans} plans, {preempting} worlds with preemption");
}

/// Law 5, and every ending occurs.
#[test]
fn times_of_a_request_are_in_order() {
    let mut seen = [0u32; Outcome::ALL.len()];
    for seed in 0..200 {
        let (_, rows) = run(&world(seed), true, false).unwrap_or_else(|e| panic!("world {seed}: {e}"));
        for row in rows.requests {
            seen[row.outcome as usize] += 1;
            let start = row.start.unwrap_or(row.end);
            let first = row.first_token.unwrap_or(row.end);
            assert!(row.arrival <= start && start <= first && first <= row.end, "{row:?}");
        }
    }
    eprintln!("outcomes {seen:?}");
    assert!(seen[..4].iter().all(|&n| n > 20), "every ending must occur: {seen:?}");
}
