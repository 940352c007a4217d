//! What checks share: arrays on the device with guards around them, kernels, random inputs, distances.

use std::cell::Cell;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use overbook_kernels::cuda::SOURCES;
use overbook_kernels::reference::bf16::{from_bf16, to_bf16};
use overbook_sim::counter;

use super::super::CudaError;
use super::super::compile::{Compiler, Options};
use super::super::driver::{Address, Buffer, Function, Gpu, Module, Pinned};
use super::super::stream::{Args, Grid, Stream};

/// Bytes on each side of an array that no kernel may touch.
const GUARD: usize = 256;
/// What is there, and in an array that a kernel is to write.
const POISON: u8 = 0xff;

/// A device to check kernels on.
pub(super) struct Rig<'a> {
    gpu: &'a Arc<Gpu>,
    stream: Stream,
    compiler: Compiler,
    cache: Option<&'a Path>,
    /// Arrays beside which something was written since the last look.
    outside: Cell<usize>,
}

impl<'a> Rig<'a> {
    pub(super) fn new(gpu: &'a Arc<Gpu>, cache: Option<&'a Path>) -> Result<Rig<'a>, CudaError> {
        let compiler = Compiler::find_for(gpu.facts().driver)?;
        Ok(Rig { gpu, stream: Stream::new(gpu)?, compiler, cache, outside: Cell::new(0) })
    }

    /// A kernel for heads of a width, so many query heads for a KV head, and blocks of some size.
    pub(super) fn kernel(&self, name: &str, shape: Shape, shared: u32) -> Result<Function, CudaError> {
        self.kernel_for(name, shape, shared, None)
    }

    /// The same for a width of the residual stream.
    pub(super) fn kernel_for(
        &self,
        name: &str,
        shape: Shape,
        shared: u32,
        hidden: Option<u32>,
    ) -> Result<Function, CudaError> {
        let source = SOURCES.iter().find(|source| source.kernels.contains(&name));
        let source = source.ok_or_else(|| CudaError::Compile(format!("no source has a kernel {name}")))?;
        let mut defines = shape.defines();
        defines.extend(hidden.map(|hidden| ("HIDDEN", hidden)));
        let options = Options { sm: self.gpu.facts().sm, defines };
        let image = self.compiler.compile(source, &options, self.cache)?.image;
        Module::load(self.gpu, &image)?.function(name, shared)
    }

    /// An array with numbers in it.
    pub(super) fn array<T: Plain>(&self, numbers: &[T]) -> Result<Array<T>, CudaError> {
        let bytes = size_of_val(numbers);
        let buffer = Buffer::new(self.gpu, bytes + 2 * GUARD)?;
        let mut host = Pinned::new(self.gpu, bytes + 2 * GUARD)?;
        // SAFETY: the device has not been told of this memory.
        let image = unsafe { host.bytes_mut() };
        image.fill(POISON);
        let place = image[GUARD..GUARD + bytes].chunks_exact_mut(size_of::<T>());
        place.zip(numbers).for_each(|(bytes, number)| number.write(bytes));
        // SAFETY: the copy is done before either memory is used again.
        unsafe { self.stream.upload(buffer.at(0), &host, bytes + 2 * GUARD)? };
        self.stream.finish()?;
        Ok(Array { buffer, host, len: numbers.len(), kind: PhantomData })
    }

    /// An array full of what is no number.
    pub(super) fn poison<T: Plain>(&self, len: usize) -> Result<Array<T>, CudaError> {
        self.array(&vec![T::POISON; len])
    }

    /// What is in an array.
    pub(super) fn read<T: Plain>(&self, array: &mut Array<T>) -> Result<Vec<T>, CudaError> {
        let bytes = array.len * size_of::<T>();
        // SAFETY: the copy is done before either memory is used again.
        unsafe { self.stream.download(&mut array.host, array.buffer.at(0), bytes + 2 * GUARD)? };
        self.stream.finish()?;
        // SAFETY: the copy is done.
        let image = unsafe { array.host.bytes() };
        let (before, rest) = image[..bytes + 2 * GUARD].split_at(GUARD);
        let (inside, after) = rest.split_at(bytes);
        if before.iter().chain(after).any(|byte| *byte != POISON) {
            self.outside.set(self.outside.get() + 1);
        }
        Ok(inside.chunks_exact(size_of::<T>()).map(T::read).collect())
    }

    /// The error of a check, or infinity where something was written outside of the arrays that were read for it.
    pub(super) fn judge(&self, error: f64) -> f64 {
        if self.outside.replace(0) > 0 { f64::INFINITY } else { error }
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are the kernel's, and its arrays are as large as it takes them to be.
    pub(super) unsafe fn run(&self, kernel: &Function, grid: Grid, args: Args) -> Result<(), CudaError> {
        // SAFETY: as the caller vouches; arrays live until the work is done.
        unsafe { self.stream.launch(kernel, grid, args)? };
        self.stream.finish()
    }
}

/// What sources are compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Width of a head.
    pub(super) dim: u32,
    /// Query heads for each KV head.
    pub(super) group: u32,
    /// log2 of the tokens per block.
    pub(super) shift: u32,
}

impl Shape {
    /// For kernels that do not ask.
    pub(super) const ANY: Shape = Shape { dim: 128, group: 4, shift: 4 };

    /// What the sources are compiled with.
    pub(super) fn defines(self) -> Vec<(&'static str, u32)> {
        vec![("HEAD_DIM", self.dim), ("GROUP", self.group), ("BLOCK_SHIFT", self.shift)]
    }
}

/// Numbers on the device.
pub(super) struct Array<T> {
    buffer: Buffer,
    host: Pinned,
    len: usize,
    kind: PhantomData<T>,
}

impl<T> Array<T> {
    /// Where the first is.
    pub(super) fn at(&self) -> Address {
        self.buffer.at(GUARD)
    }
}

/// A number that the device has as the host does.
pub(super) trait Plain: Copy + PartialEq {
    /// All ones.
    const POISON: Self;
    /// Writes its bytes.
    fn write(self, bytes: &mut [u8]);
    /// Reads them.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($kind:ty: $poison:expr),*) => {$(
        impl Plain for $kind {
            const POISON: $kind = $poison;
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> $kind {
                <$kind>::from_le_bytes(std::array::from_fn(|i| bytes[i]))
            }
        }
    )*};
}

plain!(u8: u8::MAX, u16: u16::MAX, i32: -1, u32: u32::MAX, u64: u64::MAX, f32: f32::from_bits(u32::MAX));

/// Random numbers, the same every time.
pub(super) struct Noise {
    key: u64,
    drawn: u64,
}

impl Noise {
    pub(super) fn new(key: u64) -> Noise {
        Noise { key, drawn: 0 }
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.drawn += 1;
        counter::draw(self.key, self.drawn)
    }

    /// One of 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Of mean 0 and variance 1, nearly normal.
    pub(super) fn number(&mut self) -> f32 {
        let mut uniform = || (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        uniform() + uniform() + uniform()
    }

    pub(super) fn floats(&mut self, len: usize, scale: f32, mean: f32) -> Vec<f32> {
        (0..len).map(|_| mean + scale * self.number()).collect()
    }

    /// Numbers of 16 bits.
    pub(super) fn halves(&mut self, len: usize, scale: f32) -> Vec<u16> {
        (0..len).map(|_| to_bf16(scale * self.number())).collect()
    }

    /// 0..n in any order.
    pub(super) fn order(&mut self, n: usize) -> Vec<i32> {
        let mut order: Vec<i32> = (0..n as i32).collect();
        for at in (1..n).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }
}

/// Numbers of 16 bits as floats.
pub(super) fn widen(numbers: &[u16]) -> Vec<f32> {
    numbers.iter().map(|bits| from_bf16(*bits)).collect()
}

/// Floats as numbers of 16 bits.
pub(super) fn narrow(numbers: &[f32]) -> Vec<u16> {
    numbers.iter().map(|number| to_bf16(*number)).collect()
}

/// What rounding a result to 16 bits costs at most, relative to it, and a little for what it is made of.
pub(super) const ROUNDING: f64 = 1.02 / 256.0;

/// Largest relative difference of any number; differences of numbers near zero are taken relative to `least`.
pub(super) fn farthest(got: &[u16], wanted: &[f32], least: f64) -> f64 {
    assert_eq!(got.len(), wanted.len(), "numbers to compare");
    let distance = |(got, wanted): (&u16, &f32)| {
        let (got, wanted) = (f64::from(from_bf16(*got)), f64::from(*wanted));
        (got - wanted).abs() / (wanted.abs() + least)
    };
    // A maximum that keeps what is no number.
    got.iter().zip(wanted).map(distance).fold(0.0, |worst, next| if next <= worst { worst } else { next })
}

/// Length of the difference over the length of what is wanted.
pub(super) fn relative(got: &[u16], wanted: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let wide = || wanted.iter().map(|x| f64::from(*x));
    let difference: f64 = got.iter().zip(wide()).map(|(got, wanted)| square(f64::from(from_bf16(*got)) - wanted)).sum();
    (difference / wide().map(square).sum::<f64>()).sqrt()
}

/// How many are different, where none may be.
pub(super) fn different<T: PartialEq>(got: &[T], wanted: &[T]) -> f64 {
    assert_eq!(got.len(), wanted.len(), "what to compare");
    got.iter().zip(wanted).filter(|(got, wanted)| got != wanted).count() as f64
}
