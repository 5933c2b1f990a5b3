//! How a cluster comes to life.
//!
//! In: a cluster's name and shape. Out: keys and certificates, configuration of every node, and,
//! for a cluster on this machine, the nodes themselves: each a machine in small with namespaces,
//! an address, a data folder, a cgroup and an init of its own, watched by one supervisor.
//!
//! Invariant: everything that a local cluster leaves on the host (processes, cgroups, the link
//! namespace, files) carries the cluster's name, so that [`local::down`] finds it all without
//! remembering anything.
//!
//! Start reading at [`shape`] (what a cluster consists of), then [`pki`], then [`local`].

pub mod files;
pub mod kind_config;
pub mod kubeconfig;
pub mod local;
pub mod pki;
pub mod shape;
