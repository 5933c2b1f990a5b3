//! A built-in kind's versions, as owners of fields see them.

use serde_json::Value;

use super::{Resource, find};
use crate::{
    managed::{Owned, Versions},
    object::text,
};

/// The versions of a resource.
pub struct BuiltIn<'r>(pub &'r Resource);

impl BuiltIn<'_> {
    /// The resource in a version. Another group may have it too, as events have two.
    fn in_version(&self, api_version: &str) -> Option<&'static Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        find(group, version, self.0.key.plural).filter(|other| other.stored_as == self.0.stored_as)
    }
}

impl Versions for BuiltIn<'_> {
    fn with_schema(&self, api_version: &str, call: &mut dyn FnMut(&Owned<'_>)) {
        if let Some(type_) = self.in_version(api_version).and_then(Resource::type_) {
            call(&Owned::of(type_));
        }
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        let to = self.in_version(api_version)?;
        let own = text(object, "/apiVersion");
        if own == api_version || own.is_empty() {
            return Some(object.clone());
        }
        let from = self.in_version(own)?;
        Some(to.to_served(from.to_stored(object.clone())))
    }
}
