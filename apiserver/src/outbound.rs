//! The way from this server to servers that extend it: webhooks and aggregated API servers.
//!
//! In: a `clientConfig` (a URL, or a Service that is resolved from the cache) and a request. Out: the answer, or an
//! error in the words of kube-apiserver's client. No proxy and no DNS of the cluster is needed: the server picks an
//! endpoint of the Service itself.

use std::{net::SocketAddr, ops::Bound, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kontiki_api::{
    registry,
    resources::{ENDPOINT_SLICES, SERVICES},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::storage::{Storage, keys};

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 6 << 20;
/// Label of an endpoint slice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

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

/// The address that serves a port of a Service: the first ready endpoint of the chosen ones.
pub fn endpoint(service: &Value, slices: &[Value], port: u16, choice: usize) -> Result<SocketAddr, String> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let none = || format!("no endpoints available for service {name:?}");
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut wanted = ports.filter(|known| known["port"].as_u64() == Some(u64::from(port)));
    let wanted = wanted.next().ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = wanted["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|known| known["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = ports.next().and_then(|known| known["port"].as_u64()).and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        for endpoint in endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false) {
            let addresses = endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(addresses.filter_map(|address| address.parse().ok()).map(|address| SocketAddr::new(address, number)));
        }
    }
    if found.is_empty() { Err(none()) } else { Ok(found[choice % found.len()]) }
}

async fn resolve(storage: &Storage, target: &Target) -> Result<String, String> {
    let Some((namespace, name)) = &target.service else {
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        return Ok(format!("{host}:{}", target.port));
    };
    let missing = || format!("service {name:?} not found");
    let services = registry::of(&SERVICES).ok_or_else(missing)?;
    let service = match storage.get_cached(services, namespace, name) {
        Ok(service) => service,
        // It may be newer than what this member has heard of.
        Err(_) => {
            storage.catch_up().await.map_err(|status| status.message)?;
            storage.get_cached(services, namespace, name).map_err(|_| missing())?
        }
    };
    let service = service.encoded.value();
    if service["spec"]["type"] == "ExternalName" {
        let host = service["spec"]["externalName"].as_str().unwrap_or_default();
        return Ok(format!("{host}:{}", target.port));
    }
    let slices = slices_of(storage, namespace, name);
    endpoint(&service, &slices, target.port, rand::random::<u32>() as usize).map(|address| address.to_string())
}

fn slices_of(storage: &Storage, namespace: &str, service: &str) -> Vec<Value> {
    let Some((resource, cache)) = registry::of(&ENDPOINT_SLICES).and_then(|slices| Some((slices, storage.caches.of(slices)?)))
    else {
        return Vec::new();
    };
    let prefix = keys::collection(resource, namespace);
    let snapshot = cache.snapshot();
    let own = snapshot
        .range::<_, str>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(&prefix));
    own.filter(|(_, slice)| slice.header.labels.get(SERVICE_NAME_LABEL) == Some(service))
        .map(|(_, slice)| slice.encoded.value())
        .collect()
}

fn tls(target: &Target, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = if target.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&target.authorities) {
            let certificate = certificate.map_err(|error| format!("unable to load root certificates: {error:?}"))?;
            roots.add(certificate).map_err(|error| format!("unable to load root certificates: {error}"))?;
        }
        builder.with_root_certificates(roots)
    };
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(&identity.certificate).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|error| format!("{error:?}"))?;
            let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| format!("{error:?}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
    };
    Ok(Arc::new(config))
}

/// Sends a request; the connection is for it alone.
pub async fn send(
    storage: &Storage,
    target: &Target,
    identity: Option<&Identity>,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let address = resolve(storage, target).await?;
    let config = tls(target, identity)?;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let connect = async {
        let stream =
            TcpStream::connect(&address).await.map_err(|error| format!("dial tcp {address}: connect: {}", reason(&error)))?;
        // Slower is not wrong.
        let _ = stream.set_nodelay(true);
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| tls_reason(&error))
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
    let exchange = async {
        let response = send(storage, target, None, request).await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((code, body.to_bytes()))
    };
    let answered = tokio::time::timeout(deadline, exchange).await;
    let answered = answered.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    let (code, body) = answered.map_err(|error| format!("Post {url:?}: {error}"))?;
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

fn tls_reason(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(problem)) => format!("tls: failed to verify certificate: x509: {problem}"),
        _ => error.to_string(),
    }
}

/// Trusts everybody, where a configuration says so; signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_its_ready_endpoints() {
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 443}, {"name": "b", "port": 80}]}});
        let slice = json!({"ports": [{"name": "a", "port": 8443}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]});
        assert_eq!(endpoint(&service, std::slice::from_ref(&slice), 443, 7).unwrap().to_string(), "10.0.0.2:8443");
        assert_eq!(endpoint(&service, &[], 443, 0).unwrap_err(), "no endpoints available for service \"s\"");
        assert_eq!(endpoint(&service, &[slice], 1, 0).unwrap_err(), "no service port 1 found for service \"s\"");
    }

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
