//! The engine's serving code against the simulator, and executors against their contract: the rehearsal, the CPU, and CUDA on the
//! emulated driver.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "tests say what they have covered")]

mod calibrate;
mod compiler;
mod cuda;
mod emulator;
mod faults;
mod graphs;
mod kernels;
mod mix;
mod parity;
mod protocol;
mod recall;
mod refusals;
mod retained;
mod retention;
mod tier;
