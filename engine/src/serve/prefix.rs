//! Names of prompt blocks for the prefix cache.

use overbook_sim::workload::arrival::Content;

/// The full blocks of a prompt, each named by a hash of its tokens and of the block before it: equal names mean equal
/// prefixes. 64 bits of BLAKE3, so that two different prompts do not share a block by chance.
pub(super) fn content(prompt: &[u32], block_tokens: u32) -> Content {
    let mut before = 0u64;
    let name = |block: &[u32]| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&before.to_le_bytes());
        for token in block {
            hasher.update(&token.to_le_bytes());
        }
        let mut name = [0; 8];
        hasher.finalize_xof().fill(&mut name);
        before = u64::from_le_bytes(name);
        before
    };
    Content { block_tokens, ids: prompt.chunks_exact(block_tokens as usize).map(name).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_prefixes_apart() {
        let ids = |tokens: &[u32]| content(tokens, 2).ids;
        let whole = ids(&[1, 2, 3, 4, 5]);
        assert_eq!(whole.len(), 2, "the last block is not full");
        assert_eq!(ids(&[1, 2, 9, 9])[0], whole[0], "an equal prefix");
        assert_ne!(ids(&[9, 2, 3, 4])[1], whole[1], "an equal block after another prefix");
        assert_ne!(whole[0], whole[1]);
    }
}
