//! Random bits by number: what is drawn does not depend on what was drawn before.

/// Step between counters: 2⁶⁴ over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// 64 bits of number `index` under a key: output `index + 1` of SplitMix64 (Steele, Lea and Flood 2014) seeded with it.
pub fn draw(key: u64, index: u64) -> u64 {
    finish(key.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP)))
}

/// Bits that depend on a state and a word: to chain words into one key.
pub fn mix(state: u64, word: u64) -> u64 {
    draw(state ^ word, 0)
}

/// The key of number `number` under a user's seed. Seeds are small and near to each other, as numbers are: without the first step seed 0 and number 1
/// would be seed 1 and number 0.
pub fn keyed(seed: u64, number: u64) -> u64 {
    mix(mix(0, seed), number)
}

/// SplitMix64's finaliser: every bit of the result depends on every bit of `z`.
pub fn finish(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #[test]
    fn near_seeds_share_no_keys() {
        let keys: std::collections::BTreeSet<u64> =
            (0..64).flat_map(|seed| (0..64).map(move |number| super::keyed(seed, number))).collect();
        assert_eq!(keys.len(), 64 * 64);
    }

    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first three outputs for seed 1234567, as published with other implementations.
        let outputs = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|index| draw(1_234_567, index)), outputs);
    }
}
