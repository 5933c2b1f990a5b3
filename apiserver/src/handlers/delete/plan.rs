//! What becomes of an object whose deletion is asked for. Pure.

use jiff::{SignedDuration, Timestamp};
use kontiki_api::{
    custom::definition::CLEANUP_FINALIZER,
    object::{meta, set_condition},
    registry::Resource,
    resources::{CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, SERVICES},
    status::Status,
};
use serde_json::{Value, json};

use super::options::{Options, Propagation};
use crate::{
    addresses,
    storage::{Guard, Outcome},
};

/// Finalizers through which the garbage collector sees what is to become of dependents.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Kinds whose dependents stay unless a deletion says otherwise, for old clients' sake.
const ORPHANING: [(&str, &str); 2] = [("", "ReplicationController"), ("batch", "Job")];

/// The object that is stored, if its deletion waits for somebody; or its removal.
pub(super) fn next(resource: &Resource, old: Value, options: &Options, now: Timestamp) -> Result<Outcome, Status> {
    check_preconditions(resource, &old, options)?;
    let mut object = old;
    set_propagation(resource, &mut object, options);
    if resource.key == CUSTOM_RESOURCE_DEFINITIONS && !meta::is_deleting(&object) {
        let mut finalizers: Vec<Value> = meta::finalizers(&object).map(Value::from).collect();
        if !finalizers.iter().any(|name| name == CLEANUP_FINALIZER) {
            finalizers.push(CLEANUP_FINALIZER.into());
            meta::set(&mut object, "finalizers", finalizers);
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        set_condition(&mut object, "Terminating", "True", "InstanceDeletionPending", message, now);
    }
    if resource.key == NAMESPACES {
        object["status"]["phase"] = json!("Terminating");
    }
    let requested = resource.strategy.grace_period_seconds(&object, options.grace_period_seconds);
    let seconds = requested.unwrap_or(0);
    let waits = |list: Option<&Value>| list.and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let waits = waits(meta::get(&object, "finalizers")) || waits(object.pointer("/spec/finalizers"));
    if seconds == 0 && !waits {
        return Ok(Outcome::Remove(if resource.key == SERVICES { addresses::release(&object) } else { Guard::default() }));
    }
    let earlier = meta::get(&object, "deletionGracePeriodSeconds").and_then(Value::as_i64);
    if !meta::is_deleting(&object) || earlier.is_some_and(|earlier| seconds < earlier) {
        let deadline = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
        let begun = !meta::is_deleting(&object);
        meta::set(&mut object, "deletionTimestamp", meta::time(deadline));
        meta::set(&mut object, "deletionGracePeriodSeconds", seconds);
        if begun && resource.strategy.has_generation() {
            let generation = meta::generation(&object) + 1;
            meta::set(&mut object, "generation", generation);
        }
    }
    Ok(Outcome::Store(object, Guard::default()))
}

fn check_preconditions(resource: &Resource, object: &Value, options: &Options) -> Result<(), Status> {
    let conflict = |why: &str| Err(Status::conflict(resource.key.group, resource.key.plural, meta::name(object), why));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != meta::uid(object)) {
        return conflict(&format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            meta::uid(object)
        ));
    }
    let version = meta::resource_version(object);
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return conflict(&format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

/// Sets or takes away the finalizers that say what is to become of dependents.
fn set_propagation(resource: &Resource, object: &mut Value, options: &Options) {
    let current: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    let has = |name: &str| current.iter().any(|known| known == name);
    let orphan = match (options.orphan_dependents, options.propagation) {
        (Some(orphan), _) => orphan,
        (None, Some(policy)) => policy == Propagation::Orphan,
        (None, None) if has(FOREGROUND) => false,
        (None, None) => has(ORPHAN) || ORPHANING.contains(&(resource.key.group, resource.key.kind)),
    };
    let foreground = match (options.orphan_dependents, options.propagation) {
        (Some(_), _) => false,
        (None, Some(policy)) => policy == Propagation::Foreground,
        (None, None) => has(FOREGROUND),
    };
    let mut wanted: Vec<String> = current.iter().filter(|name| *name != FOREGROUND && *name != ORPHAN).cloned().collect();
    wanted.extend(orphan.then(|| ORPHAN.to_owned()));
    wanted.extend(foreground.then(|| FOREGROUND.to_owned()));
    if wanted.is_empty() {
        meta::remove(object, "finalizers");
    } else if wanted != current {
        meta::set(object, "finalizers", wanted);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kontiki_api::registry;

    fn outcome(plural: &str, group: &str, object: Value, options: &Options) -> Outcome {
        next(registry::find(group, "v1", plural).unwrap(), object, options, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_running_pod_gets_its_grace_and_a_waiting_one_goes_at_once() {
        let running = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        let Outcome::Store(object, _) = outcome("pods", "", running.clone(), &Options::default()) else { panic!() };
        assert_eq!(object["metadata"]["deletionTimestamp"], "1970-01-01T00:00:07Z");
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 7);
        let force = Options { grace_period_seconds: Some(0), ..Options::default() };
        assert!(matches!(outcome("pods", "", running, &force), Outcome::Remove(_)));
        assert!(matches!(outcome("pods", "", json!({"metadata": {}, "spec": {}}), &Options::default()), Outcome::Remove(_)));
    }

    #[test]
    fn propagation_leaves_a_finalizer_and_a_namespace_waits_for_its_contents() {
        let foreground = Options { propagation: Some(Propagation::Foreground), ..Options::default() };
        let Outcome::Store(object, _) = outcome("deployments", "apps", json!({"metadata": {}}), &foreground) else { panic!() };
        assert_eq!(object["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let namespace = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Outcome::Store(object, _) = outcome("namespaces", "", namespace, &Options::default()) else { panic!() };
        assert_eq!(object["status"]["phase"], "Terminating");
    }

    #[test]
    fn dependents_stay_where_the_deletion_or_the_kind_says_so() {
        let finalizers = |plural: &str, group: &str, options: &Options, before: Value| match outcome(
            plural,
            group,
            json!({"metadata": {"finalizers": before}}),
            options,
        ) {
            Outcome::Store(object, _) => object["metadata"]["finalizers"].clone(),
            Outcome::Remove(_) => Value::Null,
        };
        let policy = |propagation| Options { propagation: Some(propagation), ..Options::default() };
        let deprecated = |orphan| Options { orphan_dependents: Some(orphan), ..Options::default() };
        for (plural, group, options, before, expected) in [
            ("jobs", "batch", Options::default(), json!([]), json!(["orphan"])),
            ("jobs", "batch", policy(Propagation::Background), json!([]), Value::Null),
            ("replicasets", "apps", Options::default(), json!([]), Value::Null),
            ("replicasets", "apps", policy(Propagation::Orphan), json!(["x/y"]), json!(["x/y", "orphan"])),
            ("replicasets", "apps", Options::default(), json!(["foregroundDeletion"]), json!(["foregroundDeletion"])),
            ("replicasets", "apps", policy(Propagation::Background), json!(["foregroundDeletion"]), Value::Null),
            ("replicasets", "apps", deprecated(true), json!([]), json!(["orphan"])),
            ("jobs", "batch", deprecated(false), json!([]), Value::Null),
        ] {
            assert_eq!(finalizers(plural, group, &options, before.clone()), expected, "{plural} {options:?} {before}");
        }
    }

    #[test]
    fn another_objects_uid_is_a_conflict() {
        let options = Options { uid: Some("b".into()), ..Options::default() };
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let refused = next(resource, json!({"metadata": {"name": "x", "uid": "a"}}), &options, Timestamp::UNIX_EPOCH);
        assert_eq!(refused.err().unwrap().code, 409);
    }
}
