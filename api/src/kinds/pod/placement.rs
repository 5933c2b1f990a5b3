//! Where a pod may run: affinity, tolerations, spreading, in Kubernetes' words for what is wrong with them.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    kinds::{check::At, kind::Errors},
    names,
};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const POLICIES: &[&str] = &["Honor", "Ignore"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Everything about a pod's place.
pub(super) fn check(spec: &At<'_>, errors: &mut Errors) {
    let affinity = spec.get("affinity");
    check_node_affinity(&affinity.get("nodeAffinity"), errors);
    for kind in ["podAffinity", "podAntiAffinity"].map(|kind| affinity.get(kind)) {
        kind.items(REQUIRED).for_each(|term| check_pod_term(&term, errors));
        for preference in kind.items(PREFERRED) {
            check_weight(&preference, errors);
            check_pod_term(&preference.get("podAffinityTerm"), errors);
        }
    }
    spec.items("tolerations").for_each(|toleration| check_toleration(&toleration, errors));
    check_spread(spec, errors);
}

fn check_weight(preference: &At<'_>, errors: &mut Errors) {
    let weight = preference.get("weight");
    if !weight.number().is_some_and(|number| (1..=100).contains(&number)) {
        weight.invalid("must be in the range 1-100", errors);
    }
}

fn check_node_affinity(affinity: &At<'_>, errors: &mut Errors) {
    let required = affinity.get(REQUIRED);
    if required.is_set() {
        check_node_selector(&required, errors);
    }
    for preference in affinity.items(PREFERRED) {
        check_weight(&preference, errors);
        check_node_term(&preference.get("preference"), errors);
    }
}

/// Terms of which a node must fulfil one.
pub(crate) fn check_node_selector(selector: &At<'_>, errors: &mut Errors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        terms.required("must have at least one node selector term", errors);
    }
    terms.each().for_each(|term| check_node_term(&term, errors));
}

fn check_node_term(term: &At<'_>, errors: &mut Errors) {
    for requirement in term.items("matchExpressions") {
        let (key, operator, values) = (requirement.get("key"), requirement.get("operator"), requirement.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'", errors);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => operator.invalid("not a valid selector operator", errors),
        }
        names::qualified_name(key.text()).into_iter().for_each(|reason| key.invalid(reason, errors));
    }
    for requirement in term.items("matchFields") {
        let (key, operator, values) = (requirement.get("key"), requirement.get("operator"), requirement.get("values"));
        if !matches!(operator.text(), "In" | "NotIn") {
            operator.invalid("not a valid selector operator", errors);
        } else if values.len() != 1 {
            values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector", errors);
        }
        if key.text() != "metadata.name" {
            key.invalid("not a valid field selector key", errors);
        }
    }
}

fn check_pod_term(term: &At<'_>, errors: &mut Errors) {
    term.get("labelSelector").label_selector(errors);
    term.get("namespaceSelector").label_selector(errors);
    let namespaces = term.get("namespaces");
    for namespace in namespaces.each() {
        let at = At::new(namespace.value, format!("{}.namespace", term.path));
        names::dns_label(namespace.text()).into_iter().for_each(|reason| at.invalid(reason, errors));
    }
    let key = term.get("topologyKey");
    if key.is_empty() {
        return key.required("can not be empty", errors);
    }
    names::qualified_name(key.text()).into_iter().for_each(|reason| key.invalid(reason, errors));
}

fn check_toleration(toleration: &At<'_>, errors: &mut Errors) {
    let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|field| toleration.get(field));
    key.named(names::qualified_name, errors);
    if key.is_empty() && operator.text() != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        At { value: &json!(operator.text()), path: operator.path.clone() }.invalid(detail, errors);
    }
    if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
        At { value: &json!(effect.text()), path: effect.path.clone() }
            .invalid("effect must be 'NoExecute' when `tolerationSeconds` is set", errors);
    }
    match operator.text() {
        "" | "Equal" => {
            let at = At::new(value.value, operator.path.clone());
            names::label_value(value.text()).into_iter().for_each(|reason| at.invalid(reason, errors));
        }
        "Exists" if !value.is_empty() => {
            At::new(toleration.value, operator.path.clone()).invalid("value must be empty when `operator` is 'Exists'", errors);
        }
        "Exists" => {}
        _ => operator.one_of(&["Equal", "Exists"], errors),
    }
    if !effect.is_empty() {
        effect.one_of(EFFECTS, errors);
    }
}

fn check_spread(spec: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for constraint in spec.items("topologySpreadConstraints") {
        let [skew, key, when, domains] =
            ["maxSkew", "topologyKey", "whenUnsatisfiable", "minDomains"].map(|field| constraint.get(field));
        if skew.number().is_none_or(|number| number <= 0) {
            At { value: &json!(skew.number().unwrap_or(0)), path: skew.path.clone() }
                .invalid("must be greater than zero", errors);
        }
        match key.is_empty() {
            true => key.required("can not be empty", errors),
            false => names::qualified_name(key.text()).into_iter().for_each(|reason| key.invalid(reason, errors)),
        }
        let text = At { value: &json!(when.text()), path: when.path.clone() };
        text.one_of(&["DoNotSchedule", "ScheduleAnyway"], errors);
        let pair = format!("{{{}, {}}}", key.text(), when.text());
        if !seen.insert(pair.clone()) {
            At { value: &json!(pair), path: format!("{}.{{topologyKey, whenUnsatisfiable}}", constraint.path) }.duplicate(errors);
        }
        if let Some(number) = domains.number() {
            if number <= 0 {
                domains.invalid("must be greater than zero", errors);
            }
            if when.text() != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.text());
                domains.invalid(detail, errors);
            }
        }
        constraint.get("labelSelector").label_selector(errors);
        constraint.get("nodeAffinityPolicy").one_of(POLICIES, errors);
        constraint.get("nodeTaintsPolicy").one_of(POLICIES, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn texts(spec: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(&At::new(spec, "spec"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_place_is_described_as_kubernetes_wants_it() {
        let node = |term: Value| json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}});
        let term = format!("spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0]");
        for (spec, error) in [
            (node(json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1", "2"]}]})),
                format!("{term}.values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'")),
            (node(json!({"matchExpressions": [{"key": "a", "operator": "Is"}]})),
                format!("{term}.operator: Invalid value: \"Is\": not a valid selector operator")),
            (json!({"tolerations": [{"operator": "Equal"}]}),
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"".into()),
            (json!({"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3}]}),
                "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set".into()),
            (json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}),
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero".into()),
            (json!({"affinity": {"podAffinity": {REQUIRED: [{"labelSelector": {}}]}}}),
                format!("spec.affinity.podAffinity.{REQUIRED}[0].topologyKey: Required value: can not be empty")),
            (json!({"affinity": {"podAntiAffinity": {PREFERRED: [{"weight": 101, "podAffinityTerm": {"topologyKey": "zone"}}]}}}),
                format!("spec.affinity.podAntiAffinity.{PREFERRED}[0].weight: Invalid value: 101: must be in the range 1-100")),
        ] {
            assert_eq!(texts(&spec), [error]);
        }
        assert!(texts(&json!({"tolerations": [{"operator": "Exists"}]})).is_empty());
    }
}
