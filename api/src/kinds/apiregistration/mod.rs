//! Kinds of the group `apiregistration.k8s.io`: APIService.

use serde_json::{Value, json};

use super::{
    check::At,
    common::{AGE, NAME, age, column, default, items, name},
    kind::Kind,
};
use crate::{
    names,
    object::{meta, set_condition, text},
};

/// Reason and message of the condition of what the server serves itself.
pub const LOCAL: (&str, &str) = ("Local", "Local APIServices are always available");

/// APIService.
pub static API_SERVICE: Kind = Kind {
    name: names::path_segment,
    status_keeps: crate::strategy::USERS_METADATA,
    defaults: |object| {
        if let Some(service) = object.pointer_mut("/spec/service").and_then(Value::as_object_mut) {
            default(service, "port", 443);
        }
    },
    create: |object, now| {
        // What the server serves itself it can always serve.
        if !object["spec"]["service"].is_object() {
            set_condition(object, "Available", "True", LOCAL.0, LOCAL.1, now);
        }
    },
    validate: |object, errors| {
        let root = At::root(object);
        let spec = root.get("spec");
        let (group, version) = (spec.get("group"), spec.get("version"));
        let wanted = format!("{}.{}", version.text(), group.text());
        if meta::name(object) != wanted {
            root.get("metadata.name").invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"), errors);
        }
        group.named(names::dns_subdomain, errors);
        version.named(names::dns_1035_label, errors);
        for (field, limit) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let at = spec.get(field);
            if !at.number().is_some_and(|number| number > 0 && number <= limit) {
                at.invalid(format!("must be positive and less than {limit}"), errors);
            }
        }
        let service = spec.get("service");
        if service.is_absent() {
            let bundle = spec.get("caBundle");
            if !bundle.is_empty() {
                bundle.invalid("local APIServices may not have a caBundle", errors);
            }
            if *spec.get("insecureSkipTLSVerify").value == json!(true) {
                spec.get("insecureSkipTLSVerify").invalid("local APIServices may not have insecureSkipTLSVerify", errors);
            }
            return;
        }
        service.get("namespace").must_be_set(errors);
        service.get("name").must_be_set(errors);
        service.get("port").port(errors);
        if *spec.get("insecureSkipTLSVerify").value == json!(true) && !spec.get("caBundle").is_empty() {
            spec.get("insecureSkipTLSVerify").invalid("may not be true if caBundle is present", errors);
        }
    },
    columns: &[
        NAME,
        column("Service", "string", 0, "Service that serves the group version."),
        column("Available", "string", 0, "Whether it can be reached."),
        AGE,
    ],
    cells: |object, now| {
        let service = &object["spec"]["service"];
        let service = match service.is_null() {
            true => "Local".to_owned(),
            false => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
        };
        vec![name(object), json!(service), json!(available(object)), age(object, now)]
    },
    ..Kind::WITH_STATUS
};

fn available(object: &Value) -> String {
    match items(object, "/status/conditions").find(|condition| condition["type"] == "Available") {
        None => "Unknown".to_owned(),
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", text(condition, "/status"), text(condition, "/reason")),
    }
}
