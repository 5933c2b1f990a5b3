//! The state machine: keys, revisions, leases and members in a RocksDB of its own.
//!
//! In come committed batches of proposals, in log order; out come their results, the events of each
//! revision, and reads at any revision that is not compacted. Applying writes without an fsync: the
//! log is kept until what was applied from it is flushed.
//! Invariant: the same entries give the same state on every member; the applied position is written
//! in the same batch as what it stands for.

pub mod apply;
pub mod cluster;
pub mod compact;
pub mod database;
pub mod history;
pub mod keys;
pub mod operations;
pub mod restore;
pub mod rocks;
pub mod store;
pub mod view;

#[cfg(test)]
mod tests;
