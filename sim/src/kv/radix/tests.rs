//! The tree against a model that keeps each run as a plain list of all contents from the root, and searches everything.

use proptest::prelude::*;

use super::*;

/// A run: the contents of its whole path, how many of them are those of its parents, and its age.
#[derive(Clone, Debug)]
struct Run {
    path: Vec<u64>,
    above: usize,
    age: u64,
}

#[derive(Default, Debug)]
struct Naive {
    runs: Vec<Run>,
    clock: u64,
    /// Paths that are locked.
    locks: Vec<Vec<u64>>,
}

impl Naive {
    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The cached beginning of a sequence: each content is looked for in every run.
    fn found(&self, sequence: &[u64]) -> usize {
        let cached = |length: &usize| self.runs.iter().any(|run| run.path.starts_with(&sequence[..*length]));
        (0..=sequence.len()).rev().find(|length| *length == 0 || cached(length)).unwrap_or(0)
    }

    /// Splits the run that goes beyond the first `length` contents of a sequence, if there is one.
    fn split(&mut self, sequence: &[u64], length: usize) {
        let beginning = &sequence[..length];
        let within = |run: &Run| run.above < length && length < run.path.len() && run.path.starts_with(beginning);
        if let Some(at) = self.runs.iter().position(within) {
            let (first, second) = (self.now(), self.now());
            let run = &mut self.runs[at];
            let above = std::mem::replace(&mut run.above, length);
            run.age = second;
            self.runs.push(Run { path: beginning.to_vec(), above, age: first });
        }
    }

    /// Runs from the root to the end of `path`.
    fn on(&self, path: &[u64]) -> Vec<usize> {
        let mut on: Vec<usize> = (0..self.runs.len()).filter(|&at| path.starts_with(&self.runs[at].path)).collect();
        on.sort_by_key(|&at| self.runs[at].path.len());
        on
    }

    fn look_up(&mut self, sequence: &[u64]) -> usize {
        let found = self.found(sequence);
        self.split(sequence, found);
        for at in self.on(&sequence[..found]) {
            self.runs[at].age = self.now();
        }
        found
    }

    fn insert(&mut self, sequence: &[u64]) -> usize {
        let found = self.found(sequence);
        let crossed: Vec<usize> = self
            .runs
            .iter()
            .filter(|run| run.above < found && run.path[..=run.above] == sequence[..=run.above])
            .map(|run| run.path.len())
            .collect();
        let mut ends = crossed;
        ends.sort_unstable();
        for end in ends {
            let within = |run: &Run| {
                run.path.len() == end && run.above < found && run.path[..=run.above] == sequence[..=run.above]
            };
            let at = self.runs.iter().position(within).expect("just seen");
            self.runs[at].age = self.now();
            if end > found {
                self.split(sequence, found);
            }
        }
        if found < sequence.len() {
            let age = self.now();
            self.runs.push(Run { path: sequence.to_vec(), above: found, age });
        }
        found
    }

    fn is_locked(&self, run: &Run) -> bool {
        self.locks.iter().any(|lock| lock.starts_with(&run.path))
    }

    fn is_leaf(&self, run: &Run) -> bool {
        !self.runs.iter().any(|other| other.path.len() > run.path.len() && other.path.starts_with(&run.path))
    }

    fn evict(&mut self, blocks: usize) -> usize {
        let mut gone = 0;
        while gone < blocks {
            let open = |run: &&Run| !self.is_locked(run) && self.is_leaf(run);
            let Some(oldest) = self.runs.iter().filter(open).map(|run| run.age).min() else { break };
            let at = self.runs.iter().position(|run| run.age == oldest).expect("just seen");
            let run = self.runs.swap_remove(at);
            gone += run.path.len() - run.above;
        }
        gone
    }

    fn sizes(&self) -> (u64, u64) {
        let size = |locked: bool| {
            let runs = self.runs.iter().filter(|run| self.is_locked(run) == locked);
            runs.map(|run| (run.path.len() - run.above) as u64).sum()
        };
        (size(false), size(true))
    }
}

/// Chained ids of a sequence of letters: equal ids mean equal beginnings.
fn chain(letters: &[u8]) -> Vec<u64> {
    letters
        .iter()
        .scan(1, |id, &letter| {
            Some({
                *id = *id * 4 + u64::from(letter);
                *id
            })
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Op {
    LookUp(Vec<u8>),
    Insert(Vec<u8>),
    Lock(Vec<u8>),
    Unlock(usize),
    Evict(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let letters = || prop::collection::vec(0u8..3, 0..14);
    let op = prop_oneof![
        3 => letters().prop_map(Op::LookUp),
        4 => letters().prop_map(Op::Insert),
        2 => letters().prop_map(Op::Lock),
        2 => any::<prop::sample::Index>().prop_map(|i| Op::Unlock(i.index(1 << 20))),
        2 => (0u64..20).prop_map(Op::Evict),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_tree_is_the_naive_model(ops in ops()) {
        let (mut tree, mut naive) = (RadixTree::default(), Naive::default());
        let mut locks: Vec<(u32, Vec<u64>)> = Vec::new();
        for op in ops {
            match op {
                Op::LookUp(letters) => {
                    let contents = chain(&letters);
                    prop_assert_eq!(tree.peek(&contents).blocks as usize, naive.found(&contents));
                    prop_assert_eq!(tree.look_up(&contents).blocks as usize, naive.look_up(&contents));
                }
                Op::Insert(letters) => {
                    let contents = chain(&letters);
                    prop_assert_eq!(tree.insert(0, &contents, 0).blocks as usize, naive.insert(&contents));
                }
                Op::Lock(letters) => {
                    let contents = chain(&letters);
                    let place = tree.look_up(&contents);
                    let found = naive.look_up(&contents);
                    let unlocked = naive.on(&contents[..found]).into_iter().map(|at| &naive.runs[at]);
                    let unlocked = unlocked.filter(|run| !naive.is_locked(run));
                    let expected: usize = unlocked.map(|run| run.path.len() - run.above).sum();
                    prop_assert_eq!(tree.unlocked(place.node), expected as u64);
                    tree.lock(place.node);
                    naive.locks.push(contents[..found].to_vec());
                    locks.push((place.node, contents[..found].to_vec()));
                }
                Op::Unlock(at) if !locks.is_empty() => {
                    let (node, path) = locks.swap_remove(at % locks.len());
                    tree.unlock(node);
                    let at = naive.locks.iter().position(|lock| *lock == path).expect("locked");
                    naive.locks.swap_remove(at);
                }
                Op::Unlock(_) => {}
                Op::Evict(blocks) => prop_assert_eq!(tree.evict(blocks) as usize, naive.evict(blocks as usize)),
            }
            prop_assert_eq!((tree.evictable(), tree.locked()), naive.sizes());
            prop_assert_eq!(tree.audit(locks.iter().map(|lock| lock.0)), Ok(()));
            // The same contents are cached, and none besides.
            for run in &naive.runs {
                prop_assert_eq!(tree.peek(&run.path).blocks as usize, run.path.len());
            }
        }
    }
}

#[test]
fn the_rest_of_a_split_run_is_younger_than_its_beginning() {
    let mut tree = RadixTree::default();
    let (long, short) = (chain(&[0, 1, 2, 0]), chain(&[0, 1, 1]));
    tree.insert(0, &long, 0);
    tree.insert(1, &short, 0);
    // `long` was split: [0, 1], and below it [2, 0] and the younger [1].
    assert_eq!((tree.evictable(), tree.evict(1)), (5, 2));
    assert_eq!((tree.peek(&long).blocks, tree.peek(&short).blocks), (2, 3));
    // A look-up makes its path younger, here against a run of its own.
    tree.insert(2, &chain(&[2]), 0);
    tree.look_up(&short);
    assert_eq!(tree.evict(1), 1);
    assert_eq!((tree.peek(&chain(&[2])).blocks, tree.peek(&short).blocks), (0, 3));
    assert_eq!((tree.evict(9), tree.evictions()), (3, 6));
}

#[test]
fn locked_paths_stay() {
    let mut tree = RadixTree::default();
    let place = tree.insert(0, &chain(&[0, 1]), 0);
    let deeper = tree.insert(0, &chain(&[0, 1, 2]), 2);
    assert_eq!((place.blocks, deeper.blocks), (0, 2));
    tree.lock(place.node);
    assert_eq!((tree.evict(5), tree.evictable(), tree.locked()), (1, 0, 2));
    tree.unlock(place.node);
    assert_eq!(tree.evict(1), 2);
}

#[test]
fn blocks_keep_their_names() {
    let mut tree = RadixTree::default();
    tree.track_moves();
    tree.follow();
    let (shared, other) = (chain(&[0, 1, 2]), chain(&[0, 1, 0]));
    let place = tree.insert(7, &shared, 0);
    tree.share(8, place.node);
    tree.insert(9, &other, 1);
    tree.evict(1);
    let mut moves = Vec::new();
    tree.take_moves(&mut moves);
    let named = |seat, index, name| BlockMove::Named { seat, index, block: HashedBlock(name) };
    let shared_with = |seat, name| BlockMove::Shared { seat, block: HashedBlock(name) };
    let expected = vec![
        named(7, 0, 0),
        named(7, 1, 1),
        named(7, 2, 2),
        shared_with(8, 0),
        shared_with(8, 1),
        shared_with(8, 2),
        BlockMove::Merged { seat: 9, index: 1, block: HashedBlock(1) },
        named(9, 2, 3),
        BlockMove::Dropped { block: HashedBlock(2) },
    ];
    assert_eq!(moves, expected);
    let ids = |at: &[(u64, bool)]| at.iter().map(|change| change.1).collect::<Vec<_>>();
    assert_eq!(ids(&tree.take_changes()), [true, true, true, true, false]);
}

#[test]
fn depth_first_prefers_the_child_with_more_requests() {
    let mut tree = RadixTree::default();
    let ends = [chain(&[0]), chain(&[1]), chain(&[1, 1]), chain(&[1, 2]), chain(&[2])];
    for contents in &ends {
        tree.insert(0, contents, 0);
    }
    let at: Vec<u32> = ends.iter().map(|contents| tree.look_up(contents).node).collect();
    // Requests at: [0], root, [1], [1, 2], [1, 1], [2]. The edge to [1, 1] is older than that to [1, 2], that to [0] than that to [2].
    let order = tree.depth_first(&[at[0], ROOT, at[1], at[3], at[2], at[4]]);
    assert_eq!(order, [4, 3, 2, 0, 5, 1]);
}
