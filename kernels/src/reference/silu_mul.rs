//! The gated activation of an MLP.

/// Of each row `[gate | up]`, `inner` wide each: `gate / (1 + exp(-gate)) · up`, in f64.
///
/// # Panics
/// If `gate_up` is not made of such rows.
pub fn silu_mul(gate_up: &[f32], inner: usize) -> Vec<f32> {
    assert!(inner > 0 && gate_up.len().is_multiple_of(2 * inner), "rows of 2 x {inner} in {}", gate_up.len());
    let mut out = Vec::with_capacity(gate_up.len() / 2);
    for row in gate_up.chunks_exact(2 * inner) {
        let (gates, ups) = row.split_at(inner);
        let gated = |gate: f64| gate / (1.0 + (-gate).exp());
        out.extend(gates.iter().zip(ups).map(|(gate, up)| (gated(f64::from(*gate)) * f64::from(*up)) as f32));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]

    use super::*;

    #[test]
    fn far_gates_are_open_or_shut() {
        let out = silu_mul(&[0.0, 800.0, -800.0, 3.0, 2.0, 5.0], 3);
        assert_eq!(out, [0.0, 1600.0, 0.0]);
        // The logistic function is 3/4 at the logarithm of 3.
        let log = 3.0_f32.ln();
        assert!((silu_mul(&[log, 4.0], 1)[0] - 3.0 * log).abs() < 1e-6);
    }
}
