//! A replicated key-value store with etcd's semantics.
//!
//! In come etcd's requests, in process through [`kv::Kv`] or over gRPC; out come answers and watch
//! events. It knows nothing of Kubernetes. Start reading at `kv`, then `mvcc`, then `service`.
//! Invariant: what was acknowledged is on the disks of a quorum, and every member applies the same
//! log to the same state.

pub mod auth;
pub mod backup;
pub mod blocking;
pub mod duration;
pub mod error;
pub mod etcd;
pub mod fault;
mod folder;
pub mod kv;
pub mod limits;
pub mod memory;
pub mod metrics;
pub mod mvcc;
pub mod place;
pub mod raft;
pub mod service;
pub mod socket;
pub mod state;
pub mod tls;
pub mod watch;

pub use backup::BackupError;
pub use place::{Address, Place};
pub use service::options::{AutoCompaction, ClusterState};
pub use service::{Handle, Options, Service, StartError, Surroundings};
pub use tls::TlsFiles;

/// The etcd release whose API is served; clients switch features on by it.
pub const ETCD_VERSION: &str = "3.6.13";

/// The line of that release.
pub const API_VERSION: &str = "3.6";
