//! One run of a study, checked and complete.

use overbook_sim::calibrate::Profile;
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{ModelSpec, WeightDtype};
use overbook_sim::hardware::server::{LinkSpec, Topology};
use serde_json::Value;

use crate::defaults::Assumed;
use crate::scenario::Scenario;

/// One run of a study.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// Swept paths and their values at this point; empty without a sweep.
    pub coordinates: Vec<(String, String)>,
    /// The scenario with all defaults filled in, without sweep and expectations. Its paths are absolute.
    pub scenario: Scenario,
    /// The model it names.
    pub model: ModelSpec,
    /// The GPU it names, with the constants of its profile; that of the first pool, if there are several.
    pub gpu: GpuSpec,
    /// The server it names, if it does, with its links; none if there are pools.
    pub topology: Option<Topology>,
    /// The link that carries KV between replicas, if any does.
    pub kv_link: Option<LinkSpec>,
    /// The profile it names, if it does, whose constants are the GPU's already.
    pub profile: Option<Profile>,
    /// The pools, each as a fleet of its own; empty if all replicas are alike.
    pub pools: Vec<Point>,
    /// Settings that have the values which their engine takes by itself.
    pub assumed: Vec<Assumed>,
}

impl Point {
    /// The kinds of replicas, each as a fleet of its own: the pools, or the point itself.
    pub fn kinds(&self) -> &[Point] {
        if self.pools.is_empty() { std::slice::from_ref(self) } else { &self.pools }
    }

    /// What a kind of replica is called in messages and tables, if there are several: `2 × h100`, `4 × 2 l40s fp8`.
    pub fn pool_names(&self) -> Vec<String> {
        let plain: Vec<String> = self.pools.iter().map(Point::made_of).collect();
        let twice = |name: &String| plain.iter().filter(|other| *other == name).count() > 1;
        let name = |(number, name): (usize, &String)| {
            if twice(name) { format!("pool {number}: {name}") } else { name.clone() }
        };
        plain.iter().enumerate().map(name).collect()
    }

    /// Replicas and GPUs, and the weights where they are not plain.
    fn made_of(&self) -> String {
        let (fleet, weights) = (&self.scenario.fleet, self.scenario.engine.weights);
        let gpus = match fleet.gpus_per_replica() {
            1 => String::new(),
            gpus => format!("{gpus} "),
        };
        let weights = match serde_json::to_value(weights) {
            Ok(Value::String(name)) if weights != WeightDtype::default() => format!(" {name}"),
            _ => String::new(),
        };
        format!("{} × {gpus}{}{weights}", fleet.replicas, self.scenario.gpu)
    }
}
