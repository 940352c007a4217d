//! Decisions of both controllers, worked out by hand.

use super::*;

const MS: u64 = 1_000_000;

/// What a controller does after one request: its first token after `ttft` [ms], of which it waited `wait`, and `tpot` a token.
fn decision(
    policy: fn(ControllerSpec) -> Option<Box<dyn Partitioner>>,
    shares: (u32, u32),
    ttft: u64,
    wait: u64,
    tpot: u64,
) -> Option<(u32, u32)> {
    let mut controller = policy(ControllerSpec { window: 1, ..ControllerSpec::default() }).expect("a controller");
    controller.first_token(FirstToken { ttft: Span(ttft * MS), wait: Span(wait * MS) });
    let shares = Shares { prefill: shares.0, decode: shares.1 };
    controller.finished(Span(tpot * MS), shares).map(|shares| (shares.prefill, shares.decode))
}

/// Promised are 500 ms and 100 ms.
#[test]
fn the_released_controller_by_hand() {
    let decide = |shares, ttft, wait, tpot| decision(|spec| ReleasedSpec(spec).build(), shares, ttft, wait, tpot);
    assert_eq!(decide((90, 90), 400, 100, 80), Some((90, 90)), "both kept");
    // Prompts: at 96 % the wait is as long as at 90 % (the fit is a parabola) and the rest 6 % shorter: 583 ms, three steps on.
    assert_eq!(decide((90, 90), 600, 300, 50), Some((96, 90)));
    // 1.1 · 95 ms is too long; the fit says 103 ms with 96 %, 102 with 98 %, 101 with 100 %: three steps, and all there is.
    assert_eq!(decide((100, 94), 100, 0, 95), Some((100, 100)));
    assert_eq!(decide((90, 90), 600, 0, 200), Some((100, 100)), "both broken: all to both");
    assert_eq!(decide((100, 90), 600, 0, 200), Some((100, 90)), "one side has all already");
    // Decodes have all and are too slow: prompts give three steps, which cost them little.
    assert_eq!(decide((100, 100), 100, 0, 95), Some((94, 100)));
    // They would break their own promise at once: 500 ms at 100 % are 507 at 98 %.
    assert_eq!(decide((100, 100), 500, 0, 95), Some((100, 100)));
}

#[test]
fn the_papers_controller_by_hand() {
    let decide = |shares, ttft, wait, tpot| decision(|spec| PaperSpec(spec).build(), shares, ttft, wait, tpot);
    assert_eq!(decide((50, 50), 400, 100, 80), Some((50, 50)), "both kept");
    assert_eq!(decide((50, 50), 600, 300, 200), Some((50, 50)), "both broken: nothing to take from");
    // λ = 0.25 of the SMs. At 52, 54, 56 of 102, 104, 106 parts the model says 577, 557, 539 ms: three steps are all.
    assert_eq!(decide((50, 50), 600, 300, 50), Some((56, 50)));
    // A little too long: 507 ms is 488 ms after one step.
    assert_eq!(decide((50, 50), 507, 253, 50), Some((52, 50)));
    // Decodes have all: prompts give up shares until 100 of 194 parts bring 105 ms below 100 ms; three steps are all.
    assert_eq!(decide((100, 100), 100, 0, 105), Some((94, 100)));
}
