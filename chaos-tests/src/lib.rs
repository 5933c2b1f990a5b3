//! Clusters of real processes, driven from outside as an operator would.
//!
//! In: the built binary. Out: whether it does what its users are told. Nothing of the other crates
//! is used here: what a test sees is what a user sees.

pub mod cluster;
pub mod disk;
pub mod etcd;
pub mod kubectl;
pub mod registry;
