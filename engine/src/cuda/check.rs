//! Every kernel against its reference, on whatever device there is: a GPU, or the emulator of the tests.
//!
//! Inputs are random and the same every time; sizes are odd ones, around the edges of tiles and blocks. What a kernel writes to is
//! full of ones before, which is no number, and so is what lies beside its arrays and must stay.

mod attention;
mod blocks;
mod draws;
mod elementwise;
mod retain;
pub mod retained;
mod rig;
pub mod whole;

use std::path::Path;
use std::sync::Arc;

use overbook_kernels::Work;
use overbook_kernels::cuda::SOURCES;
use rayon::prelude::*;

use super::CudaError;
use super::compile::{Compiler, Options};
use super::driver::Gpu;
use super::kernels::Dims;
use crate::config::Config;
use rig::Rig;

/// One launch (with `attend_decode`, the merge that follows it too) beside its reference.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelCheck {
    /// Which kernel.
    pub kernel: &'static str,
    /// On what.
    pub case: String,
    /// How far its result is from the reference's; infinite where something was written that must not be.
    pub error: f64,
    /// What the error may be.
    pub bound: f64,
    /// What the launch must at least move and compute.
    pub work: Work,
}

impl KernelCheck {
    /// Whether the kernel is right. An error that is no number is none to be content with.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// What to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope<'a> {
    /// One kernel, or all.
    pub kernel: Option<&'a str>,
    /// Shapes of heads and blocks, of those that there are.
    pub shapes: usize,
}

impl Scope<'_> {
    /// Everything.
    pub const ALL: Scope<'static> = Scope { kernel: None, shapes: usize::MAX };

    fn has(&self, kernel: &str) -> bool {
        self.kernel.is_none_or(|only| only == kernel)
    }
}

/// Kernels that are checked, each with those that are checked with it: what is split is merged, what is gathered is scattered.
pub fn kernels() -> impl Iterator<Item = &'static str> {
    let all = SOURCES.iter().flat_map(|source| source.kernels.iter().copied());
    all.filter(|kernel| !["attend_merge", "gather_blocks", "scatter_blocks", "weigh_tokens"].contains(kernel))
}

/// Compiles what checks and models need, on all cores, into the folder where it is then found. Returns how many sources.
///
/// # Errors
/// A source does not compile, or the kernels are not written for a model.
pub fn compile(gpu: &Gpu, cache: &Path, scope: Scope, models: &[&Config]) -> Result<usize, CudaError> {
    let compiler = Compiler::find_for(gpu.facts().driver)?;
    let shapes = attention::SHAPES.iter().take(scope.shapes).map(|(shape, _)| shape).chain([&rig::Shape::ANY]);
    let mut defines: Vec<_> = shapes.map(|shape| shape.defines()).collect();
    for config in models {
        defines.push(Dims::of(config, whole::BLOCK)?.defines());
    }
    let mut jobs = Vec::new();
    for source in &SOURCES {
        for defines in &defines {
            // Sources that do not ask for a constant are the same whatever it is.
            let taken: Vec<_> = defines.iter().copied().filter(|(name, _)| source.takes.contains(name)).collect();
            if !jobs.contains(&(source, taken.clone())) {
                jobs.push((source, taken));
            }
        }
    }
    jobs.par_iter().try_for_each(|(source, defines)| {
        let options = Options { sm: gpu.facts().sm, defines: defines.clone() };
        compiler.compile(source, &options, Some(cache)).map(drop)
    })?;
    Ok(jobs.len())
}

/// Runs checks. Compiled kernels are kept in a folder, if one is given.
///
/// # Errors
/// A kernel does not compile, or the device fails.
pub fn check(gpu: &Arc<Gpu>, cache: Option<&Path>, scope: Scope) -> Result<Vec<KernelCheck>, CudaError> {
    let rig = Rig::new(gpu, cache)?;
    let mut checks = Vec::new();
    elementwise::check(&rig, scope, &mut checks)?;
    blocks::check(&rig, scope, &mut checks)?;
    draws::check(&rig, scope, &mut checks)?;
    attention::check(&rig, scope, &mut checks)?;
    retain::check(&rig, scope, &mut checks)?;
    Ok(checks)
}
