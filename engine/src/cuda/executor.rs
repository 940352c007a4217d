//! The executor: sequences, block tables and lanes over one pool.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::CudaError;
use super::blas::Blas;
use super::driver::{Buffer, Event, Gpu, Pinned};
use super::host::Host;
use super::kernels::{Dims, Kernels};
use super::lane::{Lane, Shared};
use super::partition::Partition;
use super::retained::{Keeper, Landing, Notes, Retained};
use super::stream::Stream;
use super::weights::{self, Weights};
use super::{compile, tuning};
use crate::config::Config;
use crate::executor::{
    Batch, BuildError, Capacity, Copied, Executor, ExecutorError, Lanes, Output, Shrink, TierCopy, Watch,
};
use crate::history::Histories;
use crate::retention::Place;
use crate::weights::Source;

/// Kept free for graphs, kernels and what the libraries load [bytes]; of a small device no more than a twentieth.
const RESERVE: u64 = 1 << 30;
/// Workspace of products, for each lane [bytes].
const WORKSPACE: u64 = 32 << 20;

/// A model's weights on a GPU, for any number of executors.
#[derive(Debug)]
pub struct Model {
    pub(super) gpu: Arc<Gpu>,
    pub(super) config: Config,
    pub(super) weights: Weights,
    /// Where compiled kernels and tuned algorithms are kept.
    cache: Option<PathBuf>,
}

/// What a GPU has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fit {
    /// Blocks of keys and values that leave room for everything.
    pub blocks: u64,
    /// Blocks that may still do: the libraries have loaded by then what the room is for.
    pub most: u64,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Device memory free beside the weights [bytes].
    pub free: u64,
    /// What steps of the capacity's size need of it [bytes].
    pub work: u64,
}

impl Model {
    /// Opens a GPU and loads weights.
    ///
    /// # Errors
    /// CUDA or the GPU cannot be used, or the weights cannot be had or do not fit.
    pub fn load(number: u32, config: Config, source: &dyn Source) -> Result<Arc<Model>, CudaError> {
        Model::on(&Gpu::open(number)?, config, source)
    }

    /// Loads weights onto a GPU.
    ///
    /// # Errors
    /// They cannot be had or do not fit.
    pub fn on(gpu: &Arc<Gpu>, config: Config, source: &dyn Source) -> Result<Arc<Model>, CudaError> {
        Dims::of(&config, 1)?;
        let (wanted, free) = (weights::bytes(&config), gpu.free_memory()?);
        if wanted > free {
            return Err(CudaError::Memory { wanted, free });
        }
        let weights = Weights::load(gpu, &config, source, config.max_positions as u32)?;
        Ok(Arc::new(Model { gpu: gpu.clone(), config, weights, cache: compile::cache_folder() }))
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// What it is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Device memory of the weights [bytes].
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// How many blocks there is room for beside steps of a capacity, whose own number of blocks does not count.
    ///
    /// # Errors
    /// The kernels are not written for such blocks, or the GPU is lost.
    pub fn fit(&self, capacity: &Capacity) -> Result<Fit, CudaError> {
        self.fit_with(capacity, None)
    }

    /// [`Model::fit`] where sequences keep only some of their tokens: positions and notes lie beside the blocks.
    ///
    /// # Errors
    /// As there.
    pub fn fit_with(&self, capacity: &Capacity, retained: Option<&Retained>) -> Result<Fit, CudaError> {
        let dims = self.dims(capacity, retained)?;
        let sms = self.gpu.facts().multiprocessors;
        let lanes = lane_capacities(capacity).into_iter();
        let lanes: u64 = lanes.map(|capacity| Lane::bytes(&dims, &capacity, sms) + WORKSPACE).sum();
        let (free, work) = (self.gpu.free_memory()?, lanes);
        let reserve = RESERVE.min(self.gpu.facts().memory / 20);
        let notes = retained.map_or(0, |_| dims.note_bytes());
        let slot_bytes = 2 * (self.config.layers * (dims.slot_bytes() + notes)) as u64;
        let block_bytes = slot_bytes * u64::from(capacity.block_tokens);
        let left = free.saturating_sub(work);
        let blocks = left.saturating_sub(reserve) / block_bytes;
        Ok(Fit { blocks, most: left.saturating_sub(reserve / 2) / block_bytes, block_bytes, free, work })
    }
}

impl Model {
    fn dims(&self, capacity: &Capacity, retained: Option<&Retained>) -> Result<Dims, CudaError> {
        let dims = Dims::of(&self.config, capacity.block_tokens)?;
        Ok(Dims { retention: retained.map(Retained::sizes), ..dims })
    }

    /// Bytes of a block's keys and values in all layers.
    fn block_bytes(&self, dims: &Dims, capacity: &Capacity) -> u64 {
        2 * (self.config.layers * dims.slot_bytes()) as u64 * u64::from(capacity.block_tokens)
    }
}

/// How large the steps of each lane are: one for prompts needs room for them, one for decodes does not.
fn lane_capacities(capacity: &Capacity) -> Vec<Capacity> {
    match capacity.lanes {
        Lanes::One => vec![*capacity],
        Lanes::Two { .. } => {
            vec![*capacity, Capacity { step_tokens: capacity.sequences.min(capacity.step_tokens), ..*capacity }]
        }
    }
}

/// Entries of a block table.
pub(super) fn table_width(capacity: &Capacity) -> u32 {
    capacity.max_model_len.div_ceil(capacity.block_tokens)
}

/// The memory of the host below the pool.
struct Below {
    host: Host,
    /// Where lanes wait for copies, and copies for lanes.
    meets: Event,
}

/// What sequences keep, if not everything.
struct Kept {
    notes: Notes,
    keeper: Keeper,
}

/// Runs steps on a GPU.
pub struct CudaExecutor {
    // Lanes go first: their streams are waited for before the memory goes that they use.
    lanes: Vec<Lane>,
    kernels: Kernels,
    /// Keys and values: `[layer][keys, values][slot][kv head][dim]`.
    cache: Buffer,
    below: Option<Below>,
    kept: Option<Kept>,
    model: Arc<Model>,
    capacity: Capacity,
    histories: Histories,
    /// Why nothing runs any more.
    failed: Option<String>,
}

impl CudaExecutor {
    /// Allocates everything, compiles and tunes what is not kept from an earlier time, and records the graphs.
    ///
    /// # Errors
    /// The capacity does not fit the model or the memory, or a library is missing or refuses.
    pub fn new(model: Arc<Model>, capacity: Capacity) -> Result<CudaExecutor, BuildError> {
        CudaExecutor::build(model, capacity, true, &mut |_| true)
    }

    /// The same without graphs: every step is launched kernel by kernel.
    ///
    /// # Errors
    /// As [`CudaExecutor::new`].
    pub fn eager(model: Arc<Model>, capacity: Capacity) -> Result<CudaExecutor, BuildError> {
        CudaExecutor::build(model, capacity, false, &mut |_| true)
    }

    /// With graphs or without. `watch` is told before each shape that is tuned; what was tuned before it says no is kept.
    ///
    /// # Errors
    /// As [`CudaExecutor::new`], or it was interrupted.
    pub fn build(
        model: Arc<Model>,
        capacity: Capacity,
        graphs: bool,
        watch: Watch<'_>,
    ) -> Result<CudaExecutor, BuildError> {
        CudaExecutor::retaining(model, capacity, None, graphs, watch)
    }

    /// [`CudaExecutor::build`] with sequences that keep only some of their tokens.
    ///
    /// # Errors
    /// As there, or with two lanes.
    pub fn retaining(
        model: Arc<Model>,
        capacity: Capacity,
        retained: Option<Arc<Retained>>,
        graphs: bool,
        watch: Watch<'_>,
    ) -> Result<CudaExecutor, BuildError> {
        capacity.check(&model.config)?;
        if let Some(retained) = &retained
            && capacity.lanes.count() > 1
        {
            // Blocks that a cut frees would be another lane's while this one still reads them.
            return Err(BuildError::Unfit(format!(
                "`{}` needs a scheduler with one lane: tokens go between steps of one queue",
                retained.retention().spec().policy.name()
            )));
        }
        Ok(CudaExecutor::open(model, capacity, retained, graphs, watch)?)
    }

    fn open(
        model: Arc<Model>,
        capacity: Capacity,
        retained: Option<Arc<Retained>>,
        graphs: bool,
        watch: Watch<'_>,
    ) -> Result<CudaExecutor, CudaError> {
        let gpu = model.gpu.clone();
        gpu.bind()?;
        if capacity.step_tokens == u32::MAX || capacity.sequences == u32::MAX {
            return Err(CudaError::Unfit("the CUDA executor needs to know how large a step can be".to_owned()));
        }
        let dims = model.dims(&capacity, retained.as_deref())?;
        let fit = model.fit_with(&capacity, retained.as_deref())?;
        let kernels = Kernels::load(&gpu, dims, model.cache.as_deref())?;
        if u64::from(capacity.blocks) > fit.most {
            let wanted = u64::from(capacity.blocks) * fit.block_bytes + fit.work;
            return Err(CudaError::Memory { wanted, free: fit.free });
        }
        let block_bytes = model.block_bytes(&dims, &capacity);
        let cache = Buffer::new(&gpu, capacity.blocks as usize * block_bytes as usize)?;
        let keep = |of: Arc<Retained>| {
            let keeper = Keeper::new(of.retention().clone());
            Ok::<_, CudaError>(Kept { notes: Notes::new(&gpu, of, model.config.layers, &capacity)?, keeper })
        };
        let kept = retained.map(keep).transpose()?;
        let below = match capacity.host_blocks {
            0 => None,
            _ => Some(Below {
                host: Host::new(&gpu, &capacity, block_bytes, 2 * model.config.layers)?,
                meets: Event::new(&gpu)?,
            }),
        };
        let notes = kept.as_ref().map(|kept| &kept.notes);
        let folder = model.cache.as_deref();
        let (mut lanes, mut partitions) = (Vec::new(), Partition::of(&gpu, capacity.lanes)?);
        for (index, own) in lane_capacities(&capacity).into_iter().enumerate() {
            let shared = Shared { model: &model, kernels: &kernels, cache: &cache, notes };
            let compute = partitions.remove(0);
            // What was timed was timed on the whole GPU. On a part of it the library chooses, and knows how large it is.
            let part = compute.part();
            let tuned = if part.is_some() { BTreeMap::new() } else { tuning::load(folder, gpu.facts()) };
            let mut lane = Lane::new(&gpu, compute, Blas::new(&gpu, tuned, part)?, own, &dims)?;
            if part.is_none() {
                lane.tune(shared, &mut |blas| tuning::keep(folder, gpu.facts(), blas.tuned()), watch)?;
            }
            lane.prepare(shared)?;
            // A lane for prompts has no batches of decodes.
            if graphs && (capacity.lanes == Lanes::One || index == 1) {
                lane.record(shared)?;
            }
            lanes.push(lane);
        }
        let histories = Histories::new(capacity);
        Ok(CudaExecutor { lanes, kernels, cache, below, kept, model, capacity, histories, failed: None })
    }

    /// Logits that the last step of the first lane has drawn so many tokens from, `[draw, vocab]`: for checks. No step is out.
    ///
    /// # Errors
    /// The device failed.
    pub fn logits(&self, draws: usize) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.lanes[0].logits(draws * self.capacity.vocab as usize)?)
    }

    fn try_submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        let Batch { shrinks, ends, begins, tables, sequences } = batch;
        if lane >= self.lanes.len() {
            return Err(no_lane(lane));
        }
        for shrink in shrinks {
            self.shrink(lane, shrink)?;
        }
        self.histories.update(&ends, begins, &tables)?;
        for (index, other) in self.lanes.iter_mut().enumerate() {
            let changed = tables.iter().map(|change| &change.seat).filter(|_| index != lane);
            ends.iter().chain(changed).for_each(|seat| other.forget(*seat));
        }
        let landings = match &mut self.kept {
            None => sequences.iter().map(Landing::whole).collect(),
            Some(Kept { keeper, .. }) => {
                for seat in &ends {
                    keeper.forget(*seat);
                }
                keeper.land(&sequences)?
            }
        };
        let CudaExecutor { lanes, histories, model, kernels, cache, kept, .. } = self;
        let shared = Shared { model, kernels, cache, notes: kept.as_ref().map(|kept| &kept.notes) };
        let lane = lanes.get_mut(lane).ok_or_else(|| no_lane(lane))?;
        let changes = lane.follow(&tables, &sequences, histories)?;
        lane.submit(&sequences, &landings, &changes, histories, shared)
    }

    /// Lowers a budget.
    fn shrink(&mut self, lane: usize, shrink: Shrink) -> Result<(), ExecutorError> {
        let Some(Kept { notes, keeper }) = &mut self.kept else {
            return Err(ExecutorError(format!("the budget of seat {} shrinks, and it keeps everything", shrink.seat)));
        };
        let Some((sequence, landing)) = keeper.shrink(shrink)? else { return Ok(()) };
        let CudaExecutor { lanes, model, kernels, cache, histories, .. } = self;
        let shared = Shared { model, kernels, cache, notes: Some(notes) };
        lanes.get_mut(lane).ok_or_else(|| no_lane(lane))?.shrink(&sequence, &landing, histories, shared)
    }

    /// Positions of the tokens that a sequence keeps in a layer and KV head after the last step, by slot: for checks. No step is out. `None`
    /// if everything stays, or nothing is computed.
    ///
    /// # Errors
    /// The device failed.
    pub fn kept(&self, place: Place) -> Result<Option<Vec<u32>>, ExecutorError> {
        let Some(Kept { notes, keeper }) = &self.kept else { return Ok(None) };
        let Some(count) = keeper.kept(place.seat) else { return Ok(None) };
        let (block, heads) = (self.capacity.block_tokens, self.model.config.kv_heads);
        let table = self.histories.table(place.seat);
        let stream = Stream::new(&self.model.gpu)?;
        let mut read = Pinned::new(&self.model.gpu, notes.layer_bytes())?;
        // SAFETY: nothing else uses the memory before the stream is waited for; the positions of a layer are as many bytes.
        unsafe { stream.download(&mut read, notes.layer(place.layer).positions, notes.layer_bytes())? };
        stream.finish()?;
        // SAFETY: the copy is done.
        let words = unsafe { read.bytes() }.as_chunks::<4>().0;
        let at = |slot: u32| {
            let slot = table[(slot / block) as usize] * block + slot % block;
            u32::from_le_bytes(words[slot as usize * heads + place.head])
        };
        Ok(Some((0..count).map(at).collect()))
    }

    /// Puts copies on the stream of the first lane, between what all lanes have been given before and what they get from now on.
    fn try_copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.capacity.check_copies(copies)?;
        let (Some(Below { host, meets }), Some((first, others))) = (&mut self.below, self.lanes.split_first()) else {
            return Ok(());
        };
        for other in others {
            other.stream().record(meets)?;
            first.stream().wait_for(meets)?;
        }
        // SAFETY: blocks and slots were checked; lanes are drained before pool and slots go; all steps before and after are ordered by
        // the stream and the events around.
        unsafe { host.copy(first.stream(), &self.cache, copies)? };
        first.stream().record(meets)?;
        for other in others {
            other.stream().wait_for(meets)?;
        }
        Ok(())
    }

    /// Fills the cache with a small number: 0.0115 in bf16.
    fn fill(&self) -> Result<(), CudaError> {
        let stream = Stream::new(&self.model.gpu)?;
        // SAFETY: the whole of a buffer that lives; the stream is waited for.
        unsafe { stream.fill(self.cache.at(0), 0x3c, self.cache.bytes())? };
        stream.finish()
    }

    /// Does something unless an earlier step has failed, and remembers failures.
    fn guard<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, ExecutorError>) -> Result<T, ExecutorError> {
        if let Some(why) = &self.failed {
            return Err(ExecutorError(format!("the executor has stopped after a failure: {why}")));
        }
        let done = act(self);
        if let Err(error) = &done {
            self.failed = Some(error.0.clone());
        }
        done
    }
}

fn no_lane(lane: usize) -> ExecutorError {
    ExecutorError(format!("there is no lane {lane}"))
}

impl Executor for CudaExecutor {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn submit(&mut self, lane: usize, batch: Batch) -> Result<(), ExecutorError> {
        self.guard(|executor| executor.try_submit(lane, batch))
    }

    fn wait(&mut self, lane: usize) -> Result<Output, ExecutorError> {
        self.guard(|executor| {
            let CudaExecutor { lanes, histories, .. } = executor;
            lanes.get_mut(lane).ok_or_else(|| no_lane(lane))?.wait(histories)
        })
    }

    fn copy(&mut self, copies: &[TierCopy]) -> Result<(), ExecutorError> {
        self.guard(|executor| executor.try_copy(copies))
    }

    fn copied(&mut self) -> Result<Copied, ExecutorError> {
        self.guard(|executor| match &mut executor.below {
            Some(below) => Ok(below.host.copied()?),
            None => Ok(Copied::default()),
        })
    }

    fn give_contexts(&mut self) -> Result<(), ExecutorError> {
        self.guard(|executor| Ok(executor.fill()?))
    }

    fn ready(&mut self, lane: usize) -> Result<bool, ExecutorError> {
        self.guard(|executor| executor.lanes.get(lane).ok_or_else(|| no_lane(lane))?.ready())
    }
}

impl Drop for CudaExecutor {
    fn drop(&mut self) {
        self.lanes.iter().for_each(Lane::drain);
    }
}
