//! A definition's whole life, through the handlers of a server over a store in memory.
#![allow(clippy::unwrap_used)]

use http::{Method, StatusCode};
use kontiki_api::{registry, resources::CUSTOM_RESOURCE_DEFINITIONS};
use serde_json::{Value, json};

use crate::{
    auth::UserInfo,
    service::Handle,
    testing::{call, server},
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

async fn ask(handle: &Handle, method: Method, path: &str, body: Value) -> (u16, Value) {
    let user = UserInfo::authenticated("admin", ["system:masters"]);
    let (code, body) = call(handle, &user, method, path, &body).await;
    (StatusCode::as_u16(&code), body)
}

fn definition() -> Value {
    let spec = json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "maximum": 5, "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "may only grow"}]},
        "color": {"type": "string", "default": "red"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"]},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}

/// Waits until the definition is as wanted, looking again with every revision.
async fn until(handle: &Handle, wanted: impl Fn(Option<&Value>) -> bool) {
    let storage = &handle.server().storage;
    let resource = registry::of(&CUSTOM_RESOURCE_DEFINITIONS).unwrap();
    let mut revision = storage.caches.revision();
    let wait = async {
        loop {
            let found = storage.get_cached(resource, "", "foos.example.com").ok().map(|object| object.encoded.value());
            if wanted(found.as_ref()) {
                return;
            }
            revision.changed().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
}

async fn established() -> Handle {
    let handle = server().await;
    let (code, body) = ask(&handle, Method::POST, DEFINITIONS, definition()).await;
    assert_eq!(code, 201, "{body}");
    until(&handle, |found| found.is_some_and(|found| kontiki_api::custom::definition::has_condition(found, "Established"))).await;
    handle
}

fn foo(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": spec})
}

#[tokio::test]
async fn objects_of_a_definition_are_served_like_built_in_ones() {
    let handle = established().await;
    let (code, body) = ask(&handle, Method::POST, FOOS, foo(json!({"size": 1, "unknown": 1}))).await;
    assert_eq!(code, 201, "{body}");
    assert_eq!(body["spec"], json!({"size": 1, "color": "red"}), "pruned and defaulted");
    assert_eq!(body["metadata"]["generation"], 1);
    let (code, body) = ask(&handle, Method::POST, FOOS, json!({"metadata": {"name": "b"}, "spec": {"size": 9}})).await;
    assert_eq!(code, 422);
    assert_eq!(
        body["message"],
        "Foo.example.com \"b\" is invalid: spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5"
    );
    let (code, body) = ask(&handle, Method::POST, FOOS, json!({"metadata": {"name": "b"}, "spec": {}})).await;
    assert_eq!((code, &body["details"]["causes"][0]["message"]), (422, &json!("Required value")), "{body}");
}

#[tokio::test]
async fn versions_tables_scale_status_and_discovery() {
    let handle = established().await;
    ask(&handle, Method::POST, FOOS, foo(json!({"size": 1}))).await;
    let beta = "/apis/example.com/v1beta1/namespaces/default/foos";
    let (_, body) = ask(&handle, Method::GET, &format!("{beta}/a"), Value::Null).await;
    assert_eq!((&body["apiVersion"], &body["spec"]["size"]), (&json!("example.com/v1beta1"), &json!(1)));
    let (code, body) = ask(&handle, Method::PATCH, &format!("{beta}/a"), json!({"spec": {"size": 3}})).await;
    assert_eq!((code, &body["metadata"]["generation"]), (200, &json!(2)), "{body}");
    let (code, body) = ask(&handle, Method::PATCH, &format!("{FOOS}/a"), json!({"spec": {"size": 2}})).await;
    assert_eq!((code, body["message"].as_str().unwrap().ends_with("may only grow")), (422, true), "{body}");
    let (_, body) =
        ask(&handle, Method::PATCH, &format!("{FOOS}/a/status"), json!({"status": {"size": 3}, "spec": {"size": 5}})).await;
    assert_eq!((&body["status"]["size"], &body["spec"]["size"]), (&json!(3), &json!(3)), "{body}");
    let (_, body) = ask(&handle, Method::PATCH, &format!("{FOOS}/a/scale"), json!({"spec": {"replicas": 4}})).await;
    assert_eq!((&body["spec"]["replicas"], &body["status"]["replicas"]), (&json!(4), &json!(3)), "{body}");
    for (selector, count) in [("spec.color%3Dred", 1), ("spec.color%3Dblue", 0)] {
        let (_, body) = ask(&handle, Method::GET, &format!("{FOOS}?fieldSelector={selector}"), Value::Null).await;
        assert_eq!(body["items"].as_array().unwrap().len(), count, "{body}");
    }
    let (_, body) = ask(&handle, Method::GET, "/apis/example.com", Value::Null).await;
    assert_eq!(body["preferredVersion"]["version"], "v1");
    let (_, body) = ask(&handle, Method::GET, "/apis/example.com/v1", Value::Null).await;
    assert_eq!((&body["resources"][0]["shortNames"], &body["resources"][1]["name"]), (&json!(["fo"]), &json!("foos/scale")));
    let (_, body) = ask(&handle, Method::GET, "/openapi/v3/apis/example.com/v1", Value::Null).await;
    assert_eq!(
        body["components"]["schemas"]["com.example.v1.Foo"]["properties"]["spec"]["properties"]["color"]["default"],
        "red"
    );
    let (_, body) = ask(&handle, Method::GET, "/openapi/v2", Value::Null).await;
    assert!(body["definitions"]["com.example.v1beta1.Foo"]["properties"]["metadata"].is_object());
}

#[tokio::test]
async fn a_definition_that_goes_takes_its_objects_along() {
    let handle = established().await;
    ask(&handle, Method::POST, FOOS, foo(json!({"size": 1}))).await;
    let (code, body) = ask(&handle, Method::DELETE, &format!("{DEFINITIONS}/foos.example.com"), Value::Null).await;
    assert_eq!((code, kontiki_api::custom::definition::has_condition(&body, "Terminating")), (200, true), "{body}");
    until(&handle, |found| found.is_none()).await;
    let (code, _) = ask(&handle, Method::GET, &format!("{FOOS}/a"), Value::Null).await;
    assert_eq!(code, 404);
    let (code, body) = ask(&handle, Method::POST, DEFINITIONS, definition()).await;
    assert_eq!(code, 201, "{body}");
    until(&handle, |found| found.is_some_and(|found| kontiki_api::custom::definition::has_condition(found, "Established"))).await;
    let (_, body) = ask(&handle, Method::GET, FOOS, Value::Null).await;
    assert_eq!(body["items"], json!([]), "{body}");
}
