//! Shares of a GPU's multiprocessors: streams whose work runs on some of them only (green contexts).

use std::sync::Arc;

use cudarc::driver::sys;

use super::CudaError;
use super::driver::{Gpu, check};
use super::stream::Stream;

/// A stream, and what it runs on.
pub(super) struct Partition {
    // The stream goes before its context.
    pub(super) stream: Stream,
    /// Multiprocessors of the stream.
    pub(super) multiprocessors: u32,
    green: Option<Green>,
}

/// A context of some multiprocessors.
struct Green {
    gpu: Arc<Gpu>,
    context: sys::CUgreenCtx,
}

// SAFETY: the driver's calls on contexts are thread-safe.
unsafe impl Send for Green {}

/// Multiprocessors of a lane, whose share is in percent: the first ones for lane 0, the last ones for lane 1. So they overlap only
/// where the shares are more than there is.
fn resource(gpu: &Gpu, share: u32, lane: usize) -> Result<sys::CUdevResource, CudaError> {
    let all = gpu.facts().multiprocessors;
    let own = (all * share).div_ceil(100).clamp(1, all - 1);
    let kind = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM;
    // SAFETY: plain data, of which zeros are a value; the calls below fill it in.
    let nothing: sys::CUdevResource = unsafe { std::mem::zeroed() };
    let (mut whole, mut first, mut rest) = (nothing, nothing, nothing);
    let mut groups = 1;
    // SAFETY: the device is valid; one resource is split into one group and what is left.
    unsafe {
        let found = sys::cuDeviceGetDevResource(gpu.device(), &raw mut whole, kind);
        check(found, "cuDeviceGetDevResource")?;
        let count = if lane == 0 { own } else { all - own };
        let (first, rest) = (&raw mut first, &raw mut rest);
        let split = sys::cuDevSmResourceSplitByCount(first, &raw mut groups, &raw const whole, rest, 0, count);
        check(split, "cuDevSmResourceSplitByCount")?;
    }
    Ok(if lane == 0 { first } else { rest })
}

impl Partition {
    /// A stream for a lane with a share of the GPU [percent].
    ///
    /// # Errors
    /// The driver cannot split this GPU.
    pub(super) fn new(gpu: &Arc<Gpu>, share: u32, lane: usize) -> Result<Partition, CudaError> {
        gpu.bind()?;
        if share >= 100 {
            let multiprocessors = gpu.facts().multiprocessors;
            return Ok(Partition { stream: Stream::new(gpu)?, multiprocessors, green: None });
        }
        let mut resource = resource(gpu, share, lane)?;
        // SAFETY: a resource of multiprocessors has their count.
        let multiprocessors = unsafe { resource.__bindgen_anon_1.sm.smCount };
        let (mut description, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        let flags = sys::CUgreenCtxCreate_flags::CU_GREEN_CTX_DEFAULT_STREAM as u32;
        // SAFETY: writes a description, of which the driver keeps what it needs, and a context, which is destroyed when the
        // structure is dropped.
        unsafe {
            let described = sys::cuDevResourceGenerateDesc(&raw mut description, &raw mut resource, 1);
            check(described, "cuDevResourceGenerateDesc")?;
            let made = sys::cuGreenCtxCreate(&raw mut context, description, gpu.device(), flags);
            check(made, "cuGreenCtxCreate")?;
        }
        let green = Green { gpu: gpu.clone(), context };
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is valid; the stream is destroyed before it.
        let stream = unsafe {
            check(sys::cuGreenCtxStreamCreate(&raw mut stream, context, flags, 0), "cuGreenCtxStreamCreate")?;
            Stream::from_handle(gpu, stream)
        };
        Ok(Partition { stream, multiprocessors, green: Some(green) })
    }

    /// Whether it has less than the whole GPU.
    pub(super) fn is_part(&self) -> bool {
        self.green.is_some()
    }
}

impl Drop for Green {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once, after its stream.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuGreenCtxDestroy(self.context) });
    }
}
