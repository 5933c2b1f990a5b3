//! Objects as bytes and as values.
//!
//! In: decoded objects (`serde_json::Value`) and stored bytes. Out: canonical bytes for the store,
//! [`Encoded`] bytes that GET, LIST and WATCH send as they are, a small decoded [`Header`] for
//! selectors, and the part of validation and preparation that all kinds share.
//! Invariant: canonical bytes begin with kind, apiVersion and metadata and carry no resource
//! version; that is the store's revision, spliced in when an object leaves the store.

mod conditions;
mod encoded;
mod generate;
mod header;
pub mod meta;
mod prepare;
mod validate;

pub use conditions::{condition, set_condition};
pub use encoded::{Encoded, ObjectError, list_chunks, stored_bytes};
pub use generate::generate_name;
pub use header::{Header, Labels, OwnerReference};
pub use prepare::{before_create, before_update, count_generation};
pub use validate::{validate_object_meta, validate_object_meta_update};

/// Text at a JSON pointer; empty where there is none.
#[must_use]
pub fn text<'a>(object: &'a serde_json::Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
}
