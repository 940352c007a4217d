//! Eviction policies: bounds, references that share no line with them, and laws.

mod pins;
mod references;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use overbook_sim::counter::draw;
use overbook_sim::kv::eviction::{BlockEviction, BlockView, EvictionSpec, NEVER};
use overbook_sim::kv::replay::{Access, Cache};
use overbook_sim::time::Time;
use overbook_sim::workload::arrival::ClassId;

/// A use of a content: which request, how deep, and what lies before.
fn access(content: u64, parent: Option<u64>, depth: u32, request: u64) -> Access {
    let view = BlockView {
        content,
        parent,
        depth,
        tokens: 16,
        at: Time(request * 250_000_000),
        request,
        class: ClassId((content % 3) as u16),
        turn: 1 + (request % 4) as u32,
        priority: (request % 5) as i32,
        retention: None,
        cost: 16_000 + 9 * u64::from(depth),
        next_use: None,
    };
    Access { view, prompt: true }
}

/// The same with the number of the access that uses each content next.
fn with_future(mut accesses: Vec<Access>) -> Vec<Access> {
    let mut next = BTreeMap::new();
    for (at, access) in accesses.iter_mut().enumerate().rev() {
        access.view.next_use = Some(next.insert(access.view.content, at as u64).unwrap_or(NEVER));
    }
    accesses
}

/// Requests of one block each.
fn singles(contents: impl Iterator<Item = u64>) -> Vec<Access> {
    with_future((0..).zip(contents).map(|(request, content)| access(content, None, 0, request)).collect())
}

fn uniform(seed: u64, contents: u64, n: u64) -> Vec<Access> {
    singles((0..n).map(|i| draw(seed, i) % contents))
}

fn looping(contents: u64, n: u64) -> Vec<Access> {
    singles((0..n).map(|i| i % contents))
}

/// About Zipf: the logarithm of the content is uniform.
fn skewed(seed: u64, contents: u64, n: u64) -> Vec<Access> {
    let unit = |i| (draw(seed, i) >> 11) as f64 / (1_u64 << 53) as f64;
    singles((0..n).map(|i| (contents as f64).powf(unit(i)) as u64))
}

/// Walks from the root of a tree in which every node has `fan` children; half of them follow a walk before as far as it goes.
fn prefix_tree(seed: u64, fan: u64, deepest: u64, requests: u64) -> Vec<Access> {
    let (mut accesses, mut walks) = (Vec::new(), Vec::<u64>::new());
    for request in 0..requests {
        let bits = |what: u64| draw(seed ^ what, request);
        let follows = bits(1) % 2 == 0 && !walks.is_empty();
        let walk = if follows { walks[bits(2) as usize % walks.len()] } else { bits(3) };
        walks.push(walk);
        let (mut parent, mut content) = (None, 17);
        for depth in 0..=bits(4) % deepest {
            content = draw(content, draw(walk, depth) % fan);
            accesses.push(access(content, parent, depth as u32, request));
            parent = Some(content);
        }
    }
    with_future(accesses)
}

/// Whether each access was a hit.
fn hits(policy: Box<dyn BlockEviction>, capacity: u32, accesses: &[Access]) -> Vec<bool> {
    let mut cache = Cache::with_policy(capacity, policy);
    let hits: Vec<bool> = accesses.iter().map(|access| cache.access(access)).collect();
    assert_eq!(cache.found().blocks, hits.iter().filter(|&&hit| hit).count() as u64);
    assert!(cache.found().leading <= cache.found().blocks);
    hits
}

fn hits_of(spec: &EvictionSpec, capacity: u32, accesses: &[Access]) -> Vec<bool> {
    hits(spec.build(capacity, 7), capacity, accesses)
}

fn count(hits: &[bool]) -> usize {
    hits.iter().filter(|&&hit| hit).count()
}

fn traces() -> Vec<(&'static str, Vec<Access>)> {
    vec![
        ("uniform", uniform(1, 60, 4000)),
        ("looping", looping(40, 2000)),
        ("skewed", skewed(2, 500, 4000)),
        ("narrow tree", prefix_tree(3, 2, 9, 700)),
        ("wide tree", prefix_tree(4, 5, 30, 300)),
    ]
}

const SIZES: [u32; 9] = [1, 2, 3, 5, 8, 13, 30, 100, 1000];

/// Least recently used in vLLM's order, by looking at everything.
fn plain_lru(capacity: usize, accesses: &[Access]) -> Vec<bool> {
    let mut cache: Vec<(u64, Reverse<u32>, u64)> = Vec::new();
    let mut hits = Vec::new();
    for Access { view, .. } in accesses {
        let found = cache.iter().position(|entry| entry.2 == view.content);
        hits.push(found.is_some());
        if let Some(at) = found {
            cache.remove(at);
        } else if cache.len() == capacity {
            let oldest = *cache.iter().min().expect("full");
            cache.retain(|entry| *entry != oldest);
        }
        cache.push((view.request, Reverse(view.depth), view.content));
    }
    hits
}

#[test]
fn lru_is_the_plain_one_hit_for_hit() {
    for (name, trace) in traces() {
        for size in SIZES {
            let plain = plain_lru(size as usize, &trace);
            assert_eq!(hits_of(&EvictionSpec::Lru, size, &trace), plain, "{name}, {size} blocks");
        }
    }
    // The comparison sees another order.
    let (_, trace) = &traces()[2];
    assert_ne!(hits_of(&EvictionSpec::Fifo, 30, trace), plain_lru(30, trace));
}

#[test]
fn one_category_of_requests_is_lru() {
    let workload_aware =
        EvictionSpec::every().into_iter().find(|(name, _)| *name == "workload-aware").expect("listed").1;
    for (name, mut trace) in traces() {
        for access in &mut trace {
            (access.view.class, access.view.turn) = (ClassId(0), 1);
        }
        for size in SIZES {
            assert_eq!(
                hits_of(&workload_aware, size, &trace),
                plain_lru(size as usize, &trace),
                "{name}, {size} blocks"
            );
        }
    }
}

/// Policies that find more than the bound.
fn above(bound: &[bool], found: &[(String, usize)]) -> Vec<String> {
    let bound = count(bound);
    found.iter().filter(|found| found.1 > bound).map(|found| format!("{} {} > {bound}", found.0, found.1)).collect()
}

#[test]
fn no_policy_finds_more_than_belady() {
    let mut below = 0;
    for (name, trace) in traces() {
        for size in SIZES {
            let found: Vec<(String, usize)> = EvictionSpec::every()
                .iter()
                .map(|(_, spec)| (spec.label(), count(&hits_of(spec, size, &trace))))
                .collect();
            let bound = hits_of(&EvictionSpec::Belady, size, &trace);
            assert_eq!(above(&bound, &found), Vec::<String>::new(), "{name}, {size} blocks");
            below += found.iter().filter(|found| found.1 < count(&bound)).count();
        }
    }
    assert!(below > 500, "policies are below the bound in {below} places: nothing was compared");
    // A bound that is none is found: LRU's, where a loop does not fit.
    let trace = looping(40, 2000);
    let random = (String::from("random"), count(&hits_of(&EvictionSpec::Random, 30, &trace)));
    assert_eq!(above(&hits_of(&EvictionSpec::Lru, 30, &trace), &[random]).len(), 1);
}

/// Most hits that any choice of victims gives, by trying all of them.
fn optimum(capacity: usize, contents: &[u64]) -> usize {
    let mut states = BTreeMap::from([(BTreeSet::<u64>::new(), 0)]);
    for &content in contents {
        let mut next = BTreeMap::<BTreeSet<u64>, usize>::new();
        for (cached, found) in states {
            let mut reach = |cached: BTreeSet<u64>, found| {
                let best = next.entry(cached).or_default();
                *best = (*best).max(found);
            };
            if cached.contains(&content) {
                reach(cached, found + 1);
                continue;
            }
            let grown = || cached.iter().copied().chain([content]).collect::<BTreeSet<u64>>();
            if cached.len() < capacity {
                reach(grown(), found);
                continue;
            }
            for victim in &cached {
                let mut cached = grown();
                cached.remove(victim);
                reach(cached, found);
            }
        }
        states = next;
    }
    states.into_values().max().unwrap_or(0)
}

#[test]
fn belady_is_the_optimum_of_all_choices() {
    let (mut differs, mut nearest_is_worse) = (0, 0);
    for seed in 0..300 {
        let trace = if seed % 2 == 0 { uniform(seed, 6, 16) } else { prefix_tree(seed, 2, 4, 7) };
        let contents: Vec<u64> = trace.iter().map(|access| access.view.content).collect();
        for capacity in 1..=4 {
            let best = optimum(capacity, &contents);
            let belady = count(&hits_of(&EvictionSpec::Belady, capacity as u32, &trace));
            assert_eq!(belady, best, "seed {seed}, {capacity} blocks: {contents:?}");
            differs += usize::from(count(&plain_lru(capacity, &trace)) < best);
            // A planted fault: the nearest next use goes.
            let mut wrong = trace.clone();
            for access in &mut wrong {
                access.view.next_use = access.view.next_use.map(|next| !next);
            }
            nearest_is_worse += usize::from(count(&hits_of(&EvictionSpec::Belady, capacity as u32, &wrong)) < best);
        }
    }
    assert!(differs > 200 && nearest_is_worse > 200, "{differs} {nearest_is_worse}");
}

/// Whether a larger cache lacks something at some time that a smaller one has.
fn inclusion_is_broken(spec: &EvictionSpec, trace: &[Access]) -> bool {
    SIZES.windows(2).any(|sizes| {
        let [mut small, mut large] = [0, 1].map(|at| Cache::new(sizes[at], spec, 7));
        trace.iter().any(|access| {
            small.access(access);
            large.access(access);
            let large: BTreeSet<u64> = large.contents().collect();
            !small.contents().all(|content| large.contains(&content))
        })
    })
}

#[test]
fn a_larger_cache_has_all_that_a_smaller_has_under_lru_and_belady() {
    let mut broken = 0;
    for (name, mut trace) in traces() {
        trace.truncate(1500);
        for spec in [EvictionSpec::Lru, EvictionSpec::Belady] {
            assert!(!inclusion_is_broken(&spec, &trace), "{} on {name}", spec.label());
        }
        broken += usize::from(inclusion_is_broken(&EvictionSpec::Fifo, &trace));
    }
    assert!(broken > 0, "FIFO has Belady's anomaly, and the test does not see it");
}

#[test]
fn equal_seeds_give_equal_victims() {
    let (_, trace) = &traces()[3];
    for (name, spec) in EvictionSpec::every() {
        assert_eq!(hits_of(&spec, 20, trace), hits_of(&spec, 20, trace), "{name}");
    }
    let other = hits(EvictionSpec::Random.build(20, 8), 20, trace);
    assert_ne!(other, hits_of(&EvictionSpec::Random, 20, trace));
}

#[test]
fn only_belady_looks_into_the_future() {
    let (_, trace) = &traces()[3];
    let mut blind = trace.clone();
    for access in &mut blind {
        access.view.next_use = None;
    }
    for (name, spec) in EvictionSpec::every() {
        if spec.needs().next_uses {
            assert_eq!(name, "belady");
        } else {
            assert_eq!(hits_of(&spec, 20, trace), hits_of(&spec, 20, &blind), "{name}");
        }
    }
}

#[test]
fn specs_read_back_and_say_what_is_wrong() {
    use overbook_sim::check::Check;
    for (name, spec) in EvictionSpec::every() {
        let text = serde_yaml_ng::to_string(&spec).expect("writes");
        assert_eq!(serde_yaml_ng::from_str::<EvictionSpec>(&text).expect("reads"), spec, "{text}");
        let mut problems = Vec::new();
        spec.check(&mut Check::new("", &mut problems));
        assert!(problems.is_empty() && !spec.about().is_empty(), "{name}: {problems:?}");
    }
    for (text, path) in [
        ("!s3-fifo { small: 0 }", "s3-fifo.small"),
        ("!workload-aware { turns: 0 }", "workload-aware.turns"),
        ("!trtllm { retain: [{ priority: 101 }] }", "trtllm.retain[0].priority"),
        ("!trtllm { retain: [{ from: 8, to: 8, priority: 1 }] }", "trtllm.retain[0].to"),
    ] {
        let spec: EvictionSpec = serde_yaml_ng::from_str(text).expect(text);
        let mut problems = Vec::new();
        spec.check(&mut Check::new("", &mut problems));
        assert_eq!(problems.iter().map(|problem| problem.0.as_str()).collect::<Vec<_>>(), [path], "{text}");
    }
}
