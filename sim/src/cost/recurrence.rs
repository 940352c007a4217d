//! Closed forms of the kernels of recurrent layers [µs]: the convolution and the recurrence itself; their projections are matrices like others.
//!
//! Inferred, no tables: a decode step moves the states at the bandwidth of kernels that only move activations; a prompt is scanned in chunks,
//! which takes four passes over what the projections make, and per token eight operations for each number of the state.

use super::Bound;
use crate::hardware::gpu::GpuSpec;
use crate::hardware::model::{KvDtype, RecurrentSpec};

/// Kernels of a decode step: the convolution's update and the state's.
const DECODE_KERNELS: f64 = 2.0;

/// Kernels of a step with prompts: the convolution, and the parts of a scan in chunks.
const PREFILL_KERNELS: f64 = 6.0;

/// Passes of a scan over the inputs and outputs of the recurrence.
const PASSES: f64 = 4.0;

/// Operations per token and number of the state.
const OPERATIONS: f64 = 8.0;

/// Head dimension whose attention of prompts says what share of the peak a scan reaches.
const SCAN_FIT: u32 = 128;

/// One recurrent layer on one GPU.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Recurrence {
    pub(super) decode_launch: Bound,
    /// Per decoding sequence.
    pub(super) per_seq: Bound,
    pub(super) prefill_launch: Bound,
    /// Per token of a prompt.
    pub(super) per_token: Bound,
}

impl Recurrence {
    /// With so many of the layer's heads.
    pub(super) fn new(gpu: &GpuSpec, spec: RecurrentSpec, heads: u32) -> Recurrence {
        let floor = gpu.small_kernels.floor_us;
        let stream = gpu.small_kernels.memory * gpu.bandwidth.0;
        let moved = |bytes: f64| Bound::memory(bytes / stream * 1e6);
        let share = f64::from(heads) / f64::from(spec.heads);
        let wide = 2.0 * f64::from(spec.inputs + spec.width) * share;
        // A GPU without constants for attention has none for anything else, and is refused before.
        let reached = gpu.prefill_fit(KvDtype::Bf16, SCAN_FIT).map_or(1.0, |fit| fit.compute);
        let operations = OPERATIONS * f64::from(heads) * f64::from(spec.state);
        Recurrence {
            decode_launch: Bound::fixed(DECODE_KERNELS * floor),
            per_seq: moved(2.0 * spec.bytes_per_sequence(heads) as f64 + wide),
            prefill_launch: Bound::fixed(PREFILL_KERNELS * floor),
            per_token: moved(PASSES * wide) + Bound::compute(operations / (reached * gpu.peak_bf16.0) * 1e6),
        }
    }
}
