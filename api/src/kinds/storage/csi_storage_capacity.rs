//! CSIStorageCapacity.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{NAME, column, name},
        kind::Kind,
    },
    names,
    object::text,
};

/// CSIStorageCapacity.
pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    validate: |object, errors| {
        let root = At::root(object);
        root.get("nodeTopology").label_selector(errors);
        let class = root.get("storageClassName");
        names::dns_subdomain(class.text()).into_iter().for_each(|reason| class.invalid(reason, errors));
        root.get("capacity").quantity(errors);
        root.get("maximumVolumeSize").quantity(errors);
    },
    validate_update: |new, old, errors| {
        for field in ["nodeTopology", "storageClassName"] {
            At::root(new).get(field).immutable(&At::root(old).get(field), errors);
        }
    },
    columns: &[
        NAME,
        column("StorageClassName", "string", 0, "Class that the capacity is of."),
        column("Capacity", "string", 0, "How much there is."),
    ],
    cells: |object, _now| {
        let capacity = match &object["capacity"] {
            Value::Null => json!("<unset>"),
            capacity => capacity.clone(),
        };
        vec![name(object), json!(text(object, "/storageClassName")), capacity]
    },
    ..Kind::NEW
};
