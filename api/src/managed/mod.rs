//! Who owns which field of an object, and what server-side apply makes of it.
//!
//! In: an object before and after a write, the manager that wrote, and a view of the object's schema. Out: the object
//! with `metadata.managedFields` as it must be stored; for an apply, the merged object or the conflicts that refuse
//! it. Pure. Invariant: after a write, the writer owns every field that it changed and nobody owns a field that is not
//! there. Start at [`update`] and [`apply`]; [`shape`] is what a schema has to offer.
//!
//! Fields that were written in another version of the kind are compared in that version (`versions.rs`).
//! Sets stay in the form in which they are stored: a write that changes nothing decodes nothing.
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

mod apply;
mod compare;
mod entries;
mod fields;
mod last_applied;
mod manager;
mod scale;
pub mod shape;
mod update;
mod versions;
mod walk;

pub use apply::{Application, apply};
pub use compare::merge;
pub use fields::FieldSet;
pub use manager::{default_manager, validate_manager};
pub use scale::{from_scale, to_scale};
pub use update::{Writer, created, keep_times, update};
pub use versions::{OneVersion, Versions};

#[cfg(test)]
mod tests;

use serde_json::Value;

use compare::Comparison;
use shape::Node;

use crate::schema::{self, Field, Shape, Type};

/// A schema as ownership sees it.
#[derive(Clone)]
pub struct Owned<'s> {
    /// The whole object.
    pub node: Node<'s>,
    /// Containers that every object of the type has, so that nobody owns them: what Kubernetes' types hold by value.
    pub always: FieldSet,
}

impl Owned<'static> {
    /// A built-in type.
    #[must_use]
    pub fn of(type_: &'static Type) -> Self {
        let mut always = FieldSet::default();
        add_containers(type_, &mut Vec::new(), &mut always);
        Self { node: Node::of(type_), always }
    }
}

impl Owned<'_> {
    fn compare(&self, old: &Value, new: &Value) -> Comparison {
        let mut found = compare::compare(self.node, old, new);
        if !found.added.is_empty() {
            found.added = found.added.difference(&self.always);
        }
        found
    }
}

fn add_containers(type_: &'static Type, path: &mut Vec<fields::Step<'static>>, set: &mut FieldSet) {
    let is_root = path.is_empty();
    // What is owned as a whole is a value, not a container.
    let is_whole = |field: &Field| match &field.shape {
        Shape::Object(name) => field.map_type == "atomic" || schema::find(name).is_some_and(|inner| inner.map_type == "atomic"),
        Shape::List(_) => !matches!(field.list_type, "set" | "map"),
        _ => true,
    };
    const BY_VALUE: [&str; 6] = ["jobTemplate", "metadata", "spec", "strategy", "template", "updateStrategy"];
    let by_value = |field: &Field| {
        !is_whole(field) && (field.required || BY_VALUE.contains(&field.name) || is_root && field.name == "status")
    };
    for field in type_.fields.iter().filter(|field| by_value(field)) {
        path.push(fields::Step::Field(field.name));
        set.insert(path);
        if let Shape::Object(name) = &field.shape
            && let Some(inner) = schema::find(name)
            && path.len() < CONTAINER_DEPTH_MAX
        {
            add_containers(inner, path, set);
        }
        path.pop();
    }
}

/// spec, template, spec, and what they hold.
const CONTAINER_DEPTH_MAX: usize = 5;
