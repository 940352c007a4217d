//! From CUDA sources to code for the GPU at hand, by NVRTC, once: results are kept by the hash of what went in.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::sys;

use super::CudaError;

/// What a compilation depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Compute capability: 90 for 9.0.
    pub sm: u32,
    /// Constants for the sources that take them (`-DNAME=value`).
    pub defines: Vec<(&'static str, u32)>,
}

/// Code for the driver, and what the compiler said beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// A cubin, or PTX that ends in zero where NVRTC is older than the GPU.
    pub image: Vec<u8>,
    /// Warnings, and whatever else was asked for.
    pub log: String,
}

/// NVRTC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiler {
    version: (i32, i32),
    /// Compute capabilities that it knows.
    known: Vec<u32>,
}

fn check(result: sys::nvrtcResult, call: &str) -> Result<(), CudaError> {
    if result == sys::nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Compile(format!("{call}: {result:?}")))
}

impl Compiler {
    /// Looks for NVRTC.
    ///
    /// # Errors
    /// It is not there.
    pub fn find() -> Result<Compiler, CudaError> {
        // SAFETY: only looks whether the library can be loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoLibrary { name: "NVRTC (libnvrtc.so)" });
        }
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: each call writes numbers to where it is given some.
        unsafe {
            check(sys::nvrtcVersion(&raw mut major, &raw mut minor), "nvrtcVersion")?;
            check(sys::nvrtcGetNumSupportedArchs(&raw mut count), "nvrtcGetNumSupportedArchs")?;
        }
        let mut known = vec![0_i32; count.max(0) as usize];
        // SAFETY: writes as many numbers as it has said.
        check(unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }, "nvrtcGetSupportedArchs")?;
        Ok(Compiler { version: (major, minor), known: known.into_iter().map(|sm| sm as u32).collect() })
    }

    /// Looks for NVRTC, and whether a driver takes its code.
    ///
    /// # Errors
    /// It is not there, or of a newer major version than CUDA is with this driver (as `cuDriverGetVersion` counts).
    pub fn find_for(driver: i32) -> Result<Compiler, CudaError> {
        let compiler = Compiler::find()?;
        compiler
            .fits(driver)
            .then_some(compiler.clone())
            .ok_or(CudaError::NewCompiler { nvrtc: compiler.version, driver })
    }

    /// Within a major version drivers take the code of newer compilers, unless it is PTX (CUDA Compatibility, section "Minor Version
    /// Compatibility").
    fn fits(&self, driver: i32) -> bool {
        self.version.0 <= driver / 1000
    }

    /// Its version: major, minor.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles a source, or finds the result of an earlier time in a folder.
    ///
    /// # Errors
    /// The source is wrong, or made for something that the compiler does not know.
    pub fn compile(
        &self,
        source: &overbook_kernels::cuda::Source,
        options: &Options,
        cache: Option<&Path>,
    ) -> Result<Compiled, CudaError> {
        let flags = self.flags(source, options)?;
        let place = cache.map(|folder| self.place(folder, source, &flags));
        if let Some(image) = place.as_deref().and_then(kept) {
            return Ok(Compiled { image, log: String::new() });
        }
        let compiled = run(source, &flags, &[])?;
        if let Some(place) = place {
            keep(&place, &compiled.image);
        }
        Ok(compiled)
    }

    /// Forgets what was kept of a source.
    pub(super) fn forget(&self, source: &overbook_kernels::cuda::Source, options: &Options, cache: &Path) {
        if let Ok(flags) = self.flags(source, options) {
            let _ = std::fs::remove_file(self.place(cache, source, &flags));
        }
    }

    fn place(&self, folder: &Path, source: &overbook_kernels::cuda::Source, flags: &[String]) -> PathBuf {
        folder.join(format!("{}.cubin", self.key(source, flags)))
    }

    /// Compiles with more options, and keeps nothing.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn compile_with(
        &self,
        source: &overbook_kernels::cuda::Source,
        options: &Options,
        more: &[&str],
    ) -> Result<Compiled, CudaError> {
        run(source, &self.flags(source, options)?, more)
    }

    /// What code is made for: the GPU, or the newest that the compiler knows and that is no newer than the GPU. The driver compiles such
    /// PTX for GPUs that are newer than this compiler; PTX for a newer GPU no older one takes.
    fn architecture(&self, sm: u32) -> Result<String, CudaError> {
        if self.known.contains(&sm) {
            return Ok(format!("sm_{sm}"));
        }
        let newest = self.known.iter().copied().filter(|known| *known < sm).max().ok_or_else(|| {
            let (major, minor) = self.version;
            CudaError::Compile(format!(
                "NVRTC {major}.{minor} knows no GPU of compute capability {}.{} or before",
                sm / 10,
                sm % 10
            ))
        })?;
        Ok(format!("compute_{newest}"))
    }

    fn flags(&self, source: &overbook_kernels::cuda::Source, options: &Options) -> Result<Vec<String>, CudaError> {
        let arch = self.architecture(options.sm)?;
        let defines = options.defines.iter().filter(|(name, _)| source.takes.contains(name));
        let defines = defines.map(|(name, value)| format!("-D{name}={value}"));
        Ok([format!("--gpu-architecture={arch}"), "--std=c++17".to_owned()].into_iter().chain(defines).collect())
    }

    fn key(&self, source: &overbook_kernels::cuda::Source, flags: &[String]) -> String {
        let mut hasher = blake3::Hasher::new();
        let version = format!("{}.{}", self.version.0, self.version.1);
        let parts = [&version, source.name, source.text, overbook_kernels::cuda::PRELUDE];
        for part in parts.into_iter().chain(flags.iter().map(String::as_str)) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

fn run(source: &overbook_kernels::cuda::Source, flags: &[String], more: &[&str]) -> Result<Compiled, CudaError> {
    let text = |text: &str| CString::new(text).map_err(|_| CudaError::Compile("a source with a zero byte".into()));
    let (code, name, header) = (text(source.text)?, text(source.name)?, text(overbook_kernels::cuda::PRELUDE)?);
    let include = text("prelude.cuh")?;
    let flags: Vec<CString> =
        flags.iter().map(String::as_str).chain(more.iter().copied()).map(text).collect::<Result<_, _>>()?;
    let pointers: Vec<*const c_char> = flags.iter().map(|flag| flag.as_ptr()).collect();
    let mut program = Program(std::ptr::null_mut());
    let (headers, names) = ([header.as_ptr()], [include.as_ptr()]);
    // SAFETY: all texts end in zero and live until the call returns; the handle is destroyed when `program` is dropped.
    let made = unsafe {
        let (code, name) = (code.as_ptr(), name.as_ptr());
        sys::nvrtcCreateProgram(&raw mut program.0, code, name, 1, headers.as_ptr(), names.as_ptr())
    };
    check(made, "nvrtcCreateProgram")?;
    // SAFETY: the program is valid, and the options are as many as said.
    let compiled = unsafe { sys::nvrtcCompileProgram(program.0, pointers.len() as i32, pointers.as_ptr()) };
    let log = program.log()?;
    if compiled != sys::nvrtcResult::NVRTC_SUCCESS {
        return Err(CudaError::Compile(format!("{}: {compiled:?}\n{log}", source.name)));
    }
    Ok(Compiled { image: program.image()?, log })
}

/// Bytes of a kept file's first line: the hash of all that follows. Drivers and libraries trust what they are given, and a file may
/// have been cut off or damaged.
const SEAL: usize = 65;

/// What was kept at a place, if it is whole.
pub(super) fn kept(place: &Path) -> Option<Vec<u8>> {
    let mut file = std::fs::read(place).ok()?;
    let (seal, content) = file.split_at_checked(SEAL)?;
    let whole = seal[..SEAL - 1] == *blake3::hash(content).to_hex().as_bytes();
    file.drain(..SEAL);
    whole.then_some(file)
}

/// Keeps something at a place, where others see it whole or not at all. A cache that cannot be written costs time, not correctness.
pub(super) fn keep(place: &Path, content: &[u8]) {
    let Some(folder) = place.parent() else { return };
    let unfinished = place.with_extension(format!("{}.part", std::process::id()));
    let seal = blake3::hash(content).to_hex();
    let file = [seal.as_bytes(), b"\n", content].concat();
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&unfinished, file))
        .and_then(|()| std::fs::rename(&unfinished, place));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
}

/// Where what was compiled or tuned is kept: `$OVERBOOK_CACHE`, else `overbook` in the user's cache folder. None: nothing is kept.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    set("OVERBOOK_CACHE").or_else(|| users().map(|folder| folder.join("overbook")))
}

/// Why what is compiled and tuned will not be kept for the next start; `None` if it will.
pub fn why_not_kept() -> Option<String> {
    let Some(folder) = cache_folder() else {
        return Some("none of OVERBOOK_CACHE, XDG_CACHE_HOME and HOME names a folder".to_owned());
    };
    let trial = folder.join(format!("{}.part", std::process::id()));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&trial, b"0"));
    let _ = std::fs::remove_file(&trial);
    written.err().map(|error| format!("cannot write to {}: {error}", folder.display()))
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> Result<String, CudaError> {
        let mut size = 0;
        // SAFETY: the program is valid; writes one number.
        check(unsafe { sys::nvrtcGetProgramLogSize(self.0, &raw mut size) }, "nvrtcGetProgramLogSize")?;
        let mut text = vec![0_u8; size.max(1)];
        // SAFETY: writes as many bytes as it has said, the last of which is zero.
        check(unsafe { sys::nvrtcGetProgramLog(self.0, text.as_mut_ptr().cast()) }, "nvrtcGetProgramLog")?;
        let text = CStr::from_bytes_until_nul(&text).map(|text| text.to_string_lossy().trim().to_owned());
        Ok(text.unwrap_or_default())
    }

    /// The cubin, or the PTX where there is none.
    fn image(&self) -> Result<Vec<u8>, CudaError> {
        let mut size = 0;
        // SAFETY: the program is valid; writes one number.
        let cubin = unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) };
        if cubin == sys::nvrtcResult::NVRTC_SUCCESS && size > 0 {
            let mut image = vec![0_u8; size];
            // SAFETY: writes as many bytes as it has said.
            check(unsafe { sys::nvrtcGetCUBIN(self.0, image.as_mut_ptr().cast()) }, "nvrtcGetCUBIN")?;
            return Ok(image);
        }
        // SAFETY: the program is valid; writes one number.
        check(unsafe { sys::nvrtcGetPTXSize(self.0, &raw mut size) }, "nvrtcGetPTXSize")?;
        let mut image = vec![0_u8; size];
        // SAFETY: writes as many bytes as it has said, the last of which is zero.
        check(unsafe { sys::nvrtcGetPTX(self.0, image.as_mut_ptr().cast()) }, "nvrtcGetPTX")?;
        Ok(image)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made once, destroyed once.
            unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_is_of_the_newest_architecture_that_the_gpu_has() {
        let compiler = Compiler { version: (12, 8), known: vec![75, 80, 90, 100, 120] };
        let architecture = |sm| compiler.architecture(sm).map_err(|error| error.to_string());
        assert_eq!(architecture(90), Ok("sm_90".to_owned()));
        assert_eq!(architecture(103), Ok("compute_100".to_owned()), "not the newest of all, 12.0");
        assert_eq!(architecture(121), Ok("compute_120".to_owned()));
        let none = architecture(70).expect_err("older than all");
        assert!(none.contains("NVRTC 12.8 knows no GPU of compute capability 7.0"), "{none}");
    }

    #[test]
    fn a_driver_takes_code_of_its_major_version() {
        let compiler = |major, minor| Compiler { version: (major, minor), known: Vec::new() };
        assert!(compiler(12, 9).fits(12080) && compiler(12, 8).fits(13000) && !compiler(13, 0).fits(12090));
    }
}
