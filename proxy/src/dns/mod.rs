//! The cluster's DNS server, on every node.
//!
//! In: queries of pods. Out: answers from the reflectors' memory ([`answer`], pure); other names come from the
//! node's own resolvers.
//! <https://github.com/kubernetes/dns/blob/master/docs/specification.md>, version 1.1.

pub mod answer;
mod forward;
pub mod server;
