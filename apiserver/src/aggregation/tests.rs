//! An API server elsewhere, registered, asked and gone again, through a server over a store in memory.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::Trust;
use crate::{
    auth::UserInfo,
    service::{Handle, Options},
    testing::{
        self, call, eventually,
        extension::{Authority, CLIENT, Extension, json as answer_json},
        send,
    },
};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";

/// What a server for flunders answers: documents, and of a request for flunders what came with it.
async fn wardle(request: Request<Bytes>) -> Response<Full<Bytes>> {
    let all = |name: &str| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    match request.uri().path() {
        "/apis/wardle.example.com/v1alpha1" => answer_json(
            200,
            &json!({ "kind": "APIResourceList", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
                { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"] },
            ]}),
        ),
        "/openapi/v3" => {
            let path = "apis/wardle.example.com/v1alpha1";
            answer_json(200, &json!({ "paths": { path: { "serverRelativeURL": format!("/openapi/v3/{path}?hash=1") } } }))
        }
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => answer_json(200, &json!({ "openapi": "3.0.0", "mine": true })),
        "/openapi/v2" => answer_json(
            200,
            &json!({ "paths": { "/apis/wardle.example.com/v1alpha1/flunders": {}, "/version": {} }, "definitions": {} }),
        ),
        FLUNDERS => {
            let seen = json!({
                "method": request.method().as_str(), "query": request.uri().query(), "body": String::from_utf8_lossy(request.body()),
                "user": all("x-remote-user"), "groups": all("x-remote-group"), "extra": all("x-remote-extra-scopes"),
                "authorization": all("authorization"), "client": all(CLIENT),
            });
            answer_json(201, &seen)
        }
        "/apis/wardle.example.com/v1alpha1/flunders" => {
            Response::builder().status(302).header("location", "https://elsewhere/").body(Full::default()).unwrap()
        }
        _ => answer_json(404, &json!({})),
    }
}

fn api_service(extension: &Extension) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1alpha1.wardle.example.com" },
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": { "namespace": "default", "name": "sample-api", "port": extension.port },
            "caBundle": extension.authority.bundle(),
        },
    })
}

async fn ask(handle: &Handle, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let (code, body) = call(handle, &UserInfo::apiserver(), method, path, body).await;
    (code.as_u16(), body)
}

/// Waits until an APIService says that it is available, or why it is not.
async fn reason(handle: &Handle, name: &str, wanted: &str) -> Value {
    eventually(async || {
        let (_, service) = ask(handle, Method::GET, &format!("{SERVICES}/{name}"), &Value::Null).await;
        let available = service["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Available")?.clone();
        (available["reason"] == wanted).then_some(available)
    })
    .await
}

#[tokio::test]
async fn a_server_elsewhere_is_asked_with_the_users_name_and_seen_in_discovery() {
    let clients = Authority::new();
    let identity = clients.sign("front-proxy-client", &[]);
    let trust = Trust { identity: Some(Arc::new(identity)), ..Trust::default() };
    let handle = testing::server_of(Options { trust, ..testing::options() }).await;
    let extension = Extension::start(&["sample-api.default.svc"], Some(&clients), wardle).await;
    let (code, body) = ask(&handle, Method::POST, SERVICES, &api_service(&extension)).await;
    assert_eq!(code, 201, "{body}");
    let missing = reason(&handle, "v1alpha1.wardle.example.com", "ServiceNotFound").await;
    assert_eq!(missing["message"], "service/sample-api in \"default\" is not present");
    let refused = send(&handle, Method::GET, FLUNDERS, &[], Bytes::new()).await;
    assert_eq!((refused.code, refused.body.as_ref()), (StatusCode::SERVICE_UNAVAILABLE, b"service unavailable\n".as_slice()));
    let (_, list) = ask(&handle, Method::GET, "/apis/wardle.example.com", &Value::Null).await;
    assert_eq!(list["preferredVersion"]["version"], "v1alpha1", "{list}");

    let service =
        json!({ "metadata": { "name": "sample-api" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    let (code, body) = ask(&handle, Method::POST, "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(code, 201, "{body}");
    let passed = reason(&handle, "v1alpha1.wardle.example.com", "Passed").await;
    assert_eq!((&passed["status"], &passed["message"]), (&json!("True"), &json!("all checks passed")));

    // The caches hear of the condition a moment later than whoever waits for it in the store.
    let seen = eventually(async || {
        let mut user = UserInfo::authenticated("ann", ["system:masters"]);
        user.extra.insert("scopes".to_owned(), vec!["a".to_owned()]);
        let request = Request::post(format!("{FLUNDERS}?pretty=true"))
            .header("authorization", "Bearer secret")
            .header("x-remote-user", "root")
            .body(Bytes::from_static(b"{\"a\":1}"))
            .unwrap();
        let response = handle.call(user, request).await;
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (code == 201).then(|| serde_json::from_slice::<Value>(&body).unwrap())
    })
    .await;
    let wanted = json!({
        "method": "POST", "query": "pretty=true", "body": "{\"a\":1}", "user": ["ann"],
        "groups": ["system:masters", "system:authenticated"], "extra": ["a"], "authorization": [], "client": ["front-proxy-client"],
    });
    assert_eq!(seen, wanted);
    let redirected = send(&handle, Method::GET, "/apis/wardle.example.com/v1alpha1/flunders", &[], Bytes::new()).await;
    assert_eq!(redirected.code, StatusCode::BAD_GATEWAY);
    let nobody = UserInfo::authenticated("nobody", [""; 0]);
    let (code, _) = call(&handle, &nobody, Method::GET, FLUNDERS, &Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "what a user may is this server's to say first");

    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = eventually(async || {
        let groups = send(&handle, Method::GET, "/apis", &[("accept", form)], Bytes::new()).await.json();
        let own = groups["items"].as_array()?.iter().find(|one| one["metadata"]["name"] == "wardle.example.com")?.clone();
        (own["versions"][0]["freshness"] == "Current").then_some(own)
    })
    .await;
    assert_eq!(groups["versions"][0]["resources"][0]["responseKind"]["kind"], "Flunder");
    let (_, list) = ask(&handle, Method::GET, "/apis/wardle.example.com/v1alpha1", &Value::Null).await;
    assert_eq!(list["resources"][0]["name"], "flunders");
    let path = "apis/wardle.example.com/v1alpha1";
    let (_, index) = ask(&handle, Method::GET, "/openapi/v3", &Value::Null).await;
    assert_eq!(index["paths"][path]["serverRelativeURL"], format!("/openapi/v3/{path}?hash=1"));
    let (_, document) = ask(&handle, Method::GET, &format!("/openapi/v3/{path}"), &Value::Null).await;
    assert_eq!(document["mine"], true);
    let (_, document) = ask(&handle, Method::GET, "/openapi/v2", &Value::Null).await;
    assert!(
        document["paths"][format!("/{path}/flunders")].is_object() && document["paths"]["/apis/apps/v1/deployments"].is_object()
    );

    let (code, body) = ask(&handle, Method::DELETE, &format!("{SERVICES}/v1alpha1.wardle.example.com"), &Value::Null).await;
    assert_eq!(code, 200, "{body}");
    eventually(async || (ask(&handle, Method::GET, FLUNDERS, &Value::Null).await.0 == 404).then_some(())).await;
    let (code, _) = ask(&handle, Method::GET, "/apis/wardle.example.com", &Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_asked() {
    let handle = testing::server().await;
    let extension = Extension::start(&["sample-api.default.svc"], None, wardle).await;
    let mut service = api_service(&extension);
    service["spec"]["caBundle"] = json!(Authority::new().bundle());
    ask(&handle, Method::POST, SERVICES, &service).await;
    let name = json!({ "metadata": { "name": "sample-api" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    ask(&handle, Method::POST, "/api/v1/namespaces/default/services", &name).await;
    let failed = reason(&handle, "v1alpha1.wardle.example.com", "FailedDiscoveryCheck").await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("x509: certificate signed by unknown authority"), "{message}");
    let patch = json!({ "spec": { "caBundle": null, "insecureSkipTLSVerify": true } });
    let (code, body) = ask(&handle, Method::PATCH, &format!("{SERVICES}/v1alpha1.wardle.example.com"), &patch).await;
    assert_eq!(code, 200, "{body}");
    reason(&handle, "v1alpha1.wardle.example.com", "Passed").await;
}

#[tokio::test]
async fn local_group_versions_have_api_services() {
    let handle = testing::server().await;
    let local = reason(&handle, "v1.apps", "Local").await;
    assert_eq!(local["message"], "Local APIServices are always available");
    let (_, service) = ask(&handle, Method::GET, &format!("{SERVICES}/v2.autoscaling"), &Value::Null).await;
    assert_eq!(service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(service["spec"]["groupPriorityMinimum"], 17_500);
    let version = json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "foos.example.com" },
        "spec": { "group": "example.com", "scope": "Namespaced", "names": { "plural": "foos", "kind": "Foo" }, "versions": [version] },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    ask(&handle, Method::POST, definitions, &definition).await;
    reason(&handle, "v1.example.com", "Local").await;
    ask(&handle, Method::DELETE, &format!("{definitions}/foos.example.com"), &Value::Null).await;
    let path = format!("{SERVICES}/v1.example.com");
    eventually(async || (ask(&handle, Method::GET, &path, &Value::Null).await.0 == 404).then_some(())).await;
}

#[tokio::test]
async fn figures_are_a_group_without_an_api_service() {
    let handle = testing::server().await;
    let (_, groups) = ask(&handle, Method::GET, "/apis", &Value::Null).await;
    assert_eq!(groups["groups"].as_array().unwrap().last().unwrap()["name"], "metrics.k8s.io");
    let (_, list) = ask(&handle, Method::GET, "/apis/metrics.k8s.io/v1beta1", &Value::Null).await;
    assert_eq!(list["resources"][1]["kind"], "PodMetrics");
    let (code, body) = ask(&handle, Method::GET, "/apis/metrics.k8s.io/v1beta1/nodes/x", &Value::Null).await;
    assert_eq!((code, &body["message"]), (404, &json!("nodemetrics.metrics.k8s.io \"x\" not found")));
    let (code, list) = ask(&handle, Method::GET, "/apis/metrics.k8s.io/v1beta1/pods?labelSelector=a%3Db", &Value::Null).await;
    assert_eq!((code, &list["kind"], &list["items"]), (200, &json!("PodMetricsList"), &json!([])), "{list}");
    let (code, _) = ask(&handle, Method::POST, "/apis/metrics.k8s.io/v1beta1/nodes", &json!({})).await;
    assert_eq!(code, 405);
    let (_, document) = ask(&handle, Method::GET, "/openapi/v3/apis/metrics.k8s.io/v1beta1", &Value::Null).await;
    assert!(document["paths"]["/apis/metrics.k8s.io/v1beta1/nodes/{name}"]["get"].is_object());
}
