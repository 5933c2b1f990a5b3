//! get and list: objects that are there, with what they use.

use http::{Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    object::meta,
    registry::{self, Resource},
    resources,
    status::Status,
    table::{self, IncludeObject},
};
use serde_json::{Value, json};

use super::{
    api::{self, GROUP, Kind, VERSION},
    collect::Snapshot,
    rates::{Measured, Usage},
};
use crate::{
    aggregation::Extension,
    handlers::{encode, read},
    negotiate::{self, Accepted, Form},
    response::{self, Body},
    service::{ApiServer, Call},
    storage::ListOptions,
};

/// Answers a request for the group.
pub async fn answer(server: &ApiServer, call: &Call, _: &Extension) -> Result<Response<Body>, Status> {
    let info = &call.info;
    if !info.is_resource {
        let document = || response::json(StatusCode::OK, &api::resource_list());
        return if info.verb == "get" || info.verb == "head" { Ok(document()) } else { Err(Status::method_not_allowed()) };
    }
    let kind = match info.resource.as_str() {
        "nodes" if info.namespace.is_empty() => api::NODES,
        "pods" => api::PODS,
        _ => return Err(Status::no_such_path()),
    };
    if !info.subresource.is_empty() {
        return Err(Status::no_such_path());
    }
    let accepted = negotiate::accept(&call.headers)?;
    let include = encode::include_object(info)?;
    let key = if kind == api::NODES { resources::NODES } else { resources::PODS };
    let resource = registry::of(&key).ok_or_else(Status::no_such_path)?;
    let value = match info.verb.as_str() {
        "get" => {
            let (snapshot, object) =
                tokio::join!(server.resource_metrics.snapshot(), server.storage.get(resource, &info.namespace, &info.name));
            let qualified = if kind.namespaced { format!("{}/{}", info.namespace, info.name) } else { info.name.clone() };
            let missing = || Status::not_found(GROUP, &kind.kind.to_lowercase(), &qualified);
            let object = object.map_err(|status| if status.code == 404 { missing() } else { status })?;
            let found = metrics(kind, &object.encoded.value(), &snapshot, Timestamp::now()).ok_or_else(missing)?;
            shown(kind, vec![found], &accepted, include, true)
        }
        "list" => shown(kind, list(server, call, resource, kind).await?, &accepted, include, false),
        _ => return Err(Status::method_not_allowed()),
    };
    encode::value_in(StatusCode::OK, &value, &accepted)
}

async fn list(server: &ApiServer, call: &Call, resource: &'static Resource, kind: Kind) -> Result<Vec<Value>, Status> {
    let (labels, fields) = read::selectors(resource, &call.info)?;
    let options = ListOptions { namespace: call.info.namespace.clone(), labels, fields, ..ListOptions::default() };
    let (snapshot, page) = tokio::join!(server.resource_metrics.snapshot(), server.storage.list(resource, &options));
    let now = Timestamp::now();
    Ok(page?.objects.iter().filter_map(|object| metrics(kind, &object.encoded.value(), &snapshot, now)).collect())
}

/// What an object uses, as an object of the API; `None` where that is not known. Pure.
fn metrics(kind: Kind, object: &Value, snapshot: &Snapshot, now: Timestamp) -> Option<Value> {
    let name = meta::name(object);
    let mut metadata = json!({ "name": name, "creationTimestamp": meta::time(now) });
    if object["metadata"]["labels"].is_object() {
        metadata["labels"] = object["metadata"]["labels"].clone();
    }
    let mut metrics = json!({ "kind": kind.kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata });
    if kind == api::NODES {
        let measured = snapshot.nodes.get(name)?.node.as_ref()?;
        put_time(&mut metrics, measured)?;
        metrics["usage"] = amounts(&measured.usage);
        return Some(metrics);
    }
    let node = object["spec"]["nodeName"].as_str()?;
    let measured = snapshot.nodes.get(node)?.pods.get(&(meta::namespace(object).to_owned(), name.to_owned()))?;
    metrics["metadata"]["namespace"] = meta::namespace(object).into();
    put_time(&mut metrics, measured)?;
    let containers = measured.usage.iter().map(|(name, usage)| json!({ "name": name, "usage": amounts(usage) }));
    metrics["containers"] = containers.collect();
    Some(metrics)
}

fn put_time<T>(metrics: &mut Value, measured: &Measured<T>) -> Option<()> {
    metrics["timestamp"] = meta::time(Timestamp::from_millisecond(measured.at).ok()?).into();
    metrics["window"] = window(measured.window_ms).into();
    Some(())
}

/// A span as Go writes it.
fn window(milliseconds: i64) -> String {
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

fn amounts(usage: &Usage) -> Value {
    json!({ "cpu": cpu(usage), "memory": memory(usage) })
}

fn cpu(usage: &Usage) -> String {
    if usage.cpu_nanocores == 0 { "0".to_owned() } else { format!("{}n", usage.cpu_nanocores) }
}

fn memory(usage: &Usage) -> String {
    format!("{}Ki", usage.memory_bytes / 1024)
}

/// One object or a list in the form that was asked for.
fn shown(kind: Kind, mut items: Vec<Value>, accepted: &Accepted, include: IncludeObject, single: bool) -> Value {
    match &accepted.form {
        Form::Table(version) => in_table(&items, &encode::meta_version(version), include),
        Form::Partial(version) => {
            let group_version = encode::meta_version(version);
            let mut partial: Vec<Value> = items.iter().map(|item| table::partial_object_metadata(item, &group_version)).collect();
            if single {
                return partial.pop().unwrap_or_default();
            }
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": group_version, "metadata": {}, "items": partial })
        }
        Form::Object if single => items.pop().unwrap_or_default(),
        Form::Object => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                // The list says it for all.
                item.remove("kind");
                item.remove("apiVersion");
            }
            let api_version = format!("{GROUP}/{VERSION}");
            json!({ "kind": format!("{}List", kind.kind), "apiVersion": api_version, "metadata": {}, "items": items })
        }
    }
}

fn in_table(items: &[Value], group_version: &str, include: IncludeObject) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({ "name": name, "type": "string", "format": format, "description": description, "priority": 0 });
    let sum = |item: &Value, resource: &str| -> String {
        let containers = item["containers"].as_array().into_iter().flatten().map(|container| &container["usage"]);
        let own = item.get("usage").into_iter().chain(containers);
        let parse = |usage: &Value| usage[resource].as_str()?.parse::<kontiki_api::quantity::Quantity>().ok();
        let total: i128 = own.filter_map(parse).map(|quantity| i128::from(quantity.milli())).sum();
        if resource == "cpu" { format!("{total}m") } else { format!("{}Ki", total / 1000 / 1024) }
    };
    let row = |item: &Value| {
        let cells = json!([item["metadata"]["name"], sum(item, "cpu"), sum(item, "memory"), item["window"]]);
        let object = match include {
            IncludeObject::None => Value::Null,
            IncludeObject::Object => item.clone(),
            IncludeObject::Metadata => table::partial_object_metadata(item, group_version),
        };
        json!({ "cells": cells, "object": object })
    };
    json!({
        "kind": "Table",
        "apiVersion": group_version,
        "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name of the resource"),
            column("cpu", "quantity", "Processors in use"),
            column("memory", "quantity", "Memory in use"),
            column("Window", "duration", "Time over which usage was measured"),
        ],
        "rows": items.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::resource_metrics::rates::NodeUsage;

    fn snapshot() -> Snapshot {
        let usage = |cpu_nanocores| Usage { cpu_nanocores, memory_bytes: 10 << 20 };
        let containers = BTreeMap::from([("a".to_owned(), usage(1_500_000)), ("b".to_owned(), usage(0))]);
        let pod = Measured { at: 1_767_225_600_000, window_ms: 75_250, usage: containers };
        let node = Measured { at: 1_767_225_600_000, window_ms: 10_000, usage: usage(250_000_000) };
        let pods = HashMap::from([(("n".to_owned(), "p".to_owned()), pod)]);
        Snapshot { nodes: BTreeMap::from([("w".to_owned(), NodeUsage { node: Some(node), pods })]), ..Snapshot::default() }
    }

    #[test]
    fn objects_and_tables_are_as_metrics_server_makes_them() {
        let now = Timestamp::UNIX_EPOCH;
        let node = json!({ "metadata": { "name": "w", "labels": { "a": "b" } } });
        let found = metrics(api::NODES, &node, &snapshot(), now).unwrap();
        assert_eq!(found["usage"], json!({ "cpu": "250000000n", "memory": "10240Ki" }));
        assert_eq!((&found["timestamp"], &found["window"]), (&json!("2026-01-01T00:00:00Z"), &json!("10s")));
        assert_eq!(found["metadata"]["labels"]["a"], "b");
        let pod = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": { "nodeName": "w" } });
        let found = metrics(api::PODS, &pod, &snapshot(), now).unwrap();
        assert_eq!(found["window"], "1m15.25s");
        assert_eq!(found["containers"][0], json!({ "name": "a", "usage": { "cpu": "1500000n", "memory": "10240Ki" } }));
        assert_eq!(found["containers"][1]["usage"]["cpu"], "0");
        let accepted = Accepted { form: Form::Table("v1".into()), ..Accepted::default() };
        let table = shown(api::PODS, vec![found.clone()], &accepted, IncludeObject::None, false);
        assert_eq!(table["rows"][0]["cells"], json!(["p", "2m", "20480Ki", "1m15.25s"]));
        let list = shown(api::PODS, vec![found], &Accepted::default(), IncludeObject::None, false);
        assert_eq!((&list["kind"], list["items"][0].get("kind")), (&json!("PodMetricsList"), None));
        let elsewhere = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": { "nodeName": "x" } });
        assert_eq!(metrics(api::PODS, &elsewhere, &snapshot(), now), None);
    }
}
