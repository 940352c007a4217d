//! The kernels of the engine, what they must compute, and what they must cost.
//!
//! A GPU kernel is believed here on two grounds. It is *right* when it agrees with a reference that is too plain to be
//! wrong: [`reference`] holds those, in f32 on the CPU, over the very data structures that the kernel sees (block
//! tables, ragged lengths, shared key and value heads). It is *good* when its time comes near the larger of two
//! quotients, bytes over bandwidth and FLOP over peak: [`work`] counts both for one launch, so that every measurement
//! can be printed as a fraction of what the hardware allows.
//!
//! The counts are of the algorithm, not of an implementation: every input byte once, every output byte once, no
//! re-reads, no padding. A kernel cannot do with less; how much more it does is its inefficiency.
//!
//! This crate knows nothing of models, schedulers or requests, and the simulator does not depend on it: its closed
//! forms of kernel times are fitted to measurements, and are tested against these floors by their own arithmetic.

pub mod reference;
pub mod work;
