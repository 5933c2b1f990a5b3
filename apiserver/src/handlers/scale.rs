//! scale: the replicas of a workload, whatever its kind, as one small object.

use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    decode::{self, Expected},
    field::FieldError,
    managed::{self, FieldSet, OneVersion, Owned, Writer},
    object::{meta, text},
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

/// JSON pointers to a workload's replicas: wanted and real.
fn replica_paths(resource: &Resource) -> (String, String) {
    let scale = resource.strategy.custom().and_then(|served| served.version().scale.clone());
    scale.map_or_else(
        || ("/spec/replicas".to_owned(), "/status/replicas".to_owned()),
        |scale| (scale.spec_replicas, scale.status_replicas),
    )
}

/// Where a workload has the replicas that are wanted, as owners of fields name it.
fn owned_path(resource: &Resource) -> String {
    replica_paths(resource).0.trim_start_matches('/').replace('/', ".")
}

/// Sets a value at a JSON pointer, making the objects on the way.
fn set_at(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for step in pointer.split('/').filter(|step| !step.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value;
}

/// The `Scale` of a workload.
fn scale_of(resource: &Resource, object: &Value) -> Value {
    let (wanted, real) = replica_paths(resource);
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::get(object, field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).filter(|count| *count != 0);
    let mut spec = Map::new();
    spec.extend(count(&wanted).map(|count| ("replicas".to_owned(), count.into())));
    let mut status = Map::new();
    status.insert("replicas".into(), count(&real).unwrap_or(0).into());
    let selector = selector_of(resource, object);
    if !selector.is_empty() {
        status.insert("selector".into(), selector.into());
    }
    json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status })
}

/// The selector as text; a replication controller's is a map, the others' a label selector.
fn selector_of(resource: &Resource, object: &Value) -> String {
    if let Some(served) = resource.strategy.custom() {
        let path = served.version().scale.as_ref().map(|scale| scale.label_selector.clone()).unwrap_or_default();
        return if path.is_empty() { String::new() } else { text(object, &path).to_owned() };
    }
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
        return encode::value_in(StatusCode::OK, &scale_of(resource, &object.encoded.value()), &accepted);
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
        let mut before = scale_of(resource, &object);
        managed::to_scale(&object, &owned_path(resource), &mut before);
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
                    let owned = Owned::of(expected.type_);
                    managed::update(&owned, &OneVersion(&owned), &before, &mut scale, &writer);
                }
                match server.admission.admit(server, &request, &mut scale, &before).await {
                    Ok(()) => scaled(resource, object, &before, &scale),
                    Err(status) => Err(status),
                }
            }
            Err(status) => Err(status),
        };
        let shown = match &decided {
            Ok(object) if request.dry_run => Some(scale_of(resource, object)),
            _ => None,
        };
        let stored = if shown.is_some() { Ok(transaction.object().clone()) } else { decided };
        match transaction.commit(stored.map(|object| Outcome::Store(object, Guard::default()))).await? {
            None => {}
            Some(Written::Stored(encoded) | Written::Unchanged(encoded) | Written::Removed(encoded)) => {
                let scale = shown.unwrap_or_else(|| scale_of(resource, &encoded.value()));
                let mut answer = encode::value_in(StatusCode::OK, &scale, &accepted)?;
                response::warn(&mut answer, &request.take_warnings());
                return Ok(answer);
            }
            Some(Written::Taken(_)) => return Err(Status::internal_error("a scale takes no addresses")),
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
            type_: Some(expected.type_),
            resource: None,
            custom: None,
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
    let (wanted, _) = replica_paths(resource);
    if object.pointer(&wanted).and_then(Value::as_i64) != Some(replicas) {
        set_at(&mut object, &wanted, json!(replicas));
        let generation = meta::generation(&object) + 1;
        meta::set(&mut object, "generation", generation);
    }
    if meta::get(scale, "managedFields") != meta::get(before, "managedFields") {
        managed::from_scale(scale, &mut object, &owned_path(resource), &resource.key.api_version());
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scale_tells_replicas_and_selector() {
        let resource = kontiki_api::registry::of(&kontiki_api::resources::DEPLOYMENTS).unwrap();
        for selector in [json!({"matchLabels": {"app": "x"}}), json!({"app": "x"})] {
            let scale = scale_of(resource, &json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "selector": selector}}));
            assert_eq!(scale["spec"]["replicas"], 3);
            assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=x"}));
        }
    }
}
