//! delete and deletecollection.
//!
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kontiki_api::{
    decode,
    object::{Encoded, meta, text},
    registry::Resource,
    resources::{NAMESPACES, SERVICES},
    status::Status,
};
use serde_json::{Value, json};

use super::{encode, read, write};
use crate::{
    addresses,
    admission::{Operation, Request},
    negotiate, response,
    response::Body,
    service::{ApiServer, Call},
    storage::{Guard, Outcome, Written},
};

/// What a deletion asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    grace_period_seconds: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    propagation: Propagation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

fn options(call: &Call) -> Result<Options, Status> {
    let body = if call.body.is_empty() { call.body.clone() } else { write::json_body(call)? };
    let sent = decode::decode_delete_options(&body)?;
    let info = &call.info;
    let grace = match (sent["gracePeriodSeconds"].as_i64(), info.parameter("gracePeriodSeconds")) {
        (Some(seconds), _) => Some(seconds),
        (None, "") => None,
        (None, text) => Some(text.parse().map_err(|_| Status::bad_request(format!("invalid gracePeriodSeconds {text:?}")))?),
    };
    let policy = [text(&sent, "/propagationPolicy"), info.parameter("propagationPolicy")];
    let propagation = match policy.into_iter().find(|policy| !policy.is_empty()) {
        None if sent["orphanDependents"] == true => Propagation::Orphan,
        None | Some("Background") => Propagation::Background,
        Some("Foreground") => Propagation::Foreground,
        Some("Orphan") => Propagation::Orphan,
        Some(other) => {
            let message = format!(
                "DeleteOptions.propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            return Err(Status::bad_request(message));
        }
    };
    let precondition = |field: &str| sent.pointer(&format!("/preconditions/{field}")).and_then(Value::as_str).map(str::to_owned);
    Ok(Options {
        grace_period_seconds: grace,
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        propagation,
    })
}

/// delete.
pub async fn one(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let options = options(call)?;
    let written = run(server, call, resource, call.info.namespace_of(resource), &call.info.name, &options).await?;
    match written {
        Deleted::Gone(encoded) => {
            let object = encoded.value();
            let key = &resource.key;
            let status = Status::success(key.group, key.plural, meta::name(&object), meta::uid(&object));
            let status = serde_json::to_value(&status).map_err(|error| Status::internal_error(error.to_string()))?;
            encode::value_in(StatusCode::OK, &status, &accepted)
        }
        Deleted::Begun(encoded) => {
            encode::object(StatusCode::OK, resource, &encoded, &accepted, encode::include_object(&call.info)?)
        }
    }
}

enum Deleted {
    Gone(Encoded),
    Begun(Encoded),
}

async fn run(
    server: &ApiServer,
    call: &Call,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    options: &Options,
) -> Result<Deleted, Status> {
    let mut request = Request::of(call, resource, Operation::Delete, name)?;
    request.namespace = namespace;
    let now = Timestamp::now();
    let mut transaction = server.storage.begin(resource, namespace, name).await?;
    loop {
        let current = transaction.object().clone();
        let decided = match server.admission.admit(server, &request, &mut Value::Null, &current).await {
            Ok(()) => next(resource, current.clone(), options, now),
            Err(status) => Err(status),
        };
        let decided = if request.dry_run { decided.map(|_| Outcome::Store(current, Guard::default())) } else { decided };
        match transaction.commit(decided).await? {
            None => {}
            Some(Written::Removed(encoded)) => return Ok(Deleted::Gone(encoded)),
            Some(Written::Stored(encoded) | Written::Unchanged(encoded)) => return Ok(Deleted::Begun(encoded)),
            Some(Written::Taken) => return Err(Status::internal_error("a deletion takes no addresses")),
        }
    }
}

/// What becomes of an object whose deletion is asked for. Pure.
fn next(resource: &Resource, old: Value, options: &Options, now: Timestamp) -> Result<Outcome, Status> {
    check_preconditions(resource, &old, options)?;
    let mut object = old;
    set_propagation(&mut object, options.propagation);
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
    let checks = [
        ("UID", &options.uid, meta::uid(object)),
        ("ResourceVersion", &options.resource_version, meta::resource_version(object)),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return Err(Status::conflict(resource.key.group, resource.key.plural, meta::name(object), &why));
        }
    }
    Ok(())
}

/// Finalizers through which the garbage collector sees what is to become of dependents.
fn set_propagation(object: &mut Value, propagation: Propagation) {
    let wanted = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Orphan => Some("orphan"),
    };
    let current = meta::get(object, "finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = current.iter().filter(|name| *name != "foregroundDeletion" && *name != "orphan").cloned();
    let after: Vec<Value> = kept.chain(wanted.map(Value::from)).collect();
    if after.is_empty() {
        meta::remove(object, "finalizers");
    } else {
        meta::set(object, "finalizers", after);
    }
}

/// deletecollection: each object in its own transaction; those that are gone meanwhile are no error.
pub async fn collection(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let accepted = negotiate::accept(&call.headers)?;
    let options = options(call)?;
    let page = server.storage.list(resource, &read::options(resource, &call.info)?).await?;
    for object in &page.objects {
        let (namespace, name) = (object.header.namespace.to_string(), object.header.name.to_string());
        match run(server, call, resource, &namespace, &name, &options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Ok(response::status(&status)),
        }
    }
    encode::list(resource, &page, &accepted, encode::include_object(&call.info)?)
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
        let foreground = Options { propagation: Propagation::Foreground, ..Options::default() };
        let Outcome::Store(object, _) = outcome("deployments", "apps", json!({"metadata": {}}), &foreground) else { panic!() };
        assert_eq!(object["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let namespace = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Outcome::Store(object, _) = outcome("namespaces", "", namespace, &Options::default()) else { panic!() };
        assert_eq!(object["status"]["phase"], "Terminating");
    }

    #[test]
    fn another_objects_uid_is_a_conflict() {
        let options = Options { uid: Some("b".into()), ..Options::default() };
        let resource = registry::find("", "v1", "configmaps").unwrap();
        let refused = next(resource, json!({"metadata": {"name": "x", "uid": "a"}}), &options, Timestamp::UNIX_EPOCH);
        assert_eq!(refused.err().unwrap().code, 409);
    }
}
