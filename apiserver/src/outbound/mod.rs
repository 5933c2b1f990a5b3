//! The way from this server to servers that extend it: webhooks and aggregated API servers.
//!
//! In: a `clientConfig` (a URL, or a Service that is resolved from the cache) and a request. Out: the answer, or an
//! error in the words of kube-apiserver's client. No proxy and no DNS of the cluster is needed: the server picks an
//! endpoint of the Service itself.

mod resolve;
pub mod tls;

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::resolve::{addresses, slices};
use crate::storage::Storage;

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 6 << 20;

/// Certificate and key that this server shows, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chain.
    pub certificate: Vec<u8>,
    /// Key.
    pub key: Vec<u8>,
}

/// Where a request goes and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name that the server's certificate must have, and the `Host` of the request.
    pub host: String,
    /// Port of the Service or URL, as messages name it.
    pub port: u16,
    /// Path, with a slash at its beginning.
    pub path: String,
    /// The Service, where it is one: namespace and name.
    pub service: Option<(String, String)>,
    /// Authorities, as PEM.
    pub authorities: Vec<u8>,
    /// No certificate is refused.
    pub insecure: bool,
}

impl Target {
    /// Reads the `clientConfig` of a webhook.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_client_config(config: &Value) -> Result<Self, String> {
        let bundle = config["caBundle"].as_str().unwrap_or_default();
        let authorities =
            BASE64_STANDARD.decode(bundle).map_err(|_| "unable to load root certificates: not base64".to_owned())?;
        if let Some(text) = config["url"].as_str() {
            let url = url::Url::parse(text).map_err(|error| format!("Unparsable URL: {error}"))?;
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let port = url.port_or_known_default().unwrap_or(443);
            let path = format!("{}{query}", url.path());
            return Ok(Self { host, port, path, service: None, authorities, insecure: false });
        }
        let service = &config["service"];
        let part = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (part("namespace"), part("name"));
        let path = match part("path") {
            path if path.is_empty() => "/".to_owned(),
            path if path.starts_with('/') => path,
            path => format!("/{path}"),
        };
        Ok(Self {
            host: format!("{name}.{namespace}.svc"),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            path,
            service: Some((namespace, name)),
            authorities,
            insecure: false,
        })
    }

    /// Reads an APIService whose server is a Service elsewhere; `None` for one that this server serves itself.
    #[must_use]
    pub fn of_api_service(object: &Value) -> Option<Result<Self, String>> {
        let spec = &object["spec"];
        if !spec["service"].is_object() {
            return None;
        }
        let config = serde_json::json!({ "service": spec["service"], "caBundle": spec["caBundle"] });
        let insecure = spec["insecureSkipTLSVerify"] == true;
        Some(Self::of_client_config(&config).map(|target| Self { insecure, ..target }))
    }

    /// Whom it trusts.
    #[must_use]
    pub fn trust(&self) -> tls::Trust<'_> {
        if self.insecure { tls::Trust::Anyone } else { tls::Trust::Authorities(&self.authorities) }
    }

    /// The path with the parameter that tells a webhook how long it has.
    #[must_use]
    pub fn path_with_timeout(&self, deadline: Duration) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{separator}timeout={}s", self.path, deadline.as_secs())
    }

    /// The address, as messages quote it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.port)
    }
}

/// Sends a request to one of the addresses of a target; the connection is for it alone.
pub async fn send<B>(
    address: &str,
    target: &Target,
    config: Arc<ClientConfig>,
    mut request: Request<B>,
) -> Result<Response<Incoming>, String>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let connect = async {
        let stream =
            TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: connect: {}", reason(&error)))?;
        // Slower is not wrong.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls::reason(&error))
    };
    let connected = tokio::time::timeout(CONNECT_DEADLINE, connect).await;
    let stream = connected.unwrap_or_else(|_| Err(format!("dial tcp {address}: i/o timeout")))?;
    let host = format!("{}:{}", target.host, target.port);
    let host = host.parse().map_err(|_| "invalid host".to_owned())?;
    request.headers_mut().insert(header::HOST, host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// An answer that was read as a whole.
pub struct Answer {
    /// Code.
    pub code: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, within [`ANSWER_BYTES_MAX`].
    pub body: Bytes,
}

/// Sends a request and reads the answer.
pub async fn exchange(
    address: &str,
    target: &Target,
    config: Arc<ClientConfig>,
    request: Request<Full<Bytes>>,
    deadline: Duration,
) -> Result<Answer, String> {
    let work = async {
        let (head, body) = send(address, target, config, request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok(Answer { code: head.status, headers: head.headers, body: body.to_bytes() })
    };
    let answered = tokio::time::timeout(deadline, work).await;
    answered.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
}

/// Posts JSON and reads JSON, within a deadline. Errors are the client's: they name method and address.
pub async fn post_json(
    storage: &Storage,
    target: &Target,
    path: &str,
    body: &Value,
    deadline: Duration,
) -> Result<Value, String> {
    let url = target.url(path);
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let answered = async {
        let addresses = addresses(storage, target).await?;
        let address = addresses.get(rand::random_range(0..addresses.len().max(1))).ok_or("no address")?;
        exchange(address, target, tls::config(target.trust(), None)?, request, deadline).await
    };
    let answered = tokio::time::timeout(deadline, answered).await;
    let answered = answered.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    let Answer { code, body, .. } = answered.map_err(|error| format!("Post {url:?}: {error}"))?;
    if !code.is_success() {
        return Err(refusal(code.as_u16(), &String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
}

/// What a server that is no API server means by its code.
fn refusal(code: u16, body: &str) -> String {
    match code {
        400 => format!("the server rejected our request for an unknown reason: {}", body.trim()),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => "unknown".to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        code if code >= 500 => format!("an error on the server ({:?}) has prevented the request from succeeding", body.trim()),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

/// Go's words for what the kernel says.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn client_configs_are_services_or_urls() {
        let target =
            Target::of_client_config(&json!({"service": {"namespace": "n", "name": "s", "path": "x", "port": 8443}})).unwrap();
        assert_eq!(target.url(&target.path), "https://s.n.svc:8443/x");
        let target = Target::of_client_config(&json!({"url": "https://h.example/p?q=1"})).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("h.example", 443, "/p?q=1"));
        assert!(Target::of_client_config(&json!({"url": "x"})).is_err());
    }
}
