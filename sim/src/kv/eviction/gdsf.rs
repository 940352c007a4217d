//! Greedy-Dual-Size-Frequency: the key of a block is L + uses · cost / size, with L the key of the block that went last
//! (Cherkasova, *Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching policy*, HPL-98-69R1, 1998). Blocks have
//! equal sizes; the cost is the work to compute the block anew, which grows with its depth by attention.

use serde::{Deserialize, Serialize};

use super::lfu::Aged;
use super::{BlockEviction, BlockView, EvictionPolicy};

/// Greedy-Dual-Size-Frequency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GdsfSpec {
    /// Whether uses count; without, it is Greedy-Dual (Young 1994; Cao and Irani 1997): the cost at each use.
    pub frequency: bool,
}

impl Default for GdsfSpec {
    fn default() -> Self {
        GdsfSpec { frequency: true }
    }
}

impl EvictionPolicy for GdsfSpec {
    fn about(&self) -> &'static str {
        "Sizes are equal; the cost is that of the block alone, its prefix being there, and grows with its depth."
    }

    fn build(&self, _: u32, _: u64) -> Box<dyn BlockEviction> {
        let worth: fn(u64, &BlockView) -> u64 =
            if self.frequency { |uses, view| uses.saturating_mul(view.cost) } else { |_, view| view.cost };
        Box::new(Aged::new(true, worth))
    }
}
