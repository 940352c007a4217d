//! From a resolved point to the parts of a run: limits, fleet, costs, workload. Nothing is run here.

mod draft;
mod economics;
mod power;
pub(crate) mod profile_file;
mod requests;
mod servers;
mod table_file;

use std::path::PathBuf;

use overbook_sim::calibrate::{StepProfile, StepProfileError};
use overbook_sim::cost::{
    Constant, Cost, CostError, CostModel, Eager, Pace, PrefillPart, Retained, RetentionWork, Roofline, StepCost,
    StepShape,
};
use overbook_sim::fleet::{
    Autoscale, ClientTime, Clients, ClusterSpec, Controllers, Disaggregation, EarlyRejection, Faults, Frontend, Growth,
    OutputLimit, Patience, ReplicaPool, Retry, ScaleTarget, Traffic,
};
use overbook_sim::hardware::memory::{self, MemoryError, MemoryPlan};
use overbook_sim::hardware::model::ModelSpec;
use overbook_sim::kv::retention::{Keep, OutputRule, PromptRule, RetentionSpec};
use overbook_sim::kv::{LoadRule, StoreSpec, TierSpec};
use overbook_sim::results::summary::Slo;
use overbook_sim::routers::RouterView;
use overbook_sim::schedulers::SchedulerSpec;
use overbook_sim::serving::replica::{Limits, SwapSpace};
use overbook_sim::units::Bytes;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::{GenerateError, TraceError};

use crate::point::Point;
use crate::scenario::{
    AutoscaleSpec, CacheTierSpec, CostSpec, FaultDomain, FrontendSpec, GrowthSpec, LoadSpec, MaxModelLen, MaxNewTokens,
    PoolSpec, RetryOn, RetrySpec, ScaleTargetSpec, SpeculationSpec,
};

pub use power::RowError;
pub use requests::Requests;

/// Why a point cannot be run as it stands.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The model does not fit.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The power of a part is not known, or the row cannot be run like that.
    #[error("`{}` {}", .0.path, .0.told)]
    Row(#[from] RowError),
    /// No cost model for this combination.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A profile cannot be read.
    #[error("cannot read the profile {}: {message}", path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A cost table cannot be read.
    #[error("cannot read the cost table {}: {source}", path.display())]
    ReadTable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A cost table is not of its form.
    #[error("the cost table {} is not valid:\n{problems}", path.display())]
    TableForm {
        /// The file.
        path: PathBuf,
        /// The problems, rendered.
        problems: String,
    },
    /// A drafter is not known, or does not fit.
    #[error("`engine.speculation`: {message}")]
    Draft {
        /// What is wrong.
        message: String,
    },
    /// The pool is smaller than one request may be.
    #[error(
        "`max_model_len` is {max_model_len} tokens, the KV pool of a {of} holds {pool}; lower max_model_len, or give the pool more memory (tensor_parallel, kv: fp8)"
    )]
    Pool {
        /// Tokens of one request at most.
        max_model_len: u32,
        /// Whose pool it is: a replica's, or a rank's.
        of: &'static str,
        /// Tokens of the pool.
        pool: u64,
    },
    /// The pool is smaller than the model's context, which the scenario leaves to be the longest sequence.
    #[error(
        "vLLM does not start: the longest sequence is the model's context of {context} tokens, and the KV pool of a {of} holds {pool}; set `engine.max_model_len: auto` or to at most {pool}, or give the pool more memory (tensor_parallel, kv: fp8)"
    )]
    Context {
        /// The model's context [tokens].
        context: u32,
        /// Whose pool it is: a replica's, or a rank's.
        of: &'static str,
        /// Tokens of the pool.
        pool: u64,
    },
    /// A tier below the GPUs holds no block.
    #[error("the tier `{tier}` of {size} holds no block: give it at least {block}, which one takes")]
    Tier {
        /// The tier.
        tier: String,
        /// Its size.
        size: Bytes,
        /// Bytes of a block on all GPUs of a replica.
        block: Bytes,
    },
    /// The model keeps its KV otherwise.
    #[error(
        "`engine.retention`: {model} has {why}; budgets of slots are for models with keys and values of every token and head"
    )]
    Retention {
        /// The model.
        model: String,
        /// What it has instead.
        why: &'static str,
    },
    /// Budgets of slots together with data-parallel attention.
    #[error("`engine.retention`: its work is not known under data-parallel attention; leave out `fleet.dp_attention`")]
    RetentionOnRanks,
    /// The trace cannot be replayed.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The generator cannot be started.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The first request of the workload cannot be read.
    #[error("{0}")]
    FirstRequest(String),
    /// The scenario has no workload.
    #[error("the scenario has none of `workload.generate`, `workload.trace` and `workload.population`")]
    NoWorkload,
}

/// Where the replica's KV pool comes from, for the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PoolOrigin {
    /// What the memory of the GPUs leaves.
    Memory(MemoryPlan),
    /// `engine.kv_tokens`.
    Given,
}

/// Why there are no budgets of slots for a model.
pub(crate) fn unkept(model: &ModelSpec) -> Option<WorldError> {
    let why = match (model.mla, model.sliding) {
        (Some(_), _) => "one latent vector for all heads",
        (_, Some(_)) => "layers with a sliding window",
        _ => return None,
    };
    Some(WorldError::Retention { model: model.name.clone(), why })
}

impl Point {
    /// The limits of a replica and where its pool comes from. The longest sequence is what the scenario says, else the
    /// model's context as far as the pool holds it.
    ///
    /// # Errors
    /// The model does not fit, or the pool cannot hold one request.
    pub fn limits(&self) -> Result<(Limits, PoolOrigin), WorldError> {
        let engine = &self.scenario.engine;
        let ranks = u64::from(self.scenario.fleet.dp_attention.max(1));
        let (blocks, origin) = if let Some(tokens) = engine.kv_tokens {
            (tokens / u64::from(engine.block_tokens), PoolOrigin::Given)
        } else {
            let plan = memory::plan(&self.gpu, &self.model, &self.scenario.layout(&self.model))?;
            let plan = self.beside_draft(plan)?;
            (plan.blocks * ranks, PoolOrigin::Memory(plan))
        };
        // A request lives on one rank, whose pool is its share of all.
        let of = if ranks > 1 { "rank" } else { "replica" };
        let pool = blocks / ranks * u64::from(engine.block_tokens);
        let needs = self.scenario.scheduler.needs();
        let retention = self.retention()?.map_or(Keep::ALL, RetentionSpec::keep);
        // The longest request: as long as the pool, unless it never has more slots than its budget and a chunk.
        let chunk = needs.step_tokens.at(self.model.context);
        let fits = |tokens: u32| u64::from(retention.longest_slots(tokens, chunk)) <= pool;
        let held = if fits(self.model.context) { self.model.context } else { u32::try_from(pool).unwrap_or(u32::MAX) };
        let max_model_len = match engine.max_model_len {
            Some(MaxModelLen::Tokens(len)) if !fits(len) => {
                return Err(WorldError::Pool { max_model_len: len, of, pool });
            }
            Some(MaxModelLen::Tokens(len)) => len,
            None if held < self.model.context && engine.kv_tokens.is_none() && self.starts_whole() => {
                return Err(WorldError::Context { context: self.model.context, of, pool });
            }
            Some(MaxModelLen::Auto) | None => held,
        };
        let swap = needs.swap_space.map(|space| self.swap(space)).transpose()?.unwrap_or_default();
        let mut limits = Limits { swap, retention, ..needs.limits(blocks, engine.block_tokens, max_model_len) };
        if let Some(speculation) = &engine.speculation {
            limits.drafts = speculation.drafts(&self.scenario.scheduler);
            limits.depth = 1;
        }
        Ok((limits, origin))
    }

    /// What requests keep of their KV.
    ///
    /// # Errors
    /// The model's layers do not keep slots of tokens and heads.
    fn retention(&self) -> Result<Option<&RetentionSpec>, WorldError> {
        let retention = self.scenario.engine.retention.as_ref();
        if retention.is_some() && self.scenario.fleet.dp_attention > 1 {
            return Err(WorldError::RetentionOnRanks);
        }
        match unkept(&self.model).filter(|_| retention.is_some()) {
            Some(error) => Err(error),
            None => Ok(retention),
        }
    }

    /// Whether its engine refuses to start unless the memory holds one sequence of the model's whole context, as vLLM does. Others
    /// take what the pool holds.
    fn starts_whole(&self) -> bool {
        matches!(self.scenario.scheduler, SchedulerSpec::Vllm(_) | SchedulerSpec::VllmV0(_))
    }

    /// The host's memory for KV, which each GPU of a replica fills with its share of every block, all at once.
    fn swap(&self, space: Bytes) -> Result<SwapSpace, WorldError> {
        let engine = &self.scenario.engine;
        let layout = self.scenario.layout(&self.model);
        let shard = self.model.shard_split(layout.split()).map_err(MemoryError::from)?;
        let token =
            memory::kv_bytes_per_token(&self.model, &shard, engine.kv).div_ceil(u64::from(layout.stages.max(1)));
        let block = token * u64::from(engine.block_tokens);
        // Every rank has a link and a share of the memory of its own.
        let ranks = layout.ranks.max(1);
        let seconds = block as f64 / engine.host_link.0 / f64::from(ranks);
        let blocks = space.0 / block.max(1) * u64::from(ranks);
        Ok(SwapSpace { blocks, block_cost: Cost::from_ns(seconds * 1e9) })
    }

    /// Bytes that a block takes on all GPUs that hold a part of it: those of a replica, or of one of its ranks.
    fn block_bytes(&self) -> Result<u64, WorldError> {
        let engine = &self.scenario.engine;
        let layout = self.scenario.layout(&self.model);
        let shard = self.model.shard_split(layout.split()).map_err(MemoryError::from)?;
        let gpus = layout.tensor_parallel / layout.ranks.max(1);
        let token = memory::kv_bytes_per_token(&self.model, &shard, engine.kv) * u64::from(gpus);
        Ok(token * u64::from(engine.block_tokens))
    }

    /// Blocks that fit into a tier below the GPUs; at least one.
    pub(crate) fn tier_blocks(&self, tier: &CacheTierSpec) -> Result<u32, WorldError> {
        let block = self.block_bytes()?.max(1);
        if tier.size.0 < block {
            return Err(WorldError::Tier { tier: tier.name.clone(), size: tier.size, block: Bytes(block) });
        }
        // The largest numbers have other meanings.
        Ok(u32::try_from(tier.size.0 / block).unwrap_or(u32::MAX).min(u32::MAX - 3))
    }

    /// How a replica keeps KV that no request holds.
    fn store(&self) -> Result<StoreSpec, WorldError> {
        let engine = &self.scenario.engine;
        let Some(cache) = &engine.prefix_cache else { return Ok(StoreSpec::default()) };
        let layout = self.scenario.layout(&self.model);
        let gpus = f64::from(layout.tensor_parallel * layout.stages.max(1));
        let block = self.block_bytes()?;
        let tier = |tier: &CacheTierSpec| {
            let bandwidth = tier.bandwidth.map_or(engine.host_link.0 * gpus, |bandwidth| bandwidth.0);
            Ok(TierSpec {
                name: tier.name.clone(),
                blocks: self.tier_blocks(tier)?,
                latency: tier.latency.0,
                block_cost: Cost::from_ns(block as f64 / bandwidth * 1e9),
                network: tier.over_network,
                write: tier.write.into(),
                eviction: tier.eviction.clone(),
            })
        };
        Ok(StoreSpec {
            eviction: cache.eviction.clone(),
            tiers: cache.tiers.iter().map(tier).collect::<Result<_, WorldError>>()?,
            load: match cache.load {
                LoadSpec::Always => LoadRule::Always,
                LoadSpec::AtLeast(tokens) => LoadRule::AtLeast(tokens),
                LoadSpec::WhenFaster => LoadRule::Faster(self.prefill_cost()?),
            },
            prefetch: cache.prefetch,
            record: cache.bound,
            seed: self.scenario.seed,
            instant: false,
        })
    }

    /// What a token of a lone prompt of 2,048 tokens takes, or of a whole step if that is less.
    fn prefill_cost(&self) -> Result<Cost, WorldError> {
        let tokens = self.scenario.layout(&self.model).max_batched_tokens.clamp(1, 2048);
        let prefill = [PrefillPart { tokens, past: 0 }];
        let shape = StepShape { decode_seqs: 0, decode_context: 0, prefill: &prefill, prefill_ends: 1 };
        let StepCost { device, host } = self.cost()?.step(&shape);
        Ok(Cost((device + host).0 / u64::from(tokens)))
    }

    /// The fleet.
    ///
    /// # Errors
    /// As [`Point::limits`].
    pub fn cluster(&self) -> Result<ClusterSpec, WorldError> {
        let scenario = &self.scenario;
        let goodput = scenario.slo.goodput.clone().unwrap_or_default();
        Ok(ClusterSpec {
            replicas: scenario.fleet.replicas,
            limits: self.kinds()[0].limits()?.0,
            gpus: Some(scenario.fleet.gpus_per_replica()),
            pools: self.replica_pools()?,
            speculation: scenario.engine.speculation.as_ref().map(SpeculationSpec::acceptance),
            store: self.store()?,
            scheduler: scenario.scheduler.clone(),
            router: scenario.fleet.router,
            traffic: self.traffic(),
            controllers: self.controllers()?,
            devices: self.devices()?,
            power: self.power()?,
            economics: self.economics()?,
            limiter: self.limiter()?,
            seed: scenario.seed,
            slo: Slo {
                ttft: goodput.ttft.map(|d| d.0),
                tpot: goodput.tpot.map(|d| d.0),
                mtpot: goodput.mtpot.map(|d| d.0),
                e2el: goodput.e2el.map(|d| d.0),
            },
            jumps: true,
            audit: scenario.audit,
        })
    }

    fn traffic(&self) -> Traffic {
        let workload = &self.scenario.workload;
        Traffic {
            output_limit: match workload.max_new_tokens {
                MaxNewTokens::Context => OutputLimit::Context,
                MaxNewTokens::True if workload.ignore_eos => OutputLimit::Exact,
                MaxNewTokens::True => OutputLimit::True,
                MaxNewTokens::Fixed(tokens) => OutputLimit::Fixed(tokens),
            },
            clients: workload.clients.as_ref().map(|c| Clients { count: c.count, think_time: c.think_time.0 }),
            max_concurrency: workload.max_concurrency,
            frontend: self.frontend(),
            client_time: workload
                .client_time
                .as_ref()
                .map(|time| ClientTime { base: time.base.0, per_concurrent: time.per_concurrent.0 }),
            drain: workload.drain,
        }
    }

    /// What the front end of its servers adds to latencies.
    fn frontend(&self) -> Option<Frontend> {
        let of = |frontend: FrontendSpec| Frontend {
            base: frontend.base.0,
            per_running: frontend.per_running.0,
            per_prompt_token: frontend.per_prompt_token.0,
        };
        self.scenario.engine.frontend.map(of)
    }

    fn controllers(&self) -> Result<Controllers, WorldError> {
        let (workload, fleet) = (&self.scenario.workload, &self.scenario.fleet);
        Ok(Controllers {
            router_view: fleet.controllers.router_view.map(|v| RouterView { interval: v.interval.0, delay: v.delay.0 }),
            disaggregation: self.disaggregation()?,
            early_rejection: fleet
                .controllers
                .early_rejection
                .map(|early| EarlyRejection { ttft: early.ttft.map(|d| d.0), tbt: early.tbt.map(|d| d.0) }),
            patience: Patience {
                max_wait: workload.limits.max_wait.map(|d| d.0),
                deadline: workload.limits.deadline.map(|d| d.0),
                cancel_after: workload.limits.cancel_after.map(|d| d.0),
            },
            retry: workload.retry.as_ref().map(retry),
            failures: fleet.controllers.failures.iter().map(|failure| self.failure(failure)).collect(),
            faults: fleet.controllers.faults.map(|faults| Faults {
                mtbf: faults.mtbf.0,
                mttr: faults.mttr.0,
                domains: if faults.of == FaultDomain::Server { self.servers().unwrap_or_default() } else { Vec::new() },
            }),
            autoscale: fleet.controllers.autoscale.map(autoscale),
            ..Controllers::default()
        })
    }

    fn replica_pools(&self) -> Result<Vec<ReplicaPool>, WorldError> {
        let pools = self.pools.iter().zip(&self.scenario.fleet.pools);
        let pool = |(pool, spec): (&Point, &PoolSpec)| {
            Ok(ReplicaPool {
                replicas: spec.replicas,
                limits: pool.limits()?.0,
                gpus: Some(pool.scenario.fleet.gpus_per_replica()),
                weight: spec.weight,
                autoscale: spec.autoscale.map(autoscale),
                frontend: pool.frontend(),
            })
        };
        pools.map(pool).collect()
    }

    /// KV bytes of a token that each GPU of a replica has.
    fn kv_share(&self) -> Result<u64, WorldError> {
        let layout = self.scenario.layout(&self.model);
        let shard = self.model.shard_split(layout.split()).map_err(MemoryError::from)?;
        Ok(memory::kv_bytes_per_token(&self.model, &shard, layout.kv) / u64::from(layout.stages.max(1)))
    }

    /// Which replicas only compute prompts, and how long their KV takes to the others: every GPU sends its own share. Between
    /// pools the larger shares set the pace: a GPU with much to send, or to take in, has one port for it.
    fn disaggregation(&self) -> Result<Option<Disaggregation>, WorldError> {
        let fleet = &self.scenario.fleet;
        let (Some(apart), Some(link)) = (&fleet.controllers.disaggregation, &self.kv_link) else { return Ok(None) };
        let shares: Vec<u64> = self.kinds().iter().map(Point::kv_share).collect::<Result<_, _>>()?;
        let bytes = shares.into_iter().max().unwrap_or(0);
        Ok(Some(Disaggregation {
            prefill: apart.prefill,
            latency: link.latency.0,
            per_token: Cost::from_us(bytes as f64 / link.stream(1.0) * 1e6),
            layers: if apart.layerwise { self.model.layers } else { 1 },
            max_seqs: self.scenario.scheduler.needs().max_seqs,
            overflow: apart.overflow_tokens.map(u64::from),
        }))
    }

    /// What steps cost, for each kind of replica.
    ///
    /// # Errors
    /// As [`Point::cost`].
    pub fn costs(&self) -> Result<Vec<Box<dyn CostModel>>, WorldError> {
        self.kinds().iter().map(Point::cost).collect()
    }

    /// What steps cost on replicas that are all alike.
    ///
    /// # Errors
    /// No cost model for this combination, or its table cannot be read.
    pub fn cost(&self) -> Result<Box<dyn CostModel>, WorldError> {
        let whole = self.whole_cost()?;
        let Some(retention) = self.retention()?.filter(|_| self.scenario.engine.has_roofline()) else {
            return Ok(whole);
        };
        let layout = self.scenario.layout(&self.model);
        let shard = self.model.shard_split(layout.split()).map_err(MemoryError::from)?;
        let work = retention.policy.work();
        // No request has more slots than its context. Where output stays, nothing is searched for while decoding.
        let longest = match self.scenario.engine.max_model_len {
            Some(MaxModelLen::Tokens(len)) => len,
            _ => self.model.context,
        };
        let budget = retention.budget.min(longest);
        let every = if retention.output == OutputRule::Keep { u32::MAX } else { retention.every };
        let pace = Pace { budget, every, at_end: retention.prompt == PromptRule::AtEnd };
        let work = RetentionWork::new(&work, pace, &self.gpu, (&self.model, &shard), layout.kv);
        Ok(Box::new(Retained::new(whole, work)))
    }

    /// The same for requests that keep all their tokens.
    fn whole_cost(&self) -> Result<Box<dyn CostModel>, WorldError> {
        let engine = &self.scenario.engine;
        let layout = self.scenario.layout(&self.model);
        match &engine.cost {
            CostSpec::Roofline | CostSpec::Profile(_) => {
                let roofline = Roofline::new(
                    &self.gpu,
                    &self.model,
                    self.scenario.spread(self.topology.as_ref()),
                    engine.weights,
                    engine.kv,
                    engine.host.unwrap_or_default(),
                    layout.max_batched_tokens,
                )?;
                if let Some(speculation) = &engine.speculation {
                    return self.speculative(speculation, roofline);
                }
                if engine.enforce_eager {
                    return Ok(Box::new(Eager::new(roofline, self.model.layers)));
                }
                Ok(Box::new(roofline))
            }
            CostSpec::Constant(constant) => Ok(Box::new(Constant(StepCost {
                device: Cost::from_ns(constant.device.0.0 as f64),
                host: Cost::from_ns(constant.host.0.0 as f64),
            }))),
            CostSpec::Table(table) => table_file::read(&table.path, engine.host),
            CostSpec::Steps(steps) => {
                let profile = profile_file::read_steps(&steps.path)?;
                let failed = |error: StepProfileError| WorldError::Profile {
                    path: steps.path.clone(),
                    message: error.to_string(),
                };
                let cost = if steps.jitter { StepProfile::jittered } else { StepProfile::cost };
                cost(&profile, steps.model, engine.host).map_err(failed)
            }
        }
    }

    /// The calibration profile of whole steps, if step costs come from one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn step_profile(&self) -> Result<Option<StepProfile>, WorldError> {
        let CostSpec::Steps(steps) = &self.scenario.engine.cost else { return Ok(None) };
        profile_file::read_steps(&steps.path).map(Some)
    }

    /// A profile of whole steps as YAML text.
    pub fn steps_yaml(profile: &StepProfile) -> String {
        crate::yaml::emit(&serde_json::to_value(profile).unwrap_or_default())
    }

    /// The requests.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn workload(&self) -> Result<Box<dyn Workload>, WorldError> {
        self.requests()?.open()
    }
}

fn retry(spec: &RetrySpec) -> Retry {
    Retry {
        attempts: spec.attempts,
        backoff: spec.backoff.0,
        max_backoff: spec.max_backoff.0,
        jitter: spec.jitter,
        on_failed: spec.on.contains(&RetryOn::Failed),
        on_expired: spec.on.contains(&RetryOn::Expired),
        on_rejected: spec.on.contains(&RetryOn::Rejected),
    }
}

fn autoscale(spec: AutoscaleSpec) -> Autoscale {
    Autoscale {
        min: spec.min,
        start_up: spec.start_up.0,
        interval: spec.interval.0,
        target: match spec.target {
            ScaleTargetSpec::Outstanding(target) => ScaleTarget::Outstanding(target),
            ScaleTargetSpec::KvUse(target) => ScaleTarget::KvUse(target),
            ScaleTargetSpec::Waiting(target) => ScaleTarget::Waiting(target),
            ScaleTargetSpec::QueueTime(target) => ScaleTarget::QueueTime(target.0),
        },
        cool_down: spec.cool_down.0,
        tolerance: spec.tolerance,
        growth: match spec.growth {
            GrowthSpec::Unlimited => Growth::UNLIMITED,
            GrowthSpec::Limited { replicas, percent, per } => Growth { replicas, share: percent / 100.0, per: per.0 },
        },
    }
}
