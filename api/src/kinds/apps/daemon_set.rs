//! DaemonSet.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::{At, selects},
        common::{AGE, NAME, age, column, default, map_of, map_text, name},
        deployment::template_cells,
        kind::{Errors, Kind},
        pod::{set_template_defaults, validate_lasting_template},
    },
    object::meta,
};

/// Counts the templates that a set has had; v1 shows it as an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// DaemonSet.
pub static DAEMON_SET: Kind = Kind {
    defaults: |object| {
        if let Some(template) = object.pointer_mut("/spec/template") {
            set_template_defaults(template);
        }
        let Some(spec) = map_of(object, "spec") else { return };
        default(spec, "revisionHistoryLimit", 10);
        let Some(strategy) = spec.entry("updateStrategy").or_insert_with(|| json!({})).as_object_mut() else { return };
        default(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = strategy.entry("rollingUpdate").or_insert_with(|| json!({})).as_object_mut()
        {
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
    },
    create: |object, _now| {
        object["status"] =
            json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
        object["metadata"]["annotations"][TEMPLATE_GENERATION] = json!("1");
    },
    update: |new, old| {
        let before: i64 = meta::annotation(old, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(1);
        let changed = new["spec"]["template"] != old["spec"]["template"];
        new["metadata"]["annotations"][TEMPLATE_GENERATION] = json!((before + i64::from(changed)).to_string());
    },
    validate: check,
    validate_update: |new, old, errors| {
        At::root(new).get("spec.selector").immutable(&At::root(old).get("spec.selector"), errors);
    },
    validate_status: |new, _old, errors| {
        let status = At::root(new).get("status");
        for field in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            status.get(field).not_negative(errors);
        }
    },
    columns: &[
        NAME,
        column("Desired", "integer", 0, "Nodes that should run the pod."),
        column("Current", "integer", 0, "Nodes that run the pod and should."),
        column("Ready", "integer", 0, "Nodes whose pod is ready."),
        column("Up-to-date", "integer", 0, "Nodes whose pod is of the newest template."),
        column("Available", "integer", 0, "Nodes whose pod has been ready long enough."),
        column("Node Selector", "string", 0, "Labels of the nodes."),
        AGE,
        column("Containers", "string", 1, "Names of the template's containers."),
        column("Images", "string", 1, "Images of the template's containers."),
        column("Selector", "string", 1, "Labels of its pods."),
    ],
    cells: |object, now| {
        let number = |field: &str| json!(object["status"][field].as_i64().unwrap_or(0));
        let mut cells = vec![
            name(object),
            number("desiredNumberScheduled"),
            number("currentNumberScheduled"),
            number("numberReady"),
            number("updatedNumberScheduled"),
            number("numberAvailable"),
            json!(map_text(object.pointer("/spec/template/spec/nodeSelector"))),
            age(object, now),
        ];
        cells.extend(template_cells(object));
        cells
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    let selector = spec.get("selector");
    selector.label_selector(errors);
    let labels = spec.get("template.metadata.labels");
    if !selects(selector.value, labels.value) {
        labels.invalid("`selector` does not match template `labels`", errors);
    }
    if selector.is_set() && selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
        selector.invalid("empty selector is invalid for daemonset", errors);
    }
    errors.extend(validate_lasting_template(&object["spec"]["template"], "spec.template", "DaemonSet"));
    spec.get("minReadySeconds").not_negative(errors);
    check_strategy(&spec.get("updateStrategy"), errors);
    spec.get("revisionHistoryLimit").not_negative(errors);
}

fn check_strategy(strategy: &At<'_>, errors: &mut Errors) {
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            if rolling.is_absent() {
                return rolling.required("", errors);
            }
            let [unavailable, surge] = ["maxUnavailable", "maxSurge"].map(|field| rolling.get(field));
            for count in [&unavailable, &surge] {
                count.count_or_percent(errors);
                count.at_most_all(errors);
            }
            let zero = |at: &At<'_>| at.is_absent() || *at.value == json!(0) || at.value == "0%";
            if zero(&unavailable) && zero(&surge) {
                unavailable.required("cannot be 0 when maxSurge is 0", errors);
            } else if !zero(&unavailable) && !zero(&surge) {
                surge.invalid("may not be set when maxUnavailable is non-zero", errors);
            }
        }
        _ => strategy.get("type").one_of(&["RollingUpdate", "OnDelete"], errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn set() -> Value {
        json!({"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}})
    }

    #[test]
    fn a_bare_set_is_completed_and_valid() {
        let mut object = set();
        DAEMON_SET.set_defaults(&mut object);
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
        assert_eq!(DAEMON_SET.validate(&object), vec![]);
        object["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(0);
        let errors = DAEMON_SET.validate(&object);
        assert_eq!(
            errors[0].to_string(),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"
        );
    }

    #[test]
    fn templates_are_counted() {
        let mut old = set();
        DAEMON_SET.prepare_for_create(&mut old, jiff::Timestamp::UNIX_EPOCH);
        let mut new = old.clone();
        DAEMON_SET.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["annotations"][TEMPLATE_GENERATION], "1");
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
        DAEMON_SET.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["annotations"][TEMPLATE_GENERATION], "2");
    }
}
