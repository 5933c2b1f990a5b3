//! ResourceQuota.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::quota_scopes;
use crate::{
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, items, name},
        kind::{Errors, Kind},
        validate,
    },
    names,
};

/// What can be counted by a plain name.
const STANDARD: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
/// Standard resources that come in whole numbers.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// ResourceQuota.
pub static RESOURCE_QUOTA: Kind = Kind {
    validate: |object, errors| {
        let spec = At::root(object).get("spec");
        check_amounts(&spec, "hard", errors);
        quota_scopes::check(&spec, errors);
    },
    validate_update: |new, old, errors| {
        let scopes = |object: &Value| items(object, "/spec/scopes").map(ToString::to_string).collect::<BTreeSet<_>>();
        if scopes(new) != scopes(old) {
            At::root(new).get("spec.scopes").invalid(validate::IMMUTABLE, errors);
        }
    },
    validate_status: |new, _old, errors| {
        let status = At::root(new).get("status");
        check_amounts(&status, "hard", errors);
        check_amounts(&status, "used", errors);
    },
    columns: &[
        NAME,
        column("Request", "string", 0, "What is used, and how much may be."),
        column("Limit", "string", 0, "What is used of limits, and how much may be."),
        AGE,
    ],
    cells: |object, now| {
        let (limits, requests): (Vec<String>, Vec<String>) = amounts(object).partition(|text| text.starts_with("limits."));
        vec![name(object), json!(requests.join(", ")), json!(limits.join(", ")), age(object, now)]
    },
    ..Kind::WITH_STATUS
};

pub(super) fn is_standard(resource: &str) -> bool {
    STANDARD.contains(&resource) || resource.starts_with("hugepages-") || resource.starts_with("requests.hugepages-")
}

fn check_amounts(part: &At<'_>, field: &str, errors: &mut Errors) {
    for (resource, amount) in part.members(field) {
        let at = At { value: &json!(resource), path: amount.path.clone() };
        names::qualified_name(resource).into_iter().for_each(|reason| at.invalid(reason, errors));
        if !resource.contains('/') && !is_standard(resource) {
            at.invalid("must be a standard resource for quota", errors);
        }
        let parsed = validate::quantity(amount.value, &amount.path, errors);
        if WHOLE.contains(&resource) && parsed.is_some_and(|quantity| quantity.milli() % 1000 != 0) {
            amount.invalid("must be an integer", errors);
        }
    }
}

/// `pods: 1/10` for each resource, in order of their names.
fn amounts(object: &Value) -> impl Iterator<Item = String> {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let mut resources: Vec<_> = hard.into_iter().flatten().collect();
    resources.sort_by_key(|(resource, _)| *resource);
    resources.into_iter().map(|(resource, hard)| {
        let used = object["status"]["used"][resource].as_str().unwrap_or("0");
        format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn only_what_is_known_is_counted() {
        let quota = |hard: Value, scopes: Value| json!({"spec": {"hard": hard, "scopes": scopes}});
        assert_eq!(RESOURCE_QUOTA.validate(&quota(json!({"pods": "5", "count/jobs.batch": "1"}), json!([]))), vec![]);
        let errors = RESOURCE_QUOTA.validate(&quota(json!({"apples": "1", "pods": "1500m"}), json!([])));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let wanted = [
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota",
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ];
        assert_eq!(texts, wanted);
        let errors = RESOURCE_QUOTA.validate(&quota(json!({"pods": "1"}), json!(["BestEffort", "NotBestEffort"])));
        assert!(errors[0].to_string().ends_with("conflicting scopes"));
    }

    #[test]
    fn a_table_shows_limits_apart() {
        let object = json!({"status": {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"pods": "1"}}});
        assert_eq!(amounts(&object).collect::<Vec<_>>(), ["limits.cpu: 0/4", "pods: 1/10"]);
    }
}
