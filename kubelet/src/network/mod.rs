//! The pod network: a veth pair and a host route for each pod, a route to each other node.
//!
//! In: a sandbox's network namespace, the node's pod range, the other nodes. Out: interfaces and routes.
//! No bridge: the node routes, so that nothing depends on br_netfilter. All pods have the same gateway,
//! a link-local address that each pod's host interface owns.
//! Invariant: an address belongs to at most one sandbox of the node.

pub mod addresses;
pub mod host_ports;
pub mod namespace;
pub mod pod;
pub mod routes;
