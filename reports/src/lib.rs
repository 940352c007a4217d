//! overbook-reports
