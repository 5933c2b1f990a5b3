//! Kinds of the group `resource.k8s.io`: claims on devices, their classes, and what nodes offer.

mod claim;
mod slice;

use serde_json::json;

use super::{
    check::At,
    common::{AGE, NAME, age, column, name},
    kind::Kind,
};
use crate::object::{meta, text};

/// DeviceClass.
pub static DEVICE_CLASS: Kind = Kind {
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        claim::check_selectors(&spec.get("selectors"), errors);
        spec.get("config").too_many(claim::CONFIG_MAX, errors);
    },
    ..Kind::COUNTED
};

/// ResourceClaim.
pub static RESOURCE_CLAIM: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: |object| {
        if let Some(spec) = object.get_mut("spec") {
            claim::set_defaults(spec);
        }
    },
    validate: |object, errors| claim::check(&At::root(object).get("spec"), errors),
    validate_update: |new, old, errors| At::root(new).get("spec").immutable(&At::root(old).get("spec"), errors),
    columns: &[NAME, column("State", "string", 0, "Where the claim stands."), AGE],
    cells: |object, now| {
        let (deleted, allocated) = (meta::is_deleting(object), !object["status"]["allocation"].is_null());
        let reserved = object["status"]["reservedFor"].as_array().is_some_and(|list| !list.is_empty());
        let states = [
            ("deleted", deleted),
            ("pending", !allocated && !deleted),
            ("allocated", allocated),
            ("reserved", allocated && reserved),
        ];
        let states: Vec<_> = states.into_iter().filter(|(_, is)| *is).map(|(state, _)| state).collect();
        vec![name(object), json!(states.join(",")), age(object, now)]
    },
    ..Kind::WITH_STATUS
};

/// ResourceClaimTemplate.
pub static RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    defaults: |object| {
        if let Some(spec) = object.pointer_mut("/spec/spec") {
            claim::set_defaults(spec);
        }
    },
    validate: |object, errors| claim::check(&At::root(object).get("spec.spec"), errors),
    validate_update: |new, old, errors| At::root(new).get("spec").immutable(&At::root(old).get("spec"), errors),
    ..Kind::NEW
};

/// ResourceSlice.
pub static RESOURCE_SLICE: Kind = Kind {
    validate: slice::check,
    validate_update: slice::check_update,
    fields: &["spec.nodeName", "spec.driver"],
    columns: &[
        NAME,
        column("Node", "string", 0, "Node that has the devices."),
        column("Driver", "string", 0, "Driver that knows them."),
        column("Pool", "string", 0, "Pool that they are in."),
        AGE,
    ],
    cells: |object, now| {
        let field = |pointer: &str| json!(text(object, pointer));
        vec![name(object), field("/spec/nodeName"), field("/spec/driver"), field("/spec/pool/name"), age(object, now)]
    },
    ..Kind::COUNTED
};
