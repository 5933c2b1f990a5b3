//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::matching::{self, FAILURE_POLICIES, MATCH_POLICIES};
use crate::{
    expressions::Scope,
    kinds::{
        check::At,
        common::{AGE, NAME, age, column, default, items, items_mut, name},
        kind::{Errors, Kind},
    },
    names,
    strategy::Column,
};

const COLUMNS: &[Column] = &[NAME, column("Webhooks", "integer", 0, "Webhooks that are asked."), AGE];
/// Versions of the review that this server speaks.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// MutatingWebhookConfiguration.
pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    defaults: |object| {
        set_defaults(object);
        for webhook in items_mut(object, "/webhooks").filter_map(Value::as_object_mut) {
            default(webhook, "reinvocationPolicy", "Never");
        }
    },
    validate: |object, errors| {
        check(object, errors);
        for webhook in At::root(object).items("webhooks") {
            webhook.get("reinvocationPolicy").one_of(&["IfNeeded", "Never"], errors);
        }
    },
    ..VALIDATING
};

/// ValidatingWebhookConfiguration.
pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = VALIDATING;

const VALIDATING: Kind = Kind {
    defaults: set_defaults,
    validate: check,
    columns: COLUMNS,
    cells: |object, now| vec![name(object), json!(items(object, "/webhooks").count()), age(object, now)],
    ..Kind::COUNTED
};

fn set_defaults(object: &mut Value) {
    for webhook in items_mut(object, "/webhooks") {
        items_mut(webhook, "/rules").for_each(matching::set_rule_defaults);
        if let Some(service) = webhook.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut) {
            default(service, "port", 443);
        }
        let Some(webhook) = webhook.as_object_mut() else { continue };
        default(webhook, "failurePolicy", "Fail");
        default(webhook, "matchPolicy", "Equivalent");
        default(webhook, "namespaceSelector", json!({}));
        default(webhook, "objectSelector", json!({}));
        default(webhook, "timeoutSeconds", 10);
    }
}

fn check(object: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for webhook in At::root(object).items("webhooks") {
        let name = webhook.get("name");
        if name.must_be_set(errors) {
            name.named(names::dns_subdomain, errors);
            if name.text().split('.').count() < 3 {
                name.invalid("should be a domain with at least three segments separated by dots", errors);
            }
            if !seen.insert(name.text().to_owned()) {
                name.duplicate(errors);
            }
        }
        check_versions(&webhook.get("admissionReviewVersions"), errors);
        webhook.items("rules").for_each(|rule| matching::check_rule(&rule, errors));
        webhook.get("failurePolicy").one_of(FAILURE_POLICIES, errors);
        webhook.get("matchPolicy").one_of(MATCH_POLICIES, errors);
        let effects = webhook.get("sideEffects");
        if effects.is_absent() {
            effects.required("must specify one of None, NoneOnDryRun", errors);
        }
        effects.one_of(&["None", "NoneOnDryRun"], errors);
        let timeout = webhook.get("timeoutSeconds");
        if timeout.number().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            timeout.invalid("the timeout value must be between 1 and 30 seconds", errors);
        }
        webhook.get("namespaceSelector").label_selector(errors);
        webhook.get("objectSelector").label_selector(errors);
        check_client(&webhook.get("clientConfig"), errors);
        matching::check_conditions(&webhook.get("matchConditions"), &Scope::new(), errors);
    }
}

fn check_versions(versions: &At<'_>, errors: &mut Errors) {
    if versions.is_empty() {
        return versions.required("must specify one of v1, v1beta1", errors);
    }
    let mut seen = BTreeSet::new();
    for version in versions.each() {
        if seen.insert(version.text().to_owned()) {
            names::dns_1035_label(version.text()).into_iter().for_each(|reason| version.invalid(reason, errors));
        } else {
            version.invalid("duplicate version", errors);
        }
    }
    if !REVIEW_VERSIONS.iter().any(|known| seen.contains(*known)) {
        versions.invalid("must include at least one of v1, v1beta1", errors);
    }
}

fn check_client(client: &At<'_>, errors: &mut Errors) {
    let (url, service) = (client.get("url"), client.get("service"));
    match (url.is_set(), service.is_set()) {
        (false, false) | (true, true) => client.required("exactly one of url or service is required", errors),
        (true, false) => {
            if !url.text().starts_with("https://") {
                let scheme = url.text().split_once("://").map_or("", |(scheme, _)| scheme);
                At { value: &json!(scheme), path: url.path.clone() }
                    .invalid("'https' is the only allowed URL scheme; desired format: https://host[/path]", errors);
            }
            for (letter, what) in [('?', "query parameters"), ('#', "fragments")] {
                if url.text().contains(letter) {
                    url.invalid(format!("{what} are not permitted; desired format: https://host[/path]"), errors);
                }
            }
        }
        (false, true) => {
            service.get("name").must_be_set(errors);
            service.get("namespace").must_be_set(errors);
            let port = service.get("port");
            if port.number().is_some_and(|number| !(1..=65_535).contains(&number)) {
                port.invalid("port is not valid: must be between 1 and 65535, inclusive", errors);
            }
            check_path(&service.get("path"), errors);
        }
    }
}

/// Segments of a path are names, and none is empty but the last.
fn check_path(path: &At<'_>, errors: &mut Errors) {
    let text = path.text();
    if matches!(text, "" | "/") {
        return;
    }
    let Some(rest) = text.strip_prefix('/') else { return path.invalid("must start with a '/'", errors) };
    if rest == "/" {
        return path.invalid("segment[0] may not be empty", errors);
    }
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            path.invalid(format!("segment[{index}] may not be empty"), errors);
            continue;
        }
        for reason in names::dns_subdomain(segment) {
            path.invalid(format!("segment[{index}]: {reason}"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    #[test]
    fn a_webhook_is_completed_and_checked() {
        let mut object = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
        MUTATING_WEBHOOK_CONFIGURATION.set_defaults(&mut object);
        let webhook = &object["webhooks"][0];
        assert_eq!((&webhook["timeoutSeconds"], &webhook["rules"][0]["scope"]), (&json!(10), &json!("*")));
        assert_eq!((&webhook["reinvocationPolicy"], &webhook["clientConfig"]["service"]["port"]), (&json!("Never"), &json!(443)));
        assert_eq!(MUTATING_WEBHOOK_CONFIGURATION.validate(&object), vec![]);
        object["webhooks"][0]["name"] = json!("a");
        object["webhooks"][0]["clientConfig"] = json!({});
        let fields: Vec<_> = VALIDATING_WEBHOOK_CONFIGURATION.validate(&object).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["webhooks[0].name", "webhooks[0].clientConfig"]);
        for (path, problems) in [("", 0), ("/", 0), ("/a/b", 0), ("/a/", 0), ("a", 1), ("//", 1), ("/a//b", 1), ("/a/B", 1)] {
            let mut errors = Vec::new();
            check_path(&At::new(&json!(path), "path"), &mut errors);
            assert_eq!(errors.len(), problems, "{path}: {errors:?}");
        }
    }
}
