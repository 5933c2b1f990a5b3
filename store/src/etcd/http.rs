//! What is answered over HTTP: health, version, metrics, and JSON through the gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tonic::body::Body;
use tonic::service::Routes;

use super::Services;
use super::gateway::Gateway;
use super::health::{self, Check};
use super::meter::Meter;
use super::serve::Serves;

/// The pages.
pub(super) struct Pages {
    services: Services,
    registry: Mutex<Registry>,
    gateway: Option<Gateway>,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Pages {
    pub(super) fn new(services: Services, routes: Routes, meter: &Arc<Meter>) -> Self {
        let mut registry = Registry::default();
        services.handle.register_metrics(&mut registry);
        meter.register(&mut registry);
        let gateway = services.handle.core.options.gateway.then(|| Gateway::new(routes)).flatten();
        Self { services, registry: Mutex::new(registry), gateway }
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>, serves: Serves) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(gateway) = &self.gateway
            && matches!(serves, Serves::Everything | Serves::Http)
            && path.starts_with("/v3")
        {
            return gateway.answer(request).await;
        }
        let known = matches!(path.as_str(), "/health" | "/version" | "/metrics") || Check::of(&path).is_some();
        if !known || serves == Serves::Grpc {
            return page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
        }
        if request.method() != Method::GET {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned());
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return refused;
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match path.as_str() {
            "/version" => self.version(),
            "/metrics" => self.metrics().await,
            "/health" => self.health(&query).await,
            _ => self.checks(&path, &query).await,
        }
    }

    fn version(&self) -> Response<Body> {
        let cluster = self.services.handle.core.state.cluster_version().version;
        let cluster = if cluster.is_empty() { "not_decided".to_owned() } else { cluster };
        let text = serde_json::json!({
            "etcdserver": crate::ETCD_VERSION,
            "etcdcluster": cluster,
            "storage": format!("{}.0", crate::API_VERSION),
        });
        page(StatusCode::OK, JSON, text.to_string())
    }

    async fn metrics(&self) -> Response<Body> {
        self.services.handle.refresh_metrics().await;
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry.lock()).is_err() {
            return page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics cannot be written\n".to_owned());
        }
        page(StatusCode::OK, METRICS, text)
    }

    async fn health(&self, query: &Query) -> Response<Body> {
        let serializable = query.values("serializable").any(|value| value == "true");
        let excluded: BTreeSet<String> = query.values("exclude").map(str::to_owned).collect();
        match health::unhealthy(&self.services.handle, &excluded, serializable).await {
            None => page(StatusCode::OK, JSON, r#"{"health":"true","reason":""}"#.to_owned()),
            Some(reason) => {
                tracing::warn!(reason, "serving /health false");
                let text = serde_json::json!({ "health": "false", "reason": reason });
                page(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{text}\n"))
            }
        }
    }

    async fn checks(&self, path: &str, query: &Query) -> Response<Body> {
        let excluded: BTreeSet<&str> = query.values("exclude").collect();
        let mut results = Vec::new();
        for check in Check::of(path).unwrap_or_default() {
            if !excluded.contains(check.name()) {
                results.push((check, check.run(&self.services.handle).await));
            }
        }
        let (healthy, report) = health::report(&results);
        if !healthy {
            tracing::warn!(path, report, "health check failed");
            return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{report}\n"));
        }
        let report = if query.has("verbose") { report } else { String::new() };
        page(StatusCode::OK, TEXT, format!("{report}ok\n"))
    }
}

/// An answer with a text.
pub(super) fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from(text))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Names and values behind the question mark.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            pair.split_once('=').map_or((pair.to_owned(), String::new()), |(name, value)| (name.into(), value.into()))
        };
        Self(pairs.map(pair).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = Query::parse("verbose&exclude=a&exclude=b&serializable=true");
        assert!(query.has("verbose"));
        assert_eq!(query.values("exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert!(!query.has("x"));
    }
}
