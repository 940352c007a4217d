//! The limits that vLLM's server takes where a run states none.

use overbook_sim::units::Bytes;

/// vLLM plans one step ahead by default since then (release notes of 0.14).
pub(crate) const ASYNC_SINCE: (u32, u32) = (0, 14);

/// vLLM's server takes 1,024 sequences on large GPUs since then (its pull request 17885).
const MORE_SEQS_SINCE: (u32, u32) = (0, 9);

/// vLLM has a third class of GPUs since then (its pull request 54703).
const LARGEST_SINCE: (u32, u32) = (0, 28);

/// vLLM's server: tokens of a step and sequences at once, by the GPU's memory (`engine/arg_utils.py`, `get_batch_defaults`).
pub(crate) fn vllm_limits(gpu: &str, memory: Bytes, version: Option<(u32, u32)>) -> (u32, u32) {
    let since = |least: (u32, u32)| version.is_none_or(|version| version >= least);
    let gib = memory.0 >> 30;
    // What tools report is below what is on the label: 178 of 180 GiB, 79 of 80.
    match gib {
        160.. if since(LARGEST_SINCE) => (16_384, 1024),
        70.. if !gpu.to_lowercase().contains("a100") => (8192, if since(MORE_SEQS_SINCE) { 1024 } else { 256 }),
        _ => (2048, 256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn vllm_takes_more_on_larger_gpus() {
        let limits = |gpu: &str, gib: u64, version| vllm_limits(gpu, Bytes(gib * GIB), version);
        assert_eq!(limits("H100 SXM", 79, None), (8192, 1024));
        assert_eq!(limits("A100-SXM4-80GB", 79, None), (2048, 256));
        assert_eq!(limits("L40S", 44, None), (2048, 256));
        assert_eq!(limits("B200", 178, None), (16_384, 1024));
        assert_eq!(limits("B200", 178, Some((0, 27))), (8192, 1024));
        assert_eq!(limits("H100 SXM", 79, Some((0, 8))), (8192, 256));
    }
}
