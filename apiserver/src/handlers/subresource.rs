//! Subresources that are no part of the object: scale and binding.

use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    decode::{self, Expected},
    object::{meta, text},
    patch,
    registry::Resource,
    resources::PODS,
    status::Status,
};
use serde_json::{Value, json};

use super::{encode, write};
use crate::{
    admission::{Operation, Request},
    negotiate,
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Guard, Outcome, Written},
};

/// The `Scale` of a workload.
fn scale_of(object: &Value) -> Value {
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object).into_iter().flatten();
    let selector: Vec<_> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::get(object, field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": { "replicas": object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0) },
        "status": {
            "replicas": object.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

/// get, update and patch of `scale`.
pub async fn scale(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    if call.info.verb == "get" {
        let object = server.storage.get(resource, namespace, name).await?;
        return encode::value_in(StatusCode::OK, &scale_of(&object.encoded.value()), &accepted);
    }
    let part = resource.subresource("scale").ok_or_else(Status::no_such_path)?;
    let expected = Expected::of_subresource(resource, part).ok_or_else(|| Status::internal_error("Scale has no schema"))?;
    let validation = write::field_validation(call)?;
    let sent = if call.info.verb == "update" {
        Some(decode::decode(&write::json_body(call)?, expected, validation)?.object)
    } else {
        None
    };
    let patch_type = if sent.is_none() { Some(write::patch_type(call)?) } else { None };
    let request = Request::of(call, resource, Operation::Update, name)?;
    let mut transaction = server.storage.begin(resource, namespace, name).await?;
    loop {
        let object = transaction.object().clone();
        let before = scale_of(&object);
        let asked = match (&sent, patch_type) {
            (Some(scale), _) => Ok(scale.clone()),
            (None, Some(kind)) => {
                patch::apply(kind, &before, &call.body, expected.type_, validation).map(|patched| patched.object)
            }
            (None, None) => Ok(before.clone()),
        };
        let decided = match asked {
            Ok(mut scale) => match server.admission.admit(server, &request, &mut scale, &before).await {
                Ok(()) => scaled(resource, object, &before, &scale),
                Err(status) => Err(status),
            },
            Err(status) => Err(status),
        };
        let shown = match &decided {
            Ok(object) if request.dry_run => Some(scale_of(object)),
            _ => None,
        };
        let stored = if shown.is_some() { Ok(transaction.object().clone()) } else { decided };
        match transaction.commit(stored.map(|object| Outcome::Store(object, Guard::default()))).await? {
            None => {}
            Some(Written::Stored(encoded) | Written::Unchanged(encoded) | Written::Removed(encoded)) => {
                let scale = shown.unwrap_or_else(|| scale_of(&encoded.value()));
                let mut answer = encode::value_in(StatusCode::OK, &scale, &accepted)?;
                response::warn(&mut answer, &request.take_warnings());
                return Ok(answer);
            }
            Some(Written::Taken) => return Err(Status::internal_error("a scale takes no addresses")),
        }
    }
}

/// The workload with the replicas that a `Scale` asks for.
fn scaled(resource: &Resource, mut object: Value, before: &Value, scale: &Value) -> Result<Value, Status> {
    let name = meta::name(&object);
    let version = meta::resource_version(scale);
    if !version.is_empty() && version != meta::resource_version(before) {
        return Err(Status::modified(resource.key.group, resource.key.plural, name));
    }
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let detail = "must be greater than or equal to 0";
        let error = kontiki_api::field::FieldError::invalid("spec.replicas", &json!(replicas), detail);
        return Err(Status::invalid("autoscaling", "Scale", name, &[error]));
    }
    if object.pointer("/spec/replicas").and_then(Value::as_i64) != Some(replicas) {
        object["spec"]["replicas"] = json!(replicas);
        let generation = meta::generation(&object) + 1;
        meta::set(&mut object, "generation", generation);
    }
    Ok(object)
}

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

    #[test]
    fn a_scale_tells_replicas_and_selector() {
        let scale =
            scale_of(&json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}}}));
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"]["selector"], "app=x");
    }
}
