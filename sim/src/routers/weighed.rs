//! Load by weight, where replicas differ: a replica with twice the weight may have twice the load.

use std::cmp::Ordering;

use super::FleetView;

/// Load on a replica, with the request in it that would go there, by its weight: `load ÷ weight`, compared exactly. (Linux'
/// "shortest expected delay" and Envoy's least request count the new request too: an idle fleet then begins at the heaviest.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub(crate) load: u64,
    pub(crate) weight: u64,
}

impl Ord for Weighed {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.load) * u128::from(other.weight);
        mine.cmp(&(u128::from(other.load) * u128::from(self.weight)))
    }
}

impl PartialOrd for Weighed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Weighed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Weighed {}

/// Turns in proportion to weights, spread evenly (nginx' smooth weighted round robin).
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// By the replica's number in the fleet: how far it is from its share.
    owed: Vec<i64>,
}

impl Turns {
    pub(super) fn next(&mut self, fleet: FleetView<'_>) -> usize {
        let last = (0..fleet.len()).map(|at| fleet.number(at)).max().unwrap_or(0);
        if self.owed.len() <= last {
            self.owed.resize(last + 1, 0);
        }
        let mut total = 0;
        for at in 0..fleet.len() {
            let weight = fleet.weight(at) as i64;
            self.owed[fleet.number(at)] += weight;
            total += weight;
        }
        // The first on ties.
        let chosen = (0..fleet.len()).rev().max_by_key(|&at| self.owed[fleet.number(at)]).unwrap_or(0);
        self.owed[fleet.number(chosen)] -= total;
        chosen
    }
}
