//! overbook-kernels
