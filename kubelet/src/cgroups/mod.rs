//! Control groups: limits of pods and containers, and what the node itself may use.
//!
//! In: a pod's or container's limits in the kernel's terms. Out: groups with those limits in every hierarchy,
//! figures of what is used, and the node's own bounds. The mapping from limits to files is pure, with a table
//! for each version of the kernel's interface ([`table`]); libcontainer only joins the groups made here and is
//! given no limits: its manager insists on controllers that a machine may lack.

mod capacity;
mod hierarchy;
pub mod table;

pub use capacity::{Capacity, available_memory, capacity};
pub use hierarchy::Hierarchies;
