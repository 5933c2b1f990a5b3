//! Paths that are no resource: discovery, OpenAPI, version, metrics.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use kontiki_api::{discovery, registry, status::Status};
use serde_json::{Value, json};

use super::health;
use crate::{
    aggregation,
    response::{self, Body},
    service::{ApiServer, Call},
};

/// Version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: (&str, &str, &str) = ("1", "36", "v1.36.2+kontiki");

/// Answers a path that is no resource.
pub async fn answer(server: &ApiServer, call: &Call) -> Result<Response<Body>, Status> {
    if !matches!(call.info.verb.as_str(), "get" | "head") {
        return Err(Status::method_not_allowed());
    }
    let table = server.storage.caches.custom.table();
    let served = registry::with_custom(&table.resources);
    let served = served.as_slice();
    let others = server.aggregator.table();
    let parts: Vec<&str> = call.info.path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(response::json(StatusCode::OK, &json!({ "paths": PATHS }))),
        ["version"] => Ok(response::json(StatusCode::OK, &version())),
        ["healthz" | "livez", check @ ..] => health::answer(call, &health::liveness(server), check),
        ["readyz", check @ ..] => health::answer(call, &health::readiness(server), check),
        ["metrics"] => metrics(server),
        ["api"] => Ok(match aggregated_form(call) {
            Some(form) => in_form(call, form, &discovery::aggregated(served, true, form)),
            None => listed(call, &discovery::api_versions(&server.options.advertise_address())),
        }),
        ["apis"] => Ok(match aggregated_form(call) {
            Some(form) => {
                in_form(call, form, &aggregation::discovery::aggregated(discovery::aggregated(served, false, form), &others))
            }
            None => listed(call, &aggregation::discovery::group_list(discovery::api_group_list(served), &others)),
        }),
        ["api", version] => found(discovery::api_resource_list(served, "", version)),
        ["apis", group] => found(aggregation::discovery::group(discovery::api_group(served, group), group, &others)),
        ["apis", group, version] => found(discovery::api_resource_list(served, group, version)),
        [".well-known", "openid-configuration"] => {
            let keys = server.authenticator.keys();
            Ok(published("application/json", &crate::auth::keys::discovery_document(server.authenticator.issuer(), keys)))
        }
        ["openid", "v1", "jwks"] => Ok(published("application/jwk-set+json", &server.authenticator.keys().web_keys())),
        ["openapi", rest @ ..] => crate::openapi::answer(server, call, rest).await,
        _ => Err(Status::no_such_path()),
    }
}

const PATHS: [&str; 11] = [
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

/// A document about the issuer of tokens, which anybody who may see it may keep for an hour.
fn published(media: &'static str, document: &Value) -> Response<Body> {
    let body = response::full(Bytes::from(document.to_string()));
    let mut response = response::with_body(StatusCode::OK, HeaderValue::from_static(media), body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn found(document: Option<Value>) -> Result<Response<Body>, Status> {
    document.map(|document| response::json(StatusCode::OK, &document)).ok_or_else(Status::no_such_path)
}

/// The version of aggregated discovery that a client asks for; `None` if it wants the legacy form.
fn aggregated_form(call: &Call) -> Option<&'static str> {
    let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for entry in accept.split(',') {
        let form = discovery::AGGREGATED_VERSIONS.into_iter().find(|version| {
            entry.contains("as=APIGroupDiscoveryList")
                && entry.contains("application/json")
                && entry.split(';').any(|part| part.trim() == format!("v={version}"))
        });
        if form.is_some() || entry.trim() == "application/json" {
            return form;
        }
    }
    None
}

fn in_form(call: &Call, form: &str, document: &Value) -> Response<Body> {
    let media = format!("application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList");
    tagged(call, &media, document.to_string())
}

fn listed(call: &Call, document: &Value) -> Response<Body> {
    tagged(call, "application/json", document.to_string())
}

/// A document with an ETag; 304 to a client that has it.
pub fn tagged(call: &Call, media: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body: Bytes = body.into();
    let tag = discovery::etag(&body);
    let tag = if tag.starts_with('"') { tag } else { format!("\"{tag}\"") };
    let known = call.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(tag.as_str());
    let media = HeaderValue::from_str(media).unwrap_or(HeaderValue::from_static("application/json"));
    let mut response = if known {
        response::with_body(StatusCode::NOT_MODIFIED, media, response::full(Bytes::new()))
    } else {
        response::with_body(StatusCode::OK, media, response::full(body))
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn version() -> Value {
    let (major, minor, version) = KUBERNETES_VERSION;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
    })
}

fn metrics(server: &ApiServer) -> Result<Response<Body>, Status> {
    let mut text = String::new();
    let registry = server.metrics.lock();
    prometheus_client::encoding::text::encode(&mut text, &registry).map_err(|error| Status::internal_error(error.to_string()))?;
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(response::with_body(StatusCode::OK, media, response::full(Bytes::from(text))))
}
