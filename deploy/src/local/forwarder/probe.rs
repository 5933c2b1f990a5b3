//! Asks one API server whether it is ready.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use http_body_util::Empty;
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_millis(750);

/// Asks `/readyz` without a certificate: whoever may connect may ask.
pub struct Probe {
    connector: TlsConnector,
}

impl Probe {
    /// A probe that trusts the cluster's authority.
    pub fn new(authority_pem: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
            roots.add(certificate.context("parse the cluster's authority")?).context("trust the cluster's authority")?;
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("choose TLS 1.3")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Whether `/readyz` answers 200 in time.
    pub async fn is_ready(&self, server: SocketAddr) -> bool {
        matches!(tokio::time::timeout(DEADLINE, self.ask(server)).await, Ok(Ok(StatusCode::OK)))
    }

    async fn ask(&self, server: SocketAddr) -> Result<StatusCode> {
        let stream = TcpStream::connect(server).await?;
        let stream = self.connector.connect(ServerName::IpAddress(server.ip().into()), stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/readyz").header("host", "kontiki").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await;
        connection.abort();
        Ok(response?.status())
    }
}
