//! Which replica routers choose, worked out by hand.

use overbook_sim::routers::RouterView;
use overbook_sim::routers::{PrefixAwareSpec, RouterSpec};
use overbook_sim::schedulers::VllmSpec;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{Arrival, Content};

use crate::world::{How, MS, World};

/// A fleet of vLLM with steps of 1 ms.
fn fleet(replicas: u32, router: RouterSpec, arrivals: Vec<Arrival>) -> World {
    let mut world = World::vllm(VllmSpec::default(), 4096, 16, 8192, arrivals);
    world.spec.replicas = replicas;
    world.spec.router = router;
    world
}

/// The replica of each request.
fn chosen(world: &World) -> Vec<u32> {
    let run = world.run(How::JUMPS);
    (0..world.arrivals.len() as u64).map(|request| run.row(request).replica).collect()
}

fn at(ms: u64, prompt: u32, output: u32) -> Arrival {
    Arrival::new(Time(ms * MS), prompt, output)
}

/// A prompt of whole blocks with these contents, and a token more.
fn saying(ms: u64, ids: std::ops::Range<u64>) -> Arrival {
    let blocks = (ids.end - ids.start) as u32;
    let content = Content { block_tokens: 16, ids: ids.collect() };
    Arrival { content: Some(Box::new(content)), ..at(ms, 16 * blocks + 1, 400) }
}

#[test]
fn token_jsq_counts_prompt_tokens_and_not_requests() {
    // Three short prompts are less work than a long one.
    let arrivals = vec![at(0, 4000, 10), at(0, 100, 10), at(0, 100, 10), at(0, 100, 10)];
    assert_eq!(chosen(&fleet(2, RouterSpec::TokenJsq, arrivals.clone())), [0, 1, 1, 1]);
    assert_eq!(chosen(&fleet(2, RouterSpec::LeastOutstanding, arrivals)), [0, 1, 0, 1]);
    // Prompts that are computed count no longer; then it is the number of requests, then of the replica.
    let later = vec![at(0, 4000, 500), at(0, 100, 500), at(0, 100, 500), at(100, 100, 5), at(100, 100, 5)];
    assert_eq!(chosen(&fleet(2, RouterSpec::TokenJsq, later)), [0, 1, 1, 0, 1]);
}

#[test]
fn prefix_aware_goes_where_the_prefix_is_until_the_load_outweighs_it() {
    let dynamo = PrefixAwareSpec::default();
    let route = |spec| RouterSpec::PrefixAware(spec);
    // Ten blocks of prefix on replica 0, then the same prefix again, then another. By then replica 0 holds 14 blocks: 1 + 15 there,
    // 11 + 11 elsewhere; then 22 + 25 and 11 + 11.
    let arrivals = vec![saying(0, 0..10), saying(50, 0..10), saying(50, 100..110)];
    assert_eq!(chosen(&fleet(2, route(dynamo), arrivals.clone())), [0, 0, 1]);
    // Blocks in use weigh more: 1 + 5 (14 + 1) on replica 0, 11 + 5 · 11 on replica 1; then 11 + 5 (14 + 11) and, with the second
    // prompt pending there, 22 + 5 · 11.
    let loaded = PrefixAwareSpec { decode: 5.0, ..dynamo };
    assert_eq!(chosen(&fleet(2, route(loaded), arrivals.clone())), [0, 1, 1]);
    // llm-d's weights: the prefix, then the queue: the second prompt still waits on replica 0 when the third comes.
    let llm_d = PrefixAwareSpec { prefill: 3.0, decode: 0.0, queue: 2.0, relative: true, temperature: 0.0 };
    assert_eq!(chosen(&fleet(2, route(llm_d), arrivals.clone())), [0, 0, 1]);
    // At a high temperature all are equal: about half of many go to each.
    let many: Vec<Arrival> = (0..400).map(|i| saying(i, 0..10)).collect();
    let drawn = chosen(&fleet(2, route(PrefixAwareSpec { temperature: 1e6, ..dynamo }), many.clone()));
    let first = drawn.iter().filter(|&&replica| replica == 0).count();
    assert!((150..250).contains(&first), "{first} of 400");
    // The draw of a decision does not depend on the others: the first hundred stay what they are.
    let fewer = chosen(&fleet(2, route(PrefixAwareSpec { temperature: 1e6, ..dynamo }), many[..100].to_vec()));
    assert_eq!(drawn[..100], fewer);
}

#[test]
fn a_stale_router_knows_its_own_decisions_and_old_reports() {
    let arrivals: Vec<Arrival> = (0..6).map(|i| at(2 * i + 1, 10, if i == 0 { 1 } else { 1000 })).collect();
    let live = fleet(2, RouterSpec::LeastOutstanding, arrivals);
    // The first request has ended when the second comes.
    assert_eq!(chosen(&live), [0, 0, 1, 0, 1, 0]);
    let with = |interval: u64, delay: u64| {
        let mut stale = live.clone();
        stale.spec.controllers.router_view =
            Some(RouterView { interval: Span(interval * MS), delay: Span(delay * MS) });
        chosen(&stale)
    };
    // Without a report the router counts what it has decided: it does not know that the first has ended.
    assert_eq!(with(1000, 0), [0, 1, 0, 1, 0, 1]);
    // A report at 4 ms says so; one that takes 6 ms says so before the last request, at 11 ms.
    assert_eq!(with(4, 0), [0, 1, 0, 0, 1, 0]);
    assert_eq!(with(4, 6), [0, 1, 0, 1, 0, 0]);
}
