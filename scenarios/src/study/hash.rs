//! The plan hash: two runs with the same hash, target and version give the same bytes.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Study;
use crate::point::Point;
use crate::scenario::CostSpec;

impl Point {
    /// BLAKE3 of the resolved scenario with its model, GPU and links, in hex. Of paths only the file name counts, so that the
    /// hash is the same on every machine; the manifest holds the files' own hashes.
    pub fn plan_hash(&self) -> String {
        let mut scenario = self.scenario.clone();
        if let Some(trace) = &mut scenario.workload.trace {
            trace.path = file_name(&trace.path).into();
        }
        if let Some(population) = &mut scenario.workload.population {
            population.rates = file_name(&population.rates).into();
            population.lengths = population.lengths.as_deref().map(|path| file_name(path).into());
        }
        if let Some(table) = scenario.slo.quality.as_mut().and_then(|quality| quality.table.as_mut()) {
            *table = file_name(table).into();
        }
        match &mut scenario.engine.cost {
            CostSpec::Table(table) => table.path = file_name(&table.path).into(),
            CostSpec::Steps(steps) => steps.path = file_name(&steps.path).into(),
            CostSpec::Profile(profile) => profile.path = file_name(&profile.path).into(),
            CostSpec::Roofline | CostSpec::Constant(_) => {}
        }
        for pool in &mut scenario.fleet.pools {
            match &mut pool.engine.cost {
                Some(CostSpec::Table(table)) => table.path = file_name(&table.path).into(),
                Some(CostSpec::Steps(steps)) => steps.path = file_name(&steps.path).into(),
                Some(CostSpec::Profile(profile)) => profile.path = file_name(&profile.path).into(),
                Some(CostSpec::Roofline | CostSpec::Constant(_)) | None => {}
            }
        }
        if !self.pools.is_empty() {
            let pools: Vec<String> = self.pools.iter().map(Point::plan_hash).collect();
            return hash(&(&scenario, &pools, &self.kv_link));
        }
        match (&self.topology, &self.kv_link) {
            (None, None) => hash(&(&scenario, &self.model, &self.gpu)),
            (Some(topology), None) => hash(&(&scenario, &self.model, &self.gpu, topology)),
            (topology, Some(link)) => hash(&(&scenario, &self.model, &self.gpu, topology, link)),
        }
    }
}

impl Study {
    /// BLAKE3 of the plan hashes of all points, in hex.
    pub fn plan_hash(&self) -> String {
        let points: Vec<String> = self.points.iter().map(Point::plan_hash).collect();
        if let [single] = points.as_slice() { single.clone() } else { hash(&points) }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn hash(value: &impl Serialize) -> String {
    let mut value = serde_json::to_value(value).unwrap_or(Value::Null);
    value.sort_all_objects();
    blake3::hash(value.to_string().as_bytes()).to_hex().to_string()
}
