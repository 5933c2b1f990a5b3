//! The node: what makes pods run.
//!
//! In: the pods that are bound to this node. Out: running containers and their exact status.

pub mod cgroups;
pub mod images;
pub mod network;
pub mod runtime;
