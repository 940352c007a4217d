//! Published algorithms written a second time, slowly, from their papers; and small cases worked by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use overbook_sim::kv::eviction::{
    EvictionSpec, GdsfSpec, LeafOrder, LfuSpec, RetainSpec, S3FifoSpec, SglangSpec, TrtllmSpec,
};
use overbook_sim::kv::replay::{Access, Cache};
use overbook_sim::time::Span;
use overbook_sim::units::Duration;

use super::{SIZES, access, hits_of, traces};

fn equal(spec: &EvictionSpec, reference: impl Fn(usize, &[Access]) -> Vec<bool>) {
    for (name, trace) in traces() {
        for size in SIZES {
            let wanted = reference(size as usize, &trace);
            let found = hits_of(spec, size, &trace);
            let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
            assert_eq!(differs, None, "{} on {name}, {size} blocks", spec.label());
        }
    }
}

/// Figure 4 of the paper; the first of a list is its most recently used.
#[derive(Default)]
struct PlainArc {
    c: usize,
    p: f64,
    t1: VecDeque<u64>,
    t2: VecDeque<u64>,
    b1: VecDeque<u64>,
    b2: VecDeque<u64>,
}

impl PlainArc {
    fn replace(&mut self, in_b2: bool) {
        let t1 = self.t1.len() as f64;
        if t1 > 0.0 && (t1 > self.p || (in_b2 && t1 >= self.p)) {
            self.b1.push_front(self.t1.pop_back().expect("not empty"));
        } else {
            self.b2.push_front(self.t2.pop_back().expect("not empty"));
        }
    }

    fn access(&mut self, x: u64) -> bool {
        let take = |list: &mut VecDeque<u64>| list.iter().position(|&y| y == x).map(|at| list.remove(at)).is_some();
        let (b1, b2) = (self.b1.len() as f64, self.b2.len() as f64);
        if take(&mut self.t1) || take(&mut self.t2) {
            self.t2.push_front(x);
            return true;
        }
        if take(&mut self.b1) {
            self.p = (self.p + if b1 >= b2 { 1.0 } else { b2 / b1 }).min(self.c as f64);
            self.replace(false);
            self.t2.push_front(x);
            return false;
        }
        if take(&mut self.b2) {
            self.p = (self.p - if b2 >= b1 { 1.0 } else { b1 / b2 }).max(0.0);
            self.replace(true);
            self.t2.push_front(x);
            return false;
        }
        let once = self.t1.len() + self.b1.len();
        if once == self.c {
            if self.t1.len() < self.c {
                self.b1.pop_back();
                self.replace(false);
            } else {
                self.t1.pop_back();
            }
        } else {
            let all = once + self.t2.len() + self.b2.len();
            if all >= self.c {
                if all == 2 * self.c {
                    self.b2.pop_back();
                }
                self.replace(false);
            }
        }
        self.t1.push_front(x);
        false
    }
}

#[test]
fn arc_is_the_published_one() {
    equal(&EvictionSpec::Arc, |c, trace| {
        let mut arc = PlainArc { c, ..PlainArc::default() };
        trace.iter().map(|access| arc.access(access.view.content)).collect()
    });
}

/// Algorithm 1 of the paper, one victim a miss; the first of a queue goes next.
#[derive(Default)]
struct PlainS3Fifo {
    size: usize,
    small_size: usize,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghost: VecDeque<u64>,
    freq: BTreeMap<u64, u32>,
}

impl PlainS3Fifo {
    fn access(&mut self, x: u64) -> bool {
        if let Some(freq) = self.freq.get_mut(&x) {
            *freq = (*freq + 1).min(3);
            return true;
        }
        if self.freq.len() == self.size {
            self.evict();
        }
        self.freq.insert(x, 0);
        if let Some(at) = self.ghost.iter().position(|&y| y == x) {
            self.ghost.remove(at);
            self.main.push_back(x);
        } else {
            self.small.push_back(x);
        }
        false
    }

    fn evict(&mut self) {
        while self.small.len() >= self.small_size {
            let x = self.small.pop_front().expect("not empty");
            if self.freq[&x] > 1 {
                self.freq.insert(x, 0);
                self.main.push_back(x);
                continue;
            }
            self.freq.remove(&x);
            self.ghost.push_back(x);
            if self.ghost.len() > (self.size * 9 / 10).max(1) {
                self.ghost.pop_front();
            }
            return;
        }
        loop {
            let x = self.main.pop_front().expect("not empty");
            match self.freq[&x] {
                0 => {
                    self.freq.remove(&x);
                    return;
                }
                freq => {
                    self.freq.insert(x, freq - 1);
                    self.main.push_back(x);
                }
            }
        }
    }
}

#[test]
fn s3_fifo_is_the_published_one() {
    equal(&EvictionSpec::S3Fifo(S3FifoSpec::default()), |size, trace| {
        let mut queues = PlainS3Fifo { size, small_size: (size / 10).max(1), ..PlainS3Fifo::default() };
        trace.iter().map(|access| queues.access(access.view.content)).collect()
    });
}

/// H = L + worth(uses): the least H goes, the least recently used of equal ones, and its H is the new L.
fn greedy_dual(capacity: usize, trace: &[Access], aging: bool, worth: impl Fn(u64, &Access) -> u64) -> Vec<bool> {
    // Content: H, last use, uses.
    let mut cache = BTreeMap::<u64, (u64, usize, u64)>::new();
    let mut level = 0;
    let mut hits = Vec::new();
    for (at, access) in trace.iter().enumerate() {
        let content = access.view.content;
        let before = cache.get(&content).copied();
        hits.push(before.is_some());
        if before.is_none() && cache.len() == capacity {
            let (&victim, &(h, ..)) = cache.iter().min_by_key(|entry| entry.1).expect("full");
            level = if aging { h } else { 0 };
            cache.remove(&victim);
        }
        let uses = before.map_or(1, |before| before.2 + 1);
        cache.insert(content, (level + worth(uses, access), at, uses));
    }
    hits
}

#[test]
fn gdsf_and_lfu_are_the_published_ones() {
    equal(&EvictionSpec::Gdsf(GdsfSpec::default()), |size, trace| {
        greedy_dual(size, trace, true, |uses, access| uses * access.view.cost)
    });
    equal(&EvictionSpec::Gdsf(GdsfSpec { frequency: false }), |size, trace| {
        greedy_dual(size, trace, true, |_, access| access.view.cost)
    });
    equal(&EvictionSpec::Lfu(LfuSpec::default()), |size, trace| greedy_dual(size, trace, true, |uses, _| uses));
    equal(&EvictionSpec::Lfu(LfuSpec { aging: false }), |size, trace| greedy_dual(size, trace, false, |uses, _| uses));
}

#[test]
fn fifo_is_a_queue() {
    equal(&EvictionSpec::Fifo, |size, trace| {
        let mut queue = VecDeque::new();
        let step = |access: &Access| {
            let hit = queue.contains(&access.view.content);
            if !hit {
                queue.push_back(access.view.content);
                if queue.len() > size {
                    queue.pop_front();
                }
            }
            hit
        };
        trace.iter().map(step).collect()
    });
}

/// SGLang's leaves by looking at everything: a block with a cached child stays; the request at hand goes last.
fn plain_leaves(capacity: usize, trace: &[Access], order: LeafOrder) -> Vec<bool> {
    #[derive(Clone, Copy)]
    struct Node {
        parent: Option<u64>,
        came: i64,
        used: i64,
        uses: i64,
        urgency: i64,
        request: u64,
    }
    let key = |node: &Node| match order {
        LeafOrder::Lru => (node.used, 0),
        LeafOrder::Lfu => (node.uses, node.used),
        LeafOrder::Fifo => (node.came, 0),
        LeafOrder::Mru => (-node.used, 0),
        LeafOrder::Filo => (-node.came, 0),
        LeafOrder::Priority => (node.urgency, node.used),
        LeafOrder::Slru => (i64::from(node.uses >= 2), node.used),
    };
    let mut cache = BTreeMap::<u64, Node>::new();
    let mut hits = Vec::new();
    // Blocks of the request at hand that had to compete, because nothing else was left.
    let mut let_go = BTreeSet::new();
    for (at, Access { view, .. }) in (0..).zip(trace) {
        let before = cache.get(&view.content).copied();
        hits.push(before.is_some());
        if let_go.first().is_some_and(|&(request, _)| request != view.request) {
            let_go.clear();
        }
        if before.is_none() && cache.len() == capacity {
            let inner: BTreeSet<u64> = cache.values().filter_map(|node| node.parent).collect();
            let leaves: Vec<(&u64, &Node)> = cache.iter().filter(|entry| !inner.contains(entry.0)).collect();
            let own =
                |node: &Node, content: u64| node.request == view.request && !let_go.contains(&(view.request, content));
            let free: Vec<_> = leaves.iter().filter(|entry| !own(entry.1, *entry.0)).copied().collect();
            if free.is_empty() {
                let_go = cache
                    .iter()
                    .filter(|entry| entry.1.request == view.request)
                    .map(|e| (view.request, *e.0))
                    .collect();
            }
            let among = if free.is_empty() { &leaves } else { &free };
            let victim = *among.iter().min_by_key(|entry| key(entry.1)).expect("a tree has leaves").0;
            cache.remove(&victim);
            let_go.remove(&(view.request, victim));
        }
        let_go.remove(&(view.request, view.content));
        let urgency = -i64::from(view.priority);
        let new = Node { parent: view.parent, came: at, used: at, uses: 0, urgency, request: view.request };
        let mut node = before.unwrap_or(new);
        (node.used, node.uses, node.request) = (at, node.uses + 1, view.request);
        node.urgency = node.urgency.max(urgency);
        cache.insert(view.content, node);
    }
    hits
}

#[test]
fn sglang_evicts_the_least_of_the_leaves() {
    for order in LeafOrder::ALL {
        equal(&EvictionSpec::Sglang(SglangSpec { order }), |size, trace| plain_leaves(size, trace, order));
    }
}

/// Victims that had children in the cache when they went.
fn parents_evicted(spec: &EvictionSpec, trace: &[Access]) -> usize {
    let mut found = 0;
    for size in SIZES {
        let mut cache = Cache::new(size, spec, 7);
        let mut parents = BTreeMap::new();
        for access in trace {
            let before: BTreeSet<u64> = cache.contents().collect();
            cache.access(access);
            parents.insert(access.view.content, access.view.parent);
            let after: BTreeSet<u64> = cache.contents().collect();
            for gone in before.difference(&after) {
                found += before.iter().filter(|&content| parents[content] == Some(*gone)).count();
            }
        }
    }
    found
}

#[test]
fn engines_with_trees_never_evict_a_block_that_others_go_on_from() {
    let mut trace = traces().swap_remove(3).1;
    trace.truncate(1500);
    for (name, spec) in EvictionSpec::every() {
        if matches!(spec, EvictionSpec::Sglang(_) | EvictionSpec::Trtllm(_)) {
            assert_eq!(parents_evicted(&spec, &trace), 0, "{name}");
        }
    }
    assert!(parents_evicted(&EvictionSpec::Fifo, &trace) > 0, "the test does not see FIFO's");
}

#[test]
fn trtllm_without_priorities_is_leaves_least_recently_used() {
    equal(&EvictionSpec::Trtllm(TrtllmSpec::default()), |size, trace| plain_leaves(size, trace, LeafOrder::Lru));
}

/// What a cache of three blocks holds after single-block requests, one every 250 ms, sorted.
fn after(spec: &EvictionSpec, contents: &[u64]) -> Vec<u64> {
    let mut cache = Cache::new(3, spec, 7);
    for (request, &content) in (0..).zip(contents) {
        cache.access(&access(content, None, 0, request));
    }
    let mut left: Vec<u64> = cache.contents().collect();
    left.sort_unstable();
    left
}

#[test]
fn trtllm_keeps_priorities_for_as_long_as_they_hold() {
    let kept = |priority, ms: Option<u64>| {
        let duration = ms.map(|ms| Duration(Span(ms * 1_000_000)));
        EvictionSpec::Trtllm(TrtllmSpec { retain: vec![RetainSpec { from: 0, to: None, priority, duration }] })
    };
    assert_eq!(after(&kept(80, None), &[1, 2, 3, 1, 4]), [1, 3, 4]);
    // Half a second: 2 is over at 750 ms and is the youngest of those of priority 35; 3 holds still.
    assert_eq!(after(&kept(80, Some(500)), &[1, 2, 3, 4]), [2, 3, 4]);
    // Low for a while only: after that it is as any, and as young as any. Until then it goes first.
    assert_eq!(after(&kept(10, Some(300)), &[1, 2, 3, 4]), [1, 2, 4]);
}

#[test]
fn length_aware_evicts_what_is_used_least_and_lies_deepest() {
    let mut cache = Cache::new(5, &EvictionSpec::LengthAware, 7);
    let path = |contents: &[u64], request| -> Vec<Access> {
        let mut parent = None;
        let one = |(depth, &content): (u32, &u64)| access(content, parent.replace(content), depth, request);
        (0..).zip(contents).map(one).collect()
    };
    for (request, contents) in [(0, &[1, 2, 3][..]), (1, &[1, 7]), (2, &[8, 9, 10])] {
        for access in path(contents, request) {
            cache.access(&access);
        }
    }
    // 8 fits; 9 sends 3, the deepest of those used once; 10 sends 2 or 7, at the same depth: 2 is older.
    let mut left: Vec<u64> = cache.contents().collect();
    left.sort_unstable();
    assert_eq!(left, [1, 7, 8, 9, 10]);
}
