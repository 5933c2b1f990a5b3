//! `managedFields` on the way of a write: who wrote, through which path, and which fields that path does not set.

use jiff::Timestamp;
use kontiki_api::{
    managed::{self, FieldSet, Owned, Writer},
    registry::Resource,
};
use serde_json::Value;

use super::write::Part;

/// Notes who owns the fields of an object that is created, as it was asked for and defaulted.
pub fn created(resource: &Resource, object: &mut Value, manager: &str, now: Timestamp) {
    let stored = resource.stored();
    if let Some(type_) = stored.type_() {
        let api_version = stored.key.api_version();
        let writer = Writer { manager, api_version: &api_version, subresource: "", now };
        managed::created(&Owned::of(type_), object, &ignored(resource, Part::Main), &writer);
    }
}

/// Notes who owns the fields that an update of an object changes.
pub fn updated(resource: &Resource, subresource: &str, old: &Value, new: &mut Value, manager: &str, now: Timestamp) {
    let stored = resource.stored();
    if let Some(type_) = stored.type_() {
        let api_version = stored.key.api_version();
        managed::update(&Owned::of(type_), old, new, &Writer { manager, api_version: &api_version, subresource, now });
    }
}

/// Fields that a path does not set, whatever is sent to it.
#[must_use]
pub fn ignored(resource: &Resource, part: Part) -> FieldSet {
    match part {
        Part::Main if resource.subresource("status").is_some() => FieldSet::of(&[&["status"]]),
        Part::Main | Part::Named(_) => FieldSet::default(),
        Part::Status | Part::Finalize => {
            let fields = resource.type_().map(|type_| type_.fields.as_slice()).unwrap_or_default();
            let own = if part == Part::Status { "status" } else { "spec" };
            let others: Vec<[&str; 1]> = fields.iter().filter(|field| field.name != own).map(|field| [field.name]).collect();
            FieldSet::of(&others.iter().map(<[&str; 1]>::as_slice).collect::<Vec<_>>())
        }
    }
}
