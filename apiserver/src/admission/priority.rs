//! `Priority`: how important a pod is, by the class that it names.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use async_trait::async_trait;
use kontiki_api::{
    object::{meta, text},
    resources::{PODS, PRIORITY_CLASSES},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

const PREEMPT: &str = "PreemptLowerPriority";

/// The plugin.
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        write && (request.is(&PODS) || request.is(&PRIORITY_CLASSES))
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        if !request.is(&PODS) {
            return Ok(());
        }
        if request.operation == Operation::Update {
            keep(object, old);
            return Ok(());
        }
        let name = text(object, "/spec/priorityClassName").to_owned();
        let class = if name.is_empty() {
            global_default(lookup::list(server, &PRIORITY_CLASSES, ""))
        } else {
            let missing = || request.forbidden(format!("no PriorityClass with name {name} was found"));
            Some(lookup::find(server, &PRIORITY_CLASSES, "", &name).await?.ok_or_else(missing)?)
        };
        prioritize(object, class.as_ref()).map_err(|why| request.forbidden(why))
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, object: &Value, _: &Value) -> Result<(), Status> {
        if !request.is(&PRIORITY_CLASSES) || object["globalDefault"] != true {
            return Ok(());
        }
        match global_default(lookup::list(server, &PRIORITY_CLASSES, "")) {
            Some(other) if request.operation == Operation::Create || meta::name(&other) != meta::name(object) => {
                let name = meta::name(&other);
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(request.forbidden(why))
            }
            _ => Ok(()),
        }
    }
}

/// The class of pods that name none: of several, the least.
fn global_default(classes: Vec<Value>) -> Option<Value> {
    let defaults = classes.into_iter().filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}

/// What was decided at creation stays where an update leaves it out.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let known = old["spec"].get(field).filter(|value| !value.is_null());
        if let Some(known) = known.filter(|_| pod["spec"].get(field).is_none_or(Value::is_null)) {
            pod["spec"][field] = known.clone();
        }
    }
}

fn prioritize(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let spec = &mut pod["spec"];
    let priority = class.and_then(|class| class["value"].as_i64()).unwrap_or(0);
    if let Some(own) = spec.get("priority").and_then(Value::as_i64).filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    if let Some(class) = class {
        spec["priorityClassName"] = json!(meta::name(class));
    }
    spec["priority"] = json!(priority);
    let policy = class.map_or(PREEMPT, |class| class["preemptionPolicy"].as_str().unwrap_or(PREEMPT));
    if let Some(own) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|own| *own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec["preemptionPolicy"] = json!(policy);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_decides_and_a_pod_may_only_agree() {
        let class = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
        let mut pod = json!({"spec": {}});
        assert_eq!(prioritize(&mut pod, Some(&class)), Ok(()));
        assert_eq!(pod["spec"], json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"}));
        let mut own = json!({"spec": {"priority": 7}});
        assert!(prioritize(&mut own, Some(&class)).unwrap_err().contains("computed 1000 from the given PriorityClass name"));
        let mut plain = json!({"spec": {}});
        assert_eq!(prioritize(&mut plain, None), Ok(()));
        assert_eq!(plain["spec"], json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}));
    }

    #[test]
    fn of_several_defaults_the_least_counts_and_an_update_keeps_what_was_decided() {
        let class =
            |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
        let found = global_default(vec![class("a", 5, true), class("b", 3, true), class("c", 1, false)]);
        assert_eq!(found.map(|class| meta::name(&class).to_owned()).as_deref(), Some("b"));
        let mut pod = json!({"spec": {}});
        keep(&mut pod, &json!({"spec": {"priority": 3, "preemptionPolicy": "Never"}}));
        assert_eq!(pod["spec"], json!({"priority": 3, "preemptionPolicy": "Never"}));
    }
}
