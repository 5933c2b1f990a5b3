//! Metadata rules that hold for every kind, in Kubernetes' words.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/>

use serde_json::Value;

use super::meta;
use crate::field::FieldError;
use crate::names;
use crate::strategy::Strategy;

/// All annotations of an object together, keys included.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Errors in the metadata of an object to be created; names were generated before.
#[must_use]
pub fn validate_object_meta(object: &Value, namespaced: bool, strategy: &dyn Strategy) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let base = meta::text(object, "generateName");
    if !base.is_empty() {
        // A base may end in a dash, because letters follow it.
        let checked = match base.strip_suffix('-') {
            Some(start) if !start.is_empty() => format!("{start}a"),
            _ => base.to_owned(),
        };
        invalid(&mut errors, "metadata.generateName", base, strategy.validate_name(&checked));
    }
    let name = meta::name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        invalid(&mut errors, "metadata.name", name, strategy.validate_name(name));
    }
    let namespace = meta::namespace(object);
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required("metadata.namespace", "")),
        (true, false) => invalid(&mut errors, "metadata.namespace", namespace, names::dns_label(namespace)),
        (false, false) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
        (false, true) => {}
    }
    let generation = meta::generation(object);
    if generation < 0 {
        errors.push(FieldError::invalid("metadata.generation", &generation.into(), "must be greater than or equal to 0"));
    }
    validate_maps(object, &mut errors);
    validate_finalizers(object, &mut errors);
    errors
}

/// Errors in the metadata of an update.
#[must_use]
pub fn validate_object_meta_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if meta::is_deleting(old) {
        let mut extra: Vec<&str> = meta::finalizers(new).filter(|name| !meta::finalizers(old).any(|old| old == *name)).collect();
        extra.sort_unstable();
        extra.dedup();
        if !extra.is_empty() {
            let list = extra.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"),
            ));
        }
    }
    if meta::resource_version(new).is_empty() {
        errors.push(FieldError::invalid("metadata.resourceVersion", &"".into(), "must be specified for an update"));
    }
    if meta::generation(new) < meta::generation(old) {
        let generation = meta::generation(new).into();
        errors.push(FieldError::invalid("metadata.generation", &generation, "must not be decremented"));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (meta::get(new, field), meta::get(old, field));
        if new != old {
            let value = new.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(format!("metadata.{field}"), &value, "field is immutable"));
        }
    }
    validate_maps(new, &mut errors);
    validate_finalizers(new, &mut errors);
    errors
}

fn invalid(errors: &mut Vec<FieldError>, field: &str, value: &str, reasons: Vec<String>) {
    for reason in reasons {
        errors.push(FieldError::invalid(field, &value.into(), reason));
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = meta::get(object, field).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn validate_maps(object: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in entries(object, "labels") {
        invalid(errors, "metadata.labels", key, names::qualified_name(key));
        invalid(errors, "metadata.labels", value, names::label_value(value));
    }
    let mut size = 0;
    for (key, value) in entries(object, "annotations") {
        invalid(errors, "metadata.annotations", key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    validate_owners(object, errors);
}

fn validate_owners(object: &Value, errors: &mut Vec<FieldError>) {
    let Some(owners) = meta::get(object, "ownerReferences").and_then(Value::as_array) else { return };
    let mut controller: Option<&str> = None;
    for owner in owners {
        let part = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = part("apiVersion");
        if version.is_empty() || version.ends_with('/') {
            let path = "metadata.ownerReferences.apiVersion";
            errors.push(FieldError::invalid(path, &version.into(), "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if part(field).is_empty() {
                let path = format!("metadata.ownerReferences.{field}");
                errors.push(FieldError::invalid(path, &"".into(), "must not be empty"));
            }
        }
        if version == "v1" && part("kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid("metadata.ownerReferences", owner, detail));
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    part("name")
                );
                errors.push(FieldError::invalid("metadata.ownerReferences", &Value::from(owners.clone()), detail));
            } else {
                controller = Some(part("name"));
            }
        }
    }
}

fn validate_finalizers(object: &Value, errors: &mut Vec<FieldError>) {
    let mut names: Vec<&str> = Vec::new();
    for (index, name) in meta::finalizers(object).enumerate() {
        names.push(name);
        let reasons = names::qualified_name(name);
        if !reasons.is_empty() {
            invalid(errors, "metadata.finalizers", name, reasons);
        } else if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
            errors.push(FieldError::invalid(
                format!("metadata.finalizers[{index}]"),
                &name.into(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    if names.contains(&"orphan") && names.contains(&"foregroundDeletion") {
        errors.push(FieldError::invalid(
            "metadata.finalizers",
            &Value::from(names),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}
