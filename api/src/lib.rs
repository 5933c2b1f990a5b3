//! What a Kubernetes object is.
//!
//! In: decoded objects, patches, selectors, options. Out: objects as they may be stored, field
//! errors, tables, discovery and OpenAPI documents. Pure: no IO, no async, no clock; time is an
//! argument. Knows nothing of the network or the store.
//!
//! Start at [`resources`] (names), [`strategy`] (what is particular about a kind) and the registry
//! that joins the two.

pub mod conversion;
pub mod custom;
pub mod decode;
pub mod discovery;
pub mod duration;
pub mod expressions;
pub mod field;
pub mod kinds;
pub mod managed;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod registry;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod table;

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod reference;
