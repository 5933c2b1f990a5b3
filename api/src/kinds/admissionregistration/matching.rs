//! Which requests a webhook or policy is about.

use std::collections::BTreeSet;

use kontiki_cel::Type;
use serde_json::{Value, json};

use crate::{
    expressions::{Returns, Scope},
    kinds::{
        check::At,
        common::{default, items_mut},
        kind::Errors,
    },
    names,
};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;
/// What happens when the one who is asked does not answer.
pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
/// Whether a rule means other versions of the resource too.
pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];

/// What a set of matching resources may leave out.
pub(super) fn set_defaults(resources: &mut Value) {
    for list in ["/resourceRules", "/excludeResourceRules"] {
        items_mut(resources, list).for_each(set_rule_defaults);
    }
    let Some(resources) = resources.as_object_mut() else { return };
    default(resources, "matchPolicy", "Equivalent");
    default(resources, "namespaceSelector", json!({}));
    default(resources, "objectSelector", json!({}));
}

/// What a rule may leave out.
pub(super) fn set_rule_defaults(rule: &mut Value) {
    if let Some(rule) = rule.as_object_mut() {
        default(rule, "scope", "*");
    }
}

/// A set of matching resources.
pub(super) fn check_resources(resources: &At<'_>, errors: &mut Errors) {
    resources.get("matchPolicy").required_one_of(MATCH_POLICIES, errors);
    for selector in ["namespaceSelector", "objectSelector"].map(|field| resources.get(field)) {
        if selector.is_absent() {
            selector.required("", errors);
        }
        selector.label_selector(errors);
    }
    for rule in resources.items("resourceRules").chain(resources.items("excludeResourceRules")) {
        let mut seen = BTreeSet::new();
        for name in rule.items("resourceNames") {
            names::path_segment(name.text()).into_iter().for_each(|reason| name.invalid(reason, errors));
            if !seen.insert(name.text().to_owned()) {
                name.duplicate(errors);
            }
        }
        check_rule(&rule, errors);
    }
}

/// One rule: operations on resources.
pub(super) fn check_rule(rule: &At<'_>, errors: &mut Errors) {
    let operations = rule.get("operations");
    check_words(&operations, "operations", errors);
    operations.each().for_each(|operation| operation.one_of(OPERATIONS, errors));
    check_words(&rule.get("apiGroups"), "API groups", errors);
    check_words(&rule.get("apiVersions"), "API versions", errors);
    for version in rule.items("apiVersions").filter(|version| version.is_empty()) {
        version.required("", errors);
    }
    let resources = rule.get("resources");
    if resources.is_empty() {
        resources.required("", errors);
    }
    for resource in resources.each().filter(At::is_empty) {
        resource.required("", errors);
    }
    let all = resources.each().any(|resource| resource.text() == "*/*");
    if all && resources.len() > 1 {
        resources.invalid("if '*/*' is present, must not specify other resources", errors);
    }
    rule.get("scope").one_of(&["*", "Cluster", "Namespaced"], errors);
}

fn check_words(words: &At<'_>, what: &str, errors: &mut Errors) {
    if words.is_empty() {
        words.required("", errors);
    } else if words.len() > 1 && words.each().any(|word| word.text() == "*") {
        words.invalid(format!("if '*' is present, must not specify other {what}"), errors);
    }
}

/// Whether an expression is one, and of the right type.
pub(super) fn compiles(expression: &At<'_>, scope: &Scope, returns: Returns, errors: &mut Errors) -> Option<Type> {
    scope.check(expression.text(), returns).map_err(|detail| expression.invalid(detail, errors)).ok()
}

/// Expressions that a request must fulfil besides.
pub(super) fn check_conditions(conditions: &At<'_>, scope: &Scope, errors: &mut Errors) {
    conditions.too_many(CONDITIONS_MAX, errors);
    let mut seen = BTreeSet::new();
    for condition in conditions.each() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        if expression.text().trim().is_empty() {
            expression.required("", errors);
        } else {
            compiles(&expression, scope, Returns::Bool, errors);
        }
        if name.must_be_set(errors) {
            names::qualified_name(name.text()).into_iter().for_each(|reason| name.invalid(reason, errors));
            if !seen.insert(name.text().to_owned()) {
                name.duplicate(errors);
            }
        }
    }
}
