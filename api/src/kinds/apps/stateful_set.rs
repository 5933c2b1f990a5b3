//! StatefulSet.

use serde_json::{Value, json};

use crate::{
    kinds::{
        check::{At, same_spec_but, selects},
        common::{AGE, NAME, age, column, default, items_mut, map_of, name},
        core::persistent_volume_claim,
        deployment::template_cells,
        kind::{Errors, Kind},
        pod::{set_template_defaults, validate_lasting_template},
    },
    names,
};

/// What an update may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const FORBIDDEN: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
    'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// StatefulSet.
pub static STATEFUL_SET: Kind = Kind {
    name: names::dns_label,
    defaults: set_defaults,
    create: |object, _now| object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
    validate: check,
    validate_update: |new, old, errors| {
        if !same_spec_but(new, old, &MUTABLE) {
            At::root(new).get("spec").forbidden(FORBIDDEN, errors);
        }
    },
    validate_status: check_status,
    columns: &[
        NAME,
        column("Ready", "string", 0, "Pods that are ready, of those wanted."),
        AGE,
        column("Containers", "string", 1, "Names of the template's containers."),
        column("Images", "string", 1, "Images of the template's containers."),
    ],
    cells: |object, now| {
        let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let ready = format!("{}/{}", number("/status/readyReplicas"), number("/spec/replicas"));
        let [containers, images, _] = template_cells(object);
        vec![name(object), json!(ready), age(object, now), containers, images]
    },
    ..Kind::COUNTED_WITH_STATUS
};

fn set_defaults(object: &mut Value) {
    if let Some(template) = object.pointer_mut("/spec/template") {
        set_template_defaults(template);
    }
    for claim in items_mut(object, "/spec/volumeClaimTemplates") {
        claim["kind"] = json!("PersistentVolumeClaim");
        claim["apiVersion"] = json!("v1");
        persistent_volume_claim::set_defaults(claim);
        claim["status"] = json!({"phase": "Pending"});
    }
    let Some(spec) = map_of(object, "spec") else { return };
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "serviceName", "");
    let Some(strategy) = spec.entry("updateStrategy").or_insert_with(|| json!({})).as_object_mut() else { return };
    if !strategy.contains_key("type") {
        strategy.insert("type".into(), json!("RollingUpdate"));
        default(strategy, "rollingUpdate", json!({}));
    }
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut)
    {
        default(rolling, "partition", 0);
    }
    if let Some(policy) = spec.entry("persistentVolumeClaimRetentionPolicy").or_insert_with(|| json!({})).as_object_mut() {
        default(policy, "whenDeleted", "Retain");
        default(policy, "whenScaled", "Retain");
    }
}

fn check(object: &Value, errors: &mut Errors) {
    let spec = At::root(object).get("spec");
    let management = spec.get("podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&management.text()) {
        management.invalid("must be 'OrderedReady' or 'Parallel'", errors);
    }
    check_strategy(&spec.get("updateStrategy"), errors);
    for field in ["whenDeleted", "whenScaled"] {
        spec.get("persistentVolumeClaimRetentionPolicy").get(field).one_of(&["Retain", "Delete"], errors);
    }
    for field in ["replicas", "minReadySeconds", "ordinals.start"] {
        spec.get(field).not_negative(errors);
    }
    spec.get("serviceName").named(names::dns_label, errors);
    for claim in spec.items("volumeClaimTemplates") {
        persistent_volume_claim::check_spec(&claim.get("spec"), errors);
    }
    let selector = spec.get("selector");
    if selector.must_be_set(errors) {
        selector.label_selector(errors);
        if selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
            selector.invalid("empty selector is invalid for statefulset", errors);
        }
        let labels = spec.get("template.metadata.labels");
        if !selects(selector.value, labels.value) {
            labels.invalid("`selector` does not match template `labels`", errors);
        }
    }
    errors.extend(validate_lasting_template(&with_claims(object), "spec.template", "StatefulSet"));
}

/// The template with a volume for each claim, as its pods will have.
fn with_claims(object: &Value) -> Value {
    let mut template = object["spec"]["template"].clone();
    let claims: Vec<&str> = crate::kinds::common::items(object, "/spec/volumeClaimTemplates")
        .map(|claim| crate::object::text(claim, "/metadata/name"))
        .collect();
    if claims.is_empty() {
        return template;
    }
    let own = template.pointer("/spec/volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let own = own.into_iter().filter(|volume| !claims.iter().any(|claim| volume["name"] == **claim));
    let claimed = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let volumes: Vec<Value> = claimed.chain(own).collect();
    template["spec"]["volumes"] = volumes.into();
    template
}

fn check_strategy(strategy: &At<'_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" if rolling.is_set() => rolling.invalid("only allowed for updateStrategy 'RollingUpdate'", errors),
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.get("partition").not_negative(errors);
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                unavailable.count_or_percent(errors);
                unavailable.at_most_all(errors);
                if *unavailable.value == json!(0) || unavailable.value == "0%" {
                    unavailable.invalid("cannot be 0", errors);
                }
            }
        }
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'", errors),
    }
}

fn check_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = At::root(new).get("status");
    let count = |field: &str| status.get(field).number().unwrap_or(0);
    let fields = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    for field in ["replicas", "observedGeneration", "collisionCount"].iter().chain(&fields) {
        status.get(field).not_negative(errors);
    }
    for field in fields.iter().filter(|field| count(field) > count("replicas")) {
        status.get(field).invalid("cannot be greater than status.replicas", errors);
    }
    if count("availableReplicas") > count("readyReplicas") {
        status.get("availableReplicas").invalid("cannot be greater than status.readyReplicas", errors);
    }
    if count("collisionCount") < old["status"]["collisionCount"].as_i64().unwrap_or(0) {
        status.get("collisionCount").invalid("cannot be decremented", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Strategy;

    fn set() -> Value {
        let mut object = json!({"metadata": {"name": "db"}, "spec": {"selector": {"matchLabels": {"app": "db"}}, "serviceName": "db",
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "a", "image": "a:1",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}}});
        STATEFUL_SET.set_defaults(&mut object);
        object
    }

    #[test]
    fn a_set_is_completed_and_mounts_its_claims() {
        let object = set();
        assert_eq!(STATEFUL_SET.validate(&object), vec![]);
        assert_eq!(object["spec"]["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
        assert_eq!(object["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"], "Filesystem");
    }

    #[test]
    fn an_update_changes_only_what_it_may() {
        let old = set();
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(3);
        assert_eq!(STATEFUL_SET.validate_update(&new, &old), vec![]);
        new["spec"]["serviceName"] = json!("other");
        let errors = STATEFUL_SET.validate_update(&new, &old);
        assert_eq!(errors[0].to_string(), format!("spec: Forbidden: {FORBIDDEN}"));
    }

    #[test]
    fn a_status_counts_no_more_than_there_is() {
        let new = json!({"status": {"replicas": 1, "readyReplicas": 2}});
        let errors = STATEFUL_SET.validate_status_update(&new, &json!({}));
        assert_eq!(errors[0].to_string(), "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas");
    }
}
