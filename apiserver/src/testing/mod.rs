//! An API server over a store in memory, for the tests of this crate.
#![allow(clippy::unwrap_used)]

pub mod extension;
pub mod members;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kontiki_store::memory::MemoryStore;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::ServiceNetwork,
    auth::{UserInfo, keys::Keys},
    service::{self, Handle, Options},
};

/// Options of a server at 10.0.0.1.
pub fn options() -> Options {
    let key = rcgen::KeyPair::generate().unwrap();
    Options {
        kv: Arc::new(MemoryStore::new()),
        advertise: "10.0.0.1:6443".parse().unwrap(),
        service_network: ServiceNetwork::parse("10.96.0.0/16").unwrap(),
        service_account_keys: Arc::new(Keys::from_pem(key.serialize_pem().as_bytes()).unwrap()),
        issuer: "https://kubernetes.default.svc.cluster.local".into(),
        kubelet: None,
        audit: None,
        encryption: crate::encryption::Encryption::default(),
        trust: crate::aggregation::Trust::default(),
    }
}

/// A server whose caches are filled, with the namespaces that every cluster has.
pub async fn server() -> Handle {
    server_of(options()).await
}

/// The same with options of its own.
pub async fn server_of(options: Options) -> Handle {
    let handle = service::start(options, Registry::default(), CancellationToken::new());
    let caches = &handle.server().storage.caches;
    caches.revision().wait_for(|revision| *revision > 0).await.unwrap();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        let (code, body) = call(&handle, &UserInfo::apiserver(), Method::POST, "/api/v1/namespaces", &namespace).await;
        assert_eq!(code, StatusCode::CREATED, "{body}");
    }
    handle
}

/// One JSON request.
pub async fn call(handle: &Handle, user: &UserInfo, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
    let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, media).body(body).unwrap();
    let response = handle.call(user.clone(), request).await;
    let code = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Asks until there is an answer, while background work goes on.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap()
}

/// An answer as it came.
pub struct Answer {
    pub code: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A request of the API server itself with any headers.
pub async fn send(handle: &Handle, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = handle.call(UserInfo::apiserver(), request.body(body.into()).unwrap()).await;
    let (head, body) = response.into_parts();
    Answer { code: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}
