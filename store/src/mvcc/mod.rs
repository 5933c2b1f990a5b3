//! Multi-version concurrency control: what a request means at a revision.
//!
//! In come etcd's requests, checked here first; out come answers and the events of a revision.
//! Invariant: a revision is one transaction, its events are ordered, and nothing at or after the
//! compacted revision ever changes again.

pub mod check;
pub mod compare;
pub mod range;
pub mod select;
