//! Any evictable block, with equal probability: what every policy should beat.

use super::{Block, BlockEviction, BlockView, EvictionPolicy};
use crate::counter::{draw, mix};
use crate::streams::Purpose;

const NOWHERE: u32 = u32::MAX;

pub(super) struct RandomSpec;

impl EvictionPolicy for RandomSpec {
    fn about(&self) -> &'static str {
        "Any block with equal probability, the request's own included; equal seeds give equal draws."
    }

    fn build(&self, _: u32, seed: u64) -> Box<dyn BlockEviction> {
        let key = mix(seed, Purpose::Evicting as u64);
        Box::new(Random { key, drawn: 0, free: Vec::new(), places: Vec::new() })
    }
}

#[derive(Debug)]
struct Random {
    key: u64,
    drawn: u64,
    /// Evictable blocks in any order.
    free: Vec<Block>,
    /// Where each of them lies.
    places: Vec<u32>,
}

impl Random {
    fn take(&mut self, place: usize) -> Block {
        let block = self.free.swap_remove(place);
        self.places[block as usize] = NOWHERE;
        if let Some(&moved) = self.free.get(place) {
            self.places[moved as usize] = place as u32;
        }
        block
    }
}

impl BlockEviction for Random {
    fn admit(&mut self, block: Block, _: &BlockView) {
        let at = block as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
    }

    fn hit(&mut self, _: Block, _: &BlockView) {}

    fn evictable(&mut self, block: Block) {
        self.places[block as usize] = self.free.len() as u32;
        self.free.push(block);
    }

    fn pinned(&mut self, block: Block) {
        self.take(self.places[block as usize] as usize);
    }

    fn victim(&mut self) -> Option<Block> {
        if self.free.is_empty() {
            return None;
        }
        let bits = draw(self.key, self.drawn);
        self.drawn += 1;
        Some(self.take(((u128::from(bits) * self.free.len() as u128) >> 64) as usize))
    }

    fn gone(&mut self, block: Block) {
        let place = self.places[block as usize];
        if place != NOWHERE {
            self.take(place as usize);
        }
    }
}
