//! Checks of one decoded point, each problem at its place in the text.

use std::path::{Path, PathBuf};

use overbook_sim::calibrate::Profile;
use overbook_sim::check::Check;
use overbook_sim::hardware::gpu::GpuSpec;
use overbook_sim::hardware::model::{ModelSpec, WeightDtype};
use overbook_sim::hardware::server::{LinkSpec, Topology};
use overbook_sim::power::policies::ClockRange;
use overbook_sim::schedulers::sglang::SglangVersion;
use overbook_sim::schedulers::{Prompts, SchedulerSpec, SglangSpec};

use super::fit;
use crate::catalog::{Catalog, CatalogError};
use crate::defaults::{self, Assumed, Kind, Written};
use crate::diagnostics::Problems;
use crate::nearest::suggestion;
use crate::point::Point;
use crate::quality::{self, QualityError};
use crate::scenario::{CarbonSpec, CostSpec, MaxModelLen, ModelChoice, PoolSpec, Scenario, key_of};
use crate::world::{RowError, WorldError, profile_file};
use crate::yaml::{Decoded, Node, SourceId, leads_to};

/// What a point runs on.
pub(super) struct Hardware {
    pub(super) model: ModelSpec,
    pub(super) gpu: GpuSpec,
    pub(super) topology: Option<Topology>,
    pub(super) kv_link: Option<LinkSpec>,
    pub(super) profile: Option<Profile>,
    /// Each pool as a fleet of its own.
    pub(super) pools: Vec<Point>,
    /// Settings that have their engine's own values.
    pub(super) assumed: Vec<Assumed>,
}

/// Where replicas are.
struct Placed {
    gpu: Option<GpuSpec>,
    topology: Option<Topology>,
    kv_link: Option<LinkSpec>,
}

pub(super) struct PointCheck<'p> {
    pub(super) tree: &'p Node,
    pub(super) decoded: &'p Decoded<Scenario>,
    pub(super) problems: &'p mut Problems,
    /// No problem was found yet.
    pub(super) sound: bool,
    /// The pool that is looked at, and its number: its settings are looked up as those of a fleet of its own.
    pub(super) pool: Option<(usize, PoolSpec)>,
}

impl PointCheck<'_> {
    /// Adds a problem unless the value at the path is only what an earlier fault left behind.
    fn add(&mut self, path: &str, message: String) {
        self.add_with(path, message, None);
    }

    fn add_with(&mut self, path: &str, message: String, help: Option<String>) {
        let path = self.pool.as_ref().map_or_else(|| path.to_owned(), |(number, pool)| pool.place(*number, path));
        if self.is_of_the_user(&path) {
            self.sound = false;
            self.problems.add(&path, self.tree.place(&path), message, help);
        }
    }

    /// Whether a problem at the path is one of what was written. A fault takes values out, and leaves them and those that would be
    /// in their place missing.
    fn is_of_the_user(&self, path: &str) -> bool {
        let (parent, _) = path.rsplit_once('.').unwrap_or_default();
        let beside = |other: &String| other.rsplit_once('.').unwrap_or_default().0 == parent;
        self.decoded.vouches_for(path) && (self.tree.at(path).is_some() || !self.decoded.patched.iter().any(beside))
    }

    /// Adds a problem of a whole: in a fleet of pools it is one of the pool, wherever the settings are from.
    fn add_to_pool(&mut self, path: &str, message: String) {
        let Some((number, pool)) = &self.pool else { return self.add(path, message) };
        let (number, place) = (*number, pool.place(*number, path));
        let whole = format!("fleet.pools.{number}");
        let path = if leads_to(&whole, &place) { place } else { whole };
        if self.is_of_the_user(&path) {
            self.sound = false;
            self.problems.add(&path, self.tree.place(&path), format!("pool {number}: {message}"), None);
        }
    }

    /// Ranges, and settings that exclude or need each other.
    pub(super) fn ranges(&mut self, scenario: &Scenario) {
        for (path, message) in scenario.problems() {
            self.add(&path, format!("`{}` {message}", key_of(&path)));
        }
    }

    /// Makes the paths absolute and checks that they lead to files.
    pub(super) fn files(&mut self, scenario: &mut Scenario, base: &Path) {
        if let Some(trace) = &mut scenario.workload.trace {
            self.file("workload.trace.path", &mut trace.path, base);
        }
        if let Some(population) = &mut scenario.workload.population {
            self.file_or_folder("workload.population.rates", &mut population.rates, base);
            if let Some(lengths) = &mut population.lengths {
                self.file_or_folder("workload.population.lengths", lengths, base);
            }
        }
        match &mut scenario.engine.cost {
            CostSpec::Table(table) => self.file("engine.cost.table.path", &mut table.path, base),
            CostSpec::Steps(steps) => self.file("engine.cost.steps.path", &mut steps.path, base),
            CostSpec::Profile(profile) => self.file("engine.cost.profile.path", &mut profile.path, base),
            CostSpec::Roofline | CostSpec::Constant(_) => {}
        }
        if let Some(table) = scenario.slo.quality.as_mut().and_then(|quality| quality.table.as_mut()) {
            self.file("slo.quality.table", table, base);
        }
        if let Some(CarbonSpec::File { path, .. }) =
            scenario.economics.as_mut().and_then(|economics| economics.carbon.as_mut())
        {
            self.file("economics.carbon.file.path", path, base);
        }
        for (number, pool) in scenario.fleet.pools.iter_mut().enumerate() {
            let key = |kind: &str| format!("fleet.pools.{number}.engine.cost.{kind}.path");
            match &mut pool.engine.cost {
                Some(CostSpec::Table(table)) => self.file(&key("table"), &mut table.path, base),
                Some(CostSpec::Steps(steps)) => self.file(&key("steps"), &mut steps.path, base),
                Some(CostSpec::Profile(profile)) => self.file(&key("profile"), &mut profile.path, base),
                Some(CostSpec::Roofline | CostSpec::Constant(_)) | None => {}
            }
        }
    }

    fn file(&mut self, key: &str, path: &mut PathBuf, base: &Path) {
        self.file_or_folder(key, path, base);
        if path.is_dir() {
            self.add(key, format!("`{}` is a folder; name a file", path.display()));
        }
    }

    fn file_or_folder(&mut self, key: &str, path: &mut PathBuf, base: &Path) {
        if path.as_os_str().is_empty() {
            return;
        }
        // A path from the command line starts where the user stands.
        let from_file = self.tree.place(key).source == SourceId::FILE;
        let joined = if from_file { base.join(&*path) } else { path.clone() };
        *path = std::path::absolute(&joined).unwrap_or(joined);
        if !path.exists() {
            self.add(key, format!("there is no file `{}`", path.display()));
        }
    }

    /// Looks up model, server, GPU and profile and checks the fleet and the engine against them. The GPU of the server
    /// becomes the scenario's, the constants of the profile the GPU's.
    pub(super) fn hardware(&mut self, scenario: &mut Scenario, catalog: Catalog) -> Option<Hardware> {
        let model = match &scenario.model {
            ModelChoice::Named(name) => self.found("model", catalog.model(name)),
            ModelChoice::Inline(spec) => {
                let valid = spec.validate();
                let problem = valid.err().map(|error| self.add("model", error.to_string()));
                problem.is_none().then(|| spec.as_ref().clone())
            }
        };
        if let Some(error) = model.as_ref().and_then(|model| quality::of(scenario, model, std::iter::empty()).err()) {
            let key = match error {
                QualityError::Table { .. } => "slo.quality.table",
                QualityError::Task { .. } => "slo.quality.task",
                QualityError::Model { .. } => "slo.quality",
            };
            self.add(key, error.to_string());
        }
        let unkept = model.as_ref().filter(|_| scenario.engine.retention.is_some()).and_then(crate::world::unkept);
        if let Some(error) = unkept {
            self.add("engine.retention", error.to_string());
        }
        if !scenario.fleet.pools.is_empty() {
            return self.pools(scenario, model.as_ref(), catalog);
        }
        let Placed { gpu, topology, kv_link } = self.placed(scenario, catalog)?;
        let mut assumed = Vec::new();
        if let (Some(model), Some(gpu)) = (&model, &gpu) {
            let written = Written { tree: self.tree, pool: None };
            assumed.extend({
                let kind = [Kind::of(scenario, gpu)];
                defaults::limits(scenario, &written, model, &kind)
            });
            assumed.extend(defaults::engine(scenario, &written, model, gpu));
        }
        let (gpu, profile) = self.suits(scenario, model.as_ref(), gpu, topology.as_ref())?;
        Some(Hardware { model: model?, gpu, topology, kv_link, profile, pools: Vec::new(), assumed })
    }

    /// The pools, each as a fleet of its own.
    fn pools(&mut self, scenario: &mut Scenario, model: Option<&ModelSpec>, catalog: Catalog) -> Option<Hardware> {
        let mut pools = Vec::new();
        // A problem of one pool is no reason to pass over those of another.
        let before = self.sound;
        let mut sound = before;
        let mut each = Vec::new();
        for (number, spec) in scenario.fleet.pools.iter().enumerate() {
            let mut own = spec.alone(scenario);
            own.fleet.controllers.disaggregation = None;
            self.pool = Some((number, spec.clone()));
            let placed = self.placed(&mut own, catalog);
            self.pool = None;
            each.push((spec.clone(), own, placed));
        }
        let kinds = each.iter().filter_map(|(_, own, placed)| Some(Kind::of(own, placed.as_ref()?.gpu.as_ref()?)));
        let kinds: Vec<Kind<'_>> = kinds.collect();
        let written = Written { tree: self.tree, pool: None };
        let mut assumed = model.map_or_else(Vec::new, |model| defaults::limits(scenario, &written, model, &kinds));
        for (number, (spec, mut own, placed)) in each.into_iter().enumerate() {
            let written = Written { tree: self.tree, pool: Some(&spec) };
            self.sound = before;
            own.scheduler.clone_from(&scenario.scheduler);
            let gpu = placed.as_ref().and_then(|placed| placed.gpu.clone());
            let mut taken = Vec::new();
            if let (Some(model), Some(gpu)) = (model, &gpu) {
                taken = defaults::engine(&mut own, &written, model, gpu);
            }
            self.pool = Some((number, spec));
            sound &= placed.is_some();
            let topology = placed.and_then(|placed| placed.topology);
            let suited = self.suits(&own, model, gpu, topology.as_ref());
            self.pool = None;
            sound &= self.sound;
            let (Some((gpu, profile)), Some(model)) = (suited, model) else { continue };
            let (model, coordinates) = (model.clone(), Vec::new());
            pools.push(Point {
                coordinates,
                scenario: own,
                model,
                gpu,
                topology,
                kv_link: None,
                profile,
                pools: Vec::new(),
                assumed: taken,
            });
        }
        self.sound = sound;
        let kv_link = self.kv_link(scenario, None, catalog);
        let gpu = pools.first()?.gpu.clone();
        let whole = pools.len() == scenario.fleet.pools.len();
        // What only some pools take is theirs.
        for (number, pool) in pools.iter().enumerate() {
            for one in &pool.assumed {
                let shared = pools.iter().all(|other| other.assumed.contains(one));
                let path = if shared { one.path.clone() } else { format!("fleet.pools.{number}.{}", one.path) };
                let one = Assumed { path, ..one.clone() };
                if !assumed.contains(&one) {
                    assumed.push(one);
                }
            }
        }
        whole.then(|| Hardware {
            model: pools[0].model.clone(),
            gpu,
            topology: None,
            kv_link,
            profile: None,
            pools,
            assumed,
        })
    }

    /// Server, GPU and links.
    fn placed(&mut self, scenario: &mut Scenario, catalog: Catalog) -> Option<Placed> {
        let named = scenario.fleet.server.as_ref();
        let server = named.map(|name| self.found("fleet.server", catalog.server(name)));
        if let Some(Some(server)) = &server {
            if scenario.gpu.is_empty() {
                scenario.gpu.clone_from(&server.gpu);
            } else if scenario.gpu != server.gpu {
                let message =
                    format!("`gpu` is {}, a {} has {}; leave one of them out", scenario.gpu, server.name, server.gpu);
                self.add("gpu", message);
            }
        }
        // A server that is not found, or neither of the two, has been reported already.
        let named = self.tree.entry("gpu").is_some() || self.pool.as_ref().is_some_and(|(_, pool)| pool.gpu.is_some());
        let gpu = match scenario.gpu.as_str() {
            "" if server.is_some() || !named => None,
            "none" => Some(GpuSpec::none()),
            name => self.found("gpu", catalog.gpu(name)),
        };
        if let Some(Some(server)) = &server {
            defaults::row(scenario, server);
        }
        let topology = match server {
            Some(server) => Some(self.found("fleet.server", catalog.topology(&server?))?),
            None => None,
        };
        let kv_link = self.kv_link(scenario, topology.as_ref(), catalog);
        Some(Placed { gpu, topology, kv_link })
    }

    /// Whether the model suits what it is placed on; the GPU with the constants of the profile, and the profile.
    fn suits(
        &mut self,
        scenario: &Scenario,
        model: Option<&ModelSpec>,
        gpu: Option<GpuSpec>,
        topology: Option<&Topology>,
    ) -> Option<(GpuSpec, Option<Profile>)> {
        let (model, mut gpu) = (model?, gpu?);
        self.context_fits(scenario, model);
        if scenario.engine.weights == WeightDtype::Mxfp4 && model.moe.is_none() {
            let message = format!(
                "`mxfp4` is a format of experts, and {} has none; take `int4` or `{{ bits: 4.25 }}`",
                model.name
            );
            self.add("engine.weights", message);
        }
        let mut profile = None;
        if let CostSpec::Profile(cost) = &scenario.engine.cost {
            let read = self.profile(&cost.path, &scenario.gpu)?;
            gpu = read.applied(&gpu);
            profile = Some(read);
        }
        // The arithmetic below needs sane numbers.
        if self.sound
            && let Err((path, message)) = fit::check(scenario, model, &gpu, topology)
        {
            self.add_to_pool(path, message);
        }
        Some((gpu, profile))
    }

    /// The link between replicas that compute prompts and those that decode.
    fn kv_link(&mut self, scenario: &Scenario, topology: Option<&Topology>, catalog: Catalog) -> Option<LinkSpec> {
        let apart = scenario.fleet.controllers.disaggregation.as_ref()?;
        if let Some(name) = &apart.link {
            return self.found("fleet.controllers.disaggregation.link", catalog.link(name));
        }
        let gpus = scenario.fleet.replicas.saturating_mul(scenario.fleet.gpus_per_replica());
        let link = topology.and_then(|topology| {
            let network = topology.network.as_ref().map(|(link, _)| link);
            if gpus <= topology.gpus { Some(&topology.inside) } else { network }
        });
        if link.is_none() {
            let message = if scenario.fleet.pools.is_empty() {
                "`disaggregation` needs `link`, or a `fleet.server` whose links it can use: how does the KV get \
                 from one replica to another?"
            } else {
                "`disaggregation` between pools needs `link`: which one carries KV from one pool to another?"
            };
            self.add("fleet.controllers.disaggregation", message.to_owned());
        }
        link.cloned()
    }

    /// The profile of the scenario's GPU.
    fn profile(&mut self, path: &Path, gpu: &str) -> Option<Profile> {
        let key = "engine.cost.profile.path";
        if !path.is_file() {
            // Reported already.
            return None;
        }
        match profile_file::read(path) {
            Ok(profile) if profile.gpu == gpu => Some(profile),
            Ok(profile) => {
                let message =
                    format!("the profile `{}` is of {}, the scenario's GPU is {gpu}", path.display(), profile.gpu);
                self.add(key, message);
                None
            }
            Err(error) => {
                self.add(key, error.to_string());
                None
            }
        }
    }

    /// Whether watts can be counted, where they are, and policies' clocks are the GPU's.
    pub(super) fn power(&mut self, point: &Point) {
        if !point.looks_at_gpus() {
            return;
        }
        if let (Some(policy), Some(clock)) = (&point.scenario.power, point.kinds()[0].clock()) {
            let mut found = Vec::new();
            policy.check(&mut Check::new("power", &mut found), ClockRange::of(clock));
            for (path, message) in found {
                self.add(&path, format!("`{}` {message}", key_of(&path)));
            }
        }
        if let Err(RowError { path, told }) = point.power().map(drop).and(point.limiter().map(drop)) {
            self.add(path, format!("`{}` {told}", key_of(path)));
        }
    }

    /// Whether prices and carbon fit the point, and GPUs are known that have a price.
    pub(super) fn economics(&mut self, point: &Point) {
        let catalog = Catalog::embedded();
        let priced = point.scenario.economics.iter().flat_map(|spec| spec.prices.keys());
        for gpu in priced.filter(|gpu| catalog.gpu(gpu).is_err()) {
            let help = Some(suggestion(gpu, catalog.gpu_names()));
            self.add_with(&format!("economics.prices.{gpu}"), format!("no GPU is called `{gpu}`"), help);
        }
        if let Err(RowError { path, told }) = point.economics() {
            self.add(path, format!("`{}` {told}", key_of(path)));
        }
    }

    /// Whether the servers are there that failures name.
    pub(super) fn servers(&mut self, point: &Point) {
        for (path, message) in point.missing_servers() {
            self.add(&path, message);
        }
    }

    /// Whether the drafter is known, splits over the replica's GPUs, and leaves room for keys and values.
    pub(super) fn draft(&mut self, point: &Point) {
        match point.check_draft() {
            Ok(()) | Err(WorldError::Pool { .. } | WorldError::Context { .. }) => {}
            Err(error) if point.scenario.engine.speculation.is_some() => {
                self.add("engine.speculation", error.to_string());
            }
            Err(_) => {}
        }
    }

    /// Whether one replica can hold, and one step can take in, the longest sequence that the replica accepts.
    pub(super) fn longest(&mut self, point: &Point) {
        for (number, kind) in point.kinds().iter().enumerate() {
            self.pool = point.scenario.fleet.pools.get(number).map(|pool| (number, pool.clone()));
            self.longest_in(kind);
        }
        self.pool = None;
        let lengths: Vec<u32> = point.kinds().iter().flat_map(Point::limits).map(|l| l.0.max_model_len).collect();
        let shortest = lengths.iter().min().copied().unwrap_or(0);
        if point.scenario.fleet.controllers.disaggregation.is_some() && lengths.iter().any(|&length| length != shortest)
        {
            let message = format!(
                "with `disaggregation` a request goes from one pool to another, and the pools take sequences of {lengths:?} \
                 tokens; set `engine.max_model_len` to at most {shortest}"
            );
            self.add("fleet.controllers.disaggregation", message);
        }
    }

    fn longest_in(&mut self, point: &Point) {
        let (longest, block) = match point.limits() {
            Ok((limits, _)) => (limits.max_model_len, limits.block_tokens),
            Err(error @ (WorldError::Pool { .. } | WorldError::Context { .. })) => {
                return self.add_to_pool("engine.max_model_len", error.to_string());
            }
            Err(_) => return,
        };
        // vLLM refuses this too: such a prompt would wait for ever, and all behind it.
        let scheduler = &point.scenario.scheduler;
        if let SchedulerSpec::Sglang(SglangSpec {
            version: SglangVersion::V05, chunked_prefill_size: Some(size), ..
        }) = scheduler
            && !size.is_multiple_of(block)
        {
            let message = format!(
                "`chunked_prefill_size` is {size}; SGLang 0.5.23 takes multiples of a block, here {block} tokens"
            );
            self.add("scheduler.sglang.chunked_prefill_size", message);
        }
        let Prompts::Whole(budgets) = scheduler.needs().prompts else { return };
        for (name, tokens) in budgets {
            if tokens < longest {
                let split =
                    splitting_switch(scheduler).map_or(String::new(), |switch| format!(", or set `{switch}: true`"));
                let message = format!(
                    "`{name}` of `{}` is {tokens}; it computes a prompt in one step, which must hold a whole sequence, here \
                     {longest} tokens: raise it, lower `engine.max_model_len`{split}",
                    scheduler.name()
                );
                self.add(&format!("scheduler.{}.{name}", scheduler.name()), message);
            }
        }
    }

    /// Whether every tier below the GPUs holds a block.
    pub(super) fn tiers(&mut self, point: &Point) {
        let tiers = point.scenario.engine.prefix_cache.iter().flat_map(|cache| &cache.tiers);
        for (number, tier) in tiers.enumerate() {
            if let Err(error @ WorldError::Tier { .. }) = point.tier_blocks(tier) {
                self.add(&format!("engine.prefix_cache.tiers.{number}.size"), error.to_string());
            }
        }
    }

    /// Whether a router that asks for prefixes can be answered.
    pub(super) fn prefixes(&mut self, point: &Point) {
        let scenario = &point.scenario;
        if !scenario.fleet.router.needs().prefixes {
            return;
        }
        let instead = "take `token-jsq` or `least-outstanding`, which need no prefixes";
        if !scenario.scheduler.needs().prefix_caching {
            let message = format!("`prefix-aware` routes to cached prefixes, and the scheduler keeps none; {instead}");
            return self.add("fleet.router", message);
        }
        match point.tells_prefixes() {
            Ok(true) => {}
            Ok(false) => {
                let has =
                    "`generate` with `sessions` or `repeats`, and traces with block hashes (Mooncake, Qwen-Bailian) do";
                let message = format!(
                    "`prefix-aware` routes by prefix, and this workload does not tell which prompts begin alike: {has}. \
                     Or {instead}"
                );
                self.add("fleet.router", message);
            }
            Err(error) => self.add("workload", error.to_string()),
        }
    }

    fn context_fits(&mut self, scenario: &Scenario, model: &ModelSpec) {
        if let Some(longest) =
            scenario.engine.max_model_len.and_then(MaxModelLen::tokens).filter(|&longest| longest > model.context)
        {
            let message =
                format!("`max_model_len` is {longest}; {} was made for {} tokens at most", model.name, model.context);
            self.add("engine.max_model_len", message);
        }
    }

    fn found<T>(&mut self, path: &str, entry: Result<T, CatalogError>) -> Option<T> {
        match entry {
            Ok(entry) => Some(entry),
            Err(CatalogError::Unknown { kind, name, suggestion }) => {
                self.add_with(path, format!("no {kind} is called `{name}`"), Some(suggestion));
                None
            }
            Err(error) => {
                self.add(path, error.to_string());
                None
            }
        }
    }
}

/// The setting of a scheduler that lets it compute a prompt over several steps, if it has one.
fn splitting_switch(scheduler: &SchedulerSpec) -> Option<String> {
    let settings = serde_json::to_value(scheduler).ok()?;
    let settings = settings.get(scheduler.name())?.as_object()?;
    settings.keys().find(|key| key.starts_with("enable_chunked_")).cloned()
}
