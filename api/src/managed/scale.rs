//! Owners of a `Scale`: those of its object's replicas.

use serde_json::Value;

use super::{
    entries::{self, Entry},
    fields::{FieldSet, Step},
};
use crate::object::meta;

const SCALE_VERSION: &str = "autoscaling/v1";

fn steps(path: &str) -> Vec<Step<'_>> {
    path.split('.').map(Step::Field).collect()
}

fn just(path: &str) -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(&steps(path));
    set
}

/// Gives a `Scale` the owners of its object's replicas, which lie at `path`, such as `spec.replicas`.
pub fn to_scale(object: &Value, path: &str, scale: &mut Value) {
    let owners = entries::of_stored(object).into_iter().filter(|entry| entry.fields.has(&steps(path)));
    let owners = owners.map(|entry| Entry { api_version: SCALE_VERSION.into(), fields: just("spec.replicas"), ..entry });
    entries::set(scale, owners.collect());
}

/// Gives an object's replicas the owners of the `Scale` that was written.
pub fn from_scale(scale: &Value, object: &mut Value, path: &str, api_version: &str) {
    let mut scale_owners = entries::of_stored(scale);
    scale_owners.retain(|entry| entry.fields.has(&steps("spec.replicas")));
    let mut owners: Vec<Entry> = Vec::new();
    for mut entry in entries::of_stored(object) {
        if entry.fields.has(&steps(path)) {
            let as_scale = Entry { api_version: SCALE_VERSION.into(), ..entry.clone() };
            match scale_owners.iter().position(|owner| owner.is_of(&as_scale)) {
                Some(index) => {
                    scale_owners.remove(index);
                }
                None => entry.fields = entry.fields.difference(&just(path)),
            }
        }
        owners.push(entry);
    }
    let fresh = scale_owners.into_iter().map(|entry| Entry { api_version: api_version.into(), fields: just(path), ..entry });
    owners.extend(fresh);
    meta::remove(object, "managedFields");
    entries::set(object, owners);
}
