//! Which rules and selectors match a request; webhooks and policies share it.

use kontiki_api::{
    object::meta,
    registry::Resource,
    resources::{NAMESPACES, ResourceKey},
    selector::LabelSelector,
};
use serde_json::Value;

use crate::admission::Request;

fn has(list: &Value, word: &str) -> bool {
    list.as_array().into_iter().flatten().any(|entry| entry == "*" || entry == word)
}

/// Whether a rule (`RuleWithOperations`) matches a request about that resource.
#[must_use]
pub fn rule_matches(rule: &Value, key: &ResourceKey, subresource: &str, operation: &str) -> bool {
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => key.namespaced,
        // A namespace lies in no namespace, whatever the request says.
        Some("Cluster") => !key.namespaced,
        _ => true,
    };
    let named = rule["resourceNames"].as_array().is_none_or(Vec::is_empty);
    scope
        && named
        && has(&rule["apiGroups"], key.group)
        && has(&rule["apiVersions"], key.version)
        && has(&rule["operations"], operation)
        && resource_matches(&rule["resources"], key.plural, subresource)
}

/// `*`, `*/*`, `pods`, `pods/*`, `*/scale`, `pods/status`.
fn resource_matches(resources: &Value, plural: &str, subresource: &str) -> bool {
    resources.as_array().into_iter().flatten().filter_map(Value::as_str).any(|entry| {
        let (resource, part) = entry.split_once('/').unwrap_or((entry, ""));
        (resource == "*" || resource == plural) && (part == "*" || part == subresource)
    })
}

/// The resource as which a list of rules wants to see a request: itself, or another version where `equivalent`.
#[must_use]
pub fn matched_resource(
    rules: &Value,
    request: &Request<'_>,
    versions: &[&'static Resource],
    equivalent: bool,
) -> Option<&'static Resource> {
    let operation = request.operation.name();
    let rules = || rules.as_array().into_iter().flatten();
    let names = |rule: &Value| {
        let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
        names.is_none_or(|names| names.iter().any(|name| name == request.name))
    };
    let own =
        rules().any(|rule| names(rule) && matches_ignoring_names(rule, &request.resource.key, request.subresource, operation));
    if own {
        return Some(request.resource);
    }
    if !equivalent {
        return None;
    }
    rules().filter(|rule| names(rule)).find_map(|rule| {
        let mut others = versions.iter().filter(|other| other.key != request.resource.key);
        others.find(|other| matches_ignoring_names(rule, &other.key, request.subresource, operation)).copied()
    })
}

fn matches_ignoring_names(rule: &Value, key: &ResourceKey, subresource: &str, operation: &str) -> bool {
    let mut rule = rule.clone();
    if let Some(rule) = rule.as_object_mut() {
        rule.remove("resourceNames");
    }
    rule_matches(&rule, key, subresource, operation)
}

/// Whether a `LabelSelector` matches labels; one that is absent or cannot be read matches all or nothing.
#[must_use]
pub fn selector_matches(selector: &Value, object: &Value) -> bool {
    if selector.is_null() {
        return true;
    }
    let none = Value::Object(serde_json::Map::new());
    LabelSelector::from_value(selector).matches(meta::get(object, "labels").unwrap_or(&none))
}

/// Whether the namespace selector matches: objects outside of namespaces always do, a namespace by its own labels.
#[must_use]
pub fn namespace_matches(
    selector: &Value,
    request: &Request<'_>,
    object: &Value,
    old: &Value,
    namespace: Option<&Value>,
) -> bool {
    let is_empty = selector.as_object().is_none_or(serde_json::Map::is_empty);
    if is_empty {
        return true;
    }
    if request.resource.key == NAMESPACES {
        let own = if object.is_null() || !request.subresource.is_empty() { old } else { object };
        return selector_matches(selector, own);
    }
    if request.namespace.is_empty() {
        return true;
    }
    selector_matches(selector, namespace.unwrap_or(&Value::Null))
}

/// Whether the object selector matches the object or the old one.
#[must_use]
pub fn object_matches(selector: &Value, object: &Value, old: &Value) -> bool {
    let is_empty = selector.as_object().is_none_or(serde_json::Map::is_empty);
    is_empty || [object, old].into_iter().any(|object| !object.is_null() && selector_matches(selector, object))
}

/// Whether a request is about the configuration of admission itself: nobody from outside is asked about that.
#[must_use]
pub fn is_exempt(request: &Request<'_>) -> bool {
    const EXEMPT: [&str; 6] = [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    request.resource.key.group == "admissionregistration.k8s.io" && EXEMPT.contains(&request.resource.key.plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_api::resources::{NODES, PODS};
    use serde_json::json;

    #[test]
    fn rules_match_groups_versions_resources_and_parts() {
        let rule = |resources: Value| json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": resources});
        for (resources, part, expected) in [
            (json!(["pods"]), "", true),
            (json!(["pods"]), "status", false),
            (json!(["*"]), "", true),
            (json!(["*"]), "status", false),
            (json!(["*/*"]), "status", true),
            (json!(["*/*"]), "", true),
            (json!(["pods/*"]), "exec", true),
            (json!(["*/status"]), "status", true),
            (json!(["nodes"]), "", false),
        ] {
            assert_eq!(rule_matches(&rule(resources.clone()), &PODS, part, "CREATE"), expected, "{resources} {part}");
        }
        assert!(!rule_matches(&rule(json!(["pods"])), &PODS, "", "DELETE"));
        let mut scoped = rule(json!(["*"]));
        scoped["scope"] = json!("Cluster");
        assert!(rule_matches(&scoped, &NODES, "", "CREATE") && !rule_matches(&scoped, &PODS, "", "CREATE"));
    }

    #[test]
    fn selectors_match_the_object_or_what_it_was() {
        let selector = json!({"matchLabels": {"a": "1"}});
        let (with, without) = (json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {}}));
        assert!(object_matches(&selector, &without, &with) && !object_matches(&selector, &without, &Value::Null));
        assert!(object_matches(&json!({}), &without, &Value::Null));
    }
}
