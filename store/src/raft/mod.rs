//! The seam to openraft: the only place that knows it.
//!
//! In come batches of proposals (bytes) and peers' messages; out come committed entries, in order,
//! to the state machine, and what this member knows of the leader. Everything that is written or
//! sent is our own protobuf ([`wire`]), never openraft's serialisation.
//! Invariant: the log has one strict order for votes and entries, and nothing counts before its fsync.

pub mod log;
pub mod machine;
pub mod network;
pub mod server;
pub mod snapshot;
pub mod types;
pub mod wire;
