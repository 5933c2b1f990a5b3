//! VolumeAttributesClass.

use serde_json::json;

use super::storage_class::{check_driver, check_parameters};
use crate::kinds::{
    check::At,
    common::{AGE, NAME, age, column, name},
    kind::Kind,
};
use crate::object::text;

/// VolumeAttributesClass.
pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    validate: |object, errors| {
        let root = At::root(object);
        check_driver(&root.get("driverName"), errors);
        check_parameters(&root.get("parameters"), errors);
        if root.get("parameters").is_empty() {
            root.get("parameters").required("must contain at least one key/value pair", errors);
        }
    },
    validate_update: |new, old, errors| {
        for field in ["driverName", "parameters"].into_iter().filter(|field| new[*field] != old[*field]) {
            At::root(new).get(field).forbidden(format!("updates to {field} are forbidden."), errors);
        }
    },
    columns: &[NAME, column("DriverName", "string", 0, "Driver that knows the attributes."), AGE],
    cells: |object, now| vec![name(object), json!(text(object, "/driverName")), age(object, now)],
    ..Kind::NEW
};
