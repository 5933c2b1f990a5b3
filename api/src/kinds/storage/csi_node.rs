//! CSINode.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, items, name},
        kind::Kind,
    },
    names,
};

const NODE_ID_MAX: usize = 256;

/// CSINode.
pub static CSI_NODE: Kind = Kind {
    validate: |object, errors| {
        let mut seen = BTreeSet::new();
        for driver in At::root(object).items("spec.drivers") {
            let (name, id) = (driver.get("name"), driver.get("nodeID"));
            name.must_be_named(names::dns_subdomain, errors);
            if id.must_be_set(errors) && id.len() > NODE_ID_MAX {
                id.invalid(format!("must be {NODE_ID_MAX} characters or less"), errors);
            }
            driver.get("allocatable.count").not_negative(errors);
            if !seen.insert(name.text().to_owned()) {
                name.duplicate(errors);
            }
            let mut keys = BTreeSet::new();
            for key in driver.items("topologyKeys") {
                let at = At::new(key.value, &driver.path);
                if !keys.insert(key.text().to_owned()) {
                    at.duplicate(errors);
                }
                names::qualified_name(key.text()).into_iter().for_each(|reason| at.invalid(reason, errors));
            }
        }
    },
    validate_update: |new, old, errors| {
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            driver.as_object_mut().into_iter().for_each(|driver| drop(driver.remove("allocatable")));
            driver
        };
        for driver in items(new, "/spec/drivers") {
            let before = items(old, "/spec/drivers").find(|before| before["name"] == driver["name"]);
            if let Some(before) = before {
                At::new(&fixed(driver), "spec.drivers").immutable(&At::new(&fixed(before), ""), errors);
            }
        }
    },
    columns: &[NAME, column("Drivers", "integer", 0, "Drivers that run on the node."), AGE],
    cells: |object, now| vec![name(object), json!(items(object, "/spec/drivers").count()), age(object, now)],
    ..Kind::NEW
};
