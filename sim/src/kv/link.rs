//! A way of KV between two memories.

use crate::time::{Span, Time};

/// A link: it carries one move after the other.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Link {
    free_at: Time,
}

impl Link {
    /// Carries a move that takes `length` and may begin now. Returns when it has arrived.
    pub(crate) fn carry(&mut self, now: Time, length: Span) -> Time {
        self.free_at = self.free_at.max(now) + length;
        self.free_at
    }

    /// Carries a move over this link and another one at once. Returns when it has arrived.
    pub(crate) fn carry_with(&mut self, other: &mut Link, now: Time, length: Span) -> Time {
        let end = now.max(self.free_at).max(other.free_at) + length;
        (self.free_at, other.free_at) = (end, end);
        end
    }
}
