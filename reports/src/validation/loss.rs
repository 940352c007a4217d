//! How far off a run is, as a number that a fit makes small.

use super::JudgedRun;

/// Logarithm of an error below which nearer is hardly better: no run is so exact.
const BLUR: f64 = 0.03;

/// What is fitted to: of each line the first figure that a run has.
const FIGURES: [&[&str]; 5] = [
    &["output_throughput", "request_throughput"],
    &["ttft_mean", "ttft_p50"],
    &["tpot_mean", "tpot_p50"],
    &["itl_mean", "itl_p50"],
    &["e2el_mean", "e2el_p50"],
];

impl JudgedRun {
    /// Mean over its main figures of |ln(simulated / measured)|, blurred: 0 without any figure.
    pub fn loss(&self) -> f64 {
        let error = |name: &&str| self.pairs.iter().find(|pair| pair.metric == **name)?.error();
        let first = |names: &&[&str]| names.iter().find_map(error);
        let logs = FIGURES.iter().filter_map(|names| Some((1.0 + first(names)?).max(1e-9).ln()));
        let losses: Vec<f64> = logs.map(|log| log.hypot(BLUR)).collect();
        losses.iter().sum::<f64>() / losses.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pair;
    use super::*;

    fn run(pairs: &[(&str, f64, f64)]) -> JudgedRun {
        let pair =
            |&(metric, measured, simulated): &(&str, f64, f64)| Pair { metric: metric.to_owned(), measured, simulated };
        JudgedRun { pairs: pairs.iter().map(pair).collect(), ..JudgedRun::default() }
    }

    #[test]
    fn twice_and_half_are_equally_far_and_an_exact_figure_costs_the_blur() {
        let twice = run(&[("ttft_mean", 1.0, 2.0)]).loss();
        assert!((twice - 2f64.ln().hypot(BLUR)).abs() < 1e-12);
        assert!((run(&[("ttft_mean", 2.0, 1.0)]).loss() - twice).abs() < 1e-12);
        assert!((run(&[("ttft_mean", 1.0, 1.0)]).loss() - BLUR).abs() < 1e-12);
        assert!(run(&[]).loss().abs() < 1e-12);
    }

    #[test]
    fn of_each_kind_the_first_figure_counts_alone() {
        let mean = run(&[("tpot_mean", 1.0, 1.1)]).loss();
        let both = run(&[("tpot_p50", 1.0, 9.0), ("tpot_mean", 1.0, 1.1), ("kv_usage_max", 1.0, 9.0)]).loss();
        assert!((mean - both).abs() < 1e-12);
    }
}
