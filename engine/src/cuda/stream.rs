//! Streams: work that the device does in order, and graphs of it.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys;

use super::CudaError;
use super::driver::{Address, Event, Function, Gpu, Pinned, check};

/// Arguments of one launch: addresses and numbers of 32 bits.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Args {
    /// Each in a word of its own, in its lower bytes.
    words: [u64; Args::MOST],
    len: usize,
}

impl Args {
    /// Arguments that a kernel has at most.
    const MOST: usize = 20;

    /// None yet.
    pub(super) fn new() -> Args {
        Args::default()
    }

    /// Adds an address; zero where the kernel takes none.
    #[must_use]
    pub(super) fn at(self, address: Address) -> Args {
        self.word(address)
    }

    /// Adds an integer.
    #[must_use]
    pub(super) fn int(self, value: u32) -> Args {
        self.word(u64::from(value))
    }

    /// Adds a float.
    #[must_use]
    pub(super) fn float(self, value: f32) -> Args {
        self.word(u64::from(value.to_bits()))
    }

    fn word(mut self, word: u64) -> Args {
        self.words[self.len] = word;
        self.len += 1;
        self
    }
}

/// Blocks of a launch, threads of a block, and dynamic shared memory of a block [bytes].
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Blocks along x, y and z.
    pub(super) blocks: [u32; 3],
    /// Threads of a block.
    pub(super) threads: u32,
    /// Dynamic shared memory.
    pub(super) shared: u32,
}

/// Work in order.
#[derive(Debug)]
pub(super) struct Stream {
    gpu: Arc<Gpu>,
    stream: sys::CUstream,
}

// SAFETY: the driver's calls on streams are thread-safe.
unsafe impl Send for Stream {}

impl Stream {
    /// One that runs beside others.
    ///
    /// # Errors
    /// The GPU is lost.
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Stream, CudaError> {
        gpu.bind()?;
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes a handle, which is destroyed when the structure is dropped.
        check(unsafe { sys::cuStreamCreate(&raw mut stream, flags) }, "cuStreamCreate")?;
        Ok(Stream { gpu: gpu.clone(), stream })
    }

    /// Takes over a stream that was made elsewhere.
    ///
    /// # Safety
    /// The handle is valid, and nobody else destroys it.
    pub(super) unsafe fn from_handle(gpu: &Arc<Gpu>, stream: sys::CUstream) -> Stream {
        Stream { gpu: gpu.clone(), stream }
    }

    /// The GPU that it runs on.
    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The driver's handle.
    pub(super) fn handle(&self) -> sys::CUstream {
        self.stream
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// The arguments are the kernel's, in number and kind, and what it reads and writes with them lies in buffers that live until it
    /// has run.
    ///
    /// # Errors
    /// The driver refuses it, or earlier work has failed.
    pub(super) unsafe fn launch(&self, kernel: &Function, grid: Grid, mut args: Args) -> Result<(), CudaError> {
        self.gpu.bind()?;
        let Grid { blocks: [x, y, z], threads, shared } = grid;
        let mut places: [*mut c_void; Args::MOST] = [std::ptr::null_mut(); Args::MOST];
        for (place, word) in places.iter_mut().zip(&mut args.words[..args.len]) {
            *place = std::ptr::from_mut(word).cast();
        }
        // SAFETY: the driver reads each argument in the size that the kernel has for it, at most a word, and copies it before it
        // returns; the caller vouches for the rest.
        let result = unsafe {
            let places = places.as_mut_ptr();
            sys::cuLaunchKernel(
                kernel.handle(),
                x,
                y,
                z,
                threads,
                1,
                1,
                shared,
                self.stream,
                places,
                std::ptr::null_mut(),
            )
        };
        check(result, "cuLaunchKernel")
    }

    /// Copies the first bytes of pinned memory to the device, in its own time.
    ///
    /// # Safety
    /// The bytes stay as they are, and both memories live, until it is done.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn upload(&self, to: Address, from: &Pinned, bytes: usize) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the caller vouches that nothing writes to it.
        let from = unsafe { &from.bytes()[..bytes] };
        // SAFETY: `from` is as long as said; the caller vouches for the rest.
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), bytes, self.stream) };
        check(result, "cuMemcpyHtoDAsync")
    }

    /// Copies from the device to the first bytes of pinned memory, in its own time.
    ///
    /// # Safety
    /// Nothing else uses these bytes, and both memories live, until it is done.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn download(&self, to: &mut Pinned, from: Address, bytes: usize) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the caller vouches that nothing uses it.
        let to = unsafe { &mut to.bytes_mut()[..bytes] };
        // SAFETY: `to` is as long as said; the caller vouches for the rest.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, bytes, self.stream) };
        check(result, "cuMemcpyDtoHAsync")
    }

    /// Copies from pinned memory to the device, in its own time.
    ///
    /// # Safety
    /// Both memories are as long, live until it is done, and nothing changes the pinned one before.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn raise(&self, to: Address, from: *const c_void, bytes: usize) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the caller vouches for both memories.
        check(unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes, self.stream) }, "cuMemcpyHtoDAsync")
    }

    /// Copies from the device to pinned memory, in its own time.
    ///
    /// # Safety
    /// Both memories are as long, live until it is done, and nothing uses the pinned one before.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn lower(&self, to: *mut c_void, from: Address, bytes: usize) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the caller vouches for both memories.
        check(unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes, self.stream) }, "cuMemcpyDtoHAsync")
    }

    /// Fills device memory with a byte.
    ///
    /// # Safety
    /// The memory lives until it is done.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the caller vouches for the memory.
        check(unsafe { sys::cuMemsetD8Async(to, byte, bytes, self.stream) }, "cuMemsetD8Async")
    }

    /// Notes when all work up to here is done.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) fn record(&self, event: &Event) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: both handles are valid.
        check(unsafe { sys::cuEventRecord(event.handle(), self.stream) }, "cuEventRecord")
    }

    /// Work from here on waits for an event of another stream.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) fn wait_for(&self, event: &Event) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: both handles are valid.
        check(unsafe { sys::cuStreamWaitEvent(self.stream, event.handle(), 0) }, "cuStreamWaitEvent")
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// Work has failed.
    pub(super) fn finish(&self) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the handle is valid.
        check(unsafe { sys::cuStreamSynchronize(self.stream) }, "cuStreamSynchronize")
    }

    /// Records what `enqueue` puts on the stream, and does none of it.
    ///
    /// # Errors
    /// Something cannot be recorded.
    pub(super) fn capture(&self, enqueue: impl FnOnce() -> Result<(), CudaError>) -> Result<Graph, CudaError> {
        self.gpu.bind()?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the handle is valid and the stream is not recording: nothing else begins it.
        check(unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) }, "cuStreamBeginCapture")?;
        let enqueued = enqueue();
        let mut graph = std::ptr::null_mut();
        // SAFETY: ends what was begun above, whatever came of it; writes a handle.
        let ended = check(unsafe { sys::cuStreamEndCapture(self.stream, &raw mut graph) }, "cuStreamEndCapture");
        let mut exec = std::ptr::null_mut();
        let made = enqueued.and(ended).and_then(|()| {
            // SAFETY: the graph is valid; writes a handle.
            check(unsafe { sys::cuGraphInstantiateWithFlags(&raw mut exec, graph, 0) }, "cuGraphInstantiate")
        });
        if !graph.is_null() {
            // SAFETY: the graph was made once; it is not needed any more once it can be launched.
            unsafe { sys::cuGraphDestroy(graph) };
        }
        made?;
        let graph = Graph { gpu: self.gpu.clone(), exec };
        // The first replay is no slower than the others.
        // SAFETY: both handles are valid.
        check(unsafe { sys::cuGraphUpload(graph.exec, self.stream) }, "cuGraphUpload")?;
        Ok(graph)
    }

    /// Does what a graph has recorded.
    ///
    /// # Safety
    /// What its kernels read and write lies in buffers that live until it is done.
    ///
    /// # Errors
    /// Earlier work has failed.
    pub(super) unsafe fn replay(&self, graph: &Graph) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: both handles are valid; the caller vouches for the buffers.
        check(unsafe { sys::cuGraphLaunch(graph.exec, self.stream) }, "cuGraphLaunch")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once, when its work is done: what it uses may be freed next.
        let _ = self.gpu.bind().map(|()| unsafe {
            sys::cuStreamSynchronize(self.stream);
            sys::cuStreamDestroy_v2(self.stream)
        });
    }
}

/// A recorded step.
#[derive(Debug)]
pub(super) struct Graph {
    gpu: Arc<Gpu>,
    exec: sys::CUgraphExec,
}

// SAFETY: used by one thread at a time.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuGraphExecDestroy(self.exec) });
    }
}
