//! HTTPS to one or more API servers: the next one is tried when one does not answer.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    error::Error,
    transport::{ResponseBody, Transport},
};

/// How long a connection to one server may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long the head of an answer may take before the server is given up.
const HEAD_DEADLINE: Duration = Duration::from_secs(35);
/// A dead peer is noticed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Idle connections are closed after this.
const IDLE: Duration = Duration::from_secs(60);

/// How to reach a cluster over the network, and as whom.
#[derive(Clone, Debug, Default)]
pub struct HttpsConfig {
    /// Addresses, such as `https://10.0.0.1:6443`.
    pub servers: Vec<String>,
    /// Authorities to trust, PEM.
    pub authority_pem: String,
    /// Certificate chain and key, PEM.
    pub identity_pem: Option<(String, String)>,
    /// File with a bearer token; read again for each request, as it is renewed.
    pub token_file: Option<PathBuf>,
}

/// Connections to a cluster.
pub struct HttpsTransport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    servers: Vec<Uri>,
    current: AtomicUsize,
    token_file: Option<PathBuf>,
}

impl HttpsTransport {
    /// Checks the configuration; connects to nothing yet.
    pub fn new(config: HttpsConfig) -> Result<Self, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Configuration(error.to_string());
        if config.servers.is_empty() {
            return Err(Error::Configuration("no API server is named".into()));
        }
        let parse = |server: &String| server.parse::<Uri>().map_err(|error| wrong(&format!("server {server:?}: {error}")));
        let servers = config.servers.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_DEADLINE));
        connector.set_keepalive(Some(KEEP_ALIVE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(&config)?)
            .https_only()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        Ok(Self { client, servers, current: AtomicUsize::new(0), token_file: config.token_file })
    }

    fn address(&self, server: usize, path: &Uri) -> Result<Uri, http::Error> {
        let base = &self.servers[server % self.servers.len()];
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(path.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).map_err(http::Error::from)
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let wrong = |error: &dyn std::fmt::Display| Error::Configuration(format!("token file {}: {error}", path.display()));
        let token = tokio::fs::read_to_string(path).await.map_err(|error| wrong(&error))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|error| wrong(&error))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn tls_config(config: &HttpsConfig) -> Result<rustls::ClientConfig, Error> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| Error::Configuration(format!("{what}: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.authority_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong("certificate authority", &error))?;
        roots.add(certificate).map_err(|error| wrong("certificate authority", &error))?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS versions", &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &config.identity_pem else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("client certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong("client key", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| wrong("client certificate", &error))
}

#[async_trait]
impl Transport for HttpsTransport {
    /// A server that cannot be connected to has not seen the request: the next one is tried. Once
    /// a request was sent, only a read is sent again.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, Error> {
        let (mut head, body) = request.into_parts();
        if let Some(value) = self.authorization().await? {
            head.headers.insert(header::AUTHORIZATION, value);
        }
        let failed =
            |message: String| Error::Transport { method: head.method.to_string(), path: head.uri.path().to_owned(), message };
        let first = self.current.load(Ordering::Relaxed);
        let mut last = String::new();
        for server in first..first + self.servers.len() {
            let mut attempt = Request::new(Full::new(body.clone()));
            *attempt.method_mut() = head.method.clone();
            *attempt.uri_mut() = self.address(server, &head.uri).map_err(|error| failed(error.to_string()))?;
            *attempt.headers_mut() = head.headers.clone();
            match tokio::time::timeout(HEAD_DEADLINE, self.client.request(attempt)).await {
                Ok(Ok(response)) => {
                    return Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()));
                }
                Ok(Err(error)) => {
                    // Whatever comes next begins with the next server.
                    let _ = self.current.compare_exchange(server, server + 1, Ordering::Relaxed, Ordering::Relaxed);
                    last = describe(&error);
                    if !error.is_connect() && !head.method.is_safe() {
                        break;
                    }
                }
                Err(_) => {
                    let _ = self.current.compare_exchange(server, server + 1, Ordering::Relaxed, Ordering::Relaxed);
                    let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
                    return Err(Error::Timeout { method, path, deadline: HEAD_DEADLINE });
                }
            }
        }
        Err(failed(last))
    }
}

/// The whole chain of causes: the outermost says only that a connection failed.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
