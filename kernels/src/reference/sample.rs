//! From logits to a token.

use crate::cuda::Draw;

/// A token, and how sure it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drawn {
    /// Which.
    pub token: u32,
    /// How far the draw, or a cut before it, is from where another token would come, in weights of the likeliest token.
    /// Infinite where nothing is computed that could be rounded.
    pub margin: f64,
}

/// Draws the token of a row whose `bans` are those of this row alone. Ties go to the lower token. `None` for padding.
pub fn sample(logits: &[f32], draw: &Draw, bans: &[u32]) -> Option<Drawn> {
    if draw.position == crate::cuda::PADDING {
        return None;
    }
    let mut logits = logits.to_vec();
    for token in bans {
        logits[*token as usize] = f32::NEG_INFINITY;
    }
    let top = largest(&logits);
    if draw.temperature == 0.0 {
        return Some(Drawn { token: top, margin: f64::INFINITY });
    }
    let logit = |token: u32| logits[token as usize];
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let keep = if draw.top_k == 0 { order.len() } else { order.len().min(draw.top_k as usize) };
    // Where all are kept they stand in their own order.
    if draw.top_p < 1.0 || keep < order.len() {
        order.sort_by(|a, b| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b)));
        order.truncate(keep);
    }
    let weight = |token: &u32| f64::from((logit(*token) - logit(top)) / draw.temperature).exp();
    let mut weights: Vec<f64> = order.iter().map(weight).collect();
    let mut margin = f64::INFINITY;
    if draw.top_p < 1.0 {
        margin = cut(&mut weights, f64::from(draw.top_p));
    }
    let target = uniform(draw.seed, draw.position) * weights.iter().sum::<f64>();
    let mut before = 0.0;
    for (token, weight) in order.iter().zip(&weights) {
        if target < before + weight {
            margin = margin.min(before + weight - target).min(target - before);
            return Some(Drawn { token: *token, margin });
        }
        before += weight;
    }
    // Only rounding leads here.
    Some(Drawn { token: order[weights.len() - 1], margin: 0.0 })
}

/// Keeps the first weights before which the sum is below the share `top_p`, at least one. Gives the distance to another cut.
fn cut(weights: &mut Vec<f64>, top_p: f64) -> f64 {
    let bound = weights.iter().sum::<f64>() * top_p;
    let (mut before, mut margin) = (0.0, f64::INFINITY);
    for kept in 0..weights.len() {
        margin = margin.min(f64::abs(bound - before));
        if before >= bound {
            weights.truncate(kept.max(1));
            return margin;
        }
        before += weights[kept];
    }
    margin
}

/// Uniform in [0, 1), a function of the seed and the position alone: 53 bits of two outputs of SplitMix64 (Steele, Lea and Flood
/// 2014), the first of which keys the second.
pub fn uniform(seed: u64, position: u32) -> f64 {
    (bits(bits(seed, 0), u64::from(position)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn bits(key: u64, index: u64) -> u64 {
    let z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, 2.0, -30.0, 1.5];
    const HOT: Draw = Draw { temperature: 2.0, ..Draw::PADDING };

    /// Which tokens come in many draws.
    fn seen(draw: Draw, bans: &[u32]) -> [bool; 6] {
        let mut seen = [false; 6];
        for position in 0..2000 {
            seen[sample(&LOGITS, &Draw { position, ..draw }, bans).expect("a token").token as usize] = true;
        }
        seen
    }

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first outputs for seed 1234567, as published with other implementations.
        assert_eq!([0, 1].map(|index| bits(1_234_567, index)), [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_that_is_not_banned() {
        let greedy = Draw { position: 7, ..Draw::PADDING };
        assert_eq!(sample(&LOGITS, &greedy, &[]), Some(Drawn { token: 1, margin: f64::INFINITY }));
        assert_eq!(sample(&LOGITS, &greedy, &[1]).map(|drawn| drawn.token), Some(3));
        assert_eq!(sample(&LOGITS, &Draw::PADDING, &[]), None);
    }

    #[test]
    fn cuts_leave_the_likeliest() {
        assert_eq!(seen(HOT, &[]), [true, true, true, true, false, true]);
        assert_eq!(seen(Draw { top_k: 1, ..HOT }, &[]), [false, true, false, false, false, false]);
        assert_eq!(seen(Draw { top_k: 3, ..HOT }, &[]), [false, true, false, true, false, true]);
        assert_eq!(seen(Draw { top_k: 3, ..HOT }, &[3]), [false, true, true, false, false, true]);
        // At temperature 2 the two likeliest have 0.533 together, three have 0.741.
        assert_eq!(seen(Draw { top_p: 0.53, ..HOT }, &[]), [false, true, false, true, false, false]);
        assert_eq!(seen(Draw { top_p: 0.54, ..HOT }, &[]), [false, true, false, true, false, true]);
        assert_eq!(seen(Draw { top_p: 1e-9, ..HOT }, &[]), [false, true, false, false, false, false]);
    }

    #[test]
    fn the_margin_is_the_distance_to_another_token() {
        // Four equal weights: a quarter of the draws each.
        for position in 0..50 {
            let draw = Draw { position, temperature: 1.0, ..Draw::PADDING };
            let at = uniform(0, position) * 4.0;
            let drawn = sample(&[3.0; 4], &draw, &[]).expect("a token");
            assert_eq!(drawn.token, at as u32);
            let margin = at.fract().min(1.0 - at.fract());
            assert!((drawn.margin - margin).abs() < 1e-12, "{drawn:?} {margin}");
        }
        // Two equal weights, of which the bound is one: the cut is as near as can be.
        let draw = Draw { position: 0, temperature: 1.0, top_p: 0.5, ..Draw::PADDING };
        assert_eq!(sample(&[1.0; 2], &draw, &[]), Some(Drawn { token: 0, margin: 0.0 }));
    }
}
