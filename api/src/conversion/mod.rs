//! Between the versions of one resource: the one that is stored and the others that are served.
//!
//! Pure functions on decoded objects. What one version has no field for survives a round trip in
//! annotations, as in Kubernetes.

pub mod autoscaler;
pub mod event;

use serde_json::{Map, Value};

/// Between a served version and the stored one.
pub trait Conversion: Send + Sync + 'static {
    /// A served object, defaulted, as it is stored.
    fn to_stored(&self, served: Value) -> Value;

    /// A stored object as it is served.
    fn to_served(&self, stored: Value) -> Value;

    /// The stored version's name of a field that a selector names in the served version; `None` if
    /// that version knows no such field.
    fn stored_field(&self, served: &str) -> Option<&'static str>;
}

/// Moves a member to another name; one that is absent stays absent.
fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}
