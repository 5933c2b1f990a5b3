//! A scenario is a workload and faults, as data; a seed makes it a schedule, and the same seed makes the same one.
//!
//! In: a cluster that runs. Out: a timeline that a person can read, and findings, none meaning that the cluster kept its
//! word. `faults` says what can go wrong, `list` what is tried, `schedule` when, `inject` does it, `run` puts load, faults
//! and checkers together.

pub mod faults;
pub mod inject;
pub mod list;
pub mod run;
pub mod schedule;
