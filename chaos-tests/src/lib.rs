//! Clusters of real processes, driven from outside as an operator would.
//!
//! In: the built binary. Out: whether it does what its users are told. Nothing of the other crates
//! is used here: what a test sees is what a user sees. `workload` makes load and keeps records (`history`),
//! `check` judges records and knows no workload, `scenario` puts them together with faults.

pub mod api;
pub mod check;
pub mod cluster;
pub mod disk;
pub mod etcd;
pub mod footprint;
pub mod history;
pub mod kubectl;
pub mod node;
pub mod registry;
pub mod scenario;
pub mod workload;
