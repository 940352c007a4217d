//! Eviction policies on one recorded order of block accesses, beside the bound of them all.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use overbook_sim::kv::eviction::EvictionSpec;
use overbook_sim::kv::replay::{Access, Accesses, Cache, CacheReplayError, CacheTraffic, Found, survey};
use overbook_sim::workload::arrival::Workload;

use crate::{Cancel, pool};

/// Accesses that all caches take before the next ones are read: few enough to stay in a processor's own memory.
const BATCH: usize = 1 << 14;

/// Caches that are compared.
#[derive(Clone, Debug)]
pub struct CacheStudy {
    /// Policies; Belady's is always run, as the bound.
    pub policies: Vec<Candidate>,
    /// Sizes of every policy's caches.
    pub sizes: Vec<CacheSize>,
    /// Seed of the policies that draw.
    pub seed: u64,
    /// Threads; by default one per processor.
    pub jobs: Option<NonZeroUsize>,
}

/// A policy that is to be compared.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: EvictionSpec,
    /// What happens where the workload lacks what the policy goes by (classes, sessions, priorities): it is refused if the
    /// policy is required; else the policy is left out, and the table says so.
    pub required: bool,
}

/// Size of a cache.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum CacheSize {
    /// So many blocks.
    Blocks(u32),
    /// This share of all contents of the trace, above 0.
    Share(f64),
}

/// A text that is no size of a cache.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no size of a cache: give blocks (`5000`, `10k`, `2M`) or a share of all contents (`5%`)")]
pub struct NoCacheSize(String);

impl FromStr for CacheSize {
    type Err = NoCacheSize;

    fn from_str(text: &str) -> Result<CacheSize, NoCacheSize> {
        let refused = || NoCacheSize(text.to_owned());
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0 && number.is_finite());
        if let Some(percent) = text.strip_suffix('%') {
            return number(percent).map(|percent| CacheSize::Share(percent / 100.0)).ok_or_else(refused);
        }
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1e3),
            Some(b'M') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        let blocks = number(digits).map(|number| number * unit).filter(|blocks| blocks.fract() == 0.0 && *blocks < 4e9);
        blocks.map(|blocks| CacheSize::Blocks(blocks as u32)).ok_or_else(refused)
    }
}

impl CacheSize {
    fn blocks(self, distinct: u64) -> u32 {
        match self {
            CacheSize::Blocks(blocks) => blocks,
            CacheSize::Share(share) => (distinct as f64 * share).round().clamp(1.0, 4e9) as u32,
        }
    }
}

/// Policies that are compared, and those that are not with the reason.
type Suited = (Vec<EvictionSpec>, Vec<(EvictionSpec, &'static str)>);

/// What every policy found in every cache.
#[derive(Clone, Debug)]
pub struct CacheTable {
    /// The accesses, and what a cache without limit finds.
    pub traffic: CacheTraffic,
    /// Sizes of the caches [blocks], rising.
    pub sizes: Vec<u32>,
    /// What Belady's policy found at each size: no policy finds more blocks.
    pub bound: Vec<Found>,
    /// The policies and what they found at each size.
    pub rows: Vec<(EvictionSpec, Vec<Found>)>,
    /// Policies that were left out, and why.
    pub left_out: Vec<(EvictionSpec, &'static str)>,
}

impl CacheTable {
    /// Share of the trace's contents that a cache of so many blocks holds at once, at most 1.
    pub fn share(&self, blocks: u32) -> f64 {
        (f64::from(blocks) / self.traffic.distinct as f64).min(1.0)
    }

    /// Share of all blocks that the bound finds and a policy does not, at a size.
    pub fn below_bound(&self, found: Found, size: usize) -> f64 {
        self.traffic.block_rate(self.bound[size]) - self.traffic.block_rate(found)
    }
}

impl CacheStudy {
    /// Reads the workload twice, once for the future that the bound needs, and replays it on all caches. `progress` hears how many
    /// requests were read of how many, if that is known. Needs the caches, four bytes an access, and some thirty bytes a content
    /// and a session; it does not hold the trace. `Ok(None)` if the token was cancelled.
    ///
    /// # Errors
    /// The workload is broken, names no contents, lacks what a required policy goes by, or changed in between.
    pub fn run(
        &self,
        open: &dyn Fn() -> Result<Box<dyn Workload>, CacheReplayError>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Option<CacheTable>, CacheReplayError> {
        let mut go_on = |requests: u64| {
            if requests.is_multiple_of(256) {
                progress(requests, None);
            }
            !cancel.is_cancelled()
        };
        let Some((traffic, next_uses)) = survey(&mut *open()?, &mut go_on)? else { return Ok(None) };
        let mut sizes: Vec<u32> = self.sizes.iter().map(|size| size.blocks(traffic.distinct)).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let (compared, left_out) = self.suited(&traffic)?;
        let policies: Vec<&EvictionSpec> = std::iter::once(&EvictionSpec::Belady).chain(&compared).collect();
        let caches: Vec<Mutex<Cache>> = policies
            .iter()
            .flat_map(|policy| sizes.iter().map(|&size| Mutex::new(Cache::new(size, policy, self.seed))))
            .collect();
        let threads = pool::threads(self.jobs, caches.len());
        let play = |batch: &[Access]| {
            pool::each(&caches, threads, cancel, |_, cache| {
                let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.access_all(batch);
            });
        };
        let (mut workload, mut accesses, mut batch) = (open()?, Accesses::default(), Vec::new());
        let mut requests = 0;
        while let Some(arrival) = workload.next_arrival().map_err(CacheReplayError::Workload)? {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            requests += u64::from(!arrival.failed_in_trace);
            accesses.of(&arrival, Some(&next_uses), &mut batch);
            if batch.len() >= BATCH {
                play(&batch);
                batch.clear();
                progress(requests, Some(traffic.requests));
            }
        }
        play(&batch);
        if cancel.is_cancelled() {
            return Ok(None);
        }
        if (requests, accesses.count()) != (traffic.requests, traffic.accesses) {
            return Err(CacheReplayError::Changed);
        }
        let found: Vec<Found> = caches
            .into_iter()
            .map(|cache| cache.into_inner().unwrap_or_else(PoisonError::into_inner).found())
            .collect();
        let mut found = found.chunks(sizes.len()).map(<[Found]>::to_vec);
        let bound = found.next().unwrap_or_default();
        let rows = compared.into_iter().zip(found).collect();
        Ok(Some(CacheTable { traffic, sizes, bound, rows, left_out }))
    }

    /// The policies that find in this workload what they go by, and the others with the reason.
    fn suited(&self, traffic: &CacheTraffic) -> Result<Suited, CacheReplayError> {
        let (mut compared, mut left_out) = (Vec::new(), Vec::new());
        for Candidate { policy, required } in &self.policies {
            match traffic.lacks(policy.needs()) {
                None => compared.push(policy.clone()),
                Some(lacks) if *required => return Err(CacheReplayError::Lacks { policy: policy.label(), lacks }),
                Some(lacks) => left_out.push((policy.clone(), lacks)),
            }
        }
        Ok((compared, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_blocks_or_shares() {
        let size = |text: &str| text.parse::<CacheSize>().ok();
        assert_eq!(size("5000"), Some(CacheSize::Blocks(5000)));
        assert_eq!(size("1.5k"), Some(CacheSize::Blocks(1500)));
        assert_eq!(size("2M"), Some(CacheSize::Blocks(2_000_000)));
        assert_eq!(size("5%"), Some(CacheSize::Share(0.05)));
        for text in ["", "0", "-1", "k", "%", "0%", "1.5", "5000M", "many", "inf", "nan%"] {
            assert_eq!(size(text), None, "{text}");
        }
        assert_eq!(CacheSize::Share(1e-9).blocks(1000), 1);
    }
}
