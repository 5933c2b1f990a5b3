//! The Kubernetes API over the store: REST for the ecosystem, gRPC beside it.
//!
//! In: requests of authenticated users. Out: objects, lists, watches and statuses, with every change
//! committed to the store first. Invariant: nothing reaches the store that was not authorized,
//! admitted and validated, whichever door it came in by.

pub mod auth;
pub mod authorization;
