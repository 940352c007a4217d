//! What pools of replicas may differ in, and what they must not be combined with.

use overbook_sim::check::{Check, Problem};

use super::super::{FleetSpec, Scenario};

impl Scenario {
    pub(super) fn check_pools(&self, list: &mut Vec<Problem>) {
        self.fleet.check_pools(list);
        for (number, pool) in self.fleet.pools.iter().enumerate() {
            let own = pool.alone(self);
            let mut found = Vec::new();
            own.fleet.check_replica(&mut found);
            own.fleet.check_autoscale(&mut found);
            own.engine.check(&mut found);
            for (path, message) in found {
                // Pools that inherit the same wrong setting share one problem.
                let problem = (pool.place(number, &path), message);
                if !list.contains(&problem) {
                    list.push(problem);
                }
            }
            let kv = |at: usize| self.fleet.pools[at].engine.kv.unwrap_or(self.engine.kv);
            if self.fleet.controllers.disaggregation.is_some() && kv(number) != kv(0) {
                let told = "is not that of the first pool; with `disaggregation` KV goes from one to another as it is";
                list.push((format!("fleet.pools.{number}.engine.kv"), told.to_owned()));
            }
        }
    }
}

impl FleetSpec {
    fn check_pools(&self, list: &mut Vec<Problem>) {
        let mut check = Check::new("fleet", list);
        let sum = self.pools.iter().fold(0_u32, |sum, pool| sum.saturating_add(pool.replicas));
        let told = format!("is {}; the pools have {sum} together, so leave it out", self.replicas);
        check.that(self.replicas == sum, "replicas", told);
        let told = "is of replicas that are all alike; each of the `pools` scales by its own load: write it there";
        check.that(self.controllers.autoscale.is_none(), "controllers.autoscale", told);
        self.check_sides(&mut check);
        let weighs = !self.router.needs().own_weights;
        for (number, pool) in self.pools.iter().enumerate() {
            check.range(&format!("pools.{number}.replicas"), u64::from(pool.replicas), 1, 4096);
            let key = format!("pools.{number}.weight");
            check.range(&key, u64::from(pool.weight), 1, 1_000_000);
            let told = "has no effect: `least-kv` and `prefix-aware` weigh replicas by their own pools and blocks";
            check.that(weighs || pool.weight == 1, &key, told);
        }
    }

    /// A pool that scales keeps a replica up on one side of a disaggregation, not on both.
    fn check_sides(&self, check: &mut Check<'_>) {
        let Some(apart) = &self.controllers.disaggregation else { return };
        let mut first = 0_u32;
        for (number, pool) in self.pools.iter().enumerate() {
            let end = first.saturating_add(pool.replicas);
            let told = format!(
                "is of replicas on both sides of `disaggregation`, whose first {} compute prompts; split the pool there",
                apart.prefill
            );
            let one_side = end <= apart.prefill || first >= apart.prefill;
            check.that(one_side || pool.autoscale.is_none(), &format!("pools.{number}.autoscale"), told);
            first = end;
        }
    }
}
