//! `RuntimeClass`: what a pod's runtime costs beside its containers, and where it can run.
//! <https://kubernetes.io/docs/concepts/containers/runtime-class/>

use async_trait::async_trait;
use kontiki_api::{
    object::text,
    quota::List,
    resources::{PODS, RUNTIME_CLASSES},
    status::Status,
};
use serde_json::{Value, json};

use super::{Operation, Plugin, Request, lookup};
use crate::service::ApiServer;

/// The plugin.
pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(&PODS)
    }

    async fn mutate(&self, server: &ApiServer, request: &Request<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        let class = find(server, request, pod).await?;
        apply(pod, &class).map_err(|why| request.forbidden(why))
    }

    async fn validate(&self, server: &ApiServer, request: &Request<'_>, pod: &Value, _: &Value) -> Result<(), Status> {
        let class = find(server, request, pod).await?;
        check_overhead(pod, &class).map_err(|why| request.forbidden(why))
    }
}

/// The class that a pod names; null where it names none.
async fn find(server: &ApiServer, request: &Request<'_>, pod: &Value) -> Result<Value, Status> {
    let name = text(pod, "/spec/runtimeClassName");
    if name.is_empty() {
        return Ok(Value::Null);
    }
    let missing = || request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"));
    lookup::find(server, &RUNTIME_CLASSES, "", name).await?.ok_or_else(missing)
}

fn overhead(class: &Value) -> Option<&Value> {
    class.pointer("/overhead/podFixed").filter(|overhead| !overhead.is_null())
}

fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    List::parse(one).same(&List::parse(other))
}

/// Gives a pod the class's overhead, node selector and tolerations.
fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    if let Some(fixed) = overhead(class) {
        let own = pod.pointer("/spec/overhead").filter(|own| own.as_object().is_some_and(|own| !own.is_empty()));
        if own.is_some() && !same(own, Some(fixed)) {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        pod["spec"]["overhead"] = fixed.clone();
    }
    let Some(scheduling) = class.get("scheduling").filter(|scheduling| scheduling.is_object()) else { return Ok(()) };
    let mut selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(own) = selector.get(key).filter(|own| *own != wanted) {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (wanted, own) = (word(wanted), word(own));
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        selector.insert(key.clone(), wanted.clone());
    }
    if !selector.is_empty() {
        pod["spec"]["nodeSelector"] = Value::Object(selector);
    }
    let mut tolerations = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    for added in scheduling["tolerations"].as_array().into_iter().flatten() {
        if !tolerations.contains(added) {
            tolerations.push(added.clone());
        }
    }
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = json!(tolerations);
    }
    Ok(())
}

fn check_overhead(pod: &Value, class: &Value) -> Result<(), &'static str> {
    let own = pod.pointer("/spec/overhead").filter(|own| !own.is_null());
    match overhead(class) {
        Some(fixed) if !same(own, Some(fixed)) => {
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        }
        None if own.is_some() => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_what_its_class_says() {
        let class = json!({
            "overhead": {"podFixed": {"cpu": "10m"}},
            "scheduling": {"nodeSelector": {"fast": "yes"}, "tolerations": [{"key": "a"}]},
        });
        let mut pod = json!({"spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a"}]}});
        assert_eq!(apply(&mut pod, &class), Ok(()));
        let expected = json!({
            "nodeSelector": {"disk": "ssd", "fast": "yes"}, "tolerations": [{"key": "a"}], "overhead": {"cpu": "10m"},
        });
        assert_eq!(pod["spec"], expected);
        assert_eq!(check_overhead(&pod, &class), Ok(()));
        let mut slow = json!({"spec": {"nodeSelector": {"fast": "no"}}});
        let refused = apply(&mut slow, &class).unwrap_err();
        assert_eq!(refused, "conflict: runtimeClass.scheduling.nodeSelector[fast] = yes; pod.spec.nodeSelector[fast] = no");
        let mut other = json!({"spec": {"overhead": {"cpu": "1"}}});
        assert!(apply(&mut other, &class).unwrap_err().contains("doesn't match"));
        assert!(check_overhead(&other, &Value::Null).unwrap_err().contains("without corresponding"));
    }
}
