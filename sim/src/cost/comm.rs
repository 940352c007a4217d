//! What the GPUs of a replica say to each other, and how long it takes [µs].
//!
//! Inside a server collectives have measured constants per group size. A group over several servers works in phases, as
//! NCCL's trees do: reduced inside each server, every GPU's share of the sum exchanged between servers by a ring over all
//! ports of a server at once, gathered inside. The phases are added up: overlapping them in chunks, as libraries can,
//! would take off at most the shorter one. Against Vidur's tables of A100 servers that is 22 to 44 % fast.
//!
//! Which constants: those of the server's link where it has some of its own (no NVLink, no peer access), else those of the
//! GPU: the engine's own all-reduce, or NCCL's where that is switched off. Data-parallel attention has two groups: the
//! GPUs of a rank reduce the attention's output, and NCCL gathers all ranks' tokens before the experts and scatters the
//! sums behind them.

use super::CostError;
use crate::hardware::gpu::{CollectiveFit, Collectives, GpuSpec};
use crate::hardware::parallel::{Exchange, Parallelism};
use crate::hardware::server::{LinkSpec, Topology};

/// The ways between servers of a group that does not fit into one.
#[derive(Clone, Debug)]
struct Crossing {
    servers: f64,
    gpus_per_server: f64,
    latency_us: f64,
    /// All ports of a server, one direction [bytes/s].
    stream: f64,
}

impl Crossing {
    /// A ring over the servers: every one sends its share on, twice around.
    fn ring_us(&self, bytes: f64) -> f64 {
        let rounds = 2.0 * (self.servers - 1.0);
        rounds * self.latency_us + rounds / self.servers * bytes / self.stream * 1e6
    }
}

/// Prices of one replica's communication.
#[derive(Clone, Debug)]
pub struct Comm {
    tensor: f64,
    all_reduce: Option<CollectiveFit>,
    all_gather: Option<CollectiveFit>,
    reduce_scatter: Option<CollectiveFit>,
    all_to_all: Option<CollectiveFit>,
    crossing: Option<Crossing>,
    /// Boundaries between stages: how many, fixed time, bytes per second of each GPU's message.
    boundaries: Vec<(f64, f64, f64)>,
}

impl Comm {
    /// Prices for a replica spread like that on such GPUs.
    pub fn new(gpu: &GpuSpec, spread: &Parallelism) -> Result<Comm, CostError> {
        let (local, servers) = spread.groups().ok_or_else(|| {
            let gpus = spread.topology.as_ref().map_or(0, |topology| topology.gpus);
            CostError::Group { tensor_parallel: spread.tensor, gpus }
        })?;
        let own = spread.topology.as_ref().and_then(|topology| topology.inside.collectives.as_ref());
        let nccl = own.or(gpu.nccl.as_ref());
        let reduces = match own {
            Some(link) => Some(&link.all_reduce),
            None if spread.custom_all_reduce => Some(&gpu.all_reduce.fits),
            None => nccl.map(|nccl| &nccl.all_reduce),
        };
        let all_reduce = match (local, reduces) {
            (1, _) => None,
            (_, None) => return Err(CostError::NoNccl { gpu: gpu.name.clone() }),
            (_, Some(fits)) => Some(fit(fits, local).ok_or_else(|| all_reduce_error(gpu, fits, spread))?),
        };
        let halves = |of: fn(&Collectives) -> &Vec<CollectiveFit>| nccl.and_then(|nccl| fit(of(nccl), local));
        let exchanges = spread.experts.is_some_and(|experts| experts.exchange == Exchange::AllToAll);
        let exchange = match own {
            Some(link) => Some(&link.all_to_all),
            None => gpu.all_to_all.as_ref().map(|spec| &spec.fits),
        };
        let all_to_all = match (local, exchanges) {
            (1, _) | (_, false) => None,
            _ => {
                Some(exchange.and_then(|fits| fit(fits, local)).ok_or_else(|| all_to_all_error(gpu, exchange, local))?)
            }
        };
        let crossing = if servers > 1 { Some(crossing(spread, local, servers)?) } else { None };
        Ok(Comm {
            tensor: f64::from(spread.tensor),
            all_reduce,
            all_gather: halves(|nccl| &nccl.all_gather),
            reduce_scatter: halves(|nccl| &nccl.reduce_scatter),
            all_to_all,
            crossing,
            boundaries: boundaries(spread)?,
        })
    }

    /// Prices among the GPUs of one rank, which split the attention of the same requests.
    pub fn of_rank(gpu: &GpuSpec, spread: &Parallelism) -> Result<Comm, CostError> {
        let alone = Parallelism { tensor: spread.attention_gpus(), ranks: 1, experts: None, ..spread.clone() };
        Comm::new(gpu, &alone)
    }

    /// GPUs of the group.
    pub fn gpus(&self) -> f64 {
        self.tensor
    }

    /// Whether more than one GPU splits a layer.
    pub fn is_group(&self) -> bool {
        self.tensor > 1.0
    }

    /// A sum over the group of a buffer of `bytes` on every GPU.
    pub fn all_reduce_us(&self, bytes: f64) -> f64 {
        let inside = self.all_reduce.map_or(0.0, |fit| fit.us(bytes));
        inside + self.crossing.as_ref().map_or(0.0, |cross| cross.ring_us(bytes))
    }

    /// The tokens of all ranks, `bytes` in all, on every GPU.
    pub fn gather_tokens_us(&self, bytes: f64) -> f64 {
        self.half_us(self.all_gather, bytes)
    }

    /// Sums of `bytes` over the group, each rank's tokens on its own GPUs.
    pub fn scatter_sums_us(&self, bytes: f64) -> f64 {
        self.half_us(self.reduce_scatter, bytes)
    }

    /// Half of an all-reduce, by its own constants where there are any: between servers half of the rounds.
    fn half_us(&self, own: Option<CollectiveFit>, bytes: f64) -> f64 {
        let inside = own.map_or_else(|| self.all_reduce.map_or(0.0, |fit| fit.us(bytes) / 2.0), |fit| fit.us(bytes));
        inside + self.crossing.as_ref().map_or(0.0, |cross| cross.ring_us(bytes) / 2.0)
    }

    /// A buffer of `bytes` put together on every GPU from a share on each: half of what an all-reduce moves.
    pub fn gather_us(&self, bytes: f64) -> f64 {
        self.all_reduce_us(bytes / 2.0)
    }

    /// Every GPU sends an equal part of its `bytes` to each of the group. What crosses servers goes at the same time as
    /// what does not: the longer of the two.
    pub fn all_to_all_us(&self, bytes: f64) -> f64 {
        let inside = |bytes: f64| self.all_to_all.map_or(0.0, |fit| fit.us(bytes));
        match &self.crossing {
            None => inside(bytes),
            Some(cross) => {
                let leaving = bytes * (1.0 - 1.0 / cross.servers);
                let across = cross.latency_us + leaving * cross.gpus_per_server / cross.stream * 1e6;
                across.max(inside(bytes / cross.servers))
            }
        }
    }

    /// The residual stream of `bytes` and its sum so far from stage to stage, all boundaries: each GPU sends its share of
    /// both, and the next group gathers them (vLLM's `send_tensor_dict` with an all-gather group).
    pub fn stages_us(&self, bytes: f64) -> f64 {
        let gather = if self.is_group() { 2.0 * self.gather_us(bytes) } else { 0.0 };
        let send = |&(count, latency_us, stream): &(f64, f64, f64)| {
            count * (latency_us + 2.0 * bytes / self.tensor / stream * 1e6 + gather)
        };
        self.boundaries.iter().map(send).sum()
    }
}

/// The network of a server, if messages may leave it.
fn network(topology: Option<&Topology>) -> Result<(&LinkSpec, u32, u32), CostError> {
    let topology = topology.ok_or(CostError::Placeless)?;
    let (link, ports) =
        topology.network.as_ref().ok_or_else(|| CostError::NoNetwork { server: topology.server.clone() })?;
    Ok((link, *ports, topology.gpus))
}

fn crossing(spread: &Parallelism, local: u32, servers: u32) -> Result<Crossing, CostError> {
    let (link, ports, _) = network(spread.topology.as_ref())?;
    Ok(Crossing {
        servers: f64::from(servers),
        gpus_per_server: f64::from(local),
        latency_us: link.latency_us(),
        stream: link.stream(f64::from(ports)),
    })
}

fn boundaries(spread: &Parallelism) -> Result<Vec<(f64, f64, f64)>, CostError> {
    if spread.stages <= 1 {
        return Ok(Vec::new());
    }
    let topology = spread.topology.as_ref().ok_or(CostError::Placeless)?;
    let (inside, across) = spread.boundaries();
    let mut list = vec![(f64::from(inside), topology.inside.latency_us(), topology.inside.stream(1.0))];
    if across > 0 {
        let (link, ports, gpus) = network(Some(topology))?;
        // A GPU's message goes through one port at most, and through its share where GPUs outnumber ports.
        let sending = f64::from(spread.tensor.min(gpus));
        let share = (f64::from(ports) / sending).min(1.0);
        list.push((f64::from(across), link.latency_us(), link.stream(share)));
    }
    Ok(list)
}

fn known(fits: &[CollectiveFit]) -> String {
    let known: Vec<String> = fits.iter().map(|fit| fit.gpus.to_string()).collect();
    known.join(", ")
}

/// The constants for that many GPUs.
fn fit(fits: &[CollectiveFit], gpus: u32) -> Option<CollectiveFit> {
    fits.iter().find(|fit| fit.gpus == gpus).copied()
}

fn all_reduce_error(gpu: &GpuSpec, fits: &[CollectiveFit], spread: &Parallelism) -> CostError {
    let help = match &spread.topology {
        None => "; name a `fleet.server` if the group spreads over several",
        Some(_) => "",
    };
    CostError::AllReduce { gpu: gpu.name.clone(), tensor_parallel: spread.tensor, known: known(fits), help }
}

fn all_to_all_error(gpu: &GpuSpec, fits: Option<&Vec<CollectiveFit>>, gpus: u32) -> CostError {
    let known = fits.filter(|fits| !fits.is_empty()).map_or_else(|| "none".to_owned(), |fits| known(fits));
    CostError::AllToAll { gpu: gpu.name.clone(), gpus, known }
}
