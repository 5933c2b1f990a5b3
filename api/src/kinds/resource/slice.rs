//! What a node, or a driver for many nodes, offers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    kinds::{check::At, kind::Errors},
    names,
};

const DEVICES_MAX: usize = 128;

/// Checks of a slice.
pub(super) fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    spec.get("driver").must_be_named(names::dns_subdomain, errors);
    let pool = spec.get("pool");
    pool.get("name").must_be_set(errors);
    pool.get("generation").not_negative(errors);
    if pool.get("resourceSliceCount").number().unwrap_or(0) <= 0 {
        pool.get("resourceSliceCount").invalid("must be greater than zero", errors);
    }
    let places = ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"].map(|field| spec.get(field));
    let set = |place: &&At<'_>| place.is_set() && *place.value != Value::Bool(false);
    match places.iter().filter(set).count() {
        1 => {}
        0 => spec.required("exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required", errors),
        _ => spec.invalid_unquoted(
            "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
            errors,
        ),
    }
    places[0].named(names::dns_subdomain, errors);
    spec.get("devices").too_many(DEVICES_MAX, errors);
    let mut seen = BTreeSet::new();
    for device in spec.items("devices") {
        let name = device.get("name");
        name.must_be_named(names::dns_label, errors);
        if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
    }
}

/// A slice stays with its driver, pool and node.
pub(super) fn check_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["spec.driver", "spec.pool.name", "spec.nodeName"] {
        At::root(new).get(field).immutable(&At::root(old).get(field), errors);
    }
}
