//! Sizes for requests that failed: a failed request of `BurstGPT` has none of its own.

use overbook_sim::workload::arrival::ClassId;
use rand::rngs::ChaCha8Rng;

use crate::draw::{stream, uniform};

/// Sizes kept per class: a uniform sample of all that the pass saw.
const SAMPLE: usize = 4096;

/// Sampled pairs of prompt and output tokens, by class, so that their correlation is kept.
#[derive(Clone, Default, Debug)]
pub(crate) struct Sizes {
    classes: Vec<Sample>,
    all: Sample,
}

#[derive(Clone, Default, Debug)]
struct Sample {
    pairs: Vec<(u32, u32)>,
    seen: u64,
}

impl Sample {
    fn record(&mut self, pair: (u32, u32), rng: &mut ChaCha8Rng) {
        self.seen += 1;
        if self.pairs.len() < SAMPLE {
            self.pairs.push(pair);
        } else if let Some(place) = self.pairs.get_mut((uniform(rng) * self.seen as f64) as usize) {
            *place = pair;
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<(u32, u32)> {
        self.pairs.get((uniform(rng) * self.pairs.len() as f64) as usize).copied()
    }
}

impl Sizes {
    pub(crate) fn record(&mut self, class: ClassId, pair: (u32, u32), rng: &mut ChaCha8Rng) {
        let class = usize::from(class.0);
        if class >= self.classes.len() {
            self.classes.resize(class + 1, Sample::default());
        }
        self.classes[class].record(pair, rng);
        self.all.record(pair, rng);
    }
}

/// Draws sizes; the same ones in every pass over the file.
pub(crate) struct Redraw {
    sizes: Sizes,
    seed: u64,
    rng: ChaCha8Rng,
}

impl Redraw {
    pub(crate) fn new(sizes: Sizes, seed: u64) -> Redraw {
        Redraw { sizes, seed, rng: stream(seed, *b"redraw  ") }
    }

    pub(crate) fn rewind(&mut self) {
        self.rng = stream(self.seed, *b"redraw  ");
    }

    /// A size of the same class, else of any; `None` if no request succeeded.
    pub(crate) fn draw(&mut self, class: ClassId) -> Option<(u32, u32)> {
        let of_class = self.sizes.classes.get(usize::from(class.0)).filter(|sample| !sample.pairs.is_empty());
        of_class.unwrap_or(&self.sizes.all).draw(&mut self.rng)
    }
}
