//! Judges of what workloads saw: pure functions from records to findings, an empty list meaning that all is well.
//!
//! None knows which workload or fault produced the records; each has a test in which it finds a planted fault.

pub mod acknowledged;
pub mod availability;
pub mod converged;
pub mod leadership;
pub mod leaks;
pub mod once;
pub mod watched;
