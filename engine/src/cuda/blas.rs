//! Matrix products, by cuBLASLt: `y[rows, out] = x[rows, in] · W[out, in]ᵀ`, bf16 in, f32 sums, bf16 or f32 out.
//!
//! Which algorithm is the fastest depends on shape, GPU and version of the library. They are timed once for the numbers of rows that
//! graphs have, and kept in a file; other shapes take the library's first choice.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::cublaslt::sys;

use super::CudaError;
use super::driver::{Address, Buffer, Event, Gpu};
use super::stream::Stream;

/// Memory that the algorithms of a stream may use [bytes].
const WORKSPACE: usize = 32 << 20;
/// `CUBLAS_OP_T`, which the bindings have only with cuBLAS itself.
static TRANSPOSED: i32 = 1;
/// Algorithms that are timed for a shape.
const CANDIDATES: usize = 16;
/// Products in a row that are timed together, and how long they should take at least [ns]: longer ones are timed in fewer.
const RUNS: u64 = 12;
const LONG: u64 = 2_000_000;
/// Times that each algorithm is looked at, in another order; the shortest counts.
const ROUNDS: usize = 2;
/// Memory that is written before, so that the products wait on the device and not for the host [bytes].
const HOLD_UP: u64 = 512 << 20;

fn check(status: sys::cublasStatus_t, call: &'static str) -> Result<(), CudaError> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Blas { call, status: format!("{status:?}") })
}

/// A product's shape.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Shape {
    /// Rows of `x`.
    pub(super) rows: u32,
    /// Columns of `x`.
    pub(super) inputs: u32,
    /// Rows of `W`.
    pub(super) outputs: u32,
    /// Whether the result is f32.
    pub(super) wide: bool,
}

/// An algorithm, as the library writes it.
pub(super) type Algorithm = [u64; 8];

/// cuBLASLt on a GPU.
pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: Buffer,
    plans: BTreeMap<Shape, Plan>,
    /// Of an earlier time.
    tuned: BTreeMap<Shape, Algorithm>,
    /// Multiprocessors that products may use, if not all.
    part: Option<u32>,
}

// SAFETY: the library's handles may be used from any thread, one at a time.
unsafe impl Send for Blas {}

/// What a product needs, made once for each shape.
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    weights: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Blas {
    /// Opens the library.
    ///
    /// # Errors
    /// It is not there, or there is no memory for its workspace.
    pub(super) fn new(gpu: &Arc<Gpu>, tuned: BTreeMap<Shape, Algorithm>, part: Option<u32>) -> Result<Blas, CudaError> {
        Blas::find()?;
        gpu.bind()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes a handle, which is destroyed when the structure is dropped.
        check(unsafe { sys::cublasLtCreate(&raw mut handle) }, "cublasLtCreate")?;
        Ok(Blas { handle, workspace: Buffer::new(gpu, WORKSPACE)?, plans: BTreeMap::new(), tuned, part })
    }

    /// Whether the library is there.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn find() -> Result<(), CudaError> {
        // SAFETY: only looks whether the library can be loaded.
        if unsafe { sys::is_culib_present() } {
            return Ok(());
        }
        Err(CudaError::NoLibrary { name: "cuBLASLt (libcublasLt.so)" })
    }

    /// The library's version, as it counts.
    pub(super) fn version() -> usize {
        // SAFETY: no arguments. The library has been loaded before.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// Puts a product on the stream.
    ///
    /// # Safety
    /// The addresses are those of matrices of the shape's sizes, in buffers that live until it is done. Products that use this
    /// structure do not run at the same time: they share a workspace.
    ///
    /// # Errors
    /// The library has no algorithm for the shape, or earlier work has failed.
    pub(super) unsafe fn multiply(
        &mut self,
        stream: &Stream,
        shape: Shape,
        x: Address,
        weights: Address,
        y: Address,
    ) -> Result<(), CudaError> {
        if !self.plans.contains_key(&shape) {
            let plan = self.plan(shape)?;
            self.plans.insert(shape, plan);
        }
        let Some(plan) = self.plans.get(&shape) else { return Err(CudaError::Compile("no plan".into())) };
        // SAFETY: as the caller vouches.
        let ran = unsafe { self.run(stream, plan, &plan.algorithm, x, weights, y) };
        if ran.is_ok() || self.tuned.remove(&shape).is_none() {
            return ran;
        }
        // An algorithm that was kept and that the library does not take any more.
        let plan = self.plan(shape)?;
        // SAFETY: as the caller vouches.
        let ran = unsafe { self.run(stream, &plan, &plan.algorithm, x, weights, y) };
        self.plans.insert(shape, plan);
        ran
    }

    /// Makes the plan of a shape, so that no step has to.
    ///
    /// # Errors
    /// The library has no algorithm for it.
    pub(super) fn prepare(&mut self, shape: Shape) -> Result<(), CudaError> {
        if !self.plans.contains_key(&shape) {
            let plan = self.plan(shape)?;
            self.plans.insert(shape, plan);
        }
        Ok(())
    }

    /// # Safety
    /// As [`Blas::multiply`].
    unsafe fn run(
        &self,
        stream: &Stream,
        plan: &Plan,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        x: Address,
        weights: Address,
        y: Address,
    ) -> Result<(), CudaError> {
        stream.gpu().bind()?;
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: handles, layouts and algorithm belong together; the scalars are copied before the call returns; the caller
        // vouches for the addresses.
        let status = unsafe {
            sys::cublasLtMatmul(
                self.handle,
                plan.product,
                (&raw const one).cast(),
                weights as *const _,
                plan.weights,
                x as *const _,
                plan.x,
                (&raw const zero).cast(),
                y as *const _,
                plan.y,
                y as *mut _,
                plan.y,
                algorithm,
                self.workspace.at(0) as *mut _,
                WORKSPACE,
                stream.handle().cast(),
            )
        };
        check(status, "cublasLtMatmul")
    }

    /// Everything for a shape, with the algorithm that was tuned or that the library thinks best.
    fn plan(&self, shape: Shape) -> Result<Plan, CudaError> {
        let mut plan = Plan::new(shape, self.part)?;
        match self.tuned.get(&shape) {
            Some(algorithm) => plan.algorithm.data = *algorithm,
            None => plan.algorithm = self.candidates(&plan, 1)?[0],
        }
        Ok(plan)
    }

    /// What the library would use, the likely best first; at least one.
    fn candidates(&self, plan: &Plan, most: usize) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CudaError> {
        let mut preference = std::ptr::null_mut();
        let none = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let (mut found, mut count) = (vec![none; most], 0);
        let attribute = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        // SAFETY: all handles are valid; the preference is destroyed below; at most as many results are written as there is room.
        unsafe {
            check(sys::cublasLtMatmulPreferenceCreate(&raw mut preference), "cublasLtMatmulPreferenceCreate")?;
            let size = WORKSPACE;
            let set = sys::cublasLtMatmulPreferenceSetAttribute(
                preference,
                attribute,
                (&raw const size).cast(),
                size_of::<usize>(),
            );
            let status = if set == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.handle,
                    plan.product,
                    plan.weights,
                    plan.x,
                    plan.y,
                    plan.y,
                    preference,
                    most as i32,
                    found.as_mut_ptr(),
                    &raw mut count,
                )
            } else {
                set
            };
            sys::cublasLtMatmulPreferenceDestroy(preference);
            check(status, "cublasLtMatmulAlgoGetHeuristic")?;
        }
        found.truncate(count.max(0) as usize);
        found.retain(|result| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        if found.is_empty() {
            let status = "no algorithm".to_owned();
            return Err(CudaError::Blas { call: "cublasLtMatmulAlgoGetHeuristic", status });
        }
        Ok(found.into_iter().map(|result| result.algo).collect())
    }

    /// Times the algorithms for a shape and keeps the fastest. `weights` are the matrices of all layers: one alone would stay in
    /// the cache, where no step finds it.
    ///
    /// # Safety
    /// As [`Blas::multiply`], for each of the weights.
    ///
    /// # Errors
    /// As [`Blas::multiply`].
    pub(super) unsafe fn tune(
        &mut self,
        stream: &Stream,
        shape: Shape,
        x: Address,
        weights: &[Address],
        y: Address,
    ) -> Result<Algorithm, CudaError> {
        if let Some(algorithm) = self.tuned.get(&shape) {
            return Ok(*algorithm);
        }
        let plan = Plan::new(shape, self.part)?;
        let candidates = self.candidates(&plan, CANDIDATES)?;
        let mut times = vec![u64::MAX; candidates.len()];
        let mut layers = weights.iter().copied().cycle();
        for round in 0..ROUNDS {
            for index in 0..candidates.len() {
                let index = if round % 2 == 0 { index } else { candidates.len() - 1 - index };
                // SAFETY: as the caller vouches.
                let time = unsafe { self.time(stream, &plan, &candidates[index], x, &mut layers, y, round == 0) };
                times[index] = times[index].min(time.unwrap_or(u64::MAX));
            }
        }
        let best = times.iter().zip(&candidates).min_by_key(|(time, _)| **time).filter(|(time, _)| **time < u64::MAX);
        let Some((_, algorithm)) = best else {
            return Err(CudaError::Blas { call: "cublasLtMatmul", status: "no algorithm runs".to_owned() });
        };
        let algorithm = algorithm.data;
        self.plans.remove(&shape);
        self.tuned.insert(shape, algorithm);
        Ok(algorithm)
    }

    /// Time of a product by one algorithm, in a row of them [2⁻⁸ ns]. The first time it `loads` its kernel.
    ///
    /// # Safety
    /// As [`Blas::tune`].
    #[expect(clippy::too_many_arguments, reason = "a product's, and how it is timed")]
    unsafe fn time(
        &self,
        stream: &Stream,
        plan: &Plan,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        x: Address,
        layers: &mut dyn Iterator<Item = Address>,
        y: Address,
        loads: bool,
    ) -> Result<u64, CudaError> {
        let (begin, end) = (Event::new(stream.gpu())?, Event::new(stream.gpu())?);
        let mut row = |runs: u64| {
            let hold_up = HOLD_UP.min(stream.gpu().facts().memory / 256);
            for _ in 0..hold_up.div_ceil(WORKSPACE as u64) {
                // SAFETY: the workspace lives, and nothing that is needed is in it between two products.
                unsafe { stream.fill(self.workspace.at(0), 0, (hold_up as usize).min(WORKSPACE))? };
            }
            stream.record(&begin)?;
            for weights in layers.take(runs as usize) {
                // SAFETY: as the caller vouches.
                unsafe { self.run(stream, plan, algorithm, x, weights, y)? };
            }
            stream.record(&end)?;
            end.wait()?;
            end.since(&begin)
        };
        if loads {
            row(1)?;
        }
        let one = row(1)?.max(1);
        let runs = (LONG / one).clamp(1, RUNS);
        Ok((if runs == 1 { one } else { row(runs)? } << 8) / runs)
    }

    /// What was tuned.
    pub(super) fn tuned(&self) -> &BTreeMap<Shape, Algorithm> {
        &self.tuned
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made once, destroyed once, after the plans.
        let _ = self.workspace.gpu().bind().map(|()| unsafe { sys::cublasLtDestroy(self.handle) });
    }
}

impl Plan {
    fn new(shape: Shape, part: Option<u32>) -> Result<Plan, CudaError> {
        let Shape { rows, inputs, outputs, wide } = shape;
        let null = std::ptr::null_mut();
        // From here on dropping it destroys what has been made.
        let mut plan = Plan {
            product: null,
            weights: std::ptr::null_mut(),
            x: std::ptr::null_mut(),
            y: std::ptr::null_mut(),
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let narrow = sys::cudaDataType::CUDA_R_16BF;
        let result = if wide { sys::cudaDataType::CUDA_R_32F } else { narrow };
        let (rows, inputs, outputs) = (u64::from(rows), u64::from(inputs), u64::from(outputs));
        // The library counts by columns: a matrix by rows is its transpose. `yᵀ[out, rows] = (Wᵀ)ᵀ · xᵀ`.
        // SAFETY: each call writes a handle, or reads a value of the size that is said.
        unsafe {
            let (compute, scale) = (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
            let made = sys::cublasLtMatmulDescCreate(&raw mut plan.product, compute, scale);
            check(made, "cublasLtMatmulDescCreate")?;
            let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA;
            let (value, size) = ((&raw const TRANSPOSED).cast(), size_of::<i32>());
            let set = sys::cublasLtMatmulDescSetAttribute(plan.product, attribute, value, size);
            check(set, "cublasLtMatmulDescSetAttribute")?;
            if let Some(part) = part {
                let attribute = sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET;
                let value = (&raw const part).cast();
                let set = sys::cublasLtMatmulDescSetAttribute(plan.product, attribute, value, size_of::<u32>());
                check(set, "cublasLtMatmulDescSetAttribute")?;
            }
            let call = "cublasLtMatrixLayoutCreate";
            let (layout_w, layout_x) = (&raw mut plan.weights, &raw mut plan.x);
            check(sys::cublasLtMatrixLayoutCreate(layout_w, narrow, inputs, outputs, inputs as i64), call)?;
            check(sys::cublasLtMatrixLayoutCreate(layout_x, narrow, inputs, rows, inputs as i64), call)?;
            let layout_y = &raw mut plan.y;
            check(sys::cublasLtMatrixLayoutCreate(layout_y, result, outputs, rows, outputs as i64), call)?;
        }
        Ok(plan)
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was made once and is destroyed once; those that were not made are null.
        unsafe {
            for layout in [self.weights, self.x, self.y] {
                if !layout.is_null() {
                    sys::cublasLtMatrixLayoutDestroy(layout);
                }
            }
            if !self.product.is_null() {
                sys::cublasLtMatmulDescDestroy(self.product);
            }
        }
    }
}
