//! Adam (Kingma and Ba 2015), with the length of the gradient bounded.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

/// Settings of the optimiser.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamSettings {
    /// Step size.
    pub rate: f64,
    /// Added to the root of the second moment. Gates that begin near `β = 1` have tiny gradients: theirs must be far smaller still.
    pub epsilon: f64,
    /// Longest gradient, over all weights; longer ones are scaled down.
    pub longest: f64,
}

/// The optimiser of some weights.
pub struct Adam {
    settings: AdamSettings,
    weights: Vec<Weight>,
    steps: i32,
}

struct Weight {
    var: Var,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Adam {
    /// An optimiser that has made no step.
    pub fn new(settings: AdamSettings, vars: impl IntoIterator<Item = Var>) -> Adam {
        let weight = |var: Var| {
            let count = var.elem_count();
            Weight { var, first: vec![0.0; count], second: vec![0.0; count] }
        };
        Adam { settings, weights: vars.into_iter().map(weight).collect(), steps: 0 }
    }

    /// Changes all weights by their gradients; those without one stay. `rate` scales the step size.
    ///
    /// # Errors
    /// Candle refuses: a bug here.
    pub fn step(&mut self, gradients: &GradStore, rate: f64) -> Result<()> {
        self.steps += 1;
        let found: Vec<Option<Vec<f32>>> = self
            .weights
            .iter()
            .map(|weight| gradients.get(&weight.var).map(super::pointwise::values).transpose())
            .collect::<Result<_>>()?;
        let squares: f64 = found.iter().flatten().flatten().map(|slope| f64::from(*slope).powi(2)).sum();
        let scale = (self.settings.longest / squares.sqrt()).min(1.0);
        let (fade1, fade2) = (1.0 - 0.9_f64.powi(self.steps), 1.0 - 0.999_f64.powi(self.steps));
        let size = self.settings.rate * rate;
        for (weight, slopes) in self.weights.iter_mut().zip(found) {
            let Some(slopes) = slopes else { continue };
            let mut numbers = super::pointwise::values(&weight.var)?;
            for (((number, slope), first), second) in
                numbers.iter_mut().zip(slopes).zip(&mut weight.first).zip(&mut weight.second)
            {
                let slope = f64::from(slope) * scale;
                *first = 0.9 * *first + 0.1 * slope;
                *second = 0.999 * *second + 0.001 * slope * slope;
                *number -= (size * (*first / fade1) / ((*second / fade2).sqrt() + self.settings.epsilon)) as f32;
            }
            weight.var.set(&Tensor::from_vec(numbers, weight.var.shape().clone(), weight.var.device())?)?;
        }
        Ok(())
    }
}
