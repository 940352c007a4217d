//! What a run leaves: typed rows, streaming figures, levels over time.

pub mod economics;
pub mod histogram;
pub mod interval;
pub mod rows;
pub mod speculation;
pub mod summary;
pub mod timeline;
pub mod trust;
