//! A planted fault against law 2: a block that is not given back.

use super::Replica;

/// When a block is not given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leak {
    /// KV has been sent to another replica.
    Sent,
    /// KV has come up from a tier for a request that has gone.
    Loaded,
    /// Drafts of a request were accepted.
    Drafted,
}

impl Replica {
    /// Plants the fault.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn plant(&mut self, leak: Leak) {
        self.leak = Some(leak);
    }

    /// Takes a block for nobody, if that is what was planted and one is free.
    #[cfg(feature = "planted-faults")]
    pub(super) fn leaks(&mut self, when: Leak) {
        if self.leak == Some(when) && self.kv.free() > 0 {
            self.kv.take(1);
        }
    }

    #[cfg(not(feature = "planted-faults"))]
    #[expect(clippy::unused_self, reason = "tests plant faults by replica")]
    pub(super) fn leaks(&mut self, _: Leak) {}
}
