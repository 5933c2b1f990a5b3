//! What the group says of itself: its place in discovery, and its OpenAPI documents.

use std::sync::{Arc, LazyLock};

use kontiki_api::discovery;
use serde_json::{Value, json};

use crate::aggregation::{Backend, Documents, Extension};

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// One of the two resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Plural.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Whether it lies in a namespace.
    pub namespaced: bool,
}

/// Nodes.
pub const NODES: Kind = Kind { plural: "nodes", kind: "NodeMetrics", namespaced: false };
/// Pods.
pub const PODS: Kind = Kind { plural: "pods", kind: "PodMetrics", namespaced: true };
const VERBS: [&str; 2] = ["get", "list"];

/// The group as the aggregator knows it; metrics-server registers it with these priorities.
#[must_use]
pub fn extension() -> Extension {
    let resources = [NODES, PODS].map(|kind| {
        json!({
            "resource": kind.plural,
            "responseKind": { "group": "", "version": "", "kind": kind.kind },
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": "",
            "verbs": VERBS,
        })
    });
    let documents = Documents { resources: Some(json!(resources)), is_current: true, ..Documents::default() };
    Extension {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        priority: (100, 100),
        backend: Backend::Metrics,
        documents: Arc::new(documents),
    }
}

/// `/apis/metrics.k8s.io/v1beta1`.
#[must_use]
pub fn resource_list() -> Value {
    let resources = [NODES, PODS].map(|kind| {
        json!({ "name": kind.plural, "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind, "verbs": VERBS })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": resources,
    })
}

/// The schemas of the kinds, with references below `prefix`.
fn schemas(prefix: &str) -> Value {
    let name = |kind: &str| format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}");
    let reference = |name: &str| json!({ "$ref": format!("{prefix}{name}") });
    let text = || json!({ "type": "string" });
    let usage = json!({ "type": "object", "additionalProperties": text() });
    let meta = json!({ "type": "object" });
    let gvk = |kind: &str| json!([{ "group": GROUP, "version": VERSION, "kind": kind }]);
    let object = |kind: &str, own: Value| {
        let mut properties = json!({
            "apiVersion": text(), "kind": text(), "metadata": meta, "timestamp": { "type": "string", "format": "date-time" },
            "window": text(),
        });
        for (field, schema) in own.as_object().into_iter().flatten() {
            properties[field] = schema.clone();
        }
        json!({ "type": "object", "properties": properties, "x-kubernetes-group-version-kind": gvk(kind) })
    };
    let list = |kind: &str| {
        let items = json!({ "type": "array", "items": reference(&name(kind)) });
        let properties = json!({ "apiVersion": text(), "kind": text(), "metadata": meta, "items": items });
        json!({ "type": "object", "properties": properties, "x-kubernetes-group-version-kind": gvk(&format!("{kind}List")) })
    };
    let container = json!({ "type": "object", "properties": { "name": text(), "usage": usage } });
    let containers = json!({ "type": "array", "items": reference(&name("ContainerMetrics")) });
    json!({
        (name("ContainerMetrics")): container,
        (name("NodeMetrics")): object("NodeMetrics", json!({ "usage": usage })),
        (name("NodeMetricsList")): list("NodeMetrics"),
        (name("PodMetrics")): object("PodMetrics", json!({ "containers": containers })),
        (name("PodMetricsList")): list("PodMetrics"),
    })
}

/// The paths; `answer` makes an answer that refers to a schema.
fn paths(answer: impl Fn(&str) -> Value) -> Value {
    let mut paths = json!({});
    let base = format!("/apis/{GROUP}/{VERSION}");
    let mut add = |path: String, action: &str, kind: &str| {
        let schema = format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{kind}");
        paths[&path] = json!({ "get": {
            "operationId": format!("{action}MetricsV1beta1{kind}{}", if path.contains("{namespace}") || !path.contains("pods") { "" } else { "ForAllNamespaces" }),
            "responses": { "200": answer(&schema) },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": { "group": GROUP, "version": VERSION, "kind": kind.trim_end_matches("List") },
        }});
    };
    add(format!("{base}/nodes"), "list", "NodeMetricsList");
    add(format!("{base}/nodes/{{name}}"), "get", "NodeMetrics");
    add(format!("{base}/pods"), "list", "PodMetricsList");
    add(format!("{base}/namespaces/{{namespace}}/pods"), "list", "PodMetricsList");
    add(format!("{base}/namespaces/{{namespace}}/pods/{{name}}"), "get", "PodMetrics");
    paths
}

static V2: LazyLock<Value> = LazyLock::new(|| {
    let answer = |name: &str| json!({ "description": "OK", "schema": { "$ref": format!("#/definitions/{name}") } });
    json!({ "paths": paths(answer), "definitions": schemas("#/definitions/") })
});

static V3: LazyLock<Value> = LazyLock::new(|| {
    let answer = |name: &str| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        json!({ "description": "OK", "content": { "application/json": { "schema": schema } } })
    };
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": paths(answer),
        "components": { "schemas": schemas("#/components/schemas/") },
    })
});

static V3_HASH: LazyLock<String> = LazyLock::new(|| discovery::etag(V3.to_string().as_bytes()).trim_matches('"').to_owned());

/// Its part of OpenAPI v2.
#[must_use]
pub fn openapi_v2() -> &'static Value {
    &V2
}

/// Its OpenAPI v3 document.
#[must_use]
pub fn openapi_v3() -> &'static Value {
    &V3
}

/// The hash that the address of the document carries.
#[must_use]
pub fn openapi_hash() -> &'static str {
    &V3_HASH
}
