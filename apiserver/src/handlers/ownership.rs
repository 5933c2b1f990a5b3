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
    let api_version = stored.key.api_version();
    let writer = Writer { manager, api_version: &api_version, subresource: "", now };
    let ignored = ignored(resource, Part::Main);
    if let Some(served) = stored.strategy.custom() {
        served.owned(|owned| managed::created(owned, object, &ignored, &writer));
    } else if let Some(type_) = stored.type_() {
        managed::created(&Owned::of(type_), object, &ignored, &writer);
    }
}

/// Notes who owns the fields that an update of an object changes.
pub fn updated(resource: &Resource, subresource: &str, old: &Value, new: &mut Value, manager: &str, now: Timestamp) {
    let stored = resource.stored();
    let api_version = stored.key.api_version();
    let writer = Writer { manager, api_version: &api_version, subresource, now };
    if let Some(served) = stored.strategy.custom() {
        served.owned(|owned| managed::update(owned, old, new, &writer));
    } else if let Some(type_) = stored.type_() {
        managed::update(&Owned::of(type_), old, new, &writer);
    }
}

/// Fields that a path does not set, whatever is sent to it.
#[must_use]
pub fn ignored(resource: &Resource, part: Part) -> FieldSet {
    match part {
        Part::Main if resource.subresource("status").is_some() => FieldSet::of(&[&["status"]]),
        Part::Main | Part::Named(_) => FieldSet::default(),
        Part::Status | Part::Finalize => {
            if let Some(served) = resource.strategy.custom() {
                return served.fields_beside_status();
            }
            let fields = resource.type_().map(|type_| type_.fields.as_slice()).unwrap_or_default();
            let own = if part == Part::Status { "status" } else { "spec" };
            let others: Vec<[&str; 1]> = fields.iter().filter(|field| field.name != own).map(|field| [field.name]).collect();
            FieldSet::of(&others.iter().map(<[&str; 1]>::as_slice).collect::<Vec<_>>())
        }
    }
}
