//! Why a measured run has no scenario.

/// The missing piece: why a run is not simulated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Gap(pub String);
