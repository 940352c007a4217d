//! The search for constants: one at a time, up and down by a factor that shrinks.

use super::constants::{Constants, Fitted};

/// Logarithms of the factors that are tried, the largest first.
const STEPS: [f64; 7] = [0.7, 0.35, 0.17, 0.08, 0.04, 0.02, 0.01];

/// Rounds over all constants with one factor at most.
const ROUNDS: usize = 4;

/// An improvement that is worth a move.
const WORTH: f64 = 1e-6;

/// What a constant costs that is far from where its search began, per square of a logarithm: little, but more than a run gives that
/// it hardly touches.
const PULL: f64 = 0.001;

impl Constants {
    /// What the distances of all constants from their starts add to a loss.
    pub fn pull(&self) -> f64 {
        let far = |fitted: &Fitted| (self.get(fitted.name) / fitted.start).ln().powi(2);
        PULL * Constants::FITTED.iter().map(far).sum::<f64>()
    }

    /// The constants with the least loss that a search from [`Constants::start`] finds: same losses, same constants. One that
    /// makes no difference stays where it began.
    pub fn fit(loss: &mut dyn FnMut(&Constants) -> f64) -> Constants {
        let mut best = Constants::start();
        let mut least = loss(&best);
        for step in STEPS {
            for _ in 0..ROUNDS {
                let before = (best.clone(), least);
                for fitted in &Constants::FITTED {
                    (best, least) = along(best, least, fitted, step, loss);
                }
                if before.1 - least < WORTH {
                    break;
                }
                // Where all that moved would go next: constants that pull against each other move together.
                let further = best.further(&before.0);
                let found = loss(&further);
                if least - found >= WORTH {
                    (best, least) = (further, found);
                }
            }
        }
        best
    }
}

impl Constants {
    /// As far again as from `before` to here, by factors.
    fn further(&self, before: &Constants) -> Constants {
        let mut further = self.clone();
        for fitted in &Constants::FITTED {
            let value = self.get(fitted.name);
            let next = (value * value / before.get(fitted.name)).clamp(fitted.bounds.0, fitted.bounds.1);
            further = further.with(fitted.name, rounded(next));
        }
        further
    }
}

/// Four digits are more than any run can support.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Moves one constant as long as that helps.
fn along(
    mut best: Constants,
    mut least: f64,
    fitted: &Fitted,
    step: f64,
    loss: &mut dyn FnMut(&Constants) -> f64,
) -> (Constants, f64) {
    for direction in [step, -step] {
        let mut moved = false;
        loop {
            let value = best.get(fitted.name);
            let next = (value * direction.exp()).clamp(fitted.bounds.0, fitted.bounds.1);
            let next = rounded(next);
            let tried = best.with(fitted.name, next);
            let found = loss(&tried);
            if next.to_bits() == value.to_bits() || least - found < WORTH {
                break;
            }
            (best, least, moved) = (tried, found, true);
        }
        if moved {
            break;
        }
    }
    (best, least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_what_the_loss_wants_and_leaves_the_rest() {
        let wanted = [("host.s-lora.base_us", 4000.0), ("gpu.a10g.matmul_compute", 0.5)];
        let mut asked = 0;
        let found = Constants::fit(&mut |constants| {
            asked += 1;
            wanted.iter().map(|(name, value)| (constants.get(name) / value).ln().abs()).sum()
        });
        for (name, value) in wanted {
            assert!((found.get(name) / value - 1.0).abs() < 0.01, "{name}: {}", found.get(name));
        }
        let untouched = Constants::FITTED.iter().filter(|fitted| wanted.iter().all(|(name, _)| *name != fitted.name));
        for fitted in untouched {
            assert!((found.get(fitted.name) - fitted.start).abs() < 1e-12, "{}", fitted.name);
        }
        assert!(asked < 1000, "{asked}");
    }

    #[test]
    fn the_pull_grows_with_the_square_of_the_logarithm_on_both_sides() {
        let start = Constants::start();
        let name = "host.s-lora.base_us";
        let at = |factor: f64| start.with(name, start.get(name) * factor).pull();
        assert!(start.pull().abs() < 1e-12);
        assert!((at(std::f64::consts::E) - PULL).abs() < 1e-12);
        assert!((at(4.0) - 4.0 * at(2.0)).abs() < 1e-12 && (at(0.5) - at(2.0)).abs() < 1e-12);
    }

    #[test]
    fn values_stay_within_their_bounds() {
        let found = Constants::fit(&mut |constants| -constants.get("host.s-lora.base_us"));
        assert!((found.get("host.s-lora.base_us") - 50_000.0).abs() < 1e-9);
    }
}
