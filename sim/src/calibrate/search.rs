//! The simplex search of Nelder and Mead, over parameters that stay within bounds.

/// A parameter between two positive bounds. The search sees an unbounded number: the bounds' share of the logarithm, as
/// a logistic function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(pub(super) f64, pub(super) f64);

impl Bounds {
    fn value(self, x: f64) -> f64 {
        let share = 1.0 / (1.0 + (-x).exp());
        (self.0.ln() + (self.1.ln() - self.0.ln()) * share).exp()
    }

    fn position(self, value: f64) -> f64 {
        let share = (value.ln() - self.0.ln()) / (self.1.ln() - self.0.ln());
        let share = share.clamp(0.01, 0.99);
        (share / (1.0 - share)).ln()
    }
}

/// The parameters with the least loss found from any of the starts, each searched twice (the second time around what the
/// first found).
pub(super) fn least(bounds: &[Bounds], starts: &[Vec<f64>], mut loss: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let values = |x: &[f64]| -> Vec<f64> { bounds.iter().zip(x).map(|(bounds, x)| bounds.value(*x)).collect() };
    let mut best: Option<(f64, Vec<f64>)> = None;
    for start in starts {
        let mut x: Vec<f64> = bounds.iter().zip(start).map(|(bounds, value)| bounds.position(*value)).collect();
        for step in [0.5, 0.2] {
            x = simplex(&x, step, |x| loss(&values(x)));
        }
        let found = loss(&values(&x));
        if best.as_ref().is_none_or(|(least, _)| found < *least) {
            best = Some((found, x));
        }
    }
    best.map_or_else(Vec::new, |(_, x)| values(&x))
}

fn simplex(start: &[f64], step: f64, mut loss: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let size = start.len();
    let mut corners: Vec<(f64, Vec<f64>)> = (0..=size)
        .map(|axis| {
            let mut corner = start.to_vec();
            if axis > 0 {
                corner[axis - 1] += step;
            }
            (loss(&corner), corner)
        })
        .collect();
    for _ in 0..150 * size {
        corners.sort_by(|a, b| a.0.total_cmp(&b.0));
        if corners[size].0 - corners[0].0 < 1e-7 {
            break;
        }
        let centre: Vec<f64> = (0..size)
            .map(|axis| corners[..size].iter().map(|(_, corner)| corner[axis]).sum::<f64>() / size as f64)
            .collect();
        let worst = corners[size].1.clone();
        let along = |by: f64| -> Vec<f64> { centre.iter().zip(&worst).map(|(c, w)| c + by * (c - w)).collect() };
        let mut tried = |by: f64| {
            let point = along(by);
            (loss(&point), point)
        };
        let reflected = tried(1.0);
        if reflected.0 < corners[0].0 {
            let expanded = tried(2.0);
            corners[size] = if expanded.0 < reflected.0 { expanded } else { reflected };
        } else if reflected.0 < corners[size - 1].0 {
            corners[size] = reflected;
        } else {
            let contracted = tried(if reflected.0 < corners[size].0 { 0.5 } else { -0.5 });
            if contracted.0 < corners[size].0.min(reflected.0) {
                corners[size] = contracted;
            } else {
                let best = corners[0].1.clone();
                for (value, corner) in &mut corners[1..] {
                    corner.iter_mut().zip(&best).for_each(|(x, b)| *x = (*x + b) / 2.0);
                    *value = loss(corner);
                }
            }
        }
    }
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    corners.swap_remove(0).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curved_valley_is_walked_to_its_end() {
        let bounds = [Bounds(0.01, 100.0); 2];
        let rosenbrock = |p: &[f64]| (1.0 - p[0]).powi(2) + 100.0 * (p[1] - p[0] * p[0]).powi(2);
        let found = least(&bounds, &[vec![10.0, 0.1]], rosenbrock);
        assert!((found[0] - 1.0).abs() < 0.01 && (found[1] - 1.0).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn bounds_hold() {
        let found = least(&[Bounds(1.0, 8.0)], &[vec![4.0]], |p| p[0]);
        assert!((1.0..1.01).contains(&found[0]), "{found:?}");
        let there = Bounds(0.5, 50.0);
        assert!((there.value(there.position(7.0)) - 7.0).abs() < 1e-9);
    }
}
