//! overbook-engine
