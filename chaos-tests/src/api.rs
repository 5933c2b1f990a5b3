//! A small client of the API over HTTPS with the administrator's certificate: no retries, every call with a deadline.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;

use crate::{cluster::Cluster, history::Event};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// A watch that is silent for so long is begun again where it was.
const WATCH_SILENCE: Duration = Duration::from_secs(12);

/// The client; cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

/// An answer that says no.
#[derive(Debug)]
pub struct Refused {
    /// Status code.
    pub code: u16,
    /// What was said.
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

impl Api {
    /// A client for a cluster. Connections are kept only while they are used: after a fault each call finds a living server.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let pki = cluster.state().join(&cluster.name).join("pki");
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(pki.join("ca.crt"))? {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_file_iter(pki.join("admin.crt"))?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(pki.join("admin.key"))?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(1))
            .pool_max_idle_per_host(8)
            .build(connector);
        Ok(Self { client, base: format!("https://127.0.0.1:{}", cluster.port()) })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let bytes = body.map_or_else(|| Ok(Vec::new()), serde_json::to_vec)?;
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base)).header("content-type", kind);
        let sent = self.client.request(request.body(Full::new(Bytes::from(bytes)))?);
        Ok(tokio::time::timeout(DEADLINE, sent).await.context("no answer in time")??)
    }

    /// Calls once.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let bytes = tokio::time::timeout(DEADLINE, response.into_body().collect()).await.context("no end in time")??.to_bytes();
        if !status.is_success() {
            let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let message = said["message"].as_str().map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), str::to_owned);
            bail!(Refused { code: status.as_u16(), message });
        }
        serde_json::from_slice(&bytes).context("parse an answer")
    }

    /// Reads an object or a list.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Watches a collection after a version until the connection ends; returns the version that it came to.
    pub async fn watch(&self, path: &str, after: &mut u64, mut each: impl FnMut(Event)) -> Result<()> {
        let path = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={after}");
        let response = self.send(Method::GET, &path, None).await?;
        if !response.status().is_success() {
            bail!("watch: {}", response.status());
        }
        let mut body = response.into_body();
        let mut waiting = Vec::new();
        while let Some(frame) = tokio::time::timeout(WATCH_SILENCE, body.frame()).await.context("a silent watch")? {
            let Ok(data) = frame?.into_data() else { continue };
            waiting.extend_from_slice(&data);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let event = event(&serde_json::from_slice(&line).context("parse an event")?);
                *after = event.version.max(*after);
                if event.change != "BOOKMARK" {
                    each(event);
                }
            }
        }
        Ok(())
    }
}

/// The version of an object.
#[must_use]
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn event(line: &Value) -> Event {
    let object = line["object"].clone();
    Event {
        change: line["type"].as_str().unwrap_or_default().into(),
        name: object["metadata"]["name"].as_str().unwrap_or_default().into(),
        version: version(&object),
        object,
    }
}
