//! Every kernel against its reference, and whether that finds faults.

use overbook_engine::cuda::Gpu;
use overbook_engine::cuda::check::{KernelCheck, Scope, check};

use crate::emulator::{emulated, folder, is_child, run, said};

fn checks(scope: Scope) -> Vec<KernelCheck> {
    let gpu = Gpu::open(0).expect("a GPU");
    let cache = overbook_engine::cuda::compile::cache_folder();
    check(&gpu, cache.as_deref(), scope).expect("kernels run")
}

fn assert_right(checks: &[KernelCheck]) {
    let wrong: Vec<_> = checks.iter().filter(|check| !check.passed()).collect();
    assert!(wrong.is_empty(), "wrong are {} of {}: {wrong:#?}", wrong.len(), checks.len());
}

#[test]
fn every_kernel_agrees_with_its_reference() {
    emulated("kernels::every_kernel_agrees_with_its_reference", &[], || {
        let checks = checks(Scope::ALL);
        assert_right(&checks);
        let kernels = overbook_kernels::cuda::SOURCES.iter().flat_map(|source| source.kernels);
        // The merge is checked with what it merges.
        for kernel in kernels.filter(|kernel| **kernel != "attend_merge") {
            assert!(checks.iter().any(|check| check.kernel == *kernel), "{kernel} is not checked");
        }
    });
}

/// A kernel, and a change of its source that makes it wrong.
const FAULTS: [(&str, &str); 22] = [
    // Block tables: a position in the block after its own.
    ("rope_write", "table[position >> BLOCK_SHIFT]=>table[(position + 1) >> BLOCK_SHIFT]"),
    ("attend_decode", "table[position >> BLOCK_SHIFT]=>table[(position + 1) >> BLOCK_SHIFT]"),
    // Fragments: values as they lie, keys with two matrices exchanged, sums of the wrong lanes.
    ("attend_decode", "ldmatrix_x4_trans(r, down=>ldmatrix_x4(r, down"),
    ("attend_prefill", "lane / 16 * 8 + lane % 8, lane / 8 % 2=>lane / 8 % 2 * 8 + lane % 8, lane / 16"),
    ("attend_prefill", "most = fmaxf(most, shuffle_xor(most, 1));=>most = fmaxf(most, shuffle_xor(most, 4));"),
    // Copies: a tile that is used before it is there. Barriers that are not waited at.
    ("attend_decode", "cp_async_wait<AHEAD - 1>();=>cp_async_wait<AHEAD>();"),
    ("attend_prefill", "cp_async_wait<0>();=>cp_async_wait<1>();"),
    ("attend_decode", "sync_warp();=>"),
    ("attend_prefill", "__syncthreads();=>"),
    ("add_norm", "__syncthreads();=>"),
    // Edges: the mask, a row too many, a bucket's border.
    ("attend_prefill", "token <= query=>token < query"),
    ("attend_prefill", "if (row < count) {=>if (row <= count) {"),
    ("sample", "before <= target &&=>before < target &&"),
    // Where no logit is larger than none.
    ("sample", "token < row.vocab ? token : 0=>token"),
    // Retention: what is drawn, keys that are left out of the mean, a row that does not see itself, threads without a slot.
    ("note_tokens", "(index + 1) * 0x9e37=>(index + 2) * 0x9e37"),
    ("score_keys", "mask < 32; mask *= 2=>mask < 16; mask *= 2"),
    ("weigh_tokens", "slot <= part.kept + row=>slot < part.kept + row"),
    ("weigh_queries", "other_sum > 0.0f ? other_sum=>other_sum >= 0.0f ? other_sum"),
    // A token that is protected, zeros of two kinds, one too many, lists that overlap.
    ("cut_tokens", "position > part.now - part.latest=>position > part.now - part.latest + 1"),
    ("cut_tokens", "score == 0.0f ? 0 : float_bits(score)=>float_bits(score)"),
    ("cut_tokens", "shared.counts[digit] < going=>shared.counts[digit] <= going"),
    ("cut_tokens", "done += CUT_LIST=>done += CUT_LIST - 1"),
];

#[test]
fn planted_faults_are_found() {
    let name = "kernels::planted_faults_are_found";
    if is_child(name) {
        let kernel = std::env::var("OVERBOOK_TEST_KERNEL").expect("a kernel");
        return assert_right(&checks(Scope { kernel: Some(&kernel), shapes: 1 }));
    }
    for (kernel, edit) in FAULTS {
        let output = run(
            name,
            &[("OVERBOOK_TEST_KERNEL", kernel), ("OVERBOOK_EMULATOR_EDIT", edit), ("OVERBOOK_EMULATOR_RACES", "1")],
        );
        let said = said(&output);
        assert!(!output.status.success(), "{kernel} passes with {edit}");
        // The reference sees it, or the emulator does before.
        let seen = said.contains("wrong are") || said.contains(&format!("emulator: kernel {kernel}"));
        assert!(seen, "{kernel} fails for another reason than {edit}: {said}");
    }
}

#[test]
fn every_rule_and_detector_of_the_emulator_works() {
    let output = std::process::Command::new(folder().join("selftest")).arg(folder()).output().expect("runs");
    assert!(output.status.success(), "{}", said(&output));
}
