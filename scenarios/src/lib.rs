//! overbook-scenarios
