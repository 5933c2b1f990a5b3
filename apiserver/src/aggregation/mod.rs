//! Group versions that this server serves without keeping their objects: other servers' and its own figures.
//!
//! In: the APIServices in the cache. Out: a [`Table`] that the request path looks group versions up in; requests that
//! are passed on with who asks in their headers ([`forward`]); conditions that say whether a server can be reached
//! ([`check`], [`follow`]); discovery and OpenAPI documents with what those servers serve ([`discovery`], [`openapi`]);
//! and an APIService for each group version that this server keeps itself ([`register`]).
//! Invariant: a server elsewhere learns a user's name and never its credentials.
//! <https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/>

mod check;
pub mod discovery;
mod documents;
pub mod follow;
pub mod forward;
pub mod openapi;
pub mod register;
mod table;
#[cfg(test)]
mod tests;
mod trust;

pub use table::{Aggregator, Backend, Documents, Extension, Remote, Table};
pub use trust::{Trust, reconciled};
