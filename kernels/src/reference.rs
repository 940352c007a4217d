//! What the kernels must compute, on the CPU: plain loops over the kernels' own data structures.
//!
//! Numbers come and go as f32; what a kernel stores in 16 bits it rounds once ([`bf16`]).

pub mod bf16;

mod add_norm;
mod blocks;
mod embed;
mod paged_attention;
mod paged_chunks;
mod retain;
mod rms_norm;
mod rope_write;
mod sample;
mod silu_mul;

pub use add_norm::add_norm;
pub use blocks::{copy_blocks, gather_blocks, scatter_blocks, update_tables};
pub use embed::embed;
pub use paged_attention::{AttentionError, PagedDecode};
pub use paged_chunks::PagedChunks;
pub use retain::{Kept, Network, log_sigmoid};
pub use rms_norm::rms_norm;
pub use rope_write::RopeWrite;
pub use sample::{Drawn, sample, uniform};
pub use silu_mul::silu_mul;
