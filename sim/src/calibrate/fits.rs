//! From rows to constants, one operation after the other.

use std::collections::BTreeMap;

use super::profile::{HullRange, Profile, ProfileSource, VERSION, attention};
use super::rows::{CollectiveRow, ExpertsRow, MatmulRow, Row, Samples};
use super::search::{Bounds, least};
use super::{DecodeRow, PrefillRow, Residual};
use crate::hardware::gpu::{
    CollectiveFit, CollectiveSpec, DecodeAttentionFit, DecodeAttentionSpec, ElsewhereFit, ExpertsFit, ExpertsSpec,
    GpuSpec, MatmulFit, MatmulSpec, Origin, OriginKind, PrefillAttentionFit, PrefillAttentionSpec, SmallKernels,
};
use crate::hardware::model::{KvDtype, WeightDtype};
use crate::units::{Bandwidth, Bytes};

/// Fewest rows that a fit makes sense of.
const ROWS_MIN: usize = 12;

/// Rows that one fit looks at, at most; of more, evenly many are taken.
const ROWS_MAX: usize = 3000;

/// Why there is nothing to fit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FitError {
    /// No operation has enough rows.
    #[error("no operation has {ROWS_MIN} rows of a known number format; {0}")]
    Nothing(String),
}

/// One fit at work: the GPU whose constants are tried, and what came of those before.
struct Bench {
    gpu: GpuSpec,
    residuals: Vec<Residual>,
    hull: Vec<HullRange>,
    origin: Origin,
}

/// Fits all that the samples allow. `gpu`, called `gpu_name` in the catalog, gives peaks, bandwidth and cache, and its constants as one start of each search.
///
/// # Errors
/// Not one operation has enough rows.
pub fn fit(
    gpu: &GpuSpec,
    gpu_name: &str,
    name: &str,
    source: ProfileSource,
    samples: &Samples,
) -> Result<Profile, FitError> {
    let words =
        format!("fitted to {}'s tables of {}, {} ({})", source.tool, source.device, source.engine, source.licence);
    let origin = Origin { kind: OriginKind::Imported, source: words };
    let mut bench = Bench { gpu: gpu.clone(), residuals: Vec::new(), hull: Vec::new(), origin };
    let matmul = bench.matmul(samples);
    let decode_attention = bench.decode(&samples.decode);
    let prefill_attention = bench.prefill(&samples.prefill);
    let small_kernels = bench.small(samples);
    let experts = bench.experts(&samples.experts);
    let all_reduce = bench.collective("all-reduce", &samples.all_reduce);
    let all_to_all = bench.collective("all-to-all", &samples.all_to_all);
    if bench.residuals.is_empty() {
        let counts = [
            ("matmul", samples.matmul.len()),
            ("decode attention", samples.decode.len()),
            ("prefill attention", samples.prefill.len()),
            ("small kernels", samples.small.len()),
            ("experts", samples.experts.len()),
            ("all-reduce", samples.all_reduce.len()),
            ("all-to-all", samples.all_to_all.len()),
        ];
        let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{what} {count}")).collect();
        return Err(FitError::Nothing(counts.join(", ")));
    }
    Ok(Profile {
        version: VERSION,
        name: name.to_owned(),
        kind: OriginKind::Imported,
        gpu: gpu_name.to_owned(),
        source,
        residuals: bench.residuals,
        hull: bench.hull,
        matmul,
        decode_attention,
        prefill_attention,
        all_reduce,
        all_to_all,
        small_kernels,
        experts,
    })
}

/// Splits rows into those to fit and those to hold out: by shape if there are at least six, else every third row.
fn split<R: Row + Copy>(rows: &[R]) -> (Vec<R>, Vec<R>) {
    let mut shapes: Vec<[u64; 3]> = rows.iter().map(Row::shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let (mut fitted, mut held) = (Vec::new(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        let out = match shapes.binary_search(&row.shape()) {
            Ok(shape) if shapes.len() >= 6 => shape % 2 == 1,
            _ => index % 3 == 2,
        };
        if out { held.push(*row) } else { fitted.push(*row) }
    }
    (fitted, held)
}

/// Evenly many of the rows where there are too many.
fn thinned<R: Copy>(rows: &[R]) -> Vec<R> {
    rows.iter().step_by(rows.len().div_ceil(ROWS_MAX).max(1)).copied().collect()
}

/// Significant digits that a constant is written with.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

impl Bench {
    /// Constants that predict the rows best; states the error on those held out and the range of all. `set` writes the
    /// tried constants into the GPU.
    fn search<R: Row + Copy>(
        &mut self,
        operation: &str,
        all: &[R],
        bounds: &[Bounds],
        starts: &[Vec<f64>],
        set: impl Fn(&mut GpuSpec, &[f64]),
    ) -> Option<Vec<f64>> {
        let cold: Vec<R> =
            all.iter().filter(|row| row.resident_bytes() > 2.0 * self.gpu.l2.0 as f64).copied().collect();
        let rows = if cold.len() >= 3 * ROWS_MIN { &cold[..] } else { all };
        let (fitted, held) = split(rows);
        if fitted.len() < ROWS_MIN || held.is_empty() {
            return None;
        }
        let taken = thinned(&fitted);
        let gpu = &mut self.gpu;
        let found = least(bounds, starts, |values| {
            set(gpu, values);
            let error = |row: &R| row.predicted(gpu).map_or(f64::INFINITY, |us| (us / row.us()).ln().abs());
            taken.iter().map(error).sum::<f64>() / taken.len() as f64
        });
        let found: Vec<f64> = found.into_iter().map(rounded).collect();
        set(&mut self.gpu, &found);
        let mut errors: Vec<f64> =
            held.iter().filter_map(|row| Some((row.predicted(&self.gpu)? / row.us() - 1.0).abs() * 100.0)).collect();
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| (errors[((errors.len() - 1) as f64 * share) as usize] * 10.0).round() / 10.0;
        self.residuals.push(Residual {
            operation: operation.to_owned(),
            fitted: fitted.len() as u64,
            held_out: held.len() as u64,
            median_percent: at(0.5),
            p90_percent: at(0.9),
        });
        self.range(operation, all);
        Some(found)
    }

    /// The range of the rows' shapes, axis by axis.
    fn range<R: Row>(&mut self, operation: &str, rows: &[R]) {
        let mut axes: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for (axis, value) in rows.iter().flat_map(Row::axes) {
            let ends = axes.entry(axis.to_owned()).or_insert([value; 2]);
            *ends = [ends[0].min(value), ends[1].max(value)];
        }
        self.hull.push(HullRange { operation: operation.to_owned(), axes });
    }

    fn matmul(&mut self, samples: &Samples) -> Option<MatmulSpec> {
        let fit = |bench: &mut Bench, dtype: WeightDtype| {
            // The timing went through several copies of the weights: together they must not fit into the cache.
            let scale = f64::from(samples.weight_copies.max(1));
            let rows: Vec<CopiedMatmul> =
                samples.matmul.iter().filter(|row| row.dtype == dtype).map(|row| CopiedMatmul(*row, scale)).collect();
            let operation = format!("matmul {dtype}");
            let known = (dtype == WeightDtype::Bf16).then_some(bench.gpu.matmul.bf16).or(bench.gpu.matmul.fp8);
            let quantise = (dtype == WeightDtype::Fp8).then_some(());
            let mut bounds =
                vec![Bounds(0.02, 1.5), Bounds(0.02, 1.5), Bounds(0.01, 200.0), Bounds(0.1, 3000.0), Bounds(1.0, 8.0)];
            bounds.extend(quantise.map(|()| Bounds(0.02, 4.0)));
            let start = |fit: MatmulFit| {
                let mut start = vec![fit.compute, fit.memory, fit.floor_us.max(0.1), fit.k0.max(1.0), fit.sharpness];
                start.extend(quantise.map(|()| fit.quantise.unwrap_or(0.5)));
                start
            };
            let plain =
                MatmulFit { compute: 0.6, memory: 0.8, floor_us: 5.0, k0: 50.0, sharpness: 2.0, quantise: Some(0.5) };
            let starts: Vec<Vec<f64>> = known.into_iter().chain([plain]).map(start).collect();
            let made = |p: &[f64]| MatmulFit {
                compute: p[0],
                memory: p[1],
                floor_us: p[2],
                k0: p[3],
                sharpness: p[4],
                quantise: p.get(5).copied(),
            };
            let found = bench.search(&operation, &rows, &bounds, &starts, |gpu, p| match dtype {
                WeightDtype::Fp8 => gpu.matmul.fp8 = Some(made(p)),
                _ => gpu.matmul.bf16 = made(p),
            })?;
            Some(made(&found))
        };
        let bf16 = fit(self, WeightDtype::Bf16)?;
        let fp8 = if self.gpu.peak_fp8.is_some() { fit(self, WeightDtype::Fp8) } else { None };
        Some(MatmulSpec { origin: self.origin.clone(), bf16, fp8 })
    }

    fn decode(&mut self, rows: &[DecodeRow]) -> Option<DecodeAttentionSpec> {
        let mut fits = Vec::new();
        for (kv, head_dim) in kinds(rows.iter().map(|row| (row.kv, row.heads.head_dim))) {
            let ours: Vec<DecodeRow> =
                rows.iter().filter(|row| (row.kv, row.heads.head_dim) == (kv, head_dim)).copied().collect();
            let operation = attention("decode", kv, head_dim);
            let made = |p: &[f64]| DecodeAttentionFit {
                kv,
                head_dim,
                compute: p[0],
                memory: p[1],
                floor_us: p[2],
                sequence_ns: p[3],
                origin: None,
            };
            let bounds = [Bounds(0.02, 2.0), Bounds(0.02, 2.0), Bounds(0.1, 200.0), Bounds(0.1, 500.0)];
            let found = self.search(&operation, &ours, &bounds, &[vec![0.8, 0.8, 10.0, 15.0]], |gpu, p| {
                gpu.decode_attention.fits.retain(|fit| (fit.kv, fit.head_dim) != (kv, head_dim));
                gpu.decode_attention.fits.push(made(p));
            });
            let Some(found) = found else { continue };
            fits.push(made(&found));
        }
        (!fits.is_empty()).then(|| DecodeAttentionSpec { origin: self.origin.clone(), fits })
    }

    /// Prefill reads a past at the bandwidth of decode attention, which is fitted before.
    fn prefill(&mut self, rows: &[PrefillRow]) -> Option<PrefillAttentionSpec> {
        let mut fits = Vec::new();
        for (kv, head_dim) in kinds(rows.iter().map(|row| (row.kv, row.heads.head_dim))) {
            let ours: Vec<PrefillRow> =
                rows.iter().filter(|row| (row.kv, row.heads.head_dim) == (kv, head_dim)).copied().collect();
            let operation = attention("prefill", kv, head_dim);
            let made = |p: &[f64]| PrefillAttentionFit {
                kv,
                head_dim,
                compute: p[0],
                memory: p[1],
                floor_us: p[2],
                offset_tokens: p[3],
                origin: None,
            };
            let bounds = [Bounds(0.02, 1.5), Bounds(0.02, 2.0), Bounds(0.1, 200.0), Bounds(0.1, 1000.0)];
            let found = self.search(&operation, &ours, &bounds, &[vec![0.6, 0.5, 10.0, 10.0]], |gpu, p| {
                gpu.prefill_attention.fits.retain(|fit| (fit.kv, fit.head_dim) != (kv, head_dim));
                gpu.prefill_attention.fits.push(made(p));
            });
            let Some(found) = found else { continue };
            fits.push(made(&found));
        }
        (!fits.is_empty()).then(|| PrefillAttentionSpec { origin: self.origin.clone(), fits })
    }

    fn small(&mut self, samples: &Samples) -> Option<SmallKernels> {
        let origin = self.origin.clone();
        let made = |p: &[f64]| SmallKernels { origin: origin.clone(), memory: p[0], floor_us: p[1] };
        let bounds = [Bounds(0.02, 2.0), Bounds(0.1, 50.0)];
        let rows = &samples.small;
        let found =
            self.search("small kernels", rows, &bounds, &[vec![0.7, 2.0]], |gpu, p| gpu.small_kernels = made(p))?;
        Some(made(&found))
    }

    fn experts(&mut self, rows: &[ExpertsRow]) -> Option<ExpertsSpec> {
        let bf16 = self.experts_of(rows, WeightDtype::Bf16)?;
        let fp8 = if self.gpu.peak_fp8.is_some() { self.experts_of(rows, WeightDtype::Fp8) } else { None };
        Some(ExpertsSpec { origin: self.origin.clone(), bf16, fp8, mxfp4: None })
    }

    /// First the kernel with all experts, then what it costs to see pairs of other GPUs.
    fn experts_of(&mut self, rows: &[ExpertsRow], dtype: WeightDtype) -> Option<ExpertsFit> {
        let of = |spread: bool| -> Vec<ExpertsRow> {
            rows.iter().filter(|row| row.dtype == dtype && (row.spread > 1) == spread).copied().collect()
        };
        let set = |gpu: &mut GpuSpec, fit: ExpertsFit| {
            let origin = Origin { kind: OriginKind::Imported, source: String::new() };
            let experts = gpu.experts.get_or_insert(ExpertsSpec { origin, bf16: fit, fp8: None, mxfp4: None });
            match dtype {
                WeightDtype::Fp8 => experts.fp8 = Some(fit),
                _ => experts.bf16 = fit,
            }
        };
        let made = |p: &[f64]| ExpertsFit {
            compute: p[0],
            memory: p[1],
            floor_us: p[2],
            expert_ns: p[3],
            sharpness: p[4],
            elsewhere: None,
        };
        let bounds = [Bounds(0.02, 1.5), Bounds(0.02, 1.5), Bounds(0.1, 300.0), Bounds(0.1, 3000.0), Bounds(1.0, 8.0)];
        let (whole, spread) = (of(false), of(true));
        let operation = format!("experts {dtype}");
        let starts = [vec![0.5, 0.9, 20.0, 100.0, 1.5], vec![0.4, 0.8, 15.0, 50.0, 1.1]];
        let found = self.search(&operation, &whole, &bounds, &starts, |gpu, p| set(gpu, made(p)))?;
        let mut fit = made(&found);
        let with = |p: &[f64]| ExpertsFit { elsewhere: Some(ElsewhereFit { floor_us: p[0], passes: p[1] }), ..fit };
        let bounds = [Bounds(0.01, 100.0), Bounds(0.01, 30.0)];
        let operation = format!("experts {dtype}, spread");
        let found = self.search(&operation, &spread, &bounds, &[vec![5.0, 2.0]], |gpu, p| set(gpu, with(p)));
        if let Some(found) = found {
            fit = with(&found);
        }
        Some(fit)
    }

    /// Two slopes per group size.
    fn collective(&mut self, name: &str, rows: &[CollectiveRow]) -> Option<CollectiveSpec> {
        let mut sizes: Vec<u32> = rows.iter().map(|row| row.gpus).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut fits = Vec::new();
        for gpus in sizes {
            let ours: Vec<CollectiveRow> = rows.iter().filter(|row| row.gpus == gpus).copied().collect();
            let made = |p: &[f64]| CollectiveFit {
                gpus,
                floor_us: p[0],
                below: Bandwidth(p[1]),
                knee: Bytes(p[2] as u64),
                above: Bandwidth(p[3]),
            };
            let bounds = [Bounds(0.5, 2000.0), Bounds(1e8, 2e12), Bounds(1e3, 1e9), Bounds(1e8, 2e12)];
            let start = |below: f64, knee: f64, above: f64| vec![8.0, below, knee, above];
            let starts =
                [start(5e10, 3e6, 2e11), start(2e10, 1e5, 4e11), start(5e9, 3e5, 1e10), start(3e11, 3e7, 5e10)];
            let operation = format!("{name} over {gpus}");
            let found = self.search(&operation, &ours, &bounds, &starts, |gpu, p| {
                gpu.all_reduce.fits.retain(|fit| fit.gpus != gpus);
                gpu.all_reduce.fits.push(made(p));
            });
            let Some(found) = found else { continue };
            fits.push(made(&found));
        }
        (!fits.is_empty()).then(|| CollectiveSpec { origin: self.origin.clone(), fits })
    }
}

/// A matrix product timed over several copies of its weights.
#[derive(Clone, Copy)]
struct CopiedMatmul(MatmulRow, f64);

impl Row for CopiedMatmul {
    fn us(&self) -> f64 {
        self.0.us()
    }

    fn predicted(&self, gpu: &GpuSpec) -> Option<f64> {
        self.0.predicted(gpu)
    }

    fn shape(&self) -> [u64; 3] {
        self.0.shape()
    }

    fn axes(&self) -> Vec<(&'static str, u64)> {
        self.0.axes()
    }

    fn resident_bytes(&self) -> f64 {
        self.0.resident_bytes() * self.1
    }
}

/// The kinds of attention among rows, sorted.
fn kinds(rows: impl Iterator<Item = (KvDtype, u32)>) -> Vec<(KvDtype, u32)> {
    let mut kinds: Vec<(KvDtype, u32)> = rows.collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
