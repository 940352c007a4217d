//! The work of driving, counted: how many plans, and what ended the jumps.

/// Work counted while driving.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Effort {
    /// Steps completed.
    pub steps: u64,
    /// Times a scheduler was asked for a plan.
    pub plans: u64,
    /// Plans that differ from the plan before: no simulator can do with fewer.
    pub unavoidable: u64,
    /// What ended the jumps, by [`StopReason`].
    pub stops: [u64; StopReason::ALL.len()],
}

impl Effort {
    /// Steps per plan.
    pub fn steps_per_plan(&self) -> f64 {
        self.steps as f64 / self.plans.max(1) as f64
    }

    /// Steps per plan of a simulator that makes no plan twice.
    pub fn steps_per_unavoidable_plan(&self) -> f64 {
        self.steps as f64 / self.unavoidable.max(1) as f64
    }

    /// Adds another lane's work.
    pub fn add(&mut self, other: &Effort) {
        self.steps += other.steps;
        self.plans += other.plans;
        self.unavoidable += other.unavoidable;
        self.stops.iter_mut().zip(other.stops).for_each(|(a, b)| *a += b);
    }
}

/// What ends a jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The scheduler's certificate runs out.
    Horizon,
    /// A member leaves the decode set.
    Leave,
    /// Tokens of a member go: it has all the slots that it may have.
    Cut,
    /// The pool has no blocks for a further step.
    Blocks,
    /// The cost has other coefficients from here on.
    CostBreak,
    /// The device overtakes the host as the bottleneck of a deep lane.
    HostCrossing,
    /// An arrival that the scheduler wants to see.
    Arrival,
    /// The end of a request that the scheduler wants to see, or a client that went.
    End,
    /// A step boundary of another lane on the same pool.
    Lane,
    /// Another operating point of the lane.
    Point,
}

impl StopReason {
    /// All reasons, in the order of [`Effort::stops`].
    pub const ALL: [StopReason; 10] = [
        StopReason::Horizon,
        StopReason::Leave,
        StopReason::Cut,
        StopReason::Blocks,
        StopReason::CostBreak,
        StopReason::HostCrossing,
        StopReason::Arrival,
        StopReason::End,
        StopReason::Lane,
        StopReason::Point,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_per_plan_of_a_run_and_of_one_that_did_nothing() {
        let mut effort = Effort { steps: 100, plans: 20, unavoidable: 10, ..Effort::default() };
        effort.add(&Effort { steps: 20, plans: 10, unavoidable: 5, ..Effort::default() });
        assert!((effort.steps_per_plan() - 4.0).abs() < 1e-12);
        assert!((effort.steps_per_unavoidable_plan() - 8.0).abs() < 1e-12);
        assert!(Effort::default().steps_per_plan().abs() < 1e-12);
    }
}
