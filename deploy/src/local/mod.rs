//! A highly available cluster on one machine, without a container engine.
//!
//! In: a [`Shape`](crate::shape::Shape). Out: one supervisor process and, for each node, an init in
//! namespaces of its own that runs the node's processes. The nodes' network meets in one more
//! namespace (the link); the host gets listeners on 127.0.0.1 and nothing else.
//!
//! The way of `up`: [`up`] writes keys and settings ([`provision`]), starts the [`supervisor`],
//! which makes the link ([`link`]) and starts each node through [`launch`] (joins the node's
//! [`cgroup`], makes its namespaces) and [`node_init`] (PID 1: mounts, address, processes). The
//! [`forwarder`] leads 127.0.0.1 to a ready server. [`trouble`] stops, kills and isolates single nodes.
//! [`chaos`] does
//! so by plan. [`status`] looks at all of it and [`diagnosis`] says what is wrong. [`down`] finds everything by the cluster's
//! name.

pub mod cgroup;
pub mod chaos;
pub mod diagnosis;
pub mod down;
pub mod egress;
pub mod forwarder;
mod grace;
pub mod launch;
pub mod link;
pub mod mounts;
pub mod node_init;
pub mod paths;
pub mod preflight;
pub mod provision;
pub mod status;
pub mod supervisor;
pub mod trouble;
pub mod up;
