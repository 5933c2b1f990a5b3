//! Connections to pods and nodes.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Outgoing, target::Target};
use crate::service::ApiServer;

/// How long a connection may take to come about.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Sends a request; returns with the head of the answer.
pub async fn send(server: &ApiServer, target: &Target, request: Request<Outgoing>) -> Result<Response<Incoming>, String> {
    let stream = within(&target.host, target.port, async {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|error| error.to_string())?;
        // Slower is not wrong.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    })
    .await?;
    let connector = match (target.tls, target.kubelet, &server.options.kubelet) {
        (false, ..) => return over(stream, request).await,
        (true, true, Some(kubelet)) => kubelet.connector(),
        _ => ANY.clone()?,
    };
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let stream =
        within(&target.host, target.port, async { connector.connect(name, stream).await.map_err(|error| error.to_string()) })
            .await?;
    over(stream, request).await
}

async fn within<T>(host: &str, port: u16, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let done = tokio::time::timeout(CONNECT_DEADLINE, work).await.unwrap_or_else(|_| Err("i/o timeout".to_owned()));
    done.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

async fn over<S>(stream: S, request: Request<Outgoing>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// TLS with whatever certificate a pod has: users' own servers have no authority that this server could know. The
/// address comes from the API's objects, and what is asked was allowed to the caller.
static ANY: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
});

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
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
