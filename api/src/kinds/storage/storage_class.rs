//! StorageClass.

use serde_json::json;

use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default},
        kind::{Errors, Kind},
    },
    names,
    object::{meta, text},
};

/// Parameters that a class may have.
const PARAMETERS_MAX: usize = 512;
/// Bytes of all parameters together.
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const DEFAULT_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// StorageClass.
pub static STORAGE_CLASS: Kind = Kind {
    defaults: |object| {
        let Some(object) = object.as_object_mut() else { return };
        default(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    },
    validate: |object, errors| {
        let root = At::root(object);
        check_driver(&root.get("provisioner"), errors);
        check_parameters(&root.get("parameters"), errors);
        root.get("reclaimPolicy").one_of(&["Delete", "Retain"], errors);
        root.get("volumeBindingMode").required_one_of(&["Immediate", "WaitForFirstConsumer"], errors);
        for expression in root.items("allowedTopologies").flat_map(|term| term.items("matchLabelExpressions")) {
            if expression.get("values").is_empty() {
                expression.get("values").required("", errors);
            }
            let key = expression.get("key");
            names::qualified_name(key.text()).into_iter().for_each(|reason| key.invalid(reason, errors));
        }
    },
    validate_update: |new, old, errors| {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            At::root(new).get(field).immutable(&At::root(old).get(field), errors);
        }
    },
    columns: &[
        NAME,
        column("Provisioner", "string", 0, "Who makes the volumes."),
        column("ReclaimPolicy", "string", 0, "What becomes of a volume when its claim goes."),
        column("VolumeBindingMode", "string", 0, "When claims are bound."),
        column("AllowVolumeExpansion", "string", 0, "Whether volumes may grow."),
        AGE,
    ],
    cells: |object, now| {
        let mut name = meta::name(object).to_owned();
        if DEFAULT_ANNOTATIONS.iter().any(|key| meta::annotation(object, key) == Some("true")) {
            name += " (default)";
        }
        vec![
            json!(name),
            json!(text(object, "/provisioner")),
            json!(text(object, "/reclaimPolicy")),
            json!(text(object, "/volumeBindingMode")),
            json!(object["allowVolumeExpansion"].as_bool().unwrap_or(false)),
            age(object, now),
        ]
    },
    ..Kind::NEW
};

/// Name of who makes volumes.
pub(super) fn check_driver(at: &At<'_>, errors: &mut Errors) {
    if at.must_be_set(errors) {
        let lower = at.text().to_lowercase();
        names::qualified_name(&lower).into_iter().for_each(|reason| at.invalid(reason, errors));
    }
}

/// Parameters for who makes volumes.
pub(super) fn check_parameters(at: &At<'_>, errors: &mut Errors) {
    let members = || at.value.as_object().into_iter().flatten();
    if at.len() > PARAMETERS_MAX {
        errors.push(crate::field::FieldError::too_long(&at.path, PARAMETERS_MAX));
        return;
    }
    if members().any(|(key, _)| key.is_empty()) {
        At::new(&json!(""), &at.path).invalid("field can not be empty.", errors);
    }
    if members().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > PARAMETERS_BYTES_MAX {
        errors.push(crate::field::FieldError::too_long(&at.path, PARAMETERS_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_class_stays_what_it_is() {
        let mut old = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/disk"});
        STORAGE_CLASS.set_defaults(&mut old);
        assert_eq!(STORAGE_CLASS.validate(&old), vec![]);
        let mut new = old.clone();
        new["reclaimPolicy"] = json!("Retain");
        new["allowVolumeExpansion"] = json!(true);
        let errors = STORAGE_CLASS.validate_update(&new, &old);
        assert_eq!(errors[0].to_string(), "reclaimPolicy: Invalid value: \"Retain\": field is immutable");
        assert_eq!(errors.len(), 1);
    }
}
