//! What connects GPUs: links, and the servers that they are in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hardware::gpu::{Collectives, Origin};
use crate::hardware::server_power::ServerPowerSpec;
use crate::units::{Bandwidth, Duration, Watts};

/// A kind of link: what its maker states, and what is left of that for a message between two GPUs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Name, for messages and reports.
    pub name: String,
    /// Datasheet bandwidth of one port, one direction.
    pub bandwidth: Bandwidth,
    /// Origin of the bandwidth.
    pub origin: Origin,
    /// Share of the bandwidth that a large message gets.
    pub efficiency: f64,
    /// Time of an empty message, kernel launch included.
    pub latency: Duration,
    /// Origin of efficiency and latency.
    pub achieved: Origin,
    /// What groups of GPUs get over it inside one server, where that is not what the catalog has for the GPU: links without
    /// NVLink or peer access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collectives: Option<Collectives>,
}

impl LinkSpec {
    /// Time of an empty message [µs].
    pub fn latency_us(&self) -> f64 {
        self.latency.0.as_secs_f64() * 1e6
    }

    /// Bytes per second through that many ports at once; a share of a port where GPUs share one.
    pub fn stream(&self, ports: f64) -> f64 {
        self.bandwidth.0 * self.efficiency * ports
    }
}

/// A server, or a cloud's instance of one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// Name, for messages and reports.
    pub name: String,
    /// Its GPUs: a name in the catalog.
    pub gpu: String,
    /// How many of them.
    pub gpus: u32,
    /// The link between them: a name in the catalog.
    pub inside: String,
    /// The ports to other servers; absent: nothing may cross servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkPorts>,
    /// Origin of all of the above.
    pub origin: Origin,
    /// Most power that the server draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_max: Option<Power>,
    /// What it draws with nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_idle: Option<Power>,
    /// What it draws beside its GPUs, part by part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<ServerPowerSpec>,
}

/// A power with its source.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// The power.
    pub watts: Watts,
    /// Where it comes from.
    pub origin: Origin,
}

/// Ports of a server's compute network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkPorts {
    /// The link of each: a name in the catalog.
    pub link: String,
    /// How many.
    pub ports: u32,
}

/// A server with its links looked up: what the cost model knows of the place.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Topology {
    /// Name of the server.
    pub server: String,
    /// GPUs of a server.
    pub gpus: u32,
    /// Between GPUs of a server.
    pub inside: LinkSpec,
    /// Between servers, and the ports that each has.
    pub network: Option<(LinkSpec, u32)>,
}
