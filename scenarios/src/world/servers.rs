//! Which replicas stand on which server: what a server takes along when it fails.

use overbook_sim::fleet::Failure;
use overbook_sim::time::Time;

use crate::point::Point;
use crate::scenario::{FailureSpec, FaultDomain};

/// The replicas on each server of a pool: `replicas` of `gpus` GPUs each, numbered from `first`, on servers of `per_server` GPUs.
/// Replicas fill servers in order and are split over several only if none holds them.
fn on_servers(first: u32, replicas: u32, gpus: u32, per_server: u32) -> Vec<Vec<u32>> {
    if gpus > per_server {
        let servers = gpus.div_ceil(per_server);
        return (first..first + replicas).flat_map(|at| (0..servers).map(move |_| vec![at])).collect();
    }
    let each = per_server / gpus.max(1);
    let firsts = (first..first + replicas).step_by(each.max(1) as usize);
    firsts.map(|at| (at..(first + replicas).min(at + each)).collect()).collect()
}

impl Point {
    /// The replicas on each server, pool by pool; `None` where a pool's servers are not known.
    pub(crate) fn servers(&self) -> Option<Vec<Vec<u32>>> {
        let mut servers = Vec::new();
        let mut first = 0;
        for kind in self.kinds() {
            let fleet = &kind.scenario.fleet;
            let per_server = kind.topology.as_ref()?.gpus;
            servers.extend(on_servers(first, fleet.replicas, fleet.gpus_per_replica(), per_server));
            first += fleet.replicas;
        }
        Some(servers)
    }

    /// A failure with the replicas that it takes along.
    pub(super) fn failure(&self, spec: &FailureSpec) -> Failure {
        let on_server = |server: u32| self.servers()?.get(server as usize).cloned();
        let replicas = spec
            .server
            .map_or_else(|| spec.replica.into_iter().collect(), |server| on_server(server).unwrap_or_default());
        Failure { at: Time::ZERO + spec.at.0, replicas, down_for: spec.down_for.0 }
    }

    /// Servers that failures name and that are not there, as (path, message).
    pub(crate) fn missing_servers(&self) -> Vec<(String, String)> {
        let fleet = &self.scenario.fleet;
        let unknown = "needs `fleet.server` (or a server for each pool): how many replicas stand on one?";
        let servers = self.servers().map(|servers| servers.len());
        let mut missing = Vec::new();
        if fleet.controllers.faults.is_some_and(|faults| faults.of == FaultDomain::Server) && servers.is_none() {
            missing.push(("fleet.controllers.faults.of".to_owned(), format!("`of: server` {unknown}")));
        }
        for (number, failure) in fleet.controllers.failures.iter().enumerate() {
            let Some(server) = failure.server else { continue };
            let message = match servers {
                None => format!("`server` {unknown}"),
                Some(count) if server as usize >= count => {
                    format!("`server` is {server}; the fleet fills {count} servers, counted from 0")
                }
                Some(_) => continue,
            };
            missing.push((format!("fleet.controllers.failures.{number}.server"), message));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::on_servers;

    #[test]
    fn replicas_fill_servers_in_order() {
        assert_eq!(on_servers(0, 5, 4, 8), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(on_servers(3, 2, 3, 8), [vec![3, 4]]);
        assert_eq!(on_servers(0, 3, 8, 8), [vec![0], vec![1], vec![2]]);
        assert_eq!(
            on_servers(1, 2, 16, 8),
            [vec![1], vec![1], vec![2], vec![2]],
            "a replica on two servers fails with either"
        );
    }
}
