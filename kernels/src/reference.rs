//! What the kernels must compute, in f32 on the CPU: plain loops over the kernels' own data structures.

mod paged_attention;
mod rms_norm;

pub use paged_attention::{AttentionError, PagedDecode};
pub use rms_norm::rms_norm;
