//! The plan hash: two runs with the same hash, target and version give the same bytes.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::Study;
use crate::point::Point;
use crate::scenario::{CarbonSpec, CostSpec, Scenario};

impl Point {
    /// BLAKE3 of the resolved scenario with its model, GPU and links, in hex. Of paths only the file name counts, so that the
    /// hash is the same on every machine; the manifest holds the files' own hashes.
    pub fn plan_hash(&self) -> String {
        let mut scenario = self.scenario.clone();
        for path in paths(&mut scenario) {
            *path = file_name(path).into();
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

impl Point {
    /// The files that a run of it reads, in order, each once.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut scenario = self.scenario.clone();
        let mut files: Vec<PathBuf> = paths(&mut scenario).into_iter().map(|path| path.clone()).collect();
        files.sort();
        files.dedup();
        files
    }
}

impl Scenario {
    /// The files whose contents a manifest answers for: those that the requests come from, and that of carbon intensities.
    pub fn inputs(&self) -> Vec<&Path> {
        let carbon = self.economics.as_ref().and_then(|economics| economics.carbon.as_ref());
        let carbon = carbon.and_then(|carbon| match carbon {
            CarbonSpec::File { path, .. } => Some(path.as_path()),
            CarbonSpec::GPerKwh(_) | CarbonSpec::Hourly(_) => None,
        });
        self.workload.files().into_iter().chain(carbon).collect()
    }
}

/// Every path in a scenario.
fn paths(scenario: &mut Scenario) -> Vec<&mut PathBuf> {
    let Scenario { workload, slo, engine, fleet, economics, .. } = scenario;
    let mut paths: Vec<&mut PathBuf> = workload.trace.iter_mut().map(|trace| &mut trace.path).collect();
    if let Some(population) = &mut workload.population {
        paths.push(&mut population.rates);
        paths.extend(&mut population.lengths);
    }
    paths.extend(slo.quality.as_mut().and_then(|quality| quality.table.as_mut()));
    if let Some(CarbonSpec::File { path, .. }) = economics.as_mut().and_then(|economics| economics.carbon.as_mut()) {
        paths.push(path);
    }
    let of_pools = fleet.pools.iter_mut().filter_map(|pool| pool.engine.cost.as_mut());
    paths.extend(std::iter::once(&mut engine.cost).chain(of_pools).filter_map(|cost| match cost {
        CostSpec::Table(table) => Some(&mut table.path),
        CostSpec::Steps(steps) => Some(&mut steps.path),
        CostSpec::Profile(profile) => Some(&mut profile.path),
        CostSpec::Roofline | CostSpec::Constant(_) => None,
    }));
    paths
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
