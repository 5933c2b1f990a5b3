//! One question to a container: a command, an HTTP request, a connection.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container as ContainerSpec, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::runtime::{Runtime, RuntimeError};

/// Bytes of an answer that are read.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// What a question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Success,
    /// It is not; the words go into an event.
    Failure(String),
}

/// Asks the probes of one container.
#[derive(Clone)]
pub struct Asker {
    /// Runs commands.
    pub runtime: Arc<dyn Runtime>,
    /// The container.
    pub container_id: String,
    /// Address of the pod, or of the node where it shares the network.
    pub address: IpAddr,
    /// Its specification, for the names of ports.
    pub spec: Arc<ContainerSpec>,
}

impl Asker {
    /// Asks once, at most `timeout`.
    pub async fn ask(&self, probe: &Probe, timeout: Duration) -> Outcome {
        if let Some(action) = &probe.exec {
            return self.exec(action, timeout).await;
        }
        let asked = async {
            if let Some(action) = &probe.http_get {
                self.http(action).await
            } else if let Some(action) = &probe.tcp_socket {
                self.connect(action).await
            } else if let Some(action) = &probe.grpc {
                self.grpc(action, timeout).await
            } else {
                Ok(())
            }
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(Ok(())) => Outcome::Success,
            Ok(Err(message)) => Outcome::Failure(message),
            Err(_) => Outcome::Failure(self.timed_out(probe)),
        }
    }

    fn timed_out(&self, probe: &Probe) -> String {
        match &probe.http_get {
            Some(action) => {
                let url = self.url(action).unwrap_or_default();
                format!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
            }
            None => "dial tcp: i/o timeout".to_owned(),
        }
    }

    async fn exec(&self, action: &ExecAction, timeout: Duration) -> Outcome {
        let command = action.command.clone().unwrap_or_default();
        match self.runtime.exec_sync(&self.container_id, command, timeout).await {
            Ok(result) if result.exit_code == 0 => Outcome::Success,
            Ok(result) => {
                let output = [result.stdout, result.stderr].concat();
                Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Err(RuntimeError::Timeout(after)) => Outcome::Failure(format!("command timed out after {}s", after.as_secs())),
            Err(error) => Outcome::Failure(error.to_string()),
        }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.spec.ports.as_deref().unwrap_or_default();
                let named = ports.iter().find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
                named.or_else(|| name.parse().ok())
            }
        };
        number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("the container has no port {port:?}"))
    }

    fn url(&self, action: &HTTPGetAction) -> Result<String, String> {
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let host = action.host.clone().unwrap_or_else(|| self.address.to_string());
        let path = action.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(format!("{scheme}://{host}:{}{slash}{path}", self.port(&action.port)?))
    }

    async fn http(&self, action: &HTTPGetAction) -> Result<(), String> {
        let url = self.url(action)?;
        let failed = |error: &dyn std::fmt::Display| format!("Get \"{url}\": {error}");
        let uri: Uri = url.parse().map_err(|error| failed(&error))?;
        let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        let stream = TcpStream::connect((host, port)).await.map_err(|error| {
            let words = if error.kind() == std::io::ErrorKind::ConnectionRefused {
                "connect: connection refused".to_owned()
            } else {
                error.to_string()
            };
            failed(&format!("dial tcp {host}:{port}: {words}"))
        })?;
        let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str())).header("connection", "close");
        let headers = action.http_headers.as_deref().unwrap_or_default();
        let given = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        for (name, value) in
            [("host", format!("{host}:{port}")), ("user-agent", "kube-probe/1.36".into()), ("accept", "*/*".into())]
        {
            if !given(name) {
                request = request.header(name, value);
            }
        }
        for header in headers {
            request = request.header(&header.name, &header.value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
        let status = if uri.scheme_str() == Some("https") {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
            let stream = connector().connect(name, stream).await.map_err(|error| failed(&error))?;
            send(stream, request).await
        } else {
            send(stream, request).await
        };
        let (status, _) = status.map_err(|error| failed(&error))?;
        if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
    }

    async fn connect(&self, action: &TCPSocketAction) -> Result<(), String> {
        let host = action.host.clone().unwrap_or_else(|| self.address.to_string());
        let port = self.port(&action.port)?;
        let connected = TcpStream::connect((host.as_str(), port)).await;
        connected.map(drop).map_err(|error| {
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let words = if refused { "connect: connection refused".to_owned() } else { error.to_string() };
            format!("dial tcp {host}:{port}: {words}")
        })
    }

    /// Asks the health service.
    async fn grpc(&self, action: &GRPCAction, timeout: Duration) -> Result<(), String> {
        let address = (self.address, u16::try_from(action.port).map_err(|error| error.to_string())?);
        super::grpc::ask(address.into(), action.service.as_deref().unwrap_or_default(), timeout).await
    }
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(u16, Bytes), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    // The rest does not matter, but some servers log an error where nobody reads.
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    connection.abort();
    Ok((status, body))
}

/// Sends a GET for a lifecycle hook; any answer will do.
pub async fn get(asker: &Asker, action: &HTTPGetAction) -> Result<(), String> {
    asker.http(action).await
}

fn connector() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map(|builder| {
        let verifier = Arc::new(AnyCertificate);
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    });
    // The provider supports the default versions, so this is never the fallback.
    let config = config.unwrap_or_else(|_| {
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    });
    TlsConnector::from(Arc::new(config))
}

/// Kubernetes' HTTPS probes skip the verification of certificates.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
