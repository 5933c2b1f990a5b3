//! The way to the nodes: logs, commands and forwarded ports come from the kubelet's API.
//!
//! In: requests for `pods/log`, `pods/exec`, `pods/attach` and `pods/portforward`. Out: what the kubelet of the pod's
//! node answers, as it comes; a connection that is taken over is joined to the kubelet's, byte by byte, and whoever
//! asked for a log over WebSocket gets it in messages ([`log_socket`]).

mod log_socket;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kontiki_api::{
    object::{meta, text},
    registry,
    resources::{NODES, PODS, ResourceKey},
    status::Status,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    response::Body,
    service::{ApiServer, Call},
};

/// A node that does not answer the connection is given up after this time.
const CONNECT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
/// Port of the kubelet where the node does not say.
const PORT: u16 = 10250;
/// Annotation that names the container to use where the request names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Connects to kubelets.
pub struct KubeletClient {
    connector: TlsConnector,
}

/// Why the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeletClientError {
    /// A file is not PEM.
    #[error("not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Its contents are unusable.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl KubeletClient {
    /// With the cluster's authority, and the certificate and key that kubelets know; all PEM.
    pub fn new(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, KubeletClientError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// TLS as kubelets know it.
    pub fn connector(&self) -> TlsConnector {
        self.connector.clone()
    }

    /// Reads what a kubelet answers, as a whole, within a deadline.
    pub async fn get(
        &self,
        address: &str,
        port: u16,
        path: &str,
        bytes_max: usize,
        deadline: std::time::Duration,
    ) -> Result<Bytes, String> {
        let request = Request::builder().uri(path).header(header::HOST, address).body(Full::new(Bytes::new()));
        let request = request.map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.send(address, port, request).await?;
            let code = response.status();
            let body = http_body_util::Limited::new(response.into_body(), bytes_max).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            if code == StatusCode::OK { Ok(body) } else { Err(format!("{code}: {}", String::from_utf8_lossy(&body))) }
        };
        tokio::time::timeout(deadline, exchange).await.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    }

    async fn send(&self, address: &str, port: u16, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let connect = async {
            let stream = TcpStream::connect((address, port)).await.map_err(|error| error.to_string())?;
            // Slower is not wrong.
            let _ = stream.set_nodelay(true);
            let name = ServerName::try_from(address.to_owned()).map_err(|error| error.to_string())?;
            self.connector.connect(name, stream).await.map_err(|error| error.to_string())
        };
        let connected = tokio::time::timeout(CONNECT_DEADLINE, connect).await;
        let stream = connected.unwrap_or_else(|_| Err("i/o timeout".to_owned()));
        let stream = stream.map_err(|error| format!("dial tcp {address}:{port}: {error}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| error.to_string())
    }
}

/// A pod and the node that runs it.
struct Target {
    namespace: String,
    pod: String,
    address: String,
    port: u16,
}

async fn fetch(server: &ApiServer, key: &ResourceKey, namespace: &str, name: &str) -> Result<Value, Status> {
    let resource = registry::of(key).ok_or_else(Status::no_such_path)?;
    Ok(server.storage.get(resource, namespace, name).await?.encoded.value())
}

/// The pod that a request is about.
async fn pod(server: &ApiServer, call: &Call) -> Result<Value, Status> {
    fetch(server, &PODS, &call.info.namespace, &call.info.name).await
}

/// Where a pod runs.
async fn target(server: &ApiServer, pod: &Value) -> Result<Target, Status> {
    let node = text(pod, "/spec/nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", meta::name(pod))));
    }
    let node = fetch(server, &NODES, "", node).await?;
    let without = || Status::internal_error(format!("node {} has no address", meta::name(&node)));
    let (address, port) = address_of(&node).ok_or_else(without)?;
    Ok(Target { namespace: meta::namespace(pod).to_owned(), pod: meta::name(pod).to_owned(), address, port })
}

/// Address and port of a node's kubelet.
#[must_use]
pub fn address_of(node: &Value) -> Option<(String, u16)> {
    let mut addresses = node.pointer("/status/addresses").and_then(Value::as_array).into_iter().flatten();
    let internal = addresses.find(|address| address["type"] == "InternalIP")?["address"].as_str()?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(PORT);
    Some((internal.to_owned(), port))
}

/// The container that a request means.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let (init, own, ephemeral) = (names("initContainers"), names("containers"), names("ephemeralContainers"));
    let name = meta::name(pod);
    if !asked.is_empty() {
        let known = init.iter().chain(&own).chain(&ephemeral).any(|one| one == asked);
        return if known {
            Ok(asked.to_owned())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")))
        };
    }
    if let [only] = own.as_slice() {
        return Ok(only.clone());
    }
    let chosen = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    if let Some(chosen) = chosen.filter(|chosen| own.iter().any(|one| one == chosen)) {
        return Ok(chosen.to_owned());
    }
    let mut message = format!("a container name must be specified for pod {name}, choose one of: [{}]", own.join(" "));
    if !init.is_empty() {
        message += &format!(" or one of the init containers: [{}]", init.join(" "));
    }
    Err(Status::bad_request(message))
}

fn client(server: &ApiServer) -> Result<&KubeletClient, Status> {
    let client = server.options.kubelet.as_deref();
    client.ok_or_else(|| Status::service_unavailable("this server has no way to the nodes"))
}

fn request(
    method: Method,
    path: &str,
    query: &[(String, String)],
    headers: HeaderMap,
    host: &str,
) -> Result<Request<Full<Bytes>>, Status> {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{path}?{query}"))
        .body(Full::new(Bytes::new()))
        .map_err(|error| Status::internal_error(error.to_string()))?;
    *request.headers_mut() = headers;
    if let Ok(host) = host.parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// What the kubelet refused, as a Status.
async fn refusal(response: Response<Incoming>) -> Status {
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let message = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        StatusCode::NOT_FOUND => Status::failure(404, "NotFound", message),
        _ => Status::internal_error(format!("an error on the server ({message}) has prevented the request from succeeding")),
    }
}

/// get of `pods/log`.
pub async fn logs(server: &ApiServer, call: &Call) -> Result<Response<Body>, Status> {
    let client = client(server)?;
    let pod = pod(server, call).await?;
    let container = container(&pod, call.info.parameter("container"))?;
    let target = target(server, &pod).await?;
    let passed = ["follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "stream"];
    let query: Vec<_> = call.info.repeated.iter().filter(|(name, _)| passed.contains(&name.as_str())).cloned().collect();
    let path = format!("/containerLogs/{}/{}/{container}", target.namespace, target.pod);
    let request = request(Method::GET, &path, &query, HeaderMap::new(), &target.address)?;
    let answered = client.send(&target.address, target.port, request).await;
    let response = answered
        .map_err(|error| Status::internal_error(format!("Get \"https://{}:{}{path}\": {error}", target.address, target.port)))?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    if log_socket::is_asked_for(&call.headers) {
        return log_socket::answer(call, response.into_body());
    }
    let body = response.into_body().map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>).boxed_unsync();
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// get and create of `pods/exec` and `pods/attach`.
pub async fn session(server: &ApiServer, call: &Call, kind: &str) -> Result<Response<Body>, Status> {
    let pod = pod(server, call).await?;
    let container = container(&pod, call.info.parameter("container"))?;
    let target = target(server, &pod).await?;
    let mut query = Vec::new();
    for (name, value) in &call.info.repeated {
        let name = match name.as_str() {
            "command" if kind == "exec" => "command",
            "stdin" => "input",
            "stdout" => "output",
            "stderr" => "error",
            "tty" => "tty",
            _ => continue,
        };
        let on = if name != "command" && value == "true" { "1" } else { value };
        query.push((name.to_owned(), on.to_owned()));
    }
    let path = format!("/{kind}/{}/{}/{container}", target.namespace, target.pod);
    join(server, call, &target, &path, &query).await
}

/// get and create of `pods/portforward`.
pub async fn port_forward(server: &ApiServer, call: &Call) -> Result<Response<Body>, Status> {
    let target = target(server, &pod(server, call).await?).await?;
    let ports = call.info.repeated.iter().filter(|(name, _)| name == "ports");
    let query: Vec<_> = ports.map(|(_, port)| ("port".to_owned(), port.clone())).collect();
    let path = format!("/portForward/{}/{}", target.namespace, target.pod);
    join(server, call, &target, &path, &query).await
}

/// Joins the connection to the kubelet's.
async fn join(
    server: &ApiServer,
    call: &Call,
    target: &Target,
    path: &str,
    query: &[(String, String)],
) -> Result<Response<Body>, Status> {
    let client = client(server)?;
    let Some(upgrade) = call.upgrade.lock().take().filter(|_| call.headers.contains_key(header::UPGRADE)) else {
        return Err(Status::bad_request("Upgrade request required"));
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let passed = [header::CONNECTION, header::UPGRADE].contains(name);
        if passed || name.as_str().starts_with("sec-websocket-") || name.as_str().starts_with("x-stream-protocol") {
            headers.append(name.clone(), value.clone());
        }
    }
    let request = request(Method::GET, path, query, headers, &target.address)?;
    let answered = client.send(&target.address, target.port, request).await;
    let mut response = answered.map_err(|error| Status::internal_error(format!("error dialing backend: {error}")))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(response).await);
    }
    let far = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        match tokio::try_join!(upgrade, far) {
            Ok((near, far)) => {
                // Either side may end the session as it likes.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
            }
            Err(error) => tracing::debug!(%error, "a session did not come about"),
        }
    });
    let mut answer = Response::new(crate::response::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_that_is_meant() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(container(&one, "x").unwrap_err().message, "container x is not valid for pod p");
        let mut two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let refused = container(&two, "").unwrap_err().message;
        assert_eq!(refused, "a container name must be specified for pod p, choose one of: [a b]");
        two["metadata"]["annotations"][DEFAULT_CONTAINER] = json!("b");
        assert_eq!(container(&two, "").unwrap(), "b");
    }
}
