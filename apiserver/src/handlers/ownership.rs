//! `managedFields` on the way of a write: who wrote, through which path, and which fields that path does not set.

use std::borrow::Cow;

use jiff::Timestamp;
use kontiki_api::{
    custom::field_versions::Defined,
    managed::{self, FieldSet, Owned, Writer},
    object::meta,
    registry::{Resource, versions::BuiltIn},
};
use serde_json::Value;

use super::write::Part;

/// Notes who owns the fields of an object that is created, as it was asked for and defaulted.
pub fn created(resource: &Resource, object: &mut Value, manager: &str, now: Timestamp) {
    let api_version = resource.key.api_version();
    let writer = Writer { manager, api_version: &api_version, subresource: "", now };
    let ignored = ignored(resource, Part::Main);
    if let Some(served) = resource.strategy.custom() {
        served.owned(|owned| managed::created(owned, object, &ignored, &writer));
    } else if let Some(type_) = resource.type_() {
        in_written_version(resource, object, |object| managed::created(&Owned::of(type_), object, &ignored, &writer));
    }
}

/// Notes owners in an object as the resource serves it, which is where the writer has written; it is stored with them.
fn in_written_version(resource: &Resource, object: &mut Value, note: impl FnOnce(&mut Value)) {
    if resource.conversion.is_none() {
        return note(object);
    }
    let mut served = resource.to_served(object.clone());
    note(&mut served);
    meta::copy(object, &served, "managedFields");
}

/// Notes who owns the fields that an update of an object changes.
pub fn updated(resource: &Resource, subresource: &str, old: &Value, new: &mut Value, manager: &str, now: Timestamp) {
    let api_version = resource.key.api_version();
    let writer = Writer { manager, api_version: &api_version, subresource, now };
    if let Some(served) = resource.strategy.custom() {
        served.owned(|owned| managed::update(owned, &Defined(&served), old, new, &writer));
    } else if let Some(type_) = resource.type_() {
        let live = if resource.conversion.is_none() { Cow::Borrowed(old) } else { Cow::Owned(resource.to_served(old.clone())) };
        let versions = BuiltIn(resource);
        in_written_version(resource, new, |new| managed::update(&Owned::of(type_), &versions, &live, new, &writer));
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
