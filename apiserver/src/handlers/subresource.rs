//! binding: the scheduler's word on which node a pod runs.

use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::{meta, text},
    resources::PODS,
    status::Status,
};
use serde_json::{Value, json};

use super::write;
use crate::{
    admission::{Operation, Request},
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Guard, Outcome},
};

/// create of `binding`: the scheduler's word on which node a pod runs.
pub async fn bind(server: &ApiServer, call: &Call, name: &str) -> Result<Response<Body>, Status> {
    let pods = kontiki_api::registry::of(&PODS).ok_or_else(Status::no_such_path)?;
    let mut binding: Value =
        serde_json::from_slice(&write::json_body(call)?).map_err(|error| Status::bad_request(error.to_string()))?;
    let name = if name.is_empty() { meta::name(&binding).to_owned() } else { name.to_owned() };
    let name = name.as_str();
    let node = text(&binding, "/target/name").to_owned();
    if node.is_empty() {
        let error = kontiki_api::field::FieldError::required("target.name", "");
        return Err(Status::invalid("", "Binding", name, &[error]));
    }
    let uid = meta::uid(&binding).to_owned();
    let now = Timestamp::now();
    let mut request = Request::of(call, pods, Operation::Create, name)?;
    request.subresource = "binding";
    server.admission.admit(server, &request, &mut binding, &Value::Null).await?;
    if request.dry_run {
        let pod = server.storage.get(pods, request.namespace, name).await?.encoded.value();
        bound(pod, &node, &uid, now)?;
        return binding_answer();
    }
    server
        .storage
        .change(pods, &call.info.namespace, name, |pod| Ok(Outcome::Store(bound(pod, &node, &uid, now)?, Guard::default())))
        .await?;
    binding_answer()
}

fn binding_answer() -> Result<Response<Body>, Status> {
    let mut status = Status::success("", "", "", "");
    status.code = 201;
    status.details = None;
    let status = serde_json::to_value(&status).map_err(|error| Status::internal_error(error.to_string()))?;
    Ok(response::json(StatusCode::CREATED, &status))
}

fn bound(mut pod: Value, node: &str, uid: &str, now: Timestamp) -> Result<Value, Status> {
    let conflict = |why: &str| Status::conflict("", "pods/binding", meta::name(&pod), why);
    if !uid.is_empty() && uid != meta::uid(&pod) {
        return Err(conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(&pod)
        )));
    }
    if meta::is_deleting(&pod) {
        return Err(conflict(&format!("pod {} is being deleted, cannot be assigned to a host", meta::name(&pod))));
    }
    let current = text(&pod, "/spec/nodeName");
    if !current.is_empty() {
        return Err(conflict(&format!("pod {} is already assigned to node {current:?}", meta::name(&pod))));
    }
    pod["spec"]["nodeName"] = json!(node);
    let condition =
        json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": meta::time(now) });
    let mut conditions = pod.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
    pod["status"]["conditions"] = Value::Array(conditions);
    Ok(pod)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "a", "uid": "1"}, "spec": {}});
        let pod = bound(pod, "n", "1", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(pod["spec"]["nodeName"], "n");
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        let refused = bound(pod, "m", "", Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(
            refused.message,
            "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n\""
        );
    }
}
