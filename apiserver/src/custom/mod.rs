//! Custom resources as this server serves them now.
//!
//! In: the CustomResourceDefinitions in the cache. Out: a [`Table`] that the request path looks resources up in, caches
//! for their objects, conversions between versions, and the definitions' own conditions. The table follows the cache
//! event by event: whoever has seen a definition's revision announced finds its resources.
//! Invariant: a resource is in the table if and only if its objects have a cache.

pub mod controller;
pub mod convert;
mod table;
#[cfg(test)]
mod tests;

pub use table::{CustomResources, Table};
