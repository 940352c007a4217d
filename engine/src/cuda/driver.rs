//! The CUDA driver: a context, streams, events, memory, modules and graphs, as far as the engine uses them.
//!
//! A thin layer over cudarc's raw bindings. Whatever takes or gives addresses is `unsafe` below and safe above: a handle lives as
//! long as what it stands for, and the device is only ever given addresses inside of buffers that live.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys;

use super::CudaError;

/// Oldest driver that has all the calls, as `cuDriverGetVersion` counts: CUDA 12.8.
const OLDEST_DRIVER: i32 = 12_080;
/// Oldest GPU with the instructions that the kernels use: bf16 matrix products and asynchronous copies.
const OLDEST_GPU: u32 = 80;

/// The result of a driver call, named after it.
pub(super) fn check(result: sys::CUresult, call: &'static str) -> Result<(), CudaError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Driver { call, code: format!("{result:?}") })
}

/// What a GPU is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Compute capability: 90 for 9.0.
    pub sm: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Device memory [bytes].
    pub memory: u64,
    /// Shared memory that a block may ask for [bytes].
    pub shared: u32,
    /// The driver, as `cuDriverGetVersion` counts: 13000 for CUDA 13.0.
    pub driver: i32,
}

/// An open GPU: its primary context.
#[derive(Debug)]
pub struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    facts: Facts,
}

// SAFETY: a context may be current on any number of threads, and the driver's calls are thread-safe.
unsafe impl Send for Gpu {}
// SAFETY: as above; no call changes what the structure holds.
unsafe impl Sync for Gpu {}

/// A device's id, by which other libraries know it.
fn uuid(device: sys::CUdevice) -> Result<String, CudaError> {
    let mut found = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: the device is valid; writes 16 bytes.
    check(unsafe { sys::cuDeviceGetUuid_v2(&raw mut found, device) }, "cuDeviceGetUuid")?;
    let number = u128::from_be_bytes(found.bytes.map(|byte| byte as u8));
    let part = |shift: u32, digits: u32| number >> shift & ((1 << (4 * digits)) - 1);
    Ok(format!(
        "GPU-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    ))
}

/// A GPU that is there and was not opened: this process has no context on it yet.
#[derive(Debug)]
pub struct Found {
    device: sys::CUdevice,
    facts: Facts,
}

impl Found {
    /// Looks for a GPU by its number.
    ///
    /// # Errors
    /// There is no driver, no such GPU, or it or the driver is too old.
    pub fn at(number: u32) -> Result<Found, CudaError> {
        // SAFETY: only looks whether the library can be loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        let (mut version, mut count, mut device) = (0, 0, 0);
        // SAFETY: each call writes one number to where it is given one.
        unsafe {
            check(sys::cuDriverGetVersion(&raw mut version), "cuDriverGetVersion")?;
            if version < OLDEST_DRIVER {
                return Err(CudaError::OldDriver { version });
            }
            match sys::cuInit(0) {
                sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(CudaError::NoDevice { number, count }),
                result => check(result, "cuInit")?,
            }
            check(sys::cuDeviceGetCount(&raw mut count), "cuDeviceGetCount")?;
            if i64::from(number) >= i64::from(count) {
                return Err(CudaError::NoDevice { number, count });
            }
            check(sys::cuDeviceGet(&raw mut device, number as i32), "cuDeviceGet")?;
        }
        let facts = facts(device, version)?;
        if facts.sm < OLDEST_GPU {
            return Err(CudaError::OldGpu { name: facts.name, sm: facts.sm });
        }
        Ok(Found { device, facts })
    }

    /// Its id, as [`Gpu::uuid`] gives it.
    ///
    /// # Errors
    /// The GPU is lost.
    pub fn uuid(&self) -> Result<String, CudaError> {
        uuid(self.device)
    }

    /// Opens it.
    fn open(self) -> Result<Arc<Gpu>, CudaError> {
        let Found { device, facts } = self;
        let mut context = std::ptr::null_mut();
        // SAFETY: the device is valid; the context is released when the structure is dropped.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, device) }, "cuDevicePrimaryCtxRetain")?;
        let gpu = Gpu { device, context, facts };
        gpu.bind()?;
        Ok(Arc::new(gpu))
    }
}

impl Gpu {
    /// Opens a GPU by its number.
    ///
    /// # Errors
    /// There is no driver, no such GPU, or it or the driver is too old.
    pub fn open(number: u32) -> Result<Arc<Gpu>, CudaError> {
        Found::at(number)?.open()
    }

    /// What it is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its id, by which other libraries know it: `GPU-` and 32 digits in hex.
    ///
    /// # Errors
    /// The GPU is lost.
    pub fn uuid(&self) -> Result<String, CudaError> {
        uuid(self.device)
    }

    /// The driver's number of it.
    pub(super) fn device(&self) -> sys::CUdevice {
        self.device
    }

    /// Makes it the GPU of the calling thread: before the first call on a thread.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained as long as this structure lives.
        check(unsafe { sys::cuCtxSetCurrent(self.context) }, "cuCtxSetCurrent")
    }

    /// Device memory that nothing has taken [bytes].
    ///
    /// # Errors
    /// The GPU is lost.
    pub fn free_memory(&self) -> Result<u64, CudaError> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two numbers.
        check(unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) }, "cuMemGetInfo")?;
        Ok(free as u64)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: retained once, released once; nothing of the context outlives the last owner of the structure. An error at the
        // end of a program changes nothing any more.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

fn facts(device: sys::CUdevice, driver: i32) -> Result<Facts, CudaError> {
    use sys::CUdevice_attribute as A;
    let attribute = |which: sys::CUdevice_attribute| {
        let mut value = 0;
        // SAFETY: the device is valid; writes one number.
        check(unsafe { sys::cuDeviceGetAttribute(&raw mut value, which, device) }, "cuDeviceGetAttribute")?;
        Ok::<u32, CudaError>(value as u32)
    };
    let (mut name, mut memory) = ([0_u8; 256], 0);
    // SAFETY: writes a text that ends in zero, of at most the length given, and a number.
    unsafe {
        check(sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device), "cuDeviceGetName")?;
        check(sys::cuDeviceTotalMem_v2(&raw mut memory, device), "cuDeviceTotalMem")?;
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    Ok(Facts {
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        sm: 10 * major + attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory: memory as u64,
        shared: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver,
    })
}

/// An address on the device.
pub(super) type Address = sys::CUdeviceptr;

/// Device memory.
#[derive(Debug)]
pub(super) struct Buffer {
    gpu: Arc<Gpu>,
    start: Address,
    bytes: usize,
}

impl Buffer {
    /// So many bytes, with nothing certain in them.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Buffer, CudaError> {
        gpu.bind()?;
        let mut start = 0;
        // The driver refuses zero bytes.
        let bytes = bytes.max(16);
        // SAFETY: writes an address, which is freed when the structure is dropped.
        match unsafe { sys::cuMemAlloc_v2(&raw mut start, bytes) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Err(CudaError::Memory { wanted: bytes as u64, free: gpu.free_memory()? })
            }
            result => {
                check(result, "cuMemAlloc")?;
                Ok(Buffer { gpu: gpu.clone(), start, bytes })
            }
        }
    }

    /// The address of a byte of it.
    ///
    /// # Panics
    /// It lies beyond the end.
    pub(super) fn at(&self, byte: usize) -> Address {
        assert!(byte <= self.bytes, "byte {byte} of {}", self.bytes);
        self.start + byte as u64
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The GPU that it lies on.
    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated once, freed once. The driver waits for what still uses it.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuMemFree_v2(self.start) });
    }
}

/// Memory of the host that the device copies from and to by itself.
#[derive(Debug)]
pub(super) struct Pinned {
    gpu: Arc<Gpu>,
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: plain memory; who may touch it when is for the users of `bytes` and `bytes_mut` to say.
unsafe impl Send for Pinned {}

impl Pinned {
    /// So many bytes.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Pinned, CudaError> {
        gpu.bind()?;
        let mut start = std::ptr::null_mut();
        let bytes = bytes.max(16);
        // SAFETY: writes an address. Without flags it is cached memory, which the host reads fast.
        check(unsafe { sys::cuMemHostAlloc(&raw mut start, bytes, 0) }, "cuMemHostAlloc")?;
        Ok(Pinned { gpu: gpu.clone(), start, bytes })
    }

    /// What is there.
    ///
    /// # Safety
    /// The device does not write to it as long as the slice is used.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is as long as said and was allocated for reading; the caller vouches for the device.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }

    /// The address of so many bytes of it.
    ///
    /// # Panics
    /// They go beyond the end.
    pub(super) fn at(&self, byte: usize, bytes: usize) -> *mut c_void {
        assert!(byte + bytes <= self.bytes, "{bytes} bytes from {byte} on of {}", self.bytes);
        self.start.wrapping_byte_add(byte)
    }

    /// What is there, to write.
    ///
    /// # Safety
    /// The device neither reads nor writes it as long as the slice is used.
    pub(super) unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is as long as said; the structure is borrowed alone; the caller vouches for the device.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated once, freed once. Whoever dropped it has waited for the copies.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuMemFreeHost(self.start) });
    }
}

/// A moment on a stream.
#[derive(Debug)]
pub(super) struct Event {
    gpu: Arc<Gpu>,
    event: sys::CUevent,
}

// SAFETY: the driver's calls on events are thread-safe.
unsafe impl Send for Event {}

impl Event {
    /// One that notes the time.
    ///
    /// # Errors
    /// The GPU is lost.
    pub(super) fn new(gpu: &Arc<Gpu>) -> Result<Event, CudaError> {
        gpu.bind()?;
        let mut event = std::ptr::null_mut();
        let flags = sys::CUevent_flags_enum::CU_EVENT_DEFAULT as u32;
        // SAFETY: writes a handle, which is destroyed when the structure is dropped.
        check(unsafe { sys::cuEventCreate(&raw mut event, flags) }, "cuEventCreate")?;
        Ok(Event { gpu: gpu.clone(), event })
    }

    /// The driver's handle.
    pub(super) fn handle(&self) -> sys::CUevent {
        self.event
    }

    /// Whether it has come.
    ///
    /// # Errors
    /// Work before it has failed.
    pub(super) fn is_there(&self) -> Result<bool, CudaError> {
        self.gpu.bind()?;
        // SAFETY: the handle is valid.
        match unsafe { sys::cuEventQuery(self.event) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check(result, "cuEventQuery").map(|()| true),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// Work before it has failed.
    pub(super) fn wait(&self) -> Result<(), CudaError> {
        self.gpu.bind()?;
        // SAFETY: the handle is valid.
        check(unsafe { sys::cuEventSynchronize(self.event) }, "cuEventSynchronize")
    }

    /// Time from an earlier event that has come to this one, which has come too, by the device's clock [ns].
    ///
    /// # Errors
    /// One of them has not come.
    pub(super) fn since(&self, earlier: &Event) -> Result<u64, CudaError> {
        self.gpu.bind()?;
        let mut ms = 0.0_f32;
        // SAFETY: both handles are valid; writes one number.
        check(unsafe { sys::cuEventElapsedTime_v2(&raw mut ms, earlier.event, self.event) }, "cuEventElapsedTime")?;
        Ok((f64::from(ms.max(0.0)) * 1e6) as u64)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the driver keeps what is still needed of it.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuEventDestroy_v2(self.event) });
    }
}

/// Kernels that were compiled together.
#[derive(Debug)]
pub(super) struct Module {
    gpu: Arc<Gpu>,
    module: sys::CUmodule,
}

// SAFETY: the driver's calls on modules are thread-safe.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// A kernel.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Keeps it loaded.
    module: Arc<Module>,
    function: sys::CUfunction,
}

// SAFETY: a function is a handle that calls only read.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Module {
    /// Loads a cubin, or PTX that ends in zero.
    ///
    /// # Errors
    /// The driver cannot use it.
    pub(super) fn load(gpu: &Arc<Gpu>, image: &[u8]) -> Result<Arc<Module>, CudaError> {
        gpu.bind()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: an image says how long it is, or ends in zero; the driver copies what it needs.
        check(unsafe { sys::cuModuleLoadData(&raw mut module, image.as_ptr().cast()) }, "cuModuleLoadData")?;
        Ok(Arc::new(Module { gpu: gpu.clone(), module }))
    }

    /// One of its kernels, which may use so much dynamic shared memory [bytes].
    ///
    /// # Errors
    /// It has no such kernel, or the GPU not as much shared memory.
    pub(super) fn function(self: &Arc<Module>, name: &str, shared: u32) -> Result<Function, CudaError> {
        self.gpu.bind()?;
        let mut function = std::ptr::null_mut();
        let text = CString::new(name).map_err(|_| CudaError::Compile(format!("a kernel named {name:?}")))?;
        // SAFETY: the module is loaded; the name ends in zero.
        let found = unsafe { sys::cuModuleGetFunction(&raw mut function, self.module, text.as_ptr()) };
        check(found, "cuModuleGetFunction")?;
        if shared > 0 {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is valid.
            check(unsafe { sys::cuFuncSetAttribute(function, which, shared as i32) }, "cuFuncSetAttribute")?;
        }
        Ok(Function { module: self.clone(), function })
    }
}

impl Function {
    /// The driver's handle.
    pub(super) fn handle(&self) -> sys::CUfunction {
        debug_assert!(!self.module.module.is_null());
        self.function
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, unloaded once, when no function of it is left.
        let _ = self.gpu.bind().map(|()| unsafe { sys::cuModuleUnload(self.module) });
    }
}
