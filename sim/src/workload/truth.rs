//! The true output length of a request, sealed from policies.

/// The true output length of a request [tokens], which only length models that call themselves oracles may unseal (law 9).
#[derive(Clone, Copy)]
pub struct Truth(u32);

impl Truth {
    pub(crate) fn seal(output_tokens: u32) -> Truth {
        Truth(output_tokens)
    }

    /// For the oracles of `lengths` alone; a test of the tree holds that.
    pub(crate) fn unseal(self) -> u32 {
        self.0
    }
}

impl std::fmt::Debug for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Truth")
    }
}
