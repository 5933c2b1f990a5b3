//! Roles and bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common::{AGE, NAME, age, column, default, items, items_mut, name},
    validate::immutable,
};
use crate::{
    field::FieldError,
    names,
    object::text,
    strategy::{Column, Strategy},
};

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_COLUMNS: &[Column] = &[NAME, column("Created At", "date", 0, "When the role was created.")];
const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", 0, "Role that is granted."),
    AGE,
    column("Users", "string", 1, "Users it is granted to."),
    column("Groups", "string", 1, "Groups it is granted to."),
    column("ServiceAccounts", "string", 1, "Service accounts it is granted to."),
];

/// Role.
pub static ROLE: RoleStrategy = RoleStrategy { cluster: false };
/// ClusterRole.
pub static CLUSTER_ROLE: RoleStrategy = RoleStrategy { cluster: true };
/// RoleBinding.
pub static ROLE_BINDING: BindingStrategy = BindingStrategy { kinds: &["ClusterRole", "Role"] };
/// ClusterRoleBinding.
pub static CLUSTER_ROLE_BINDING: BindingStrategy = BindingStrategy { kinds: &["ClusterRole"] };

/// Role and ClusterRole.
pub struct RoleStrategy {
    cluster: bool,
}

impl Strategy for RoleStrategy {
    fn set_defaults(&self, object: &mut Value) {
        if object.get("rules").is_none_or(Value::is_null) {
            object["rules"] = Value::Null;
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, rule) in items(object, "/rules").enumerate() {
            let path = format!("rules[{index}]");
            let some = |field: &str| items(rule, field).next().is_some();
            if !some("/verbs") {
                errors.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
            }
            if some("/nonResourceURLs") {
                if !self.cluster {
                    let detail = "namespaced rules cannot apply to non-resource URLs";
                    errors.push(FieldError::invalid(format!("{path}.nonResourceURLs"), &rule["nonResourceURLs"], detail));
                } else if some("/apiGroups") || some("/resources") || some("/resourceNames") {
                    let detail = "rules cannot apply to both regular resources and non-resource URLs";
                    errors.push(FieldError::invalid(format!("{path}.nonResourceURLs"), &rule["nonResourceURLs"], detail));
                }
                continue;
            }
            if !some("/apiGroups") {
                errors
                    .push(FieldError::required(format!("{path}.apiGroups"), "resource rules must supply at least one api group"));
            }
            if !some("/resources") {
                errors
                    .push(FieldError::required(format!("{path}.resources"), "resource rules must supply at least one resource"));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn columns(&self) -> &'static [Column] {
        ROLE_COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![name(object), json!(text(object, "/metadata/creationTimestamp"))]
    }
}

/// RoleBinding and ClusterRoleBinding.
pub struct BindingStrategy {
    kinds: &'static [&'static str],
}

impl Strategy for BindingStrategy {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(role) = object.get_mut("roleRef").and_then(Value::as_object_mut) {
            default(role, "apiGroup", GROUP);
        }
        for subject in items_mut(object, "/subjects") {
            let group = matches!(text(subject, "/kind"), "User" | "Group");
            if let (true, Some(subject)) = (group, subject.as_object_mut()) {
                default(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let kind = text(object, "/roleRef/kind");
        if !self.kinds.contains(&kind) {
            errors.push(FieldError::not_supported("roleRef.kind", &json!(kind), self.kinds));
        }
        if text(object, "/roleRef/name").is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        for (index, subject) in items(object, "/subjects").enumerate() {
            let path = format!("subjects[{index}]");
            let kind = text(subject, "/kind");
            if text(subject, "/name").is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            match kind {
                "User" | "Group" => {}
                "ServiceAccount" => {
                    if text(subject, "/namespace").is_empty() && self.kinds.len() == 1 {
                        errors.push(FieldError::required(format!("{path}.namespace"), ""));
                    }
                }
                other => {
                    let supported = &["Group", "ServiceAccount", "User"];
                    errors.push(FieldError::not_supported(format!("{path}.kind"), &json!(other), supported));
                }
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let mut reference = Vec::new();
        immutable(new, old, "/roleRef", &mut reference);
        errors.extend(reference.into_iter().map(|error| FieldError { detail: "cannot change roleRef".into(), ..error }));
        errors
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::path_segment(name)
    }

    fn columns(&self) -> &'static [Column] {
        BINDING_COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let subjects = |kind: &str| {
            let of_kind = items(object, "/subjects").filter(|subject| subject["kind"] == kind);
            let text = of_kind.map(|subject| match text(subject, "/namespace") {
                "" => text(subject, "/name").to_owned(),
                namespace => format!("{namespace}/{}", text(subject, "/name")),
            });
            let text = text.collect::<Vec<_>>().join(", ");
            json!(text)
        };
        let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
        vec![name(object), json!(role), age(object, now), subjects("User"), subjects("Group"), subjects("ServiceAccount")]
    }
}
