//! Registry entries of custom resources.
//!
//! An entry is `&'static` like every other: one for each distinct shape (names, scope, version, subresources) that a
//! server has seen, kept for the server's life, with a strategy whose definition is swapped. A definition that
//! comes and goes in the same shape takes no more memory; shapes are at most [`SHAPES_MAX`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    definition::{Definition, Version},
    strategy::{CustomStrategy, Served},
};
use crate::{
    registry::{Resource, Subresource},
    resources::ResourceKey,
};

/// Distinct shapes that a server takes in; about a kilobyte each.
pub const SHAPES_MAX: usize = 50_000;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const PART_VERBS: &[&str] = &["get", "patch", "update"];

/// The entries that a server has made.
#[derive(Default)]
pub struct Entries {
    known: Mutex<HashMap<Shape, (&'static Resource, &'static CustomStrategy)>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Shape {
    group: String,
    version: String,
    names: [String; 4],
    short_names: Vec<String>,
    categories: Vec<String>,
    namespaced: bool,
    has_status: bool,
    has_scale: bool,
}

impl Shape {
    fn of(definition: &Definition, version: &Version) -> Self {
        let names = &definition.names;
        Self {
            group: definition.group.clone(),
            version: version.name.clone(),
            names: [&names.plural, &names.singular, &names.kind, &names.list_kind].map(Clone::clone),
            short_names: names.short_names.clone(),
            categories: names.categories.clone(),
            namespaced: definition.namespaced,
            has_status: version.has_status,
            has_scale: version.scale.is_some(),
        }
    }
}

fn leak(text: &str) -> &'static str {
    text.to_owned().leak()
}

fn leak_all(texts: &[String]) -> &'static [&'static str] {
    texts.iter().map(|text| leak(text)).collect::<Vec<_>>().leak()
}

impl Entries {
    /// The entries of a definition's served versions, in the order of the specification, their strategies knowing this
    /// definition. A version beyond the bound on shapes is left out.
    pub fn of(&self, definition: &Arc<Definition>) -> Vec<&'static Resource> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for (index, version) in definition.versions.iter().enumerate().filter(|(_, version)| version.served) {
            let Some(served) = Served::new(definition, index).map(Arc::new) else { continue };
            let shape = Shape::of(definition, version);
            if let Some((resource, strategy)) = known.get(&shape) {
                strategy.swap(served);
                entries.push(*resource);
            } else if known.len() < SHAPES_MAX {
                let strategy: &'static CustomStrategy = Box::leak(Box::new(CustomStrategy::new(served)));
                let resource: &'static Resource = Box::leak(Box::new(entry(definition, version, strategy)));
                known.insert(shape, (resource, strategy));
                entries.push(resource);
            }
        }
        entries
    }
}

fn entry(definition: &Definition, version: &Version, strategy: &'static CustomStrategy) -> Resource {
    let names = &definition.names;
    let key = ResourceKey {
        group: leak(&definition.group),
        version: leak(&version.name),
        plural: leak(&names.plural),
        kind: leak(&names.kind),
        namespaced: definition.namespaced,
    };
    let mut parts = Vec::new();
    if version.scale.is_some() {
        parts.push(Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: PART_VERBS });
    }
    if version.has_status {
        parts.push(Subresource { name: "status", kind: key.kind, group_version: None, verbs: PART_VERBS });
    }
    Resource {
        key,
        singular: leak(&names.singular),
        short_names: leak_all(&names.short_names),
        categories: leak_all(&names.categories),
        verbs: VERBS,
        subresources: parts.leak(),
        strategy,
        prefix: format!("/registry/{}/{}/", definition.group, names.plural),
        stored_as: key,
        conversion: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_shape_is_the_same_entry_with_a_new_definition() {
        let definition = |description: &str| {
            Arc::new(Definition::parse(
                &json!({"spec": {"group": "g", "scope": "Cluster", "names": {"plural": "ks", "kind": "K"},
                "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"description": description}}},
                             {"name": "v2", "served": false}]}}),
            ))
        };
        let entries = Entries::default();
        let first = entries.of(&definition("a"));
        let second = entries.of(&definition("b"));
        assert_eq!(first.len(), 1);
        assert!(std::ptr::eq(first[0], second[0]));
        let known = second[0].strategy.custom().and_then(|served| served.version().schema.clone());
        assert_eq!(known.map(|schema| schema.description).as_deref(), Some("b"));
        assert_eq!(second[0].prefix, "/registry/g/ks/");
    }
}
