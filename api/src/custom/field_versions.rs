//! The versions of a custom resource, as owners of fields see them.
//!
//! A webhook that converts cannot be asked here: to the owners its versions look alike.

use serde_json::Value;

use super::{definition::Version, shape, strategy::Served};
use crate::managed::{
    FieldSet, Owned, Versions,
    shape::{Kind, Node},
};

/// Calls with a version's schema as ownership of fields sees it.
pub(super) fn with_schema<R>(version: &Version, call: impl FnOnce(&Owned<'_>) -> R) -> R {
    let always = FieldSet::default();
    match &version.schema {
        Some(schema) => {
            let root = shape::Root(schema);
            call(&Owned { node: Node { kind: Kind::Object(&root), atomic: false }, always })
        }
        None => call(&Owned { node: Node::ANY, always }),
    }
}

/// The versions of a definition; the one that is served is among them.
pub struct Defined<'s>(pub &'s Served);

impl Defined<'_> {
    fn in_version(&self, api_version: &str) -> Option<&Version> {
        let definition = &self.0.definition;
        definition.versions.iter().find(|version| definition.api_version(&version.name) == api_version)
    }
}

impl Versions for Defined<'_> {
    fn with_schema(&self, api_version: &str, call: &mut dyn FnMut(&Owned<'_>)) {
        let asks = self.0.definition.webhook.is_some();
        let version = if asks { Some(self.0.version()) } else { self.in_version(api_version) };
        version.into_iter().for_each(|version| with_schema(version, &mut *call));
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        if self.0.definition.webhook.is_some() {
            return Some(object.clone());
        }
        self.in_version(api_version)?;
        let mut object = object.clone();
        object["apiVersion"] = api_version.into();
        Some(object)
    }
}
