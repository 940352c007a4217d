//! Shares of a GPU's multiprocessors: streams whose work runs on some of them only (green contexts).

use std::sync::Arc;

use cudarc::driver::sys;

use super::CudaError;
use super::driver::{Gpu, check};
use super::stream::Stream;
use crate::executor::Lanes;

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

/// All multiprocessors, in the smallest groups that the GPU can be split into, and what is left over. One split only: the groups of
/// two splits may overlap.
fn groups(gpu: &Gpu) -> Result<Vec<sys::CUdevResource>, CudaError> {
    let kind = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM;
    // SAFETY: plain data, of which zeros are a value; the calls below fill it in.
    let nothing: sys::CUdevResource = unsafe { std::mem::zeroed() };
    let (mut whole, mut rest) = (nothing, nothing);
    // SAFETY: the device is valid; writes one resource.
    check(unsafe { sys::cuDeviceGetDevResource(gpu.device(), &raw mut whole, kind) }, "cuDeviceGetDevResource")?;
    // SAFETY: a resource of multiprocessors says how they are grouped.
    let sm = unsafe { whole.__bindgen_anon_1.sm };
    // Drivers before 13.0 do not say it: clusters of Hopper and later need eight.
    let least = if gpu.facts().sm >= 90 { 8 } else { 2 };
    let grain = sm.smCoscheduledAlignment.max(least).min(sm.smCount);
    let mut count = sm.smCount / grain;
    let mut groups = vec![nothing; count as usize];
    // SAFETY: there is room for as many groups as are asked for; one resource is split.
    let split = unsafe {
        let (first, left) = (groups.as_mut_ptr(), &raw mut rest);
        sys::cuDevSmResourceSplitByCount(first, &raw mut count, &raw const whole, left, 0, grain)
    };
    check(split, "cuDevSmResourceSplitByCount")?;
    groups.truncate(count as usize);
    Ok(groups)
}

/// How many of `all` groups a share is: at least one, and not all of them.
fn part(share: u32, all: usize) -> usize {
    let nearest = (share as usize * all + 50) / 100;
    nearest.clamp(1, (all - 1).max(1))
}

impl Partition {
    /// A stream for each lane. Shares of two lanes overlap only as far as they are more than there is: lane 0 has the first groups of
    /// multiprocessors, lane 1 the last ones.
    ///
    /// # Errors
    /// The driver cannot split this GPU.
    pub(super) fn of(gpu: &Arc<Gpu>, lanes: Lanes) -> Result<Vec<Partition>, CudaError> {
        gpu.bind()?;
        let shares: Vec<u32> = (0..lanes.count()).map(|lane| lanes.share(lane)).collect();
        let groups = if shares.iter().any(|share| *share < 100) { groups(gpu)? } else { Vec::new() };
        let lane = |(lane, share): (usize, &u32)| {
            if *share >= 100 {
                let multiprocessors = gpu.facts().multiprocessors;
                return Ok(Partition { stream: Stream::new(gpu)?, multiprocessors, green: None });
            }
            let part = part(*share, groups.len());
            let own = if lane == 0 { &groups[..part] } else { &groups[groups.len() - part..] };
            Partition::on(gpu, own.to_vec())
        };
        shares.iter().enumerate().map(lane).collect()
    }

    /// A stream on groups of multiprocessors.
    fn on(gpu: &Arc<Gpu>, mut groups: Vec<sys::CUdevResource>) -> Result<Partition, CudaError> {
        // SAFETY: resources of multiprocessors have their count.
        let multiprocessors = groups.iter().map(|group| unsafe { group.__bindgen_anon_1.sm.smCount }).sum();
        let (mut description, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        let flags = sys::CUgreenCtxCreate_flags::CU_GREEN_CTX_DEFAULT_STREAM as u32;
        // SAFETY: writes a description, of which the driver keeps what it needs, and a context, which is destroyed when the
        // structure is dropped.
        unsafe {
            let count = groups.len() as u32;
            let described = sys::cuDevResourceGenerateDesc(&raw mut description, groups.as_mut_ptr(), count);
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

    /// Its multiprocessors, if they are not all that the GPU has.
    pub(super) fn part(&self) -> Option<u32> {
        self.green.as_ref().map(|_| self.multiprocessors)
    }
}

impl Drop for Green {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once, after its stream.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuGreenCtxDestroy(self.context) });
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn shares_are_whole_groups_and_never_none_or_all() {
        // 132 multiprocessors are 16 groups of eight, and four more.
        assert_eq!([1, 25, 50, 75, 99].map(|share| part(share, 16)), [1, 4, 8, 12, 15]);
        assert_eq!([1, 50, 99].map(|share| part(share, 1)), [1, 1, 1]);
    }
}
