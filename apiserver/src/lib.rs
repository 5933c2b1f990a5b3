//! The Kubernetes API over the store: REST for the ecosystem, gRPC beside it.
//!
//! In: requests of authenticated users. Out: objects, lists, watches and statuses, with every change
//! committed to the store first. Invariant: nothing reaches the store that was not authorized,
//! admitted and validated, whichever door it came in by.

pub mod addresses;
pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod auth;
pub mod authorization;
pub mod bootstrap;
pub mod cache;
mod compaction;
pub mod custom;
pub mod encryption;
#[cfg(test)]
mod every_kind;
pub mod eviction;
pub mod flowcontrol;
pub mod grpc;
pub mod handlers;
pub mod kubelet;
pub mod limits;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod outbound;
pub mod policy;
pub mod pretty;
pub mod proxy;
pub mod request;
pub mod resource_metrics;
pub mod response;
pub mod server;
pub mod service;
pub mod storage;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod three_servers;
pub mod webhook;

pub use service::{Handle, Options, start};
