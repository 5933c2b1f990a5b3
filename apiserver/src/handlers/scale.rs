//! scale: the replicas of a workload, whatever its kind, as one small object.

use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    decode::{self, Expected},
    field::FieldError,
    managed::{self, FieldSet, Owned, Writer},
    object::meta,
    patch,
    registry::Resource,
    selector::LabelSelector,
    status::Status,
};
use serde_json::{Map, Value, json};

use super::{
    apply::{self, Target},
    encode, options, write,
};
use crate::{
    admission::{Operation, Request},
    negotiate,
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Guard, Outcome, Written},
};

/// Where a workload has its replicas.
const REPLICAS: &str = "spec.replicas";

/// The `Scale` of a workload.
fn scale_of(object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::get(object, field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).filter(|count| *count != 0);
    let mut spec = Map::new();
    spec.extend(count("/spec/replicas").map(|count| ("replicas".to_owned(), count.into())));
    let mut status = Map::new();
    status.insert("replicas".into(), count("/status/replicas").unwrap_or(0).into());
    let selector = selector_of(object);
    if !selector.is_empty() {
        status.insert("selector".into(), selector.into());
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status })
}

/// The selector as text; a replication controller's is a map, the others' a label selector.
fn selector_of(object: &Value) -> String {
    let Some(selector) = object.pointer("/spec/selector") else { return String::new() };
    let is_map = selector.as_object().is_some_and(|members| members.values().all(Value::is_string));
    let selector = if is_map { json!({ "matchLabels": selector }) } else { selector.clone() };
    LabelSelector::from_value(&selector).to_string()
}

/// How a request changes the scale.
enum Change {
    Update(Value),
    Patch(patch::PatchType),
    Apply(apply::Applied, Target),
}

/// get, update and patch of `scale`.
pub async fn answer(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept_without_tables(&call.headers)?;
    let (namespace, name) = (call.info.namespace.as_str(), call.info.name.as_str());
    if call.info.verb == "get" {
        let object = server.storage.get(resource, namespace, name).await?;
        return encode::value_in(StatusCode::OK, &scale_of(&object.encoded.value()), &accepted);
    }
    let part = resource.subresource("scale").ok_or_else(Status::no_such_path)?;
    let expected = Expected::of_subresource(resource, part).ok_or_else(|| Status::internal_error("Scale has no schema"))?;
    let (change, options) = read(call, expected)?;
    let mut request = Request::of(call, resource, Operation::Update, name)?;
    request.subresource = "scale";
    let writer = Writer { manager: &options.manager, api_version: "autoscaling/v1", subresource: "scale", now: Timestamp::now() };
    let mut transaction = server.storage.begin(resource, namespace, name).await?;
    loop {
        let object = transaction.object().clone();
        let mut before = scale_of(&object);
        managed::to_scale(&object, REPLICAS, &mut before);
        let asked = match &change {
            Change::Update(scale) => Ok(scale.clone()),
            Change::Patch(kind) => {
                patch::apply(*kind, &before, &call.body, expected.type_, options.validation).map(|patched| patched.object)
            }
            Change::Apply(applied, target) => applied.onto(Some(&before), target),
        };
        let decided = match asked {
            Ok(mut scale) => {
                if !matches!(change, Change::Apply(..)) {
                    managed::update(&Owned::of(expected.type_), &before, &mut scale, &writer);
                }
                match server.admission.admit(server, &request, &mut scale, &before).await {
                    Ok(()) => scaled(resource, object, &before, &scale),
                    Err(status) => Err(status),
                }
            }
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

fn read(call: &Call, expected: Expected<'static>) -> Result<(Change, options::WriteOptions), Status> {
    if call.info.verb == "update" {
        let options = options::of_write(call, "UpdateOptions", false)?;
        let sent = decode::decode(&write::json_body(call)?, expected, options.validation)?.object;
        return Ok((Change::Update(sent), options));
    }
    if write::media_type(call) == apply::MEDIA_TYPE {
        let applied = apply::read(call)?;
        let options = applied.options.clone();
        let target = Target {
            type_: expected.type_,
            api_version: "autoscaling/v1".into(),
            kind: "Scale",
            subresource: "scale",
            ignored: FieldSet::of(&[&["status"]]),
        };
        return Ok((Change::Apply(applied, target), options));
    }
    Ok((Change::Patch(write::patch_type(call)?), options::of_write(call, "PatchOptions", false)?))
}

/// The workload with the replicas, and their owners, that a `Scale` asks for.
fn scaled(resource: &Resource, mut object: Value, before: &Value, scale: &Value) -> Result<Value, Status> {
    let name = meta::name(&object).to_owned();
    let version = meta::resource_version(scale);
    if !matches!(version, "" | "0") && version != meta::resource_version(before) {
        return Err(Status::modified(resource.key.group, resource.key.plural, &name));
    }
    if !meta::uid(scale).is_empty() && meta::uid(scale) != meta::uid(before) {
        let why =
            format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", meta::uid(scale), meta::uid(before));
        return Err(Status::conflict(resource.key.group, resource.key.plural, &name, &why));
    }
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let detail = "must be greater than or equal to 0";
        let error = FieldError::invalid("spec.replicas", &json!(replicas), detail);
        return Err(Status::invalid("autoscaling", "Scale", &name, &[error]));
    }
    if object.pointer("/spec/replicas").and_then(Value::as_i64) != Some(replicas) {
        object["spec"]["replicas"] = json!(replicas);
        let generation = meta::generation(&object) + 1;
        meta::set(&mut object, "generation", generation);
    }
    if meta::get(scale, "managedFields") != meta::get(before, "managedFields") {
        managed::from_scale(scale, &mut object, REPLICAS, &resource.key.api_version());
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_tells_replicas_and_selector() {
        for selector in [json!({"matchLabels": {"app": "x"}}), json!({"app": "x"})] {
            let scale = scale_of(&json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "selector": selector}}));
            assert_eq!(scale["spec"]["replicas"], 3);
            assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=x"}));
        }
    }
}
