//! What a fleet is asked: requests as they arrive, and what is known of each.

pub mod arrival;
pub mod sessions;
mod truth;

pub use truth::Truth;
