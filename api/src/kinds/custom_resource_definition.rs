//! CustomResourceDefinition.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/>

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    common::{NAME, column, default, items, items_mut, map_of, name},
    kind::{Errors, Kind},
};
use crate::{
    custom::{rules, schema::Schema, structural},
    field::FieldError,
    names,
    object::{meta, text},
    strategy::Column,
};

const COLUMNS: &[Column] = &[NAME, column("Created At", "date", 0, "When the object was created.")];
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// Annotation without which nobody may extend Kubernetes' own groups.
const APPROVAL: &str = "api-approved.kubernetes.io";

/// CustomResourceDefinition.
pub const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: set_defaults,
    create: |object, _| remember_storage_version(object),
    update: |new, _| remember_storage_version(new),
    validate,
    validate_update,
    columns: COLUMNS,
    cells: |object, _| vec![name(object), json!(meta::text(object, "creationTimestamp"))],
    ..Kind::COUNTED_WITH_STATUS
};

fn set_defaults(object: &mut Value) {
    let kind = text(object, "/spec/names/kind").to_owned();
    let Some(spec) = map_of(object, "spec") else { return };
    default(spec, "conversion", json!({ "strategy": "None" }));
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut).filter(|_| !kind.is_empty()) {
        default(names, "singular", kind.to_lowercase());
        default(names, "listKind", format!("{kind}List"));
    }
    if let Some(service) = spec["conversion"].pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut) {
        default(service, "port", 443);
    }
    for version in items_mut(object, "/spec/versions") {
        if let Some(version) = version.as_object_mut() {
            default(version, "storage", false);
            default(version, "served", false);
        }
    }
}

/// Objects of each storage version that there ever was may be in the store.
fn remember_storage_version(object: &mut Value) {
    let storage = items(object, "/spec/versions").find(|version| version["storage"] == true);
    let Some(name) = storage.and_then(|version| version["name"].as_str()).map(str::to_owned) else { return };
    let Some(status) = map_of(object, "status") else { return };
    default(status, "conditions", Value::Array(Vec::new()));
    default(status, "acceptedNames", json!({ "plural": "", "kind": "" }));
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(stored) = stored.as_array_mut().filter(|stored| !stored.contains(&json!(name))) {
        stored.push(json!(name));
    }
}

fn invalid(errors: &mut Errors, path: &str, value: &str, detail: impl Into<String>) {
    errors.push(FieldError::invalid(path, &value.into(), detail));
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let (group, plural) = (text(spec, "/group"), text(spec, "/names/plural"));
    let wanted = format!("{plural}.{group}");
    if meta::name(object) != wanted {
        invalid(errors, "metadata.name", meta::name(object), "must be spec.names.plural+\".\"+spec.group");
    }
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else {
        let reasons = names::dns_subdomain(group);
        if !reasons.is_empty() {
            invalid(errors, "spec.group", group, reasons.join(","));
        } else if !group.contains('.') {
            invalid(errors, "spec.group", group, "should be a domain with at least one dot");
        }
    }
    let is_protected = ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")));
    if is_protected && meta::annotation(object, APPROVAL).is_none() {
        let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        errors.push(FieldError::required(format!("metadata.annotations[{APPROVAL}]"), detail));
    }
    match text(spec, "/scope") {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported("spec.scope", &other.into(), &["Cluster", "Namespaced"])),
    }
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &true.into(), detail));
    }
    validate_names(&spec["names"], "spec.names", errors);
    validate_versions(spec, errors);
    validate_conversion(&spec["conversion"], errors);
}

fn validate_names(given: &Value, path: &str, errors: &mut Errors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(given, &format!("/{field}"));
        let at = format!("{path}.{field}");
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        let reasons = names::dns_1035_label(&name.to_lowercase());
        if !reasons.is_empty() {
            let mixed =
                if field.to_lowercase().contains("kind") { "may have mixed case, but should otherwise match: " } else { "" };
            invalid(errors, &at, name, format!("{mixed}{}", reasons.join(",")));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in items(given, &format!("/{field}")).enumerate() {
            let name = name.as_str().unwrap_or_default();
            let reasons = names::dns_1035_label(name);
            if !reasons.is_empty() {
                invalid(errors, &format!("{path}.{field}[{index}]"), name, reasons.join(","));
            }
        }
    }
    let kind = text(given, "/kind");
    if !kind.is_empty() && kind == text(given, "/listKind") {
        invalid(errors, &format!("{path}.listKind"), kind, "kind and listKind may not be the same");
    }
}

fn validate_versions(spec: &Value, errors: &mut Errors) {
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let shown = Value::Array(Vec::new());
    let unique: BTreeSet<_> = versions.iter().map(|version| text(version, "/name")).collect();
    if unique.len() != versions.len() {
        errors.push(FieldError::invalid("spec.versions", &shown, "must contain unique version names"));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        errors.push(FieldError::invalid("spec.versions", &shown, "must have exactly one version marked as storage version"));
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(version, "/name");
        let reasons = names::dns_1035_label(name);
        if !reasons.is_empty() {
            invalid(errors, &format!("{path}.name"), name, reasons.join(","));
        }
        if version["deprecated"] != true && version["deprecationWarning"].is_string() {
            let warning = text(version, "/deprecationWarning");
            invalid(errors, &format!("{path}.deprecationWarning"), warning, "can only be set for deprecated versions");
        }
        validate_schema(version, &format!("{path}.schema.openAPIV3Schema"), errors);
        validate_columns(version, &path, errors);
        validate_scale(version, &path, errors);
        validate_selectable(version, &path, errors);
    }
}

fn validate_schema(version: &Value, path: &str, errors: &mut Errors) {
    let Some(raw) = version.pointer("/schema/openAPIV3Schema") else {
        errors.push(FieldError::required(path, "schemas are required"));
        return;
    };
    let schema = Schema::parse(raw);
    let broken = structural::validate(path, &schema);
    let is_structural = broken.is_empty();
    errors.extend(broken);
    forbidden_keywords(raw, path, errors);
    if is_structural {
        structural::validate_defaults(path, &schema, errors);
        errors.extend(rules::compile(&schema, path).1);
    }
    if version.pointer("/subresources/status").is_some() && schema.type_ != "object" && !schema.type_.is_empty() {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        invalid(errors, &format!("{path}.type"), &schema.type_, detail);
    }
}

/// Keywords of JSON schemas that Kubernetes does not take.
fn forbidden_keywords(schema: &Value, path: &str, errors: &mut Errors) {
    let Some(map) = schema.as_object() else { return };
    let unsupported = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
    for word in unsupported.into_iter().filter(|word| map.contains_key(*word)) {
        errors.push(FieldError::forbidden(format!("{path}.{word}"), format!("{word} is not supported")));
    }
    if map.get("uniqueItems") == Some(&json!(true)) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(false)) {
        let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(at, &false.into(), "must be true or undefined"));
    }
    validate_list_type(map, path, errors);
    let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, inner) in properties {
        forbidden_keywords(inner, &format!("{path}.properties[{name}]"), errors);
    }
    for field in ["items", "additionalProperties"] {
        forbidden_keywords(map.get(field).unwrap_or(&Value::Null), &format!("{path}.{field}"), errors);
    }
}

fn validate_list_type(map: &Map<String, Value>, path: &str, errors: &mut Errors) {
    let Some(list_type) = map.get("x-kubernetes-list-type").and_then(Value::as_str) else { return };
    let keys = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let at = format!("{path}.x-kubernetes-list-type");
    if map.get("type").is_none_or(|type_| type_ != "array") {
        let detail = "must be array if x-kubernetes-list-type is specified";
        errors.push(FieldError::required(format!("{path}.type"), detail));
    }
    match list_type {
        "atomic" | "set" if !keys.is_empty() => {
            invalid(errors, &at, list_type, "must be map if x-kubernetes-list-map-keys is non-empty");
        }
        "atomic" | "set" => {}
        "map" if keys.is_empty() => {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(format!("{path}.x-kubernetes-list-map-keys"), detail));
        }
        "map" => {
            let properties = map.get("items").and_then(|items| items.get("properties"));
            let known = |key: &Value| key.as_str().is_some_and(|key| properties.is_some_and(|all| all.get(key).is_some()));
            if !keys.iter().all(known) {
                let detail = "entries must all be names of item properties";
                let at = format!("{path}.x-kubernetes-list-map-keys");
                errors.push(FieldError::invalid(at, &Value::Array(keys), detail));
            }
        }
        other => errors.push(FieldError::not_supported(at, &other.into(), &["atomic", "set", "map"])),
    }
}

fn validate_columns(version: &Value, path: &str, errors: &mut Errors) {
    for (index, column) in items(version, "/additionalPrinterColumns").enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if text(column, "/name").is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        let type_ = text(column, "/type");
        let one_of = format!("must be one of {}", COLUMN_TYPES.join(","));
        if type_.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), one_of));
        } else if !COLUMN_TYPES.contains(&type_) {
            invalid(errors, &format!("{path}.type"), type_, one_of);
        }
        if text(column, "/jsonPath").is_empty() {
            errors.push(FieldError::required(format!("{path}.JSONPath"), ""));
        }
    }
}

fn validate_scale(version: &Value, path: &str, errors: &mut Errors) {
    let Some(scale) = version.pointer("/subresources/scale") else { return };
    for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let (value, at) = (text(scale, &format!("/{field}")), format!("{path}.subresources.scale.{field}"));
        if value.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !value.starts_with(root) {
            invalid(errors, &at, value, format!("should be a json path under {}", root.trim_end_matches('.')));
        }
    }
}

fn validate_selectable(version: &Value, path: &str, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, field) in items(version, "/selectableFields").enumerate() {
        let (value, at) = (text(field, "/jsonPath"), format!("{path}.selectableFields[{index}].jsonPath"));
        if value.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if value.starts_with(".metadata") {
            invalid(errors, &at, value, "must not point to fields in metadata");
        } else if !seen.insert(value) {
            errors.push(FieldError::duplicate(at, &value.into()));
        }
    }
}

fn validate_conversion(conversion: &Value, errors: &mut Errors) {
    match text(conversion, "/strategy") {
        "None" if conversion.get("webhook").is_some() => {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden("spec.conversion.webhook", detail));
        }
        "None" => {}
        "Webhook" => {
            let config = conversion.pointer("/webhook/clientConfig").unwrap_or(&Value::Null);
            let path = "spec.conversion.webhook.clientConfig";
            if config.is_null() {
                errors.push(FieldError::required(path, "required when strategy is set to Webhook"));
            } else if config["url"].is_string() == config["service"].is_object() {
                errors.push(FieldError::required(path, "exactly one of url or service is required"));
            }
            if items(conversion, "/webhook/conversionReviewVersions").next().is_none() {
                errors.push(FieldError::required("spec.conversion.webhook.conversionReviewVersions", ""));
            }
        }
        "" => errors.push(FieldError::required("spec.conversion.strategy", "")),
        other => errors.push(FieldError::not_supported("spec.conversion.strategy", &other.into(), &["None", "Webhook"])),
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let established = crate::custom::definition::has_condition(old, "Established");
    let mut immutable = vec!["/spec/group", "/spec/names/plural"];
    if established {
        immutable.extend(["/spec/scope", "/spec/names/kind"]);
    }
    for pointer in immutable {
        let (value, before) = (text(new, pointer), text(old, pointer));
        if value != before {
            let path = pointer.trim_start_matches('/').replace('/', ".");
            invalid(errors, &path, value, "field is immutable");
        }
    }
    for (index, stored) in items(new, "/status/storedVersions").enumerate() {
        if !items(new, "/spec/versions").any(|version| version["name"] == *stored) {
            let name = stored.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            invalid(errors, &format!("status.storedVersions[{index}]"), name, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn definition() -> Value {
        let mut object = json!({"metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        CUSTOM_RESOURCE_DEFINITION.set_defaults(&mut object);
        object
    }

    fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut object = definition();
        change(&mut object);
        let errors = CUSTOM_RESOURCE_DEFINITION.validate(&object);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn definitions_are_defaulted_and_judged() {
        assert_eq!(
            definition()["spec"]["names"],
            json!({"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"})
        );
        check(|_| {}, &[]);
        check(
            |object| object["metadata"]["name"] = json!("x"),
            &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
        );
        check(
            |object| object["spec"]["versions"][0]["storage"] = json!(false),
            &["spec.versions: Invalid value: []: must have exactly one version marked as storage version"],
        );
        check(
            |object| object["spec"]["versions"][0]["schema"] = json!({}),
            &["spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"],
        );
        check(
            |object| object["spec"]["scope"] = json!("x"),
            &["spec.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespaced\""],
        );
    }

    #[test]
    fn storage_versions_are_remembered() {
        let mut object = definition();
        CUSTOM_RESOURCE_DEFINITION.prepare_for_create(&mut object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        let mut next = object.clone();
        next["spec"]["versions"][0]["name"] = json!("v2");
        CUSTOM_RESOURCE_DEFINITION.prepare_for_update(&mut next, &object);
        assert_eq!(next["status"]["storedVersions"], json!(["v1", "v2"]));
        let errors = CUSTOM_RESOURCE_DEFINITION.validate_update(&next, &object);
        assert!(errors[0].to_string().starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"));
    }
}
