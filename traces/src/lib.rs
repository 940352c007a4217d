//! overbook-traces
