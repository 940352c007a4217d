//! The kernels of the engine, what they must compute, and what they must cost.
//!
//! [`cuda`] holds the sources as text. A GPU kernel is believed here on two grounds. It is *right* when it agrees with a
//! reference that is too plain to be wrong: [`reference`] holds those, in f32 on the CPU, over the very data structures
//! that the kernel sees (block tables, ragged lengths, shared key and value heads). It is *good* when its time comes near
//! the larger of two quotients, bytes over bandwidth and FLOP over peak: [`work`] counts both for one launch, so that
//! every measurement can be printed as a fraction of what the hardware allows.
//!
//! The counts are of the algorithm, not of an implementation: every input byte once, every output byte once, no
//! re-reads, no padding. A kernel cannot do with less; how much more it does is its inefficiency.
//!
//! ```
//! use overbook_kernels::work::matmul;
//! use overbook_kernels::{Work, rms_norm};
//!
//! // One token through a 4096 × 4096 matrix of bf16 weights reads 32 MiB of them: on an H100 (3.35 TB/s, 989 TFLOP/s) it
//! // cannot take less than ten microseconds, all of them for the bytes.
//! let one: Work = matmul(1, 4096, 4096, 16, 2);
//! let floor = one.floor_s(3.35e12, 989e12);
//! assert!(floor > 9.9e-6 && floor < 10.1e-6);
//! // At 4096 tokens it is the arithmetic that takes the time.
//! let many = matmul(4096, 4096, 4096, 16, 2);
//! assert!(many.floor_s(3.35e12, 989e12) > many.bytes as f64 / 3.35e12);
//!
//! // What a kernel must compute, in plain arithmetic.
//! let normed = rms_norm(&[3.0, -3.0], &[1.0, 2.0], 0.0);
//! assert_eq!(normed, [1.0, -2.0]);
//! ```
//!
//! This crate knows nothing of models, schedulers or requests, and the simulator does not depend on it: its closed
//! forms of kernel times are fitted to measurements, and are tested against these floors by their own arithmetic.

pub mod cuda;
pub mod reference;
pub mod work;

pub use reference::{PagedDecode, rms_norm};
pub use work::Work;
