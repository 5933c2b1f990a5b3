//! Webhooks that are servers: TLS on loopback, asked by a server over a store in memory.
#![allow(clippy::unwrap_used)]

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    auth::UserInfo,
    service::Handle,
    testing::{
        self, call, eventually,
        extension::{Authority, Extension, json as answer_json},
    },
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";

async fn ask(handle: &Handle, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let (code, body) = call(handle, &UserInfo::authenticated("ann", ["system:masters"]), method, path, body).await;
    (code.as_u16(), body)
}

fn map(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "data": { "a": "b" } })
}

/// Answers reviews by their path: refuses, patches, says nothing, or speaks nonsense.
async fn webhook(request: Request<Bytes>) -> Response<Full<Bytes>> {
    let review: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let mut response = json!({ "uid": review["request"]["uid"], "allowed": true });
    match request.uri().path() {
        "/deny" => {
            response["allowed"] = json!(false);
            let who = &review["request"]["userInfo"]["username"];
            response["status"] = json!({ "code": 418, "message": format!("{who} may not"), "reason": "Teapot" });
            response["warnings"] = json!(["mind the label"]);
        }
        "/patch" => {
            let patch = json!([{ "op": "add", "path": "/data/mutated", "value": review["request"]["operation"] }]);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64_STANDARD.encode(patch.to_string()));
        }
        "/silent" => std::future::pending().await,
        "/broken" => return answer_json(500, &json!({ "x": 1 })),
        _ => response["uid"] = json!("another"),
    }
    answer_json(200, &json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

fn hook(name: &str, client: Value, own: Value) -> Value {
    let mut hook = json!({
        "name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "objectSelector": { "matchLabels": { "hook": name.split('.').next() } },
        "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
    });
    for (field, value) in own.as_object().into_iter().flatten() {
        hook[field] = value.clone();
    }
    hook
}

/// Makes a configuration and waits until it is in force: the cache hears of it a moment later.
async fn configure(handle: &Handle, kind: &str, hooks: &[Value]) {
    let plural = format!("{}s", kind.to_lowercase());
    let body = json!({ "metadata": { "name": "hooks" }, "webhooks": hooks });
    let (code, body) = ask(handle, Method::POST, &format!("{CONFIGURATIONS}/{plural}"), &body).await;
    assert_eq!(code, 201, "{body}");
    let revision: i64 = body["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    handle.server().storage.wait_for(revision).await.unwrap();
}

#[tokio::test]
async fn validating_webhooks_refuse_and_their_failures_count_as_their_policy_says() {
    let handle = testing::server().await;
    let server = Extension::start(&["localhost"], None, webhook).await;
    let at = |path: &str| server.client_config(path);
    let mut stranger = at("/deny");
    stranger["caBundle"] = json!(Authority::new().bundle());
    let (ignored, quick) = (json!({ "failurePolicy": "Ignore" }), json!({ "timeoutSeconds": 1 }));
    let condition = json!([{ "name": "named", "expression": "object.metadata.name != 'spared'" }]);
    let hooks = [
        hook("deny.example.com", at("/deny"), json!({ "matchConditions": condition })),
        hook("silent.example.com", at("/silent"), quick),
        hook("late.example.com", at("/silent"), json!({ "timeoutSeconds": 1, "failurePolicy": "Ignore" })),
        hook("broken.example.com", at("/broken"), json!({})),
        hook("spared.example.com", at("/broken"), ignored),
        hook("other.example.com", at("/other"), json!({})),
        hook("stranger.example.com", stranger, json!({})),
    ];
    configure(&handle, "ValidatingWebhookConfiguration", &hooks).await;
    let cases = [
        ("unlabelled", "none", 201, ""),
        ("denied", "deny", 418, "admission webhook \"deny.example.com\" denied the request: \"ann\" may not"),
        ("spared", "deny", 201, ""),
        ("silent", "silent", 500, "context deadline exceeded"),
        ("late", "late", 201, ""),
        (
            "broken",
            "broken",
            500,
            "failed calling webhook \"broken.example.com\": failed to call webhook: an error on the server",
        ),
        ("ignored", "spared", 201, ""),
        ("other", "other", 500, "received invalid webhook response: expected response.uid="),
        ("stranger", "stranger", 500, "x509: certificate signed by unknown authority"),
    ];
    let works = cases.map(|(name, label, code, words)| {
        let handle = &handle;
        async move {
            let (found, body) = ask(handle, Method::POST, MAPS, &map(name, json!({ "hook": label }))).await;
            let message = body["message"].as_str().unwrap_or_default();
            assert!(found == code && message.contains(words), "{name}: {found} {body}");
        }
    });
    futures::future::join_all(works).await;
    let (code, _) =
        ask(&handle, Method::PATCH, &format!("{MAPS}/unlabelled"), &json!({ "metadata": { "labels": { "hook": "deny" } } }))
            .await;
    assert_eq!(code, 200, "its rules speak of creations alone");
    let wrong =
        hook("wrong.example.com", at("/deny"), json!({ "matchConditions": [{ "name": "x", "expression": "... [] bad" }] }));
    let body = json!({ "metadata": { "name": "wrong" }, "webhooks": [wrong] });
    let (code, body) = ask(&handle, Method::POST, &format!("{CONFIGURATIONS}/validatingwebhookconfigurations"), &body).await;
    assert!(code == 422 && body["message"].as_str().unwrap().contains("compilation failed"), "{body}");
}

#[tokio::test]
async fn mutating_webhooks_patch_what_is_stored() {
    let handle = testing::server().await;
    let server = Extension::start(&["localhost"], None, webhook).await;
    let hooks = [hook("patch.example.com", server.client_config("/patch"), json!({}))];
    configure(&handle, "MutatingWebhookConfiguration", &hooks).await;
    let (code, body) = ask(&handle, Method::POST, MAPS, &map("patched", json!({ "hook": "patch" }))).await;
    assert_eq!((code, &body["data"]), (201, &json!({ "a": "b", "mutated": "CREATE" })), "{body}");
    let (_, stored) = ask(&handle, Method::GET, &format!("{MAPS}/patched"), &Value::Null).await;
    assert_eq!(stored["data"]["mutated"], "CREATE");
    let (_, body) = ask(&handle, Method::POST, MAPS, &map("plain", json!({}))).await;
    assert_eq!(body["data"], json!({ "a": "b" }));
}

/// Converts by what the version calls the field: `v1` has `host`, `v2` has `address`.
async fn converter(request: Request<Bytes>) -> Response<Full<Bytes>> {
    let review: Value = serde_json::from_slice(request.body()).unwrap();
    let wanted = &review["request"]["desiredAPIVersion"];
    let convert = |object: &Value| {
        let mut object = object.clone();
        let (from, to) = if wanted == "example.com/v2" { ("host", "address") } else { ("address", "host") };
        object["apiVersion"] = wanted.clone();
        if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
            object["spec"][to] = value;
        }
        object
    };
    let objects: Vec<Value> = review["request"]["objects"].as_array().unwrap().iter().map(convert).collect();
    let failed = objects.iter().any(|object| object["spec"]["bad"] == true);
    let result =
        if failed { json!({ "status": "Failure", "message": "no such address" }) } else { json!({ "status": "Success" }) };
    let response = json!({ "uid": review["request"]["uid"], "result": result, "convertedObjects": objects });
    answer_json(200, &json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response }))
}

#[tokio::test]
async fn a_conversion_webhook_turns_versions_into_one_another() {
    let handle = testing::server().await;
    let server = Extension::start(&["localhost"], None, converter).await;
    let version = |name: &str, storage: bool, field: &str| {
        let spec = json!({ "type": "object", "properties": { field: { "type": "string" }, "bad": { "type": "boolean" } } });
        let schema = json!({ "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } });
        let selectable = json!([{ "jsonPath": format!(".spec.{field}") }]);
        json!({ "name": name, "served": true, "storage": storage, "schema": schema, "selectableFields": selectable })
    };
    let client = server.client_config("/convert");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "links.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "links", "kind": "Link" },
            "versions": [version("v1", true, "host"), version("v2", false, "address")],
            "conversion": { "strategy": "Webhook", "webhook": { "clientConfig": client, "conversionReviewVersions": ["v1"] } },
        },
    });
    let (code, body) = ask(&handle, Method::POST, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(code, 201, "{body}");
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/links");
    eventually(async || (ask(&handle, Method::GET, &path("v2"), &Value::Null).await.0 == 200).then_some(())).await;
    let link = json!({ "apiVersion": "example.com/v1", "kind": "Link", "metadata": { "name": "a" }, "spec": { "host": "h" } });
    let (code, body) = ask(&handle, Method::POST, &path("v1"), &link).await;
    assert_eq!(code, 201, "{body}");
    let (_, found) = ask(&handle, Method::GET, &format!("{}/a", path("v2")), &Value::Null).await;
    assert_eq!((&found["spec"], &found["apiVersion"]), (&json!({ "address": "h" }), &json!("example.com/v2")));
    let second =
        json!({ "apiVersion": "example.com/v2", "kind": "Link", "metadata": { "name": "b" }, "spec": { "address": "i" } });
    let (code, body) = ask(&handle, Method::POST, &path("v2"), &second).await;
    assert_eq!((code, &body["spec"]), (201, &json!({ "address": "i" })), "{body}");
    let (_, list) = ask(&handle, Method::GET, &path("v1"), &Value::Null).await;
    let hosts: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["spec"]["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["h", "i"]);
    let by_address = format!("{}?fieldSelector=spec.address%3Di", path("v2"));
    let (_, selected) = ask(&handle, Method::GET, &by_address, &Value::Null).await;
    assert_eq!(selected["items"].as_array().unwrap().len(), 1, "{selected}");
    assert_eq!(selected["items"][0]["metadata"]["name"], "b", "a selector speaks of the version that is asked for");
    let (code, _) = ask(&handle, Method::DELETE, &by_address, &Value::Null).await;
    let (_, left) = ask(&handle, Method::GET, &path("v1"), &Value::Null).await;
    assert_eq!((code, left["items"].as_array().unwrap().len()), (200, 1), "{left}");
    let bad = json!({ "apiVersion": "example.com/v2", "kind": "Link", "metadata": { "name": "c" }, "spec": { "bad": true } });
    let (code, body) = ask(&handle, Method::POST, &path("v2"), &bad).await;
    assert!(code == 500 && body["message"].as_str().unwrap().contains("failed: no such address"), "{code} {body}");
}
