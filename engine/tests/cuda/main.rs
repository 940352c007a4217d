//! The CUDA executor on the emulated driver (`tests/emulator`): the same binary code as on a GPU, through cudarc as shipped.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod emulator;
mod kernels;
mod tokens;
