//! The engine's serving code against the simulator, and executors against their contract: the rehearsal, the CPU, and CUDA on the
//! emulated driver.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod calibrate;
mod cuda;
mod emulator;
mod kernels;
mod parity;
mod protocol;
