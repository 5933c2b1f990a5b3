//! The cluster's DNS server, on every node.
//!
//! In: queries of pods. Out: answers from memory ([`answer`], pure); other names come from the node's own
//! resolvers, and are remembered for a short while.
//! <https://github.com/kubernetes/dns/blob/master/docs/specification.md>, version 1.1.

pub mod answer;
mod cache;
mod forward;
pub mod metrics;
mod resolve;
pub mod server;
