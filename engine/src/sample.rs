//! From logits to a token.

use crate::executor::Sampling;
use overbook_sim::counter;

/// Draws the token of a position. Ties go to the lower token.
pub(crate) fn sample(logits: &[f32], sampling: &Sampling, position: u32) -> u32 {
    if sampling.temperature == 0.0 {
        return largest(logits);
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |token: u32| logits[token as usize];
    let likelier = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
    let keep = if sampling.top_k == 0 { order.len() } else { order.len().min(sampling.top_k as usize) };
    if keep < order.len() {
        order.select_nth_unstable_by(keep, likelier);
        order.truncate(keep);
    }
    // Unsorted tokens stand in their own order, which is as good for a draw.
    if sampling.top_p < 1.0 || keep < logits.len() {
        order.sort_unstable_by(likelier);
    }
    let top = logit(largest(logits));
    let weight = |token: u32| f64::from((logit(token) - top) / sampling.temperature).exp();
    let mut weights: Vec<f64> = order.iter().map(|token| weight(*token)).collect();
    if sampling.top_p < 1.0 {
        nucleus(&mut weights, f64::from(sampling.top_p));
    }
    let total: f64 = weights.iter().sum();
    let mut left = uniform(sampling.seed, position) * total;
    for (token, weight) in order.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    // Only rounding leads here; the last token that can be drawn has a weight above zero.
    order[weights.len() - 1]
}

/// Cuts weights, largest first, after those that together have the share `top_p`. The first always stays.
fn nucleus(weights: &mut Vec<f64>, top_p: f64) {
    let bound = weights.iter().sum::<f64>() * top_p;
    let mut sum = 0.0;
    let kept = weights.iter().take_while(|weight| {
        let below = sum < bound;
        sum += **weight;
        below
    });
    let kept = kept.count().max(1);
    weights.truncate(kept);
}

/// Uniform in [0, 1), a function of the seed and the position alone.
fn uniform(seed: u64, position: u32) -> f64 {
    (counter::draw(counter::draw(seed, 0), u64::from(position)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The likeliest token; of equals the lowest.
pub(crate) fn largest(logits: &[f32]) -> u32 {
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
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, 2.0, -30.0, 1.5];

    fn counts(sampling: Sampling) -> [u32; 6] {
        let mut counts = [0; 6];
        for position in 0..20_000 {
            counts[sample(&LOGITS, &sampling, position) as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(sample(&LOGITS, &Sampling::GREEDY, 7), 1);
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        for temperature in [0.5, 1.0, 3.0] {
            let weights = LOGITS.map(|logit| f64::from(logit / temperature).exp());
            let total: f64 = weights.iter().sum();
            let counts = counts(Sampling { temperature, seed: 3, ..Sampling::GREEDY });
            for (count, weight) in counts.iter().zip(weights) {
                let (got, wanted) = (f64::from(*count) / 20_000.0, weight / total);
                // Four standard deviations.
                assert!((got - wanted).abs() <= 4.0 * (wanted * (1.0 - wanted) / 20_000.0).sqrt(), "{got} {wanted}");
            }
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let hot = Sampling { temperature: 2.0, seed: 1, ..Sampling::GREEDY };
        let drawn = |sampling| counts(sampling).map(|count| count > 0);
        assert_eq!(drawn(Sampling { top_k: 1, ..hot }), [false, true, false, false, false, false]);
        assert_eq!(drawn(Sampling { top_k: 3, ..hot }), [false, true, false, true, false, true]);
        assert_eq!(drawn(Sampling { top_k: 100, ..hot }), [true, true, true, true, false, true]);
        // At temperature 2 the two likeliest have 0.533 together, three have 0.741.
        assert_eq!(drawn(Sampling { top_p: 0.53, ..hot }), [false, true, false, true, false, false]);
        assert_eq!(drawn(Sampling { top_p: 0.54, ..hot }), [false, true, false, true, false, true]);
        assert_eq!(drawn(Sampling { top_p: 1e-9, ..hot }), [false, true, false, false, false, false]);
        assert_eq!(drawn(Sampling { top_p: 0.54, top_k: 2, ..hot }), [false, true, false, true, false, false]);
    }

    #[test]
    fn the_seed_and_the_position_decide() {
        let draw = |seed, position| sample(&LOGITS, &Sampling { temperature: 1.0, seed, ..Sampling::GREEDY }, position);
        let sequence = |seed| (0..50).map(|position| draw(seed, position)).collect::<Vec<_>>();
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }
}
