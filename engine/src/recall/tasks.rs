//! Recall tasks: sequences that ask for what stood far before, drawn from a seed.
//!
//! ```text
//! BOS  context  [preview]  then per answer: QUERY key value
//! ```
//!
//! The model predicts the value at the position of its key. All sequences of a task have one layout, so that the answers of a batch
//! stand at the same positions.

use overbook_sim::counter::mix;
use overbook_sim::streams::{Purpose, stream};
use rand::{Rng, RngExt as _};

/// First token of every sequence.
pub const BOS: u32 = 0;
/// Stands before a key that is asked for.
pub const QUERY: u32 = 1;
/// Stands before a binding that counts, in [`Task::Marked`] alone.
pub const MARK: u32 = 97;
/// Tokens in all.
pub const VOCAB: usize = 98;

const KEYS: u32 = 32;
const VALUES: u32 = 32;
const FIRST_KEY: u32 = 2;
const FIRST_VALUE: u32 = FIRST_KEY + KEYS;
const FIRST_NOISE: u32 = FIRST_VALUE + VALUES;

/// What a sequence asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Task {
    /// Pairs of key and value at random places in noise.
    Pairs,
    /// As pairs, half as many as there are answers; each answer asks for any of them. The first lesson of training: what has been asked
    /// for comes again, so that ruling it out is no help.
    Drill,
    /// Eight pairs that are asked for, fourteen whose keys (the upper half) never are, noise.
    Decoys,
    /// Every key is bound twice, in random order; the binding after [`MARK`] counts.
    Marked,
    /// All pairs in the first quarter, then noise; asked for in the order in which they stood.
    Copy,
    /// Four keys, bound anew all the time; the last value counts. No noise.
    Updates,
    /// Negative control: nothing but pairs, all keys, a quarter of them asked for at random.
    Incompressible,
    /// Negative control: as incompressible, but the prompt ends with the keys that will be asked for.
    Preview,
}

/// All tasks that are measured.
pub const TASKS: [Task; 7] =
    [Task::Pairs, Task::Decoys, Task::Marked, Task::Copy, Task::Updates, Task::Incompressible, Task::Preview];

/// A task with its sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The task.
    pub task: Task,
    /// Tokens of the context.
    pub context: usize,
    /// Answers that are asked for.
    pub answers: usize,
}

/// A sequence of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its tokens, as many as [`Layout::length`].
    pub tokens: Vec<u32>,
    /// The value that each answer should be, in the order of [`Layout::asked`].
    pub values: Vec<u32>,
}

impl Task {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Task::Pairs => "pairs",
            Task::Drill => "drill",
            Task::Decoys => "decoys",
            Task::Marked => "marked",
            Task::Copy => "copy",
            Task::Updates => "updates",
            Task::Incompressible => "incompressible",
            Task::Preview => "preview",
        }
    }

    /// The task with the sizes that are measured.
    pub fn layout(self) -> Layout {
        let (context, answers) = match self {
            Task::Pairs | Task::Decoys | Task::Marked | Task::Copy => (128, 8),
            Task::Updates => (128, 4),
            Task::Drill => (16, 16),
            Task::Incompressible => (64, 8),
            Task::Preview => (64, 4),
        };
        Layout { task: self, context, answers }
    }
}

impl Layout {
    /// Pairs and noise, the task of the curriculum.
    pub fn pairs(context: usize, answers: usize) -> Layout {
        Layout { task: Task::Pairs, context, answers }
    }

    /// Tokens before the first answer: where one-shot eviction happens.
    pub fn prompt(&self) -> usize {
        let preview = if self.task == Task::Preview { 2 * self.answers } else { 0 };
        1 + self.context + preview
    }

    /// Tokens of a sequence.
    pub fn length(&self) -> usize {
        self.prompt() + 3 * self.answers
    }

    /// Positions whose next token is an answer.
    pub fn asked(&self) -> Vec<usize> {
        (0..self.answers).map(|answer| self.prompt() + 3 * answer + 1).collect()
    }

    /// Draws sequences number `first` and following of a purpose under a seed; every sequence is a function of its number.
    pub fn draw(&self, seed: u64, purpose: Purpose, first: u64, count: usize) -> Vec<Sample> {
        let sizes = [self.task as u64, self.context as u64, self.answers as u64];
        let key = sizes.into_iter().fold(seed, mix);
        (first..first + count as u64).map(|number| self.sample(&mut stream(mix(key, number), purpose))).collect()
    }

    fn sample(&self, rng: &mut impl Rng) -> Sample {
        let mut context: Vec<u32> = (0..self.context).map(|_| rng.random_range(FIRST_NOISE..MARK)).collect();
        let keys: Vec<u32> = shuffled(KEYS as usize, rng).into_iter().map(|key| FIRST_KEY + key as u32).collect();
        let mut asked = match self.task {
            Task::Pairs => scatter(&mut context, &keys[..self.answers], self.context, rng),
            Task::Drill => {
                let pairs = scatter(&mut context, &keys[..self.answers / 2], self.context, rng);
                (0..self.answers).map(|_| pairs[rng.random_range(0..pairs.len())]).collect()
            }
            Task::Copy => scatter(&mut context, &keys[..self.answers], self.context / 4, rng),
            Task::Decoys => self.decoys(&mut context, &keys, rng),
            Task::Marked => self.marked(&mut context, &keys, rng),
            Task::Updates => self.updates(&mut context, &keys, rng),
            Task::Incompressible | Task::Preview => scatter(&mut context, &keys[..self.context / 2], self.context, rng),
        };
        if self.task != Task::Copy {
            shuffle(&mut asked, rng);
        }
        asked.truncate(self.answers);
        let mut tokens = vec![BOS];
        tokens.extend(context);
        if self.task == Task::Preview {
            let mut order = asked.clone();
            shuffle(&mut order, rng);
            tokens.extend(order.iter().flat_map(|(key, _)| [QUERY, *key]));
        }
        tokens.extend(asked.iter().flat_map(|(key, value)| [QUERY, *key, *value]));
        Sample { tokens, values: asked.into_iter().map(|(_, value)| value).collect() }
    }

    fn decoys(&self, context: &mut [u32], keys: &[u32], rng: &mut impl Rng) -> Vec<(u32, u32)> {
        let (asked, others): (Vec<u32>, Vec<u32>) = keys.iter().partition(|key| **key < FIRST_KEY + KEYS / 2);
        let mut all: Vec<u32> = asked.into_iter().take(self.answers).chain(others.into_iter().take(14)).collect();
        shuffle(&mut all, rng);
        let pairs = scatter(context, &all, self.context, rng);
        pairs.into_iter().filter(|(key, _)| *key < FIRST_KEY + KEYS / 2).collect()
    }

    /// Bindings stand in groups of four tokens: mark or noise, key, value, noise.
    fn marked(&self, context: &mut [u32], keys: &[u32], rng: &mut impl Rng) -> Vec<(u32, u32)> {
        let places: Vec<usize> = shuffled(self.context / 4, rng).into_iter().map(|place| 4 * place).collect();
        let bindings = places.chunks_exact(2).zip(&keys[..self.answers]);
        let mut counted = Vec::new();
        for (places, key) in bindings {
            context[places[0]] = MARK;
            counted.push(bind(context, places[0] + 1, *key, rng));
            bind(context, places[1] + 1, *key, rng);
        }
        counted
    }

    fn updates(&self, context: &mut [u32], keys: &[u32], rng: &mut impl Rng) -> Vec<(u32, u32)> {
        let mut last = vec![None; self.answers];
        for place in 0..self.context / 2 {
            // The first ones bind every key once, so that each has a value.
            let key = if place < self.answers { place } else { rng.random_range(0..self.answers) };
            last[key] = Some(bind(context, 2 * place, keys[key], rng));
        }
        last.into_iter().flatten().collect()
    }
}

/// Puts a pair of each key at a random even offset below `end`; gives the pairs in their order there.
fn scatter(context: &mut [u32], keys: &[u32], end: usize, rng: &mut impl Rng) -> Vec<(u32, u32)> {
    let mut places: Vec<usize> = shuffled(end / 2, rng).into_iter().take(keys.len()).collect();
    places.sort_unstable();
    let put = |(place, key): (usize, &u32)| bind(context, 2 * place, *key, rng);
    places.into_iter().zip(keys).map(put).collect()
}

/// Writes a key and a random value.
fn bind(context: &mut [u32], at: usize, key: u32, rng: &mut impl Rng) -> (u32, u32) {
    let value = rng.random_range(FIRST_VALUE..FIRST_NOISE);
    (context[at], context[at + 1]) = (key, value);
    (key, value)
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.random_range(0..=last));
    }
}

fn shuffled(count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    shuffle(&mut all, rng);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that a reader of the context finds for each asked key.
    fn read(layout: &Layout, tokens: &[u32], key: u32) -> Vec<u32> {
        let context = &tokens[1..=layout.context];
        let bindings = context.windows(3).filter(|three| three[1] == key);
        let marked = |three: &&[u32]| layout.task != Task::Marked || three[0] == MARK;
        let mut found: Vec<u32> = bindings.filter(marked).map(|three| three[2]).collect();
        if context[0] == key && layout.task != Task::Marked {
            found.insert(0, context[1]);
        }
        found
    }

    #[test]
    fn answers_stand_in_the_context() {
        for task in TASKS {
            let layout = task.layout();
            for sample in layout.draw(3, Purpose::Testing, 0, 50) {
                assert_eq!(sample.tokens.len(), layout.length(), "{}", task.name());
                assert!(sample.tokens.iter().all(|token| (*token as usize) < VOCAB));
                for (position, value) in layout.asked().into_iter().zip(&sample.values) {
                    assert_eq!((sample.tokens[position - 1], sample.tokens[position + 1]), (QUERY, *value));
                    let found = read(&layout, &sample.tokens, sample.tokens[position]);
                    assert_eq!(found.last(), Some(value), "{}", task.name());
                    assert!(found.len() == 1 || task == Task::Updates, "{}: {found:?}", task.name());
                }
            }
        }
    }

    #[test]
    fn sequences_are_functions_of_seed_purpose_and_number() {
        let layout = Task::Pairs.layout();
        let ten = layout.draw(1, Purpose::Training, 0, 10);
        assert_eq!(layout.draw(1, Purpose::Training, 4, 2), ten[4..6]);
        assert!(ten.windows(2).all(|two| two[0] != two[1]));
        assert_ne!(layout.draw(2, Purpose::Training, 0, 10), ten);
        assert_ne!(layout.draw(1, Purpose::Testing, 0, 10), ten);
    }

    #[test]
    fn decoys_are_never_asked_for() {
        let layout = Task::Decoys.layout();
        for sample in layout.draw(0, Purpose::Testing, 0, 50) {
            let decoy = |key: &&u32| (FIRST_KEY + KEYS / 2..FIRST_VALUE).contains(*key);
            assert_eq!(sample.tokens[1..=128].iter().filter(decoy).count(), 14);
            assert_eq!(sample.tokens[129..].iter().filter(decoy).count(), 0);
        }
    }
}
